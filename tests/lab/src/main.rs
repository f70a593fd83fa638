//! conclave-lab
use std::path::PathBuf;

use clap::{Parser, Subcommand};
use conclave_lab::{Lab, LabSpec, guest, keeper};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}
#[derive(Subcommand)]
enum Cmd {
    #[command(hide = true)]
    Reaper {
        root: PathBuf,
        #[arg(long)]
        keep: bool,
    },
    #[command(hide = true)]
    Keeper {
        root: PathBuf,
    },
    #[command(hide = true)]
    Boot {
        root: PathBuf,
        host: String,
    },
    #[command(hide = true)]
    Init {
        root: PathBuf,
        host: String,
    },
    Up,
}
fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Cmd::Reaper { root, keep } => keeper::reap_lab(&root, keep)?,
        Cmd::Keeper { root } => keeper::keep_lab(&root)?,
        Cmd::Boot { root, host } => guest::boot(&root, &host)?,
        Cmd::Init { root, host } => guest::init(&root, &host)?,
        Cmd::Up => {
            let t = std::time::Instant::now();
            let lab = Lab::up(LabSpec::default())?;
            println!("up {:?}", t.elapsed());
            lab.replicate("db1")?;
            println!("replicated {:?}", t.elapsed());
            let t = std::time::Instant::now();
            println!(
                "{:?} {:?}",
                lab.host("db2")?
                    .sql("SHOW VARIABLES LIKE 'rpl_semi%'; SELECT @@super_read_only")?,
                t.elapsed()
            );
            for k in ["db1", "db3"] {
                let o = lab.host("m2")?.run(
                    "ssh",
                    &[
                        "-i",
                        lab.ssh_key().to_str().unwrap(),
                        "-F",
                        "none",
                        "-o",
                        &format!("UserKnownHostsFile={}", lab.known_hosts().display()),
                        &lab.host(k)?.ip().to_string(),
                        "hostname; ls /srv; ps ax",
                    ],
                    b"",
                )?;
                println!("{:?} {}", t.elapsed(), String::from_utf8_lossy(&o.stdout));
                println!("{}", String::from_utf8_lossy(&o.stderr));
            }
            let t = std::time::Instant::now();
            lab.host("db1")?.kill_mysqld()?;
            println!("kill {:?}", t.elapsed());
            lab.host("db1")?.power_off()?;
            println!("off {:?}", t.elapsed());
            lab.host("db1")?.power_on(true)?;
            println!("on {:?}", t.elapsed());
            lab.split("db1", "m1")?;
            println!("split {:?}", t.elapsed());
            let t = std::time::Instant::now();
            lab.down()?;
            println!("down {:?}", t.elapsed());
        }
    }
    Ok(())
}

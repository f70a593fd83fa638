//! `conclave node apply-diff-relay-logs`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::ValueEnum;

use super::{Done, Failure, login::LoginArgs};
use crate::{
    binlog::{Family, SourcePoint, index::log_name},
    node::{
        apply::{Apply, ApplyError},
        diff::{DiffError, Relay},
        tool,
    },
};

/// Applying failed.
const NOT_APPLIED: u8 = 22;

/// Find, make, send and apply what one replica has in its relay logs and another one lacks
///
/// find and generate run where the relay logs are, apply where they are lacking. A difference begins
/// where the other replica's applier stands, and holds whole transactions only.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave node apply-diff-relay-logs --command generate --relay-dir /var/lib/mysql \\
      --current-relay-log db2-relay.000009 --target-mlf binlog.000007 --target-rmlp 1154 \\
      --diff-file-readtolatest /var/tmp/diff.binlog
  conclave node apply-diff-relay-logs --command apply --apply-files /var/tmp/diff.binlog \\
      --defaults-file /root/.my.cnf

Exit codes: 0 done, or nothing is lacking; 1 refused or failed; 2 wrong usage; 22 applying failed.
MHA's spellings (--target_mlf ...) are understood."
)]
pub struct Args {
    /// What is to be done
    #[arg(long, value_enum)]
    command: What,
    /// Directory of the relay logs
    #[arg(long, alias = "relay_dir", value_name = "DIR", default_value = "/var/lib/mysql")]
    relay_dir: PathBuf,
    /// Name of any of the relay logs
    #[arg(long, alias = "current_relay_log", value_name = "NAME")]
    current_relay_log: Option<String>,
    /// Where the other replica's applier stands: the source's file (Relay_Source_Log_File) ...
    #[arg(long, alias = "target_mlf", value_name = "NAME")]
    target_mlf: Option<String>,
    /// ... and position (Exec_Source_Log_Pos)
    #[arg(long, alias = "target_rmlp", value_name = "N")]
    target_rmlp: Option<u64>,
    /// Where the difference ends; by default with the relay logs
    #[arg(long, alias = "latest_mlf", value_name = "NAME", requires = "latest_rmlp")]
    latest_mlf: Option<String>,
    /// ... and position
    #[arg(long, alias = "latest_rmlp", value_name = "N", requires = "latest_mlf")]
    latest_rmlp: Option<u64>,
    /// File to make
    #[arg(long, alias = "diff_file_readtolatest", value_name = "FILE")]
    diff_file_readtolatest: Option<PathBuf>,
    /// Files to apply, in this order
    #[arg(long, alias = "apply_files", value_name = "FILE,...", value_delimiter = ',')]
    apply_files: Vec<PathBuf>,
    /// Where files are put together
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    workdir: PathBuf,
    /// Only put the files together
    #[arg(long, alias = "no_apply")]
    no_apply: bool,
    /// Do not write what is applied into the binary log (1)
    #[arg(long, alias = "disable_log_bin", value_name = "0|1", default_value_t = 0,
          default_missing_value = "1", num_args = 0..=1)]
    disable_log_bin: u8,
    /// Directory of mysqlbinlog and mysql; by default the path is searched
    #[arg(long, alias = "client_bindir", value_name = "DIR")]
    client_bindir: Option<PathBuf>,
    /// Host to send the difference to, under its own name
    #[arg(long, alias = "scp_host", value_name = "HOST")]
    scp_host: Option<String>,
    /// Account there
    #[arg(long, alias = "scp_user", default_value = "root")]
    scp_user: String,
    /// Port there
    #[arg(long, alias = "scp_port", default_value_t = 22)]
    scp_port: u16,
    /// More options of ssh, separated by blanks
    #[arg(long, alias = "ssh_options", default_value = "", allow_hyphen_values = true)]
    ssh_options: String,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    _ignored: Ignored,
}

/// Options of MHA that have no meaning here.
#[derive(Debug, clap::Args)]
struct Ignored {
    #[arg(long = "datadir", hide = true)]
    _datadir: Option<String>,
    #[arg(long = "relay_log_info", hide = true)]
    _relay_log_info: Option<String>,
    #[arg(long = "server_id", hide = true)]
    _server_id: Option<String>,
    #[arg(long = "target_version", hide = true)]
    _target_version: Option<String>,
    #[arg(long = "timestamp", hide = true)]
    _timestamp: Option<String>,
    #[arg(long = "handle_raw_binlog", hide = true)]
    _handle_raw_binlog: Option<String>,
    #[arg(long = "manager_version", hide = true)]
    _manager_version: Option<String>,
    #[arg(long = "client_libdir", hide = true)]
    _client_libdir: Option<String>,
    #[arg(long = "debug", hide = true)]
    _debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Look whether the relay logs and the programs are there
    Test,
    /// Look whether the relay logs reach back to where the other one stands
    Find,
    /// Make the file
    Generate,
    /// Make the file and send it
    #[value(alias = "generate_and_send")]
    GenerateAndSend,
    /// Apply files
    Apply,
}

pub(super) async fn run(args: Args) -> Done {
    match args.command {
        What::Test => test(&args),
        What::Find => find(&args).await,
        What::Generate => generate(&args).await.map(|_| 0),
        What::GenerateAndSend => {
            if generate(&args).await? {
                send(&args)?;
            }
            Ok(0)
        }
        What::Apply => apply(args).await,
    }
}

fn relay(args: &Args) -> Result<Relay, Failure> {
    let missing = || Failure::usage("wanted --current-relay-log, such as db2-relay.000009");
    let name = args.current_relay_log.as_deref().and_then(log_name).ok_or_else(missing)?;
    Relay::open(&args.relay_dir, &name.base).map_err(Failure::refused)
}

fn target(args: &Args) -> Result<SourcePoint, Failure> {
    match (&args.target_mlf, args.target_rmlp) {
        (Some(file), Some(position)) => Ok(SourcePoint { file: file.clone(), position }),
        (Some(_) | None, _) => Err(Failure::usage("wanted --target-mlf and --target-rmlp")),
    }
}

fn latest(args: &Args) -> Option<SourcePoint> {
    Some(SourcePoint { file: args.latest_mlf.clone()?, position: args.latest_rmlp? })
}

fn test(args: &Args) -> Done {
    let relay = relay(args)?;
    let (first, last) = relay.ends().unwrap_or_default();
    println!("relay logs {first} to {last} are in {}", args.relay_dir.display());
    let mut tools = 0;
    for family in [Family::MySql, Family::MariaDb] {
        let dir = args.client_bindir.as_deref();
        let found = tool::binlog_tool(dir, family)
            .and_then(|reader| tool::client(dir, family).map(|client| (reader, client)));
        match found {
            Ok((reader, client)) => {
                tools += 1;
                println!("{family:?}: {} and {}", reader.display(), client.display());
            }
            Err(error) => eprintln!("conclave: {error}"),
        }
    }
    match tools {
        0 => Err(Failure::refused("no programs are here that apply events")),
        _ => Ok(0),
    }
}

async fn find(args: &Args) -> Done {
    let found = relay(args)?.find(&target(args)?).await.map_err(Failure::refused)?;
    println!("the difference begins in {} at {}", found.0, found.1);
    Ok(0)
}

/// Whether there is a difference.
async fn generate(args: &Args) -> Result<bool, Failure> {
    let to = args.diff_file_readtolatest.as_deref();
    let to = to.ok_or_else(|| Failure::usage("wanted --diff-file-readtolatest"))?;
    let (relay, target, latest) = (relay(args)?, target(args)?, latest(args));
    if latest.as_ref() == Some(&target) {
        println!("nothing is lacking");
        return Ok(false);
    }
    let found = relay.between(&target, latest.as_ref()).await.map_err(Failure::refused)?;
    let bytes = relay.save(&found, to).await;
    let bytes = bytes.map_err(|error: DiffError| Failure::refused(error))?;
    match found.transactions {
        0 => println!("nothing is lacking"),
        count => println!("{count} transactions, {bytes} bytes, are in {}", to.display()),
    }
    Ok(found.transactions > 0)
}

/// Over the system's ssh; the file is there under its name once its checksum was compared.
fn send(args: &Args) -> Result<(), Failure> {
    let host = args.scp_host.as_deref().ok_or_else(|| Failure::usage("wanted --scp-host"))?;
    let path = args.diff_file_readtolatest.as_deref().unwrap_or(Path::new(""));
    let failed =
        |what: String| Failure::refused(format!("send {} to {host}: {what}", path.display()));
    let sum = Command::new("sha256sum").arg(path).output().map_err(|e| failed(e.to_string()))?;
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap_or_default().to_owned();
    let name = path.display().to_string().replace('\'', r"'\''");
    let script = format!(
        "umask 077; cat >'{name}.part' && sum=$(sha256sum <'{name}.part') && \
         [ \"${{sum%% *}}\" = {sum} ] && sync -f '{name}.part' && mv -- '{name}.part' '{name}'"
    );
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let mut ssh = Command::new("ssh");
    ssh.args(["-o", "BatchMode=yes", "-p"]).arg(args.scp_port.to_string());
    ssh.args(args.ssh_options.split_whitespace()).args(["-l", &args.scp_user, "--", host, &script]);
    let ended = ssh.stdin(Stdio::from(file)).stdout(Stdio::null()).output();
    let ended = ended.map_err(|error| failed(error.to_string()))?;
    match ended.status.success() {
        true => {
            println!("sent to {host}");
            Ok(())
        }
        false => Err(failed(String::from_utf8_lossy(&ended.stderr).trim().to_owned())),
    }
}

async fn apply(args: Args) -> Done {
    if args.apply_files.is_empty() {
        return Err(Failure::usage("wanted --apply-files"));
    }
    let name = format!("conclave-apply.{}.binlog", std::process::id());
    let apply = Apply {
        login: args.login.login()?,
        bindir: args.client_bindir,
        workdir: args.workdir,
        disable_log_bin: args.disable_log_bin != 0,
    };
    if args.no_apply {
        let to = apply.workdir.join(&name);
        let made = apply.put_together(&args.apply_files, &to).await.map_err(Failure::refused)?;
        match made {
            Some((_, bytes)) => println!("{bytes} bytes are in {}", to.display()),
            None => println!("there is nothing to apply"),
        }
        return Ok(0);
    }
    match apply.run(&args.apply_files, &name).await {
        Ok(0) => println!("there is nothing to apply"),
        Ok(bytes) => println!("applied {bytes} bytes of events"),
        Err(error @ ApplyError::Failed { .. }) => {
            return Err(Failure { exit_code: NOT_APPLIED, text: error.to_string() });
        }
        Err(error) => return Err(Failure::refused(error)),
    }
    Ok(0)
}

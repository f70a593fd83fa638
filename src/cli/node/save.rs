//! `conclave node save-binary-logs`.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use conclave_core::model::GtidSet;

use super::{Done, Failure};
use crate::{
    binlog::MariaPosition,
    node::save::{self, Begin, Saved},
};

/// Nothing is there to be saved.
const NOTHING: u8 = 10;

/// Save the events behind a position, or the transactions a server lacks, into one file
///
/// Reads a server's binary logs, which may be dead or alive, and writes a file that mysqlbinlog
/// reads: whole transactions only, one head, across rotations. What has begun and not ended, and a
/// torn end, are left out and told. Only the wanted bytes are read, each event's checksum is
/// verified, and the file is there under its name once it is whole and on disk.
#[derive(Debug, clap::Args)]
#[command(
    verbatim_doc_comment,
    after_help = "\
Examples:
  conclave node save-binary-logs --command save --binlog-dir /var/lib/mysql \\
      --start-file binlog.000007 --start-pos 1154 --output-file /var/tmp/tail.binlog
  conclave node save-binary-logs --command save --binlog-dir /var/lib/mysql \\
      --binlog-prefix binlog --exclude-gtids 3e11fa47-...:1-77 --output-file /var/tmp/tail.binlog

Exit codes: 0 saved (test: it can be), 10 there is nothing to save, 1 refused or failed, 2 wrong
usage. MHA's spellings (--start_file ...) are understood. Text output (--handle_raw_binlog 0) is not
made any more: mysqlbinlog makes it of the file."
)]
pub struct Args {
    /// Only look whether the logs are there and readable, or save
    #[arg(long, value_enum)]
    command: What,
    /// Directories of the logs, separated by commas; the first one that has the file is used
    #[arg(
        long,
        alias = "binlog_dir",
        value_name = "DIR,...",
        value_delimiter = ',',
        default_value = "/var/lib/mysql"
    )]
    binlog_dir: Vec<String>,
    /// File to begin with
    #[arg(long, alias = "start_file", value_name = "NAME")]
    start_file: Option<String>,
    /// Position in it where a transaction begins
    #[arg(long, alias = "start_pos", value_name = "N", default_value_t = 4)]
    start_pos: u64,
    /// All before the last dot of the logs' names
    #[arg(long, alias = "binlog_prefix", value_name = "NAME", conflicts_with = "start_file")]
    binlog_prefix: Option<String>,
    /// Save what is not in this set, wherever it is; MariaDB: what is further than this position
    #[arg(long, alias = "exclude_gtids", value_name = "GTIDS", requires = "binlog_prefix",
          value_parser = gtids)]
    exclude_gtids: Option<Gtids>,
    /// Save the transactions of this set
    #[arg(
        long,
        alias = "include_gtids",
        value_name = "GTIDS",
        requires = "binlog_prefix",
        conflicts_with = "exclude_gtids"
    )]
    include_gtids: Option<GtidSet>,
    /// File to make; one that is there is replaced
    #[arg(long, alias = "output_file", value_name = "FILE")]
    output_file: Option<PathBuf>,
    #[command(flatten)]
    ignored: Ignored,
}

/// Options of MHA that have no meaning here, or one only.
#[derive(Debug, clap::Args)]
struct Ignored {
    #[arg(long = "handle_raw_binlog", hide = true, default_value_t = 1)]
    handle_raw_binlog: u8,
    #[arg(long = "disable_log_bin", hide = true, default_value_t = 0)]
    disable_log_bin: u8,
    #[arg(long = "skip_filter", hide = true)]
    _skip_filter: Option<String>,
    #[arg(long = "manager_version", hide = true)]
    _manager_version: Option<String>,
    #[arg(long = "oldest_version", hide = true)]
    _oldest_version: Option<String>,
    #[arg(long = "datadir", hide = true)]
    _datadir: Option<String>,
    #[arg(long = "relay_log_info", hide = true)]
    _relay_log_info: Option<String>,
    #[arg(long = "client_bindir", hide = true)]
    _client_bindir: Option<String>,
    #[arg(long = "client_libdir", hide = true)]
    _client_libdir: Option<String>,
    #[arg(long = "debug", hide = true)]
    _debug: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Look only
    Test,
    /// Save
    Save,
}

/// GTIDs of either family.
#[derive(Clone, Debug)]
enum Gtids {
    MySql(GtidSet),
    MariaDb(MariaPosition),
}

fn gtids(text: &str) -> Result<Gtids, String> {
    match (text.parse(), text.parse()) {
        (Ok(set), _) => Ok(Gtids::MySql(set)),
        (Err(_), Ok(position)) => Ok(Gtids::MariaDb(position)),
        (Err(error), Err(other)) => Err(format!("{error}; or {other}")),
    }
}

pub(super) async fn run(args: Args) -> Done {
    if args.ignored.handle_raw_binlog == 0 || args.ignored.disable_log_bin != 0 {
        return Err(Failure::usage(
            "wanted a file of events, found --handle_raw_binlog 0 or --disable_log_bin: save the \
             events, and make text of them with mysqlbinlog and its options",
        ));
    }
    // MHA removes all blanks.
    let dirs = args.binlog_dir.iter().map(|dir| PathBuf::from(dir.replace(' ', ""))).collect();
    let begin = begin(&args)?;
    match args.command {
        What::Test => test(dirs, begin, args.output_file.as_deref()).await,
        What::Save => {
            let to = args.output_file.ok_or_else(|| Failure::usage("wanted --output-file"))?;
            save(dirs, begin, &to).await
        }
    }
}

fn begin(args: &Args) -> Result<Begin, Failure> {
    let begin = match (&args.start_file, &args.binlog_prefix) {
        (Some(file), _) => Begin::Position { file: file.clone(), position: args.start_pos },
        (None, Some(base)) => {
            let base = base.clone();
            match (&args.include_gtids, &args.exclude_gtids) {
                (Some(wanted), _) => Begin::Only { base, wanted: wanted.clone() },
                (None, Some(Gtids::MySql(have))) => Begin::Beyond { base, have: have.clone() },
                (None, Some(Gtids::MariaDb(have))) => {
                    Begin::MariaBeyond { base, have: have.clone() }
                }
                (None, None) if args.command == What::Test => {
                    // What the newest file holds tells that all can be read.
                    Begin::Only { base, wanted: GtidSet::empty() }
                }
                (None, None) => {
                    return Err(Failure::usage(
                        "wanted --start-file, or --binlog-prefix with --exclude-gtids or \
                     --include-gtids",
                    ));
                }
            }
        }
        (None, None) => return Err(Failure::usage("wanted --start-file or --binlog-prefix")),
    };
    Ok(begin)
}

async fn test(dirs: Vec<PathBuf>, begin: Begin, to: Option<&Path>) -> Done {
    let (disk, chain, saved) = save::look(&dirs, &begin).await.map_err(Failure::refused)?;
    if let Some(to) = to {
        let dir = to.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        if !dir.is_dir() {
            return Err(Failure::refused(format!("{}: no such directory", dir.display())));
        }
    }
    warn(&saved);
    let ends = [chain.files.first(), chain.files.last()];
    let ends: Vec<&str> = ends.into_iter().flatten().map(|file| file.name.as_str()).collect();
    println!(
        "the binary logs {} in {} can be read; {} transactions, {} bytes, would be saved",
        ends.join(" to "),
        disk.dir().display(),
        saved.selection.transactions,
        saved.selection.bytes()
    );
    Ok(0)
}

async fn save(dirs: Vec<PathBuf>, begin: Begin, to: &Path) -> Done {
    let saved = save::save(&dirs, &begin, to).await.map_err(Failure::refused)?;
    warn(&saved);
    let found = &saved.selection;
    if found.transactions == 0 {
        println!("there is nothing to save in {}", saved.dir.display());
        return Ok(NOTHING);
    }
    println!(
        "saved {} transactions, {} bytes, from {} to {}",
        found.transactions,
        saved.bytes,
        saved.dir.display(),
        to.display()
    );
    let position = found.position.to_string();
    let names = [("GTIDs", found.gtids.to_string()), ("up to", position)];
    for (what, text) in names.into_iter().filter(|(_, text)| !text.is_empty()) {
        println!("{what}: {text}");
    }
    Ok(0)
}

fn warn(saved: &Saved) {
    for warning in &saved.warnings {
        eprintln!("conclave: {warning}");
    }
}

//! Binary log files of dead servers, over SSH: listed, read in ranges, and handed to another server
//! as the relay log of a channel of its own.
//!
//! ```text
//!   list      one script: is mysqld gone? which files does the index name, how long are they?
//!   Reader    one shell on the host that answers "offset length path" with those bytes
//!   Upload    `cat >` on the other host; the file gets its name through the turnstile
//! ```
//! Reading changes nothing, so that it needs no turnstile. What is uploaded lies under a name of one
//! run of one step, which nobody reads; putting it where the server looks is a command like others.

use std::{collections::BTreeMap, time::Duration};

use conclave_core::{
    model::{DiskLog, GtidSet, LogPiece, Micros, Mono, SshTarget},
    ports::{Logs, Place, PortError, Remote, RemoteCommand, RescueOrder, Trouble},
};
use russh::ChannelMsg;
use sha2::{Digest, Sha256};
use tokio::{sync::Mutex, time::timeout};

use super::{
    Shared, SshPort,
    command::{self, quote},
    session::{self, Channel},
    target,
};
use crate::{
    adapters::clock::SystemClock,
    binlog::{
        Chain, FileFault, Files, LogFile, Need, Previous, Selection, Sink, Span, Wanted, head,
        index, select, shares,
    },
};

/// Longest list of files that is read.
const LIST_BYTES: usize = 4 << 20;

/// Parts of one file that are told one by one; more are taken together with what is between them,
/// which the server passes over.
const PIECES: usize = 64;

/// Time for the last command of a rescue.
const PUT: Duration = Duration::from_secs(30);

/// Prints what there is, or why it is not to be read.
const LIST: &str = r#"
scan
[ -z "$found" ] || { echo "R$found"; exit 0; }
[ -d "$data_dir" ] || { echo "E there is no directory $data_dir"; exit 0; }
if [ -n "$log_bin" ]; then set -- "$log_bin.index"; else set -- "$data_dir"/*.index; fi
for index in "$@"; do
  [ -e "$index" ] || continue
  [ -r "$index" ] || { echo "E $index may not be read by this login"; exit 0; }
  echo "I $index"
  first=
  while IFS= read -r line; do
    [ -n "$line" ] || continue
    echo "L $line"
    [ -n "$first" ] || first=$line
  done <"$index"
  case $first in
    '') continue ;;
    /*) path=$first ;;
    *) path=$data_dir/${first#./} ;;
  esac
  dir=${path%/*} base=${path##*/}
  base=${base%.*}
  echo "D $dir"
  stat -c 'F %s %n' -- "$dir/$base".[0-9]* 2>/dev/null
done
echo .
"#;

/// Answers each line of its input. Fewer bytes than asked for end it, with an error.
const READER: &str = r#"while read -r at len path; do
  dd if="$path" bs=262144 iflag=skip_bytes,count_bytes,fullblock skip="$at" count="$len" status=none || exit 9
done"#;

/// The log of one index file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Listed {
    index: String,
    lines: Vec<u8>,
    dir: String,
    files: Vec<LogFile>,
}

fn answered(why: impl std::fmt::Display) -> PortError {
    PortError::not_done(Trouble::Answered, why)
}

/// What [`LIST`] printed.
fn listed(what: &str, said: &str) -> Result<Vec<Listed>, PortError> {
    let mut out: Vec<Listed> = Vec::new();
    let mut is_whole = false;
    for line in said.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (kind, out.last_mut()) {
            (".", _) => is_whole = true,
            ("R", _) => return Err(answered(format!("{what}: mysqld runs there (pid {rest})"))),
            ("E", _) => return Err(answered(format!("{what}: {rest}"))),
            ("I", _) => out.push(Listed { index: rest.into(), ..Listed::default() }),
            ("L", Some(log)) => {
                log.lines.extend_from_slice(rest.as_bytes());
                log.lines.push(b'\n');
            }
            ("D", Some(log)) => log.dir = rest.into(),
            ("F", Some(log)) => {
                let (len, path) = rest.split_once(' ').unwrap_or_default();
                let name = path.rsplit('/').next().unwrap_or_default().to_owned();
                if let Ok(len) = len.parse() {
                    log.files.push(LogFile { name, len });
                }
            }
            _ => return Err(answered(format!("{what}: it printed {line:?}"))),
        }
    }
    match is_whole {
        true => Ok(out),
        false => Err(answered(format!("{what}: the list is not whole: {}", said.trim()))),
    }
}

/// A shell on a host that reads files. One question at a time.
struct Reader<'a> {
    channel: Mutex<(Channel, Vec<u8>)>,
    /// Directory of the files.
    dir: String,
    patience: Duration,
    told: &'a (dyn Fn() + Send + Sync),
}

impl Files for Reader<'_> {
    async fn read(&self, file: &str, need: Need) -> Result<Vec<u8>, String> {
        if file.contains('\n') {
            return Err(format!("{file:?} is no file name"));
        }
        let mut guard = self.channel.lock().await;
        let (channel, rest) = &mut *guard;
        let asked = format!("{} {} {}/{file}\n", need.at, need.len, self.dir);
        let sent = channel.data_bytes(asked.into_bytes()).await;
        sent.map_err(|error| format!("the session broke: {error}"))?;
        let mut errors = String::new();
        while rest.len() < need.len {
            let message = timeout(self.patience, channel.wait()).await;
            match message.map_err(|_| format!("nothing came for {:?}", self.patience))? {
                Some(ChannelMsg::Data { data }) => rest.extend_from_slice(&data),
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    errors.push_str(&String::from_utf8_lossy(&data));
                }
                Some(ChannelMsg::Eof | ChannelMsg::Close | ChannelMsg::ExitSignal { .. })
                | None => {
                    let why = errors.trim();
                    let why = if why.is_empty() { "the session broke" } else { why };
                    return Err(why.to_owned());
                }
                Some(_) => {}
            }
        }
        (self.told)();
        let left = rest.split_off(need.len);
        Ok(std::mem::replace(rest, left))
    }
}

/// Bytes on their way into a file of another host.
struct Upload {
    channel: Channel,
    sum: Sha256,
    bytes: u64,
    patience: Duration,
    /// The head of a further part repeats the magic that only a file's beginning has.
    skip: usize,
}

/// What a binary log file begins with, before its first event.
const MAGIC: usize = 4;

impl Sink for Upload {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let skip = std::mem::take(&mut self.skip).min(bytes.len());
        let bytes = &bytes[skip..];
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        let sent = timeout(self.patience, self.channel.data_bytes(bytes.to_vec())).await;
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.fate().await),
            Err(_) => Err(format!("the host took nothing for {:?}", self.patience)),
        }
    }
}

impl Upload {
    /// Why the host takes no more.
    async fn fate(&mut self) -> String {
        let ended = timeout(self.patience, session::read_to_end(&mut self.channel, LIST_BYTES));
        match ended.await {
            Ok(exit) if !exit.text.trim().is_empty() => exit.text.trim().to_owned(),
            Ok(_) | Err(_) => "the session broke".into(),
        }
    }

    /// All of it was taken; its checksum.
    async fn finish(mut self) -> Result<String, String> {
        let sent = self.channel.eof().await;
        sent.map_err(|error| format!("the session broke: {error}"))?;
        let ended = session::read_to_end(&mut self.channel, LIST_BYTES);
        let exit = timeout(self.patience, ended).await;
        let exit = exit.map_err(|_| format!("no answer for {:?}", self.patience))?;
        match exit.status {
            Some(0) => Ok(hex(&self.sum.finalize())),
            Some(_) | None => Err(exit.text.trim().to_owned()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(patience: Micros) -> Duration {
    Duration::from_micros(patience.0)
}

impl Shared {
    /// A channel on which that runs as root.
    async fn start(
        &self,
        target: &SshTarget,
        script: &str,
        patience: Micros,
    ) -> Result<Channel, PortError> {
        let deadline = SystemClock.after(seconds(patience));
        let (_, channel) = self.channel(target, deadline).await?;
        let shell = format!("sh -c {}", quote(script));
        let command = if target.user == "root" { shell } else { format!("sudo -n {shell}") };
        let started = channel.exec(false, command).await;
        started.map_err(|error| {
            PortError::not_done(Trouble::Refused, format!("run a command: {error}"))
        })?;
        Ok(channel)
    }

    /// The files of a server whose mysqld does not run.
    async fn list(&self, place: &Place, patience: Micros) -> Result<Vec<Listed>, PortError> {
        let target = target(place)?;
        let what = format!("read the binary log on {}", session::label(target));
        let script = format!(
            "LC_ALL=C\ndata_dir={}\nlog_bin={}\n{}{LIST}",
            quote(place.server.data_dir.trim_end_matches('/')),
            quote(place.server.log_bin.as_deref().unwrap_or_default()),
            command::MYSQLD,
        );
        let mut channel = self.start(target, &script, patience).await?;
        let ended = session::read_to_end(&mut channel, LIST_BYTES);
        match timeout(seconds(patience), ended).await {
            Ok(exit) => listed(&what, &exit.text),
            Err(_) => Err(PortError::not_done(Trouble::Silent, format!("{what}: no answer"))),
        }
    }

    async fn reader<'a>(
        &self,
        place: &Place,
        dir: &str,
        patience: Micros,
        told: &'a (dyn Fn() + Send + Sync),
    ) -> Result<Reader<'a>, PortError> {
        let channel = self.start(target(place)?, READER, patience).await?;
        let channel = Mutex::new((channel, Vec::new()));
        Ok(Reader { channel, dir: dir.into(), patience: seconds(patience), told })
    }
}

/// The binary log among what the indexes name: relay logs have an index, too.
async fn find(
    shared: &Shared,
    place: &Place,
    patience: Micros,
    told: &(dyn Fn() + Send + Sync),
) -> Result<(String, Chain), PortError> {
    let label = session::label(target(place)?);
    let mut seen = Vec::new();
    for log in shared.list(place, patience).await? {
        let (chain, _) = index::reconcile(&log.lines, &log.files);
        let Some(newest) = chain.files.last() else {
            seen.push(format!("{} names no file that is there", log.index));
            continue;
        };
        let reader = shared.reader(place, &log.dir, patience, told).await?;
        let head = head(&reader, newest).await;
        let head = head.map_err(|fault| unreadable(&label, &fault))?;
        if !head.is_relay {
            return Ok((log.dir, chain));
        }
        seen.push(format!("{} is of relay logs", log.index));
    }
    let seen = if seen.is_empty() { "no index file".into() } else { seen.join(", ") };
    Err(answered(format!(
        "read the binary log on {label}: found {seen} in {}; if it is elsewhere, log_bin in the \
         server's definition says where",
        place.server.data_dir
    )))
}

fn unreadable(label: &str, fault: &FileFault) -> PortError {
    answered(format!("read the binary log on {label}: {fault}"))
}

/// What was found, as the record keeps it.
fn pieces(dir: &str, chain: &Chain, spans: &[Span]) -> Vec<LogPiece> {
    let piece = |span: &Span| LogPiece {
        path: format!("{dir}/{}", chain.files[span.file].name),
        from: span.begin,
        to: span.end,
    };
    let mut out: Vec<LogPiece> = spans.iter().map(piece).collect();
    if out.len() > PIECES {
        out.dedup_by(|next, kept| {
            let is_same = next.path == kept.path;
            if is_same {
                kept.to = next.to;
            }
            is_same
        });
    }
    out
}

/// Bytes at the newest file's end that belong to no whole transaction.
fn torn(chain: &Chain, selection: &Selection) -> u64 {
    let newest = chain.files.len().saturating_sub(1);
    let len = chain.files.last().map_or(0, |file| file.len);
    let torn = selection.torn.iter().filter(|(file, _, _)| *file == newest).map(|(_, at, _)| *at);
    let open = selection.unfinished.iter().filter(|(_, span)| span.file == newest);
    let from = torn.chain(open.map(|(_, span)| span.begin)).min();
    from.map_or(0, |from| len.saturating_sub(from))
}

impl Logs for SshPort {
    async fn read(
        &self,
        place: &Place,
        known: &GtidSet,
        patience: Micros,
        told: &(dyn Fn() + Send + Sync),
    ) -> Result<DiskLog, PortError> {
        let label = session::label(target(place)?);
        let (dir, chain) = find(&self.shared, place, patience, told).await?;
        let reader = self.shared.reader(place, &dir, patience, told).await?;
        let fault = |fault: FileFault| unreadable(&label, &fault);
        let found = select(&reader, &chain, Wanted::Beyond(known)).await.map_err(fault)?;
        let Some(newest) = chain.files.last() else { return Ok(DiskLog::default()) };
        let before = match head(&reader, newest).await.map_err(fault)?.previous {
            Previous::MySql(before) => before,
            Previous::Unsaid | Previous::MariaDb(_) => {
                let why = format!("read the binary log on {label}: it has no GTIDs of MySQL's");
                return Err(answered(why));
            }
        };
        if found.transactions != found.gtids.count() {
            let nameless = found.transactions - found.gtids.count();
            let why = format!(
                "read the binary log on {label}: {nameless} transaction(s) in it have no GTID"
            );
            return Err(answered(why));
        }
        // It was read while nobody wrote.
        self.shared.list(place, patience).await?;
        Ok(DiskLog {
            purged: before.minus(known).minus(&found.gtids),
            pieces: pieces(&dir, &chain, &found.spans),
            torn: torn(&chain, &found),
            only_here: found.gtids,
        })
    }

    async fn carry(
        &self,
        order: &RescueOrder,
        patience: Micros,
        told: &(dyn Fn() + Send + Sync),
    ) -> Result<String, PortError> {
        let names = Names::of(order)?;
        let (from, to) = (target(&order.from)?, target(&order.to)?);
        let there = self.shared.list(&order.from, patience).await?;
        let reader = self.shared.reader(&order.from, "", patience, told).await?;
        let script = format!("umask 077; cat >{}", quote(&names.upload));
        let mut upload = Upload {
            channel: self.shared.start(to, &script, patience).await?,
            sum: Sha256::new(),
            bytes: 0,
            patience: seconds(patience),
            skip: 0,
        };
        let copied = copy(&reader, &there, order, &mut upload).await;
        copied.map_err(|fault| {
            let (from, to) = (session::label(from), session::label(to));
            answered(format!("bring a binary log from {from} to {to}: {fault}"))
        })?;
        let sum = upload.finish().await.map_err(|why| {
            answered(format!("write {} on {}: {why}", names.upload, session::label(to)))
        })?;
        let kept = format!("{}.{}", names.prefix, &sum[..12]);
        let command = RemoteCommand::PutRescued {
            upload: names.upload,
            sum,
            relay_log: order.relay_log.clone(),
            kept: kept.clone(),
        };
        self.run(&order.to, order.token, &command, SystemClock.after(PUT)).await?;
        told();
        Ok(kept)
    }

    async fn discard(&self, order: &RescueOrder, deadline: Mono) -> Result<(), PortError> {
        let command = RemoteCommand::DropKept { prefix: Names::of(order)?.prefix };
        self.run(&order.to, order.token, &command, deadline).await.map(drop)
    }
}

/// How the files of one rescue are called, beside the relay logs.
struct Names {
    prefix: String,
    upload: String,
}

impl Names {
    fn of(order: &RescueOrder) -> Result<Self, PortError> {
        let Some((dir, _)) = order.relay_log.rsplit_once('/').filter(|(dir, _)| !dir.is_empty())
        else {
            let (server, found) = (&order.to.server.name, &order.relay_log);
            return Err(answered(format!(
                "{server} does not say where its relay logs are: {found:?}"
            )));
        };
        let token = order.token;
        let prefix = format!("{dir}/conclave-rescue.e{}-{}", token.epoch, token.seq);
        let upload = format!("{prefix}.t{}.upload", token.term);
        Ok(Self { prefix, upload })
    }
}

/// How long a file is; `None`: it is not there any more.
fn length(there: &[Listed], path: &str) -> Option<u64> {
    let (dir, name) = path.rsplit_once('/')?;
    let mut files = there.iter().filter(|log| log.dir == dir).flat_map(|log| &log.files);
    files.find(|file| file.name == name).map(|file| file.len)
}

/// The parts of the log as one file. Each stands behind the description of its format, as a relay log
/// may change that in the middle [ran].
async fn copy(
    reader: &Reader<'_>,
    there: &[Listed],
    order: &RescueOrder,
    upload: &mut Upload,
) -> Result<(), FileFault> {
    let mut chain = Chain::default();
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    let mut selection = Selection::default();
    for piece in &order.rescue.pieces {
        let number = match numbers.get(piece.path.as_str()) {
            Some(number) => *number,
            None => {
                let len = length(there, &piece.path);
                let file = LogFile { name: piece.path.clone(), len: len.unwrap_or_default() };
                let format = head(reader, &file).await?.format;
                chain.files.push(file);
                selection.formats.push(format);
                numbers.insert(&piece.path, chain.files.len() - 1);
                chain.files.len() - 1
            }
        };
        let (begin, end) = (piece.from, piece.to);
        selection.spans.push(Span { file: number, format: number, begin, end });
    }
    for (number, share) in shares(&selection).into_iter().enumerate() {
        upload.skip = if number == 0 { 0 } else { MAGIC };
        share.copy(reader, &chain, upload).await?;
    }
    Ok(())
}

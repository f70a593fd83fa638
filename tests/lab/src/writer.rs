//! Clients that write while things go wrong, seen from the test.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::error::{Context, Error, Result};
use crate::history::{History, Op, Outcome, Table, first_ok_after};
use crate::host::Process;
use crate::keeper::malformed;
use crate::lab::Lab;
use crate::spec::WRITER_VIP;

/// What a client does.
#[derive(Debug, Clone)]
pub struct WriterSpec {
    /// The host that it runs on.
    pub host: String,
    /// The address that it connects to, again after every break.
    pub address: Ipv4Addr,
    /// The table that it inserts into.
    pub table: Table,
    /// Number of connections, each with one operation at a time.
    pub connections: u32,
    /// From one operation's start to the next on a connection; longer if the former takes longer.
    pub interval: Duration,
    /// After so long an operation's outcome is unknown and the connection is dropped.
    pub op_deadline: Duration,
    /// Deadline of a connection, authentication included.
    pub connect_deadline: Duration,
    /// Longest pause between two attempts to connect; the shortest is 2 ms.
    pub retry_pause: Duration,
    /// Each operation is a transaction of reads and writes rather than one insert.
    pub is_mixed: bool,
}

impl Default for WriterSpec {
    fn default() -> WriterSpec {
        WriterSpec {
            host: "client".into(),
            address: WRITER_VIP,
            table: Table::T,
            connections: 1,
            interval: Duration::from_millis(2),
            op_deadline: Duration::from_millis(500),
            connect_deadline: Duration::from_millis(100),
            retry_pause: Duration::from_millis(5),
            is_mixed: false,
        }
    }
}

/// A running client. Dropping it kills it.
#[derive(Debug)]
pub struct Writer {
    process: Process,
    path: PathBuf,
    offset: u64,
    partial: Vec<u8>,
    history: History,
    op_deadline: Duration,
}

/// Numbers the clients of this process, for their files' names.
static NUMBER: AtomicU32 = AtomicU32::new(1);

impl Lab {
    /// Starts a client; returns at once, see [`Writer::wait_ok_after`].
    ///
    /// # Errors
    /// Its host is off.
    pub fn write(&self, spec: &WriterSpec) -> Result<Writer> {
        let host = self.host(&spec.host)?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let stem = format!("load-{}-{number}", std::process::id());
        let path = host.dir().join("log").join(format!("{stem}.jsonl"));
        let log = path.with_extension("log");
        File::create(&path).context(|| format!("make {}", path.display()))?;
        let table = match spec.table {
            Table::T => "t",
            Table::W => "w",
        };
        let args: [String; 9] = [
            "load".into(),
            format!("--address={}", spec.address),
            format!("--table={table}"),
            format!("--out={}", path.display()),
            format!("--connections={}", spec.connections),
            format!("--interval-us={}", spec.interval.as_micros()),
            format!("--op-ms={}", spec.op_deadline.as_millis()),
            format!("--connect-ms={}", spec.connect_deadline.as_millis()),
            format!("--pause-ms={}", spec.retry_pause.as_millis()),
        ];
        let mut command = Command::new(self.bin());
        // The client ends with its input: also when this process is killed while the lab is kept.
        command.args(&args).args(spec.is_mixed.then_some("--mixed")).stdin(Stdio::piped());
        let process = host.spawn_logged(command, &log)?;
        let history = History { table: spec.table, ops: Vec::new() };
        let op_deadline = spec.op_deadline;
        Ok(Writer { process, path, offset: 0, partial: Vec::new(), history, op_deadline })
    }

    /// Starts a watcher: a client that tries to commit on one server, at its own address, every
    /// 20 ms. It runs on the client's host; to see a server that is cut off from there, use
    /// [`Lab::write`] with the server's own host.
    ///
    /// # Errors
    /// As [`Lab::write`].
    pub fn watch(&self, server: &str) -> Result<Writer> {
        self.write(&WriterSpec {
            address: self.host(server)?.ip(),
            table: Table::W,
            interval: Duration::from_millis(20),
            retry_pause: Duration::from_millis(20),
            ..WriterSpec::default()
        })
    }
}

impl Writer {
    /// All operations up to now.
    ///
    /// # Errors
    /// The client's file cannot be read or understood.
    pub fn ops(&mut self) -> Result<&[Op]> {
        let what = || format!("read {}", self.path.display());
        let mut file = File::open(&self.path).context(what)?;
        file.seek(SeekFrom::Start(self.offset)).context(what)?;
        let read = file.read_to_end(&mut self.partial).context(what)?;
        self.offset += read as u64;
        let whole = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.partial.split_off(whole);
        let lines = std::mem::replace(&mut self.partial, rest);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let op = serde_json::from_slice(line)
                .map_err(|err| malformed(&what(), "an operation a line", &err.to_string()))?;
            self.history.ops.push(op);
        }
        Ok(&self.history.ops)
    }

    /// The acknowledged operations up to now.
    ///
    /// # Errors
    /// As [`Writer::ops`].
    pub fn acked(&mut self) -> Result<Vec<Op>> {
        let ops = self.ops()?;
        Ok(ops.iter().filter(|op| op.outcome == Outcome::Ok).cloned().collect())
    }

    /// The first acknowledged operation that was invoked at or after a time, if there is one yet.
    ///
    /// # Errors
    /// As [`Writer::ops`].
    pub fn first_ok_after(&mut self, us: u64) -> Result<Option<Op>> {
        Ok(first_ok_after(self.ops()?, us).cloned())
    }

    /// Waits for [`Writer::first_ok_after`].
    ///
    /// # Errors
    /// None came in time, or the client has ended.
    pub fn wait_ok_after(&mut self, us: u64, limit: Duration) -> Result<Op> {
        let until = Instant::now() + limit;
        loop {
            if let Some(op) = self.first_ok_after(us)? {
                return Ok(op);
            }
            if Instant::now() > until || !self.process.is_running() {
                let last = self.history.ops.last();
                let last = last.and_then(|op| op.error.clone()).unwrap_or_else(|| "none".into());
                let hint =
                    format!(" (last error of {} operations: {last})", self.history.ops.len());
                let what = "waiting for an acknowledged write".into();
                return Err(Error::Deadline { what, limit, hint });
            }
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Whether it has not ended yet. One whose host lost its power has; whoever cuts the power has
    /// to ask, as the host goes only when all its processes are collected.
    pub fn is_running(&mut self) -> bool {
        self.process.is_running()
    }

    /// Ends the client after the operations that are under way, and returns all that it saw.
    ///
    /// # Errors
    /// As [`Writer::ops`], or it had ended by itself: its log beside the history says why.
    pub fn stop(mut self) -> Result<History> {
        self.process.signal(Signal::SIGTERM)?;
        self.process.wait(self.op_deadline + Duration::from_secs(5))?;
        self.ops()?;
        Ok(std::mem::replace(&mut self.history, History { table: Table::T, ops: Vec::new() }))
    }
}

//! The turnstile on a database host: only the newest actor gets through (SAFETY invariant 6). What
//! `conclave turnstile` does; where it is not installed, a shell script of the same behaviour stands
//! in (`adapters/ssh/turnstile.rs`), over the same files, so that both may be met on one host.
//!
//! ```text
//!   too long on its way? refused
//!   lock the file -> our (epoch, term, sequence) lower than the highest seen? refused
//!                 -> write ours, fsync -> run the command until its deadline -> log a line -> unlock
//! ```

// It runs on a database host, a process of its own, and waits for a lock and a child.
#![allow(clippy::disallowed_methods)]

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use conclave_core::model::{Epoch, Mono, Term, Token};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{adapters::clock::SystemClock, cli::print::utc};

/// Versions of the arguments and files that this build can handle; the first is all there is.
pub const PROTOCOL: u32 = 1;

/// The turnstile has seen a higher token; the command was not run.
pub const SUPERSEDED: u32 = 113;
/// Another command held the turnstile all the time; the command was not run.
pub const BUSY: u32 = 114;
/// The turnstile cannot work on this host; the command was not run.
pub const UNUSABLE: u32 = 115;
/// The command was ended at its deadline. As timeout(1) says it.
pub const TIMED_OUT: u32 = 124;

/// Lines of the log are dropped from the front beyond this size.
pub const LOG_BYTES: u64 = 256 * 1024;
/// So many are kept then.
const LOG_LINES: usize = 500;

/// Pause between two looks whether the lock is free, or the command over.
const POLL: Duration = Duration::from_millis(2);
/// Between asking a command to end and ending it.
const GRACE: Duration = Duration::from_secs(1);

/// One command that wants through.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the files are.
    pub dir: PathBuf,
    /// Names the files: actors on one cluster follow each other.
    pub cluster: String,
    /// Who asks.
    pub token: Token,
    /// One line for the log.
    pub what: String,
    /// For waiting and running together.
    pub limit: Duration,
    /// Refused once the host has been up for so many hundredths of a second.
    pub start_by_cs: u64,
    /// What `sh` runs.
    pub body: String,
}

/// Why the command was not run: the sentence to print, and the exit code.
type Refused = (String, u32);

/// Lets the command through, or not; returns the exit code. What it says and what the command prints
/// goes to `out`.
pub fn pass(request: &Request, mut out: File) -> u32 {
    match admit(request).and_then(|(lock, end)| run(request, lock, end, &out)) {
        Ok(code) => code,
        Err((why, code)) => {
            // Nobody may be there to read it any more.
            let _ = writeln!(out, "turnstile: {why}");
            code
        }
    }
}

/// The lock, with our token written, and when the command's time is over: by a clock that goes on
/// while the host is suspended.
fn admit(request: &Request) -> Result<(File, Mono), Refused> {
    let end = SystemClock.after(request.limit);
    let lock = request.file(".lock");
    let lock = OpenOptions::new().create(true).append(true).open(&lock);
    let lock = lock.map_err(|error| request.unusable("lock", &error))?;
    if uptime_cs().map_err(|error| request.unusable("read the uptime for", &error))?
        >= request.start_by_cs
    {
        request.log("late");
        return Err(("it comes too late, refused".into(), BUSY));
    }
    while lock.try_lock().is_err() {
        if SystemClock.left(end).is_zero() {
            return Err(("another command held it all the time".into(), BUSY));
        }
        std::thread::sleep(POLL);
    }
    let seen = request.seen()?;
    if seen.is_some_and(|seen| request.token < seen) {
        request.log("refused");
        let (ours, seen) = (request.token, seen.unwrap_or(request.token));
        let why = format!(
            "{ours} is lower than {seen} (of {}; remove it if the managers' group was formed anew \
             since), refused",
            request.file("").display()
        );
        return Err((why, SUPERSEDED));
    }
    if seen != Some(request.token) {
        request.remember().map_err(|error| request.unusable("write", &error))?;
    }
    if SystemClock.left(end).is_zero() {
        return Err(("no time is left for the command".into(), BUSY));
    }
    Ok((lock, end))
}

/// Runs the command, which holds the lock for as long as it or a child of it lives.
fn run(request: &Request, lock: File, end: Mono, out: &File) -> Result<u32, Refused> {
    let output = || out.try_clone().map(Stdio::from).map_err(|e| request.unusable("print for", &e));
    let mut command = Command::new("sh");
    // The lock comes in as standard input, for want of another way to hand a file down.
    command.args(["-c", "exec 9<&0 </dev/null; eval \"$1\"", "sh", &request.body]);
    command.stdin(lock).stdout(output()?).stderr(output()?).process_group(0);
    let mut child = command.spawn().map_err(|error| request.unusable("run sh for", &error))?;
    let status = match wait(&mut child, end) {
        Some(status) => code(status),
        None => {
            let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            if wait(&mut child, SystemClock.after(GRACE)).is_none() {
                let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
                let _ = child.wait();
            }
            TIMED_OUT
        }
    };
    request.log(&status.to_string());
    Ok(status)
}

fn wait(child: &mut Child, end: Mono) -> Option<ExitStatus> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Ok(None) if !SystemClock.left(end).is_zero() => std::thread::sleep(POLL),
            Ok(None) | Err(_) => return None,
        }
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u32 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u32::try_from(code).ok()).unwrap_or(255)
}

impl Request {
    fn file(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("turnstile.{}{suffix}", self.cluster))
    }

    fn unusable(&self, what: &str, error: &io::Error) -> Refused {
        (format!("cannot {what} {}: {error}", self.file("").display()), UNUSABLE)
    }

    /// The highest token that came by.
    fn seen(&self) -> Result<Option<Token>, Refused> {
        let path = self.file("");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable("read", &error)),
        };
        if text.is_empty() {
            return Ok(None);
        }
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok([epoch, term, seq]) => {
                Ok(Some(Token { epoch: Epoch(*epoch), term: Term(*term), seq: *seq }))
            }
            Ok(_) | Err(_) => {
                let why = "is damaged; remove it only if no other manager acts on this host";
                Err((format!("{} {why}", path.display()), UNUSABLE))
            }
        }
    }

    /// Durably, before anything is done under it.
    fn remember(&self) -> io::Result<()> {
        let (new, path) = (self.file(".new"), self.file(""));
        let mut file = File::create(&new)?;
        writeln!(file, "{} {} {}", self.token.epoch, self.token.term, self.token.seq)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// A log that cannot be written stops nothing.
    fn log(&self, ending: &str) {
        let path = self.file(".log");
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let at = utc(u64::try_from(at).unwrap_or_default()).replacen(' ', "T", 1);
        let (at, token) = (at.replace(" UTC", "Z"), self.token);
        let line = format!("{at} {token} {}: {ending}\n", self.what.replace('\n', " "));
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        if written.is_ok() && fs::metadata(&path).is_ok_and(|meta| meta.len() > LOG_BYTES) {
            let _ = shorten(&path, &self.file(".log.new"));
        }
    }
}

fn shorten(path: &Path, new: &Path) -> io::Result<()> {
    let text = fs::read(path)?;
    let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(new, lines[lines.len().saturating_sub(LOG_LINES)..].concat())?;
    fs::rename(new, path)
}

/// How long this host has been up, in hundredths of a second.
fn uptime_cs() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/uptime")?;
    let digits: String = text.split(' ').next().unwrap_or_default().replace('.', "");
    digits.parse().map_err(|_| io::Error::other(format!("/proc/uptime says {text:?}")))
}

#[cfg(test)]
#[path = "turnstile_tests.rs"]
mod tests;

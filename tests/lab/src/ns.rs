//! How does a program get into a host?
//!
//! A host is a set of namespaces. A short-lived thread of ours enters them and forks there, so the
//! program is our own child with a process id of ours, can be waited for, and costs no helper
//! process. The thread ends with the fork; nothing else of this process ever leaves its namespaces.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};

use crate::error::{Context, Error, Result};

/// The search path inside hosts; a plain user's path lacks the `sbin` folders.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Namespaces to enter: those that the process `pid` lives in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Namespaces {
    pub pid: i32,
}

/// Refuses to go on unless root.
pub(crate) fn require_root() -> Result<()> {
    let uid = Uid::effective();
    if uid.is_root() { Ok(()) } else { Err(Error::NotRoot { uid: uid.as_raw() }) }
}

impl Namespaces {
    /// Moves the calling thread into the namespaces; `with_pids` makes its children appear there
    /// too (a thread that did so cannot start threads any more).
    fn enter(self, with_pids: bool) -> io::Result<()> {
        let mut kinds = vec![
            ("net", CloneFlags::CLONE_NEWNET),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("mnt", CloneFlags::CLONE_NEWNS),
        ];
        if with_pids {
            kinds.insert(0, ("pid", CloneFlags::CLONE_NEWPID));
        }
        // All files are opened first: /proc is another one once the mounts have changed.
        let mut files = Vec::new();
        for (name, flag) in kinds {
            files.push((File::open(format!("/proc/{}/ns/{name}", self.pid))?, flag));
        }
        unshare(CloneFlags::CLONE_FS)?;
        for (file, flag) in files {
            setns(file, flag)?;
        }
        Ok(())
    }

    /// Runs a closure in a thread inside the namespaces (not the process-id one).
    pub fn within<T: Send>(self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = scope.spawn(move || self.enter(false).map(|()| work()));
            inside.join().expect("work inside a host does not panic")
        })
    }

    /// Starts a program inside. It is our child; its id is the one we see, not the host's.
    pub fn spawn(self, command: &mut Command) -> io::Result<Child> {
        command.env("PATH", PATH);
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                self.enter(true)?;
                command.spawn()
            });
            inside.join().expect("starting a program does not panic")
        })
    }

    /// Runs a program inside to its end, with a deadline over all of it.
    pub fn run(self, command: &mut Command, stdin: &[u8], limit: Duration) -> Result<Output> {
        let what = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0);
        let mut child = self.spawn(command).context(|| format!("start {what} in the host"))?;
        let mut input = child.stdin.take().expect("stdin is piped");
        let text = stdin.to_vec();
        // A program that does not read its input ends the pipe: that is its own affair.
        let feeder = thread::spawn(move || drop(input.write_all(&text)));
        let stdout = Collector::start(child.stdout.take().expect("stdout is piped"));
        let stderr = Collector::start(child.stderr.take().expect("stderr is piped"));
        let status = wait_until(&mut child, Instant::now() + limit)
            .context(|| format!("wait for {what}"))?;
        let Some(status) = status else {
            // The leader of the group is still ours to wait for, so the id cannot be a stranger's.
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
            let _ = child.wait();
            return Err(Error::Deadline { what, limit, hint: ", it was killed".into() });
        };
        drop(feeder);
        Ok(Output { status, stdout: stdout.finish(), stderr: stderr.finish() })
    }
}

/// Waits for a child up to a point in time; `None` if it still runs then.
pub(crate) fn wait_until(child: &mut Child, until: Instant) -> io::Result<Option<ExitStatus>> {
    let mut pause = Duration::from_micros(500);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Reads a pipe in the background.
struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: thread::JoinHandle<()>,
}

impl Collector {
    fn start(mut pipe: impl Read + Send + 'static) -> Collector {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n) = pipe.read(&mut buffer) {
                if n == 0 {
                    break;
                }
                sink.lock().expect("no panic while held").extend_from_slice(&buffer[..n]);
            }
        });
        Collector { bytes, reader }
    }

    /// What was read. A daemon that keeps the pipe open is not waited for longer than 0.2 s.
    fn finish(self) -> Vec<u8> {
        let until = Instant::now() + Duration::from_millis(200);
        while !self.reader.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_micros(500));
        }
        std::mem::take(&mut *self.bytes.lock().expect("no panic while held"))
    }
}

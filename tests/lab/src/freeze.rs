//! A server's thread that stands still, as one does whose disk hangs, while all others go on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::{Host, Result};

/// How long a thread is given to come to where it is held.
const SOON: Duration = Duration::from_secs(60);

/// A held thread. It goes on when this is dropped, which the thread that made it has to do.
pub struct Frozen(Pid);

impl Frozen {
    /// Holds the thread that the server knows by this condition on `performance_schema.threads`.
    ///
    /// # Errors
    /// The server does not tell.
    ///
    /// # Panics
    /// It may not be traced: wants root.
    pub fn new(host: &Host, which: &str) -> Result<Frozen> {
        let ask = format!("SELECT thread_os_id FROM performance_schema.threads WHERE {which}");
        let inside = host.sql_value(&ask)?;
        let thread = outside(host, &inside);
        ptrace::seize(thread, ptrace::Options::empty()).expect("root may trace");
        ptrace::interrupt(thread).expect("it is traced");
        stopped(thread);
        Ok(Frozen(thread))
    }

    /// As [`Frozen::new`], but the thread goes on until it makes a file durable, after it did so
    /// `before` times.
    ///
    /// # Errors
    /// As [`Frozen::new`].
    ///
    /// # Panics
    /// As [`Frozen::new`], or it makes nothing durable within a minute.
    pub fn while_it_syncs(host: &Host, which: &str, before: usize) -> Result<Frozen> {
        let frozen = Frozen::new(host, which)?;
        let until = Instant::now() + SOON;
        // A thread stops where it calls and where the call returns.
        let mut stops = 2 * before + 1;
        while stops > 0 {
            assert!(Instant::now() < until, "the thread makes nothing durable");
            let [call, ..] = frozen.next_call();
            stops -= usize::from(is_sync(call));
        }
        Ok(frozen)
    }

    /// Lets the thread go on to where it next calls the system, or where the call returns: the
    /// number of the call and its first argument.
    ///
    /// # Panics
    /// The thread is gone.
    pub fn next_call(&self) -> [i64; 2] {
        ptrace::syscall(self.0, None).expect("it is stopped");
        stopped(self.0);
        let call = fs::read_to_string(format!("/proc/{0}/task/{0}/syscall", self.0));
        let call = call.expect("the kernel tells");
        let mut words = call.split_whitespace();
        let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(-1);
        let first = words.next().and_then(|word| word.strip_prefix("0x"));
        let first = first.and_then(|word| i64::from_str_radix(word, 16).ok()).unwrap_or(-1);
        [number, first]
    }

    /// What one of the thread's file descriptors leads to.
    pub fn target(&self, descriptor: i64) -> String {
        let link = fs::read_link(format!("/proc/{}/fd/{descriptor}", self.0));
        link.map_or(String::new(), |to| to.to_string_lossy().into_owned())
    }
}

/// Whether a call makes a file durable.
pub fn is_sync(call: i64) -> bool {
    [libc::SYS_fsync, libc::SYS_fdatasync].contains(&call)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // Fails if its process has been killed.
        let _ = ptrace::detach(self.0, None);
    }
}

fn stopped(thread: Pid) {
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("it stops");
}

/// The id here of a thread of a host's mysqld, by its id inside.
fn outside(host: &Host, inside: &str) -> Pid {
    let srv = fs::metadata(host.srv()).expect("the host has a disk").ino();
    let numbers = |dir: &str| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_string_lossy().parse::<i32>().ok())
    };
    for process in numbers("/proc") {
        let at = format!("/proc/{process}");
        let is_mysqld = fs::read_to_string(format!("{at}/comm")).is_ok_and(|c| c == "mysqld\n");
        let is_here = fs::metadata(format!("{at}/root/srv")).is_ok_and(|meta| meta.ino() == srv);
        if !is_mysqld || !is_here {
            continue;
        }
        for thread in numbers(&format!("{at}/task")) {
            let status = fs::read_to_string(format!("{at}/task/{thread}/status"));
            let status = status.unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            if ids.and_then(|ids| ids.split_whitespace().last()) == Some(inside) {
                return Pid::from_raw(thread);
            }
        }
    }
    panic!("no thread {inside} of mysqld on {}", host.name());
}

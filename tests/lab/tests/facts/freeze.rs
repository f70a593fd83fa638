//! A server's thread that stands still, as one does whose disk hangs, while all others go on.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use conclave_lab::{Host, Result};
use nix::libc;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::SOON;

/// A held thread. It goes on when this is dropped, which the thread that made it has to do.
pub struct Frozen(Pid);

impl Frozen {
    /// Holds the thread that the server knows by this condition on `performance_schema.threads`.
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
    pub fn while_it_syncs(host: &Host, which: &str, before: usize) -> Result<Frozen> {
        let frozen = Frozen::new(host, which)?;
        let thread = frozen.0;
        let at = format!("/proc/{thread}/task/{thread}/syscall");
        let until = Instant::now() + SOON;
        let wanted = [libc::SYS_fsync, libc::SYS_fdatasync];
        // A thread stops where it calls and where the call returns.
        let mut stops = 2 * before + 1;
        loop {
            let call = fs::read_to_string(&at).unwrap_or_default();
            let number = call.split(' ').next().and_then(|word| word.parse().ok());
            if number.is_some_and(|number: i64| wanted.contains(&number)) {
                stops -= 1;
            }
            if stops == 0 {
                return Ok(frozen);
            }
            assert!(Instant::now() < until, "the thread makes nothing durable");
            ptrace::syscall(thread, None).expect("it is stopped");
            stopped(thread);
        }
    }
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

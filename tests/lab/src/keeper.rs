//! Who cleans up when the owner of a lab is killed?
//!
//! ```text
//! owner (a test)  --pipe-->  reaper  --pipe-->  keeper (pid 1 of the lab, router's network)
//!                                                 +- init of db1 (pid 1 of the host) - mysqld, sshd
//!                                                 +- init of m1 ...
//! ```
//!
//! Every process of the lab lives below the keeper's process-id namespace, every network namespace
//! and mount belongs to one of these processes. When the owner ends, in whatever way, the kernel
//! closes its end of the pipe; the reaper then closes the keeper's, the keeper exits, the kernel
//! kills all below it and with them go mounts, interfaces and addresses. The reaper removes the
//! folder. If the reaper itself is killed, the keeper goes all the same, and the next lab sweeps
//! the folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, setsid};

use crate::error::{Context, Error, Result};
use crate::fault::Faults;
use crate::install::run;
use crate::lab::Files;
use crate::spec::RACKS;

/// What the reaper prints before the keeper's process id once the lab's network stands.
pub(crate) const READY: &str = "ready ";

/// Body of the hidden command `reaper`: starts the keeper, waits for the owner's or the keeper's
/// end, and removes the lab's folder. With `keep` it does not watch its owner.
///
/// # Errors
/// The keeper could not be started; the owner reads the reason from our standard error.
pub fn reap_lab(root: &Path, keep: bool) -> Result<()> {
    let files = Files::new(root);
    // A terminal's hang-up or interrupt must not end the one who cleans up.
    setsid().context(|| "leave the owner's session".into())?;
    let lock = File::create(files.lock()).context(|| "open the lab's lock".into())?;
    // Free, but for the blink in which someone lists the labs.
    lock.lock().context(|| format!("lock {}", files.lock().display()))?;
    let mut keeper = start_keeper(root)?;
    let mut line = String::new();
    let stdout = keeper.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut line).context(|| "hear from the keeper".into())?;
    if line.is_empty() {
        let _ = keeper.wait();
        let log = fs::read_to_string(files.keeper_log()).unwrap_or_default();
        return Err(malformed("start the lab's keeper", "its word that it is up", log.trim()));
    }
    fs::write(files.keeper_pid(), keeper.id().to_string()).context(|| "note the keeper".into())?;
    println!("{READY}{}", keeper.id());
    let reins = keeper.stdin.take();
    if keep {
        keeper.wait().context(|| "wait for the keeper".into())?;
        drop(reins);
    } else {
        thread::spawn(move || {
            // Ends when the last holder of the other end is gone; nothing is ever written to it.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            drop(reins);
        });
        keeper.wait().context(|| "wait for the keeper".into())?;
    }
    // Out of the way first: whoever waits for the lab's end need not wait for the disk.
    let gone = files.gone();
    fs::rename(root, &gone).context(|| format!("rename {}", root.display()))?;
    fs::remove_dir_all(&gone).context(|| format!("remove {}", gone.display()))
}

/// Forks the keeper as the first process of a new process-id namespace.
fn start_keeper(root: &Path) -> Result<std::process::Child> {
    let files = Files::new(root);
    let log = File::create(files.keeper_log()).context(|| "open the keeper's log".into())?;
    let own = File::open("/proc/self/ns/pid").context(|| "open our own namespace".into())?;
    let exe = std::env::current_exe().context(|| "find our own program".into())?;
    unshare(CloneFlags::CLONE_NEWPID).context(|| "make a process-id namespace".into())?;
    let child = Command::new(exe)
        .arg("keeper")
        .arg(root)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn();
    // Back to our own, or this process could start no thread.
    setns(own, CloneFlags::CLONE_NEWPID).context(|| "return to our own namespace".into())?;
    child.context(|| "start the keeper".into())
}

/// Body of the hidden command `keeper`: makes the router's network, then reaps orphans until the
/// reaper is gone.
///
/// # Errors
/// A namespace, mount or interface could not be made; nothing is left behind.
pub fn keep_lab(root: &Path) -> Result<()> {
    // Before any thread starts, or some thread would not block it.
    let children = block_child_signals()?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context(|| "make the router's namespaces".into())?;
    own_mounts()?;
    nix::unistd::sethostname("router").context(|| "set the router's name".into())?;
    quiet_ipv6();
    sysctl("net/ipv4/ip_forward", "1")?;
    ip_batch(&router_links())?;
    let files = Files::new(root);
    files.read_spec().and_then(|spec| Faults::default().apply_here(&spec))?;
    println!("up");
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    loop {
        reap_children(|_| {});
        children.wait().context(|| "wait for a signal".into())?;
    }
}

fn router_links() -> String {
    let mut batch = String::from("link set lo up\n");
    let racks = (0..=RACKS).map(|rack| (format!("br{rack}"), Ipv4Addr::new(10, 77, rack, 1)));
    for (bridge, ip) in racks.chain([("brv".to_owned(), Ipv4Addr::new(10, 77, 200, 1))]) {
        batch += &format!(
            "link add name {bridge} type bridge forward_delay 0 mcast_snooping 0\n\
             addr add {ip}/24 dev {bridge}\nlink set dev {bridge} up\n"
        );
    }
    batch
}

/// Blocks SIGCHLD, so that it can be waited for.
pub(crate) fn block_child_signals() -> Result<SigSet> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().context(|| "block SIGCHLD".into())?;
    Ok(set)
}

/// Collects all children that have ended, telling each one's process id.
pub(crate) fn reap_children(mut ended: impl FnMut(Pid)) {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        match status {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _) => ended(pid),
            // Nothing has ended; the rest are states that we did not ask for.
            _ => return,
        }
    }
}

/// Cuts this mount namespace off from its parent's and gives it a `/proc` of its own.
pub(crate) fn own_mounts() -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context(|| "make mounts private".into())?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none)
        .context(|| "mount /proc".into())
}

/// Sets a kernel parameter of this network namespace.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<()> {
    fs::write(Path::new("/proc/sys").join(name), value).context(|| format!("set {name}={value}"))
}

/// No IPv6 in the lab. A kernel without it has nothing to switch off, hence no error.
pub(crate) fn quiet_ipv6() {
    for which in ["all", "default"] {
        let _ = sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1");
    }
}

/// Runs `ip -batch` in the current namespaces.
pub(crate) fn ip_batch(batch: &str) -> Result<()> {
    feed(Command::new("ip").args(["-batch", "-"]), batch)
}

/// Runs a program with a text as its input.
pub(crate) fn feed(command: &mut Command, text: &str) -> Result<()> {
    let (reader, mut writer) = std::io::pipe().context(|| "make a pipe".into())?;
    // Texts here are far below a pipe's capacity, so this cannot block.
    writer.write_all(text.as_bytes()).context(|| "fill a pipe".into())?;
    drop(writer);
    command.env("PATH", crate::ns::PATH).stdin(reader);
    run("set the lab's network up", command).map(|_| ())
}

pub(crate) fn malformed(what: &str, wanted: &str, found: &str) -> Error {
    Error::Malformed { what: what.into(), wanted: wanted.into(), found: found.into() }
}

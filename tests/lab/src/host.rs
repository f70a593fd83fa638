//! One host of a lab: its power, its programs, its addresses, its disk.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::guest::{Answer, Request};
use crate::install::run;
use crate::keeper::{ip_batch, malformed};
use crate::lab::Shared;
use crate::ns::Namespaces;
use crate::spec::{Place, Role};
use crate::{fault, garp, mysql, relay, ssh, template};

/// Deadline of [`Host::run`].
const RUN_LIMIT: Duration = Duration::from_secs(30);
/// How long a host may take to boot or to be gone.
const POWER_LIMIT: Duration = Duration::from_secs(20);
/// The file that fills a host's disk.
const FILLER: &str = "/srv/filler";

/// A host. Cheap to clone; it must not be used once its lab is down.
#[derive(Debug, Clone)]
pub struct Host {
    shared: Arc<Shared>,
    place: Place,
}

impl Host {
    pub(crate) fn new(shared: Arc<Shared>, place: Place) -> Host {
        Host { shared, place }
    }

    /// The host's name: `db1`, `m1`, `client`.
    pub fn name(&self) -> String {
        self.place.name()
    }

    /// Role, number and rack.
    pub fn place(&self) -> Place {
        self.place
    }

    /// The host's own address.
    pub fn ip(&self) -> Ipv4Addr {
        self.place.ip()
    }

    /// The host's folder on the machine; hosts see it under the same path.
    pub fn dir(&self) -> PathBuf {
        self.shared.files.host(&self.name())
    }

    /// What the host sees as `/srv`, seen from the machine (empty there if it is a memory file
    /// system, see [`crate::LabSpec::srv_mb`]).
    pub fn srv(&self) -> PathBuf {
        self.dir().join("srv")
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A fresh data directory below the host's `/srv`, where there must be none.
    pub(crate) fn copy_template(&self) -> Result<()> {
        let mut copy = Command::new("cp");
        copy.args(["-r", "--reflink=auto", "--sparse=always"]);
        copy.arg(template::dir(&self.shared.install).join("data")).arg(self.srv());
        let copied = self.shared.keeper.run(&mut copy, b"", POWER_LIMIT)?;
        if copied.status.success() {
            return Ok(());
        }
        let found = String::from_utf8_lossy(&copied.stderr).into_owned();
        Err(malformed("copy the template", "a data directory", &found))
    }

    /// Makes the host's folder with all that it needs before its first boot.
    pub(crate) fn furnish(&self) -> Result<()> {
        for dir in [self.srv(), self.dir().join("log")] {
            fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
        }
        if self.place.role != Role::Server {
            return Ok(());
        }
        ssh::make_server(&self.shared, self.place)?;
        let keeper = self.shared.keeper;
        if let Some(mb) = self.shared.spec.srv_mb {
            // Mounted by the router, so that it outlives a power-off of the host.
            let (srv, size) = (self.srv(), format!("size={mb}m"));
            let (kind, none) = (Some("tmpfs"), MsFlags::empty());
            let make = || mount(kind, &srv, kind, none, Some(size.as_str()));
            keeper.within(make).and_then(|made| Ok(made?)).context(|| "mount /srv".into())?;
        }
        if self.shared.spec.mysqld.is_some() {
            return Ok(());
        }
        self.copy_template()?;
        let (cnf, srv) = (mysql::my_cnf(&self.shared, self.place), self.srv().join("my.cnf"));
        let written = keeper.within(|| fs::write(&srv, cnf)).and_then(|written| written);
        written.context(|| format!("write {}", srv.display()))
    }

    /// The namespaces of the host, by the process that listens on its init's socket.
    pub(crate) fn namespaces(&self) -> Result<Namespaces> {
        let stream = self.connect()?;
        let peer = getsockopt(&stream, PeerCredentials).context(|| "find the init".into())?;
        Ok(Namespaces { pid: peer.pid() })
    }

    fn connect(&self) -> Result<UnixStream> {
        let off = |_| Error::HostOff { name: self.name() };
        UnixStream::connect(self.dir().join("init.sock")).map_err(off)
    }

    /// Whether the host is powered on.
    pub fn is_on(&self) -> bool {
        self.connect().is_ok()
    }

    /// Asks the host's init, which answers within its own deadlines.
    pub(crate) fn ask(&self, request: Request) -> Result<Answer> {
        let mut stream = self.connect()?;
        let what = || format!("ask {} for {request:?}", self.place);
        stream.set_read_timeout(Some(POWER_LIMIT)).context(what)?;
        let text = serde_json::to_string(&request).expect("plain data serialises");
        writeln!(stream, "{text}").context(what)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).context(what)?;
        let answer: Answer = serde_json::from_str(&line)
            .map_err(|err| malformed(&what(), "its answer", &err.to_string()))?;
        match &answer.error {
            None => Ok(answer),
            Some(found) => Err(malformed(&what(), "it to be done", found)),
        }
    }

    /// Runs a program in the host to its end, within 30 s.
    ///
    /// # Errors
    /// The host is off, the program is not there, or it was killed at the deadline. An exit status
    /// other than 0 is no error: look at the output.
    pub fn run<S: AsRef<OsStr>>(&self, program: &str, args: &[S], stdin: &[u8]) -> Result<Output> {
        self.run_within(RUN_LIMIT, program, args, stdin)
    }

    /// As [`Host::run`], with another deadline.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn run_within<S: AsRef<OsStr>>(
        &self,
        limit: Duration,
        program: &str,
        args: &[S],
        stdin: &[u8],
    ) -> Result<Output> {
        self.namespaces()?.run(Command::new(program).args(args), stdin, limit)
    }

    /// Starts a program in the host, with its output appended to a file on the machine. It is
    /// killed when the handle is dropped, or when the host or the lab goes.
    ///
    /// # Errors
    /// The host is off, the program is not there, or the log cannot be opened.
    pub fn spawn<S: AsRef<OsStr>>(
        &self,
        program: impl AsRef<OsStr>,
        args: &[S],
        env: &[(&str, &str)],
        log: &Path,
    ) -> Result<Process> {
        let mut command = Command::new(program);
        command.args(args).envs(env.iter().copied()).stdin(Stdio::null());
        self.spawn_logged(command, log)
    }

    /// Starts a program whose input is set already, in a process group of its own.
    pub(crate) fn spawn_logged(&self, mut command: Command, log: &Path) -> Result<Process> {
        let file = File::options().create(true).append(true).open(log);
        let stdout = file.context(|| format!("open {}", log.display()))?;
        let stderr = stdout.try_clone().context(|| "share the log".into())?;
        command.process_group(0).stdout(stdout).stderr(stderr);
        let child = self.namespaces()?.spawn(&mut command);
        let what = || format!("start {:?} on {}", command.get_program(), self.place);
        Ok(Process { child: child.context(what)? })
    }

    /// Runs a program in the host with this process's own terminal, to its end.
    ///
    /// # Errors
    /// The host is off, or the program is not there.
    pub fn exec<S: AsRef<OsStr>>(&self, program: &str, args: &[S]) -> Result<ExitStatus> {
        let mut command = Command::new(program);
        let child = self.namespaces()?.spawn(command.args(args));
        let what = || format!("run {program} on {}", self.place);
        child.and_then(|mut child| child.wait()).context(what)
    }

    /// Cuts the power: the cables first, so that peers see silence, not closed connections; then
    /// every process at once. Memory, addresses and routes are lost, `/srv` stays.
    ///
    /// # Errors
    /// The host did not go in time. A host that is off already is no error.
    pub fn power_off(&self) -> Result<()> {
        let init = match self.namespaces() {
            Ok(init) => Pid::from_raw(init.pid),
            Err(Error::HostOff { .. }) => return Ok(()),
            Err(err) => return Err(err),
        };
        let down = self.place.ports().map(|port| format!("link set dev {port} down\n")).concat();
        self.in_router(|| ip_batch(&down))?;
        kill(init, Signal::SIGKILL).context(|| format!("kill the init of {}", self.place))?;
        let until = Instant::now() + POWER_LIMIT;
        while Path::new(&format!("/proc/{init}")).exists() {
            if Instant::now() > until {
                let what = format!("powering {} off", self.place);
                return Err(Error::Deadline { what, limit: POWER_LIMIT, hint: String::new() });
            }
            thread::sleep(Duration::from_micros(500));
        }
        // The far ends may have gone with the namespace already, or will in a moment.
        self.unplug_relay();
        for port in self.place.ports().into_iter().chain(relay::wires(self.place)) {
            let _ = self.in_router(|| ip_batch(&format!("link del dev {port}\n")));
        }
        Ok(())
    }

    /// Boots the host: addresses, sshd, `/srv` as it was, no VIPs; and mysqld if wanted, which
    /// answers when this returns.
    ///
    /// # Errors
    /// The host is on already, or did not come up: its `log/init.log` or error log says why.
    pub fn power_on(&self, start_mysqld: bool) -> Result<()> {
        if self.is_on() {
            return Err(malformed(&format!("power {} on", self.place), "it to be off", "it is on"));
        }
        self.boot(false)?;
        fault::forget_unreachable(&self.shared)?;
        if start_mysqld && self.place.role == Role::Server {
            self.start_mysqld()?;
        }
        Ok(())
    }

    /// As [`Host::power_on`], in a network where nobody has missed the host yet.
    pub(crate) fn boot(&self, start_mysqld: bool) -> Result<()> {
        let mut boot = Command::new(&self.shared.bin);
        boot.arg("boot").arg(self.shared.files.root()).arg(self.name());
        let booted = self.shared.keeper.run(&mut boot, b"", POWER_LIMIT)?;
        if !booted.status.success() {
            let found = String::from_utf8_lossy(&booted.stderr).into_owned();
            return Err(malformed(&format!("power {} on", self.place), "a boot", found.trim()));
        }
        if start_mysqld && self.place.role == Role::Server {
            self.start_mysqld()?;
        }
        Ok(())
    }

    fn in_router<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.shared.keeper.within(work).context(|| "enter the router".into())?
    }

    /// Takes an address on `eth1` and tells the segment; returns when both is done.
    ///
    /// # Errors
    /// The host is off, or the address was refused.
    pub fn add_vip(&self, vip: Ipv4Addr) -> Result<()> {
        let inside = || {
            ip_batch(&format!("addr replace {vip}/32 dev eth1\n"))?;
            garp::announce("eth1", vip)
        };
        self.namespaces()?.within(inside).context(|| format!("enter {}", self.place))?
    }

    /// Gives an address up; no error if the host does not have it.
    ///
    /// # Errors
    /// The host is off.
    pub fn drop_vip(&self, vip: Ipv4Addr) -> Result<()> {
        if !self.has_address(vip)? {
            return Ok(());
        }
        let inside = || ip_batch(&format!("addr del {vip}/32 dev eth1\n"));
        self.namespaces()?.within(inside).context(|| format!("enter {}", self.place))?
    }

    /// Whether an address is on one of the host's interfaces.
    ///
    /// # Errors
    /// The host is off.
    pub fn has_address(&self, address: Ipv4Addr) -> Result<bool> {
        let mut show = Command::new("ip");
        show.args(["-4", "-o", "addr", "show", "to", &format!("{address}/32")]);
        let inside = move || run("list addresses", show.env("PATH", crate::ns::PATH));
        let listed = self.namespaces()?.within(inside);
        Ok(!listed.context(|| format!("enter {}", self.place))??.trim().is_empty())
    }

    /// Fills the host's `/srv` to the last byte.
    ///
    /// # Errors
    /// The lab was made without [`crate::LabSpec::srv_mb`]: its `/srv` is the machine's disk, which
    /// must not be filled.
    pub fn fill_disk(&self) -> Result<()> {
        if self.shared.spec.srv_mb.is_none() || self.place.role != Role::Server {
            let wanted = "a lab made with srv_mb, and a database host";
            return Err(malformed(&format!("fill the disk of {}", self.place), wanted, "neither"));
        }
        let fill = || -> std::io::Result<()> {
            let mut file = File::options().create(true).append(true).open(FILLER)?;
            for size in [1 << 20, 4096, 1] {
                let block = vec![0_u8; size];
                while file.write(&block).is_ok_and(|written| written > 0) {}
            }
            Ok(())
        };
        let filled = self.namespaces()?.within(fill).and_then(|filled| filled);
        filled.context(|| format!("fill the disk of {}", self.place))
    }

    /// Ends [`Host::fill_disk`].
    ///
    /// # Errors
    /// The host is off.
    pub fn free_disk(&self) -> Result<()> {
        let freed = self.namespaces()?.within(|| fs::remove_file(FILLER));
        match freed.and_then(|freed| freed) {
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.context(|| format!("free the disk of {}", self.place)),
        }
    }
}

/// Every host knows every host by its name.
pub(crate) fn write_etc_hosts(shared: &Shared) -> Result<()> {
    let mut text = String::from("127.0.0.1 localhost\n");
    for place in shared.spec.places() {
        let _ = writeln!(text, "{} {place}", place.ip());
    }
    let path = shared.files.etc_hosts();
    fs::write(&path, text).context(|| format!("write {}", path.display()))
}

/// A program that runs in a host, a child of this process.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Its process id as the machine sees it (`/proc/PID` there).
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to it.
    ///
    /// # Errors
    /// It has ended.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if !self.is_running() {
            return Err(malformed(&format!("send {signal}"), "a running process", "its end"));
        }
        // Not waited for yet, so the id is still its own.
        kill(Pid::from_raw(self.child.id() as i32), signal)
            .context(|| format!("send {signal} to {}", self.child.id()))
    }

    /// Kills it with SIGKILL and waits for its end. No error if it has ended.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context(|| format!("kill {}", self.child.id()))?;
        self.child.wait().context(|| format!("wait for {}", self.child.id())).map(|_| ())
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It runs on after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of process {}", self.child.id());
        let status = crate::ns::wait_until(&mut self.child, Instant::now() + limit);
        let status = status.context(|| "wait for a process".into())?;
        status.ok_or(Error::Deadline { what, limit, hint: String::new() })
    }

    /// Whether it has not ended yet (a stopped one runs).
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_running() {
            // Nothing more can be done; the lab's end takes it along in any case.
            let _ = self.kill();
        }
    }
}

//! One lab: hosts on racks, from `up` to the last trace of it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::install::Install;
use crate::keeper::{READY, malformed};
use crate::ns::{Namespaces, require_root};
use crate::spec::{LabSpec, Role};

/// Where all labs of this machine have their folders.
const BASE: &str = "/var/tmp/conclave-lab";
/// The longest that taking a lab down may last.
const DOWN_LIMIT: Duration = Duration::from_secs(20);

/// The files of one lab.
///
/// ```text
/// /var/tmp/conclave-lab/NAME/
///   lab.json  lock  mysql@  keeper.pid  keeper.log  faults.json  etc-hosts
///   ssh/{client_key,client_key.pub,known_hosts}
///   hosts/db1/{srv/,log/,init.sock,ssh_host_key,sshd_config}
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Files {
    root: PathBuf,
}

impl Files {
    pub fn new(root: &Path) -> Files {
        Files { root: root.to_path_buf() }
    }
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// What the folder is renamed to while it is being removed. No lab's name begins with a dot.
    pub fn gone(&self) -> PathBuf {
        let name = self.root.file_name().unwrap_or_default().to_string_lossy();
        self.root.with_file_name(format!(".gone-{name}-{}", std::process::id()))
    }
    pub fn spec(&self) -> PathBuf {
        self.root.join("lab.json")
    }
    pub fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }
    pub fn keeper_pid(&self) -> PathBuf {
        self.root.join("keeper.pid")
    }
    pub fn keeper_log(&self) -> PathBuf {
        self.root.join("keeper.log")
    }
    pub fn faults(&self) -> PathBuf {
        self.root.join("faults.json")
    }
    pub fn faults_lock(&self) -> PathBuf {
        self.root.join("faults.lock")
    }
    pub fn etc_hosts(&self) -> PathBuf {
        self.root.join("etc-hosts")
    }
    pub fn ssh(&self, name: &str) -> PathBuf {
        self.root.join("ssh").join(name)
    }
    pub fn host(&self, host: &str) -> PathBuf {
        self.root.join("hosts").join(host)
    }

    /// A link to the MySQL installation that the lab runs from.
    fn mysql(&self) -> PathBuf {
        self.root.join("mysql")
    }

    pub fn link_install(&self, install: &Install) -> Result<()> {
        symlink(install.prefix(), self.mysql()).context(|| "link the installation".into())
    }

    pub fn read_install(&self) -> Result<Install> {
        let prefix = fs::read_link(self.mysql()).context(|| "find the lab's MySQL".into())?;
        Ok(Install::at(prefix.parent().unwrap_or(Path::new("/"))))
    }

    pub fn read_spec(&self) -> Result<LabSpec> {
        let path = self.spec();
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text)
            .map_err(|err| malformed("read lab.json", "a lab's description", &err.to_string()))
    }
}

/// What a lab and its hosts share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub files: Files,
    pub spec: LabSpec,
    pub install: Install,
    pub bin: PathBuf,
    pub keeper: Namespaces,
}

/// The reaper that watches over this process.
#[derive(Debug)]
struct Leash {
    reaper: Child,
    /// Closed by dropping it, or by the kernel if this process dies.
    pipe: Option<ChildStdin>,
}

/// A lab. Unless it is kept, dropping it removes everything that it made.
#[derive(Debug)]
pub struct Lab {
    shared: Arc<Shared>,
    leash: Option<Leash>,
}

/// What is known of a lab on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// Whether it runs; a stale one is only a folder that [`Lab::sweep`] removes.
    pub is_running: bool,
}

impl Lab {
    /// Installs what is missing, makes the hosts and starts their servers, in about three seconds.
    ///
    /// # Errors
    /// Not root, a name in use, a host or server that does not start. Nothing is left behind.
    pub fn up(spec: LabSpec) -> Result<Lab> {
        require_root()?;
        spec.check()?;
        let install = Install::ensure()?;
        let bin = find_bin()?;
        let lab = Lab::found(spec, install, bin)?;
        // From here on an error drops the lab, which takes it down.
        match lab.furnish() {
            Ok(()) => Ok(lab),
            Err(err) => {
                lab.down()?;
                Err(err)
            }
        }
    }

    /// As [`Lab::up`], and then replication with `db1` as the primary.
    ///
    /// # Errors
    /// As [`Lab::up`] and [`Lab::replicate`].
    pub fn up_replicated(spec: LabSpec) -> Result<Lab> {
        let lab = Lab::up(spec)?;
        match lab.replicate("db1") {
            Ok(()) => Ok(lab),
            Err(err) => {
                lab.down()?;
                Err(err)
            }
        }
    }

    /// Makes the folder and the router.
    fn found(mut spec: LabSpec, install: Install, bin: PathBuf) -> Result<Lab> {
        let base = Path::new(BASE);
        fs::create_dir_all(base).context(|| format!("make {BASE}"))?;
        // Held until the reaper holds the lab's own lock, or a sweep could take it for stale.
        let lock = base_lock()?;
        sweep_locked()?;
        let name = spec.name.get_or_insert_with(fresh_name).clone();
        let files = Files::new(&base.join(&name));
        if files.root().exists() {
            return Err(Error::NameTaken { name });
        }
        for dir in [files.ssh(""), files.host("")] {
            fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
        }
        let text = serde_json::to_string_pretty(&spec).expect("plain data serialises");
        fs::write(files.spec(), text).context(|| "write lab.json".into())?;
        files.link_install(&install)?;
        let started = Leash::start(&bin, &files, spec.keep);
        let (leash, keeper) = match started {
            Ok(started) => started,
            Err(err) => {
                let _ = fs::remove_dir_all(files.root());
                return Err(err);
            }
        };
        drop(lock);
        let shared = Arc::new(Shared { files, spec, install, bin, keeper });
        Ok(Lab { shared, leash })
    }

    /// Fills the hosts' folders and powers them on, side by side.
    fn furnish(&self) -> Result<()> {
        crate::host::write_etc_hosts(&self.shared)?;
        crate::ssh::make_client_key(&self.shared)?;
        let hosts = self.hosts();
        in_parallel(&hosts, |host| host.furnish())?;
        crate::ssh::write_known_hosts(&self.shared)?;
        in_parallel(&hosts, |host| host.boot(self.shared.spec.start_mysqld))
    }

    /// Attaches to a running lab by its name; dropping the result leaves the lab alone.
    ///
    /// # Errors
    /// No such lab runs.
    pub fn attach(name: &str) -> Result<Lab> {
        require_root()?;
        let files = Files::new(&Path::new(BASE).join(name));
        let missing = || Error::NoLab { name: name.to_owned() };
        if !files.spec().exists() || !is_locked(&files.lock())? {
            return Err(missing());
        }
        let spec = files.read_spec()?;
        let pid = fs::read_to_string(files.keeper_pid()).map_err(|_| missing())?;
        let pid = pid.trim().parse().map_err(|_| missing())?;
        let install = files.read_install()?;
        let keeper = Namespaces { pid };
        let shared = Arc::new(Shared { files, spec, install, bin: find_bin()?, keeper });
        Ok(Lab { shared, leash: None })
    }

    /// The labs of this machine, running and stale.
    ///
    /// # Errors
    /// The folder of labs cannot be read.
    pub fn list() -> Result<Vec<Found>> {
        Ok(folders()?.into_iter().filter(|lab| !lab.name.starts_with('.')).collect())
    }

    /// Removes what labs left behind whose reaper was killed. Returns their names.
    ///
    /// # Errors
    /// A folder cannot be removed.
    pub fn sweep() -> Result<Vec<String>> {
        require_root()?;
        fs::create_dir_all(BASE).context(|| format!("make {BASE}"))?;
        let _lock = base_lock()?;
        sweep_locked()
    }

    /// Takes the lab down, kept or not, and waits until nothing is left of it but a renamed folder
    /// whose removal is under way.
    ///
    /// # Errors
    /// It did not vanish in time; what is left is removed by the next sweep.
    pub fn down(mut self) -> Result<()> {
        self.take_down()
    }

    fn take_down(&mut self) -> Result<()> {
        let leash = self.leash.take();
        let is_leashed = leash.as_ref().is_some_and(|leash| leash.pipe.is_some());
        if !is_leashed && is_locked(&self.shared.files.lock())? {
            // The reaper lives, so the keeper has not been waited for and its id is its own.
            let _ = kill(Pid::from_raw(self.shared.keeper.pid), Signal::SIGKILL);
        }
        if let Some(Leash { mut reaper, pipe }) = leash {
            drop(pipe);
            // It is busy with the folder for a while yet; all else is gone before.
            thread::spawn(move || reaper.wait());
        }
        let root = self.shared.files.root();
        let until = Instant::now() + DOWN_LIMIT;
        while root.exists() {
            if Instant::now() > until {
                let what = format!("taking the lab {} down", self.name());
                let hint = ": try `conclave-lab sweep`".into();
                return Err(Error::Deadline { what, limit: DOWN_LIMIT, hint });
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        self.shared.spec.name.as_deref().unwrap_or_default()
    }

    /// What the lab was made of.
    pub fn spec(&self) -> &LabSpec {
        &self.shared.spec
    }

    /// The lab's folder. All hosts see it under the same path.
    pub fn root(&self) -> &Path {
        self.shared.files.root()
    }

    /// The MySQL installation that the servers run from; hosts see it under the same path.
    pub fn install(&self) -> &Install {
        &self.shared.install
    }

    /// The private key that logs in as root on every database host.
    pub fn ssh_key(&self) -> PathBuf {
        self.shared.files.ssh("client_key")
    }

    /// The database hosts' SSH host keys, in OpenSSH's format.
    pub fn known_hosts(&self) -> PathBuf {
        self.shared.files.ssh("known_hosts")
    }

    /// A host by its name.
    ///
    /// # Errors
    /// There is no such host.
    pub fn host(&self, name: &str) -> Result<Host> {
        Ok(Host::new(Arc::clone(&self.shared), self.shared.spec.place(name)?))
    }

    /// All hosts: database hosts, managers, the client.
    pub fn hosts(&self) -> Vec<Host> {
        let places = self.shared.spec.places();
        places.into_iter().map(|place| Host::new(Arc::clone(&self.shared), place)).collect()
    }

    /// The database hosts.
    pub fn servers(&self) -> Vec<Host> {
        self.hosts().into_iter().filter(|host| host.place().role == Role::Server).collect()
    }

    /// The lab's own program, see `CONCLAVE_LAB_BIN`.
    pub(crate) fn bin(&self) -> &Path {
        &self.shared.bin
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn files(&self) -> &Files {
        &self.shared.files
    }

    /// Runs a closure in the router's network.
    pub(crate) fn in_router<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.shared.keeper.within(work).context(|| "enter the router".into())?
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.leash.is_some()
            && !self.shared.spec.keep
            && let Err(err) = self.take_down()
        {
            eprintln!("conclave-lab: {err}");
        }
    }
}

impl Leash {
    /// Starts the reaper and waits until the router stands.
    fn start(bin: &Path, files: &Files, keep: bool) -> Result<(Option<Leash>, Namespaces)> {
        let log = files.root().join("reaper.log");
        let stderr = File::create(&log).context(|| format!("open {}", log.display()))?;
        let mut command = Command::new(bin);
        command.arg("reaper").arg(files.root()).stdout(Stdio::piped()).stderr(stderr);
        command.current_dir("/");
        if keep {
            command.arg("--keep").stdin(Stdio::null());
        } else {
            command.stdin(Stdio::piped());
        }
        let mut reaper = command.spawn().context(|| format!("start {}", bin.display()))?;
        let mut line = String::new();
        let stdout = reaper.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).context(|| "hear from the reaper".into())?;
        let pid = line.strip_prefix(READY).and_then(|pid| pid.trim().parse().ok());
        let Some(pid) = pid else {
            let _ = reaper.wait();
            let log = fs::read_to_string(&log).unwrap_or_default();
            return Err(malformed("start the lab", "a router", log.trim()));
        };
        let pipe = reaper.stdin.take();
        Ok((Some(Leash { reaper, pipe }), Namespaces { pid }))
    }
}

/// Runs the same work on many hosts at once; the first error wins.
pub(crate) fn in_parallel(hosts: &[Host], work: impl Fn(&Host) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running: Vec<_> = hosts.iter().map(|host| scope.spawn(|| work(host))).collect();
        let mut outcome = Ok(());
        for thread in running {
            let done = thread.join().expect("work on a host does not panic");
            outcome = outcome.and(done);
        }
        outcome
    })
}

/// The lab's own program: `CONCLAVE_LAB_BIN`, or beside the running program (for a test, which
/// lives in `deps`, one folder up).
fn find_bin() -> Result<PathBuf> {
    if let Some(bin) = std::env::var_os("CONCLAVE_LAB_BIN") {
        let bin = PathBuf::from(bin);
        return if bin.is_file() { Ok(bin) } else { Err(Error::NoBinary { looked: vec![bin] }) };
    }
    let exe = std::env::current_exe().context(|| "find our own program".into())?;
    let dirs = exe.ancestors().skip(1).take(2);
    let looked: Vec<PathBuf> = dirs.map(|dir| dir.join("conclave-lab")).collect();
    match looked.iter().find(|path| path.is_file()) {
        Some(bin) => Ok(bin.clone()),
        None => Err(Error::NoBinary { looked }),
    }
}

fn fresh_name() -> String {
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    format!("lab-{}-{:x}", std::process::id(), clock.subsec_nanos())
}

/// All folders, those that are being removed too.
fn folders() -> Result<Vec<Found>> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(BASE) else { return Ok(found) };
    for entry in entries {
        let entry = entry.context(|| format!("list {BASE}"))?;
        if entry.path().is_dir() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_running = is_locked(&Files::new(&entry.path()).lock())?;
            found.push(Found { name, is_running });
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn base_lock() -> Result<File> {
    let path = Path::new(BASE).join(".lock");
    let lock = File::create(&path).context(|| format!("open {}", path.display()))?;
    lock.lock().context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}

/// Whether some process holds a lab's lock, that is: its reaper lives.
fn is_locked(path: &Path) -> Result<bool> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(Error::Io { what: format!("open {}", path.display()), cause }),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(fs::TryLockError::WouldBlock) => Ok(true),
        Err(fs::TryLockError::Error(cause)) => {
            Err(Error::Io { what: format!("try to lock {}", path.display()), cause })
        }
    }
}

fn sweep_locked() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for stale in folders()?.into_iter().filter(|lab| !lab.is_running) {
        let root = Path::new(BASE).join(&stale.name);
        // The keeper ends with its reaper; give its servers a moment to let go of their files.
        let mut removed = fs::remove_dir_all(&root);
        for _ in 0..20 {
            match &removed {
                Err(err) if err.kind() != std::io::ErrorKind::NotFound => {
                    thread::sleep(Duration::from_millis(50));
                    removed = fs::remove_dir_all(&root);
                }
                Ok(()) | Err(_) => break,
            }
        }
        match removed {
            Ok(()) => swept.push(stale.name),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(cause) => {
                return Err(Error::Io { what: format!("remove {}", root.display()), cause });
            }
        }
    }
    Ok(swept)
}

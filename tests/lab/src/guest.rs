//! What runs as the first process of a host?
//!
//! `boot` runs in the router's network. It forks `init` into new namespaces, plugs the two cables
//! in, and ends. `init` configures its own ends, mounts, starts sshd, and from then on is the host:
//! it reaps orphans and is the service manager of mysqld, told what to do over a socket.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result};
use crate::install::run;
use crate::keeper::{
    block_child_signals, ip_batch, malformed, own_mounts, quiet_ipv6, reap_children, sysctl,
};
use crate::lab::Files;
use crate::spec::{Place, Role};

/// How long a host may take to get out of, or into, a state that a signal puts it in.
const SIGNAL_LIMIT: Duration = Duration::from_secs(5);

/// A request to a host's init, one JSON line.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Start mysqld unless it runs.
    Start,
    /// Send a signal to mysqld and wait until it has taken effect.
    Signal(i32),
    /// Start mysqld again so many milliseconds after it ended, however it ended; `None`: leave it.
    RestartAfter(Option<u64>),
    /// Only tell.
    Status,
}

/// The answer of a host's init, one JSON line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// mysqld's process id inside the host; `None`: it does not run.
    pub mysqld: Option<i32>,
    /// Why the request was not fulfilled.
    pub error: Option<String>,
}

/// Body of the hidden command `boot`.
///
/// # Errors
/// The init did not come up; its log says why.
pub fn boot(root: &Path, host: &str) -> Result<()> {
    let files = Files::new(root);
    let place = files.read_spec()?.place(host)?;
    let log_path = files.host(host).join("log/init.log");
    let log = File::options().create(true).append(true).open(&log_path);
    let log = log.context(|| format!("open {}", log_path.display()))?;
    let exe = std::env::current_exe().context(|| "find our own program".into())?;
    unshare(CloneFlags::CLONE_NEWPID).context(|| "make a process-id namespace".into())?;
    let mut init = Command::new(exe)
        .arg("init")
        .arg(root)
        .arg(host)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .context(|| "start the host's init".into())?;
    let mut words = BufReader::new(init.stdout.take().expect("stdout is piped"));
    let mut expect = |wanted: &str| {
        let mut line = String::new();
        words.read_line(&mut line).context(|| "hear from init".into())?;
        if line.trim_end() == wanted {
            return Ok(());
        }
        Err(malformed(&format!("boot {host}"), wanted, &last_words(&log_path)))
    };
    expect("namespaces")?;
    if let Err(error) = ip_batch(&plug_in(place)) {
        // Without its first process the namespace takes no cable and kills `ip`; why it ended is
        // what is worth knowing.
        return match init.try_wait() {
            Ok(Some(_)) => Err(malformed(&format!("boot {host}"), "up", &last_words(&log_path))),
            Ok(None) | Err(_) => Err(error),
        };
    }
    let mut stdin = init.stdin.take().expect("stdin is piped");
    stdin.write_all(b"plugged in\n").context(|| "tell init".into())?;
    expect("up")
}

/// The last line of an init's log.
fn last_words(log: &Path) -> String {
    let log = fs::read_to_string(log).unwrap_or_default();
    log.lines().last().unwrap_or("an empty log").to_owned()
}

/// Both cables, between the router and the host. The init is process 1 of the namespace that our
/// children are born into, and so it is for `ip`.
fn plug_in(place: Place) -> String {
    let mut batch = String::new();
    for (leg, (port, bridge)) in place.ports().iter().zip(place.bridges()).enumerate() {
        let mac = place.mac(leg as u8);
        batch += &format!(
            "link add name {port} type veth peer name eth{leg} address {mac} netns 1\n\
             link set dev {port} master {bridge}\nlink set dev {port} up\n"
        );
    }
    batch
}

/// Body of the hidden command `init`. Does not return while the host is on.
///
/// # Errors
/// A mount, an interface or sshd failed; with the init's end the host is off again.
pub fn init(root: &Path, host: &str) -> Result<()> {
    let children = block_child_signals()?;
    let files = Files::new(root);
    let spec = files.read_spec()?;
    let place = spec.place(host)?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .context(|| "make the host's namespaces".into())?;
    println!("namespaces");
    nix::unistd::sethostname(host).context(|| "set the host's name".into())?;
    mounts(&files, place)?;
    wait_for_cables()?;
    network(place)?;
    if place.role == Role::Server {
        start_sshd(&files, host)?;
    }
    let program = match spec.mysqld {
        Some(program) => program,
        None => files.read_install()?.program("mysqld"),
    };
    let services = Arc::new(Mutex::new(Services::new(program)));
    serve(&files, host, Arc::clone(&services))?;
    println!("up");
    loop {
        reap_children(|pid| Services::ended(&services, pid));
        children.wait().context(|| "wait for a signal".into())?;
    }
}

fn wait_for_cables() -> Result<()> {
    let mut byte = [0];
    // Only one line is ever sent; reading exactly what is needed leaves nothing in a buffer.
    while byte[0] != b'\n' {
        std::io::stdin().read_exact(&mut byte).context(|| "wait for the cables".into())?;
    }
    Ok(())
}

fn mounts(files: &Files, place: Place) -> Result<()> {
    own_mounts()?;
    let none: Option<&str> = None;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .context(|| "mount /run".into())?;
    for dir in ["/run/sshd", "/run/mysqld"] {
        fs::DirBuilder::new().mode(0o755).create(dir).context(|| format!("make {dir}"))?;
    }
    // Files of the host's own that outlive a power-off, such as a turnstile's.
    let state = files.host(&place.name()).join("var-lib");
    fs::create_dir_all(&state).context(|| format!("make {}", state.display()))?;
    let mut binds = vec![(files.host(&place.name()).join("srv"), "/srv"), (state, "/var/lib")];
    // A minimal image may lack it; then hosts go by their addresses.
    if Path::new("/etc/hosts").exists() {
        binds.push((files.etc_hosts(), "/etc/hosts"));
    }
    // A shell that sshd starts reads it, and what a developer has there can cost 0.3 s a command.
    if Path::new("/root/.bashrc").exists() {
        binds.push(("/dev/null".into(), "/root/.bashrc"));
    }
    for (from, to) in binds {
        mount(Some(&from), to, none, MsFlags::MS_BIND, none).context(|| format!("bind {to}"))?;
    }
    Ok(())
}

fn network(place: Place) -> Result<()> {
    quiet_ipv6();
    for which in ["all", "default", "eth0", "eth1"] {
        sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
    }
    let ip = place.ip();
    let [a, b, c, _] = ip.octets();
    ip_batch(&format!(
        "link set lo up\nlink set eth0 up\naddr add {ip}/24 dev eth0\nlink set eth1 up\n\
         addr add {}/24 dev eth1\nroute add default via {a}.{b}.{c}.1\n",
        place.segment_ip()
    ))
}

/// Returns when sshd listens. It insists on being called by its absolute path.
fn start_sshd(files: &Files, host: &str) -> Result<()> {
    let dir = files.host(host);
    let mut sshd = Command::new("/usr/sbin/sshd");
    sshd.arg("-f").arg(dir.join("sshd_config")).arg("-E").arg(dir.join("log/sshd.log"));
    run("start sshd", sshd.stdin(Stdio::null())).map(|_| ())
}

/// The service manager of the host's mysqld.
struct Services {
    program: PathBuf,
    mysqld: Option<Pid>,
    restart_after: Option<Duration>,
}

impl Services {
    fn new(program: PathBuf) -> Services {
        Services { program, mysqld: None, restart_after: None }
    }

    /// A child of init has been reaped; if it was mysqld, brings it back if told so.
    fn ended(services: &Arc<Mutex<Services>>, pid: Pid) {
        let mut locked = services.lock().expect("no panic while held");
        if locked.mysqld != Some(pid) {
            return;
        }
        locked.mysqld = None;
        let Some(pause) = locked.restart_after else { return };
        let services = Arc::clone(services);
        thread::spawn(move || {
            thread::sleep(pause);
            let mut locked = services.lock().expect("no panic while held");
            if locked.restart_after.is_some()
                && let Err(err) = locked.start()
            {
                eprintln!("restart mysqld: {err}");
            }
        });
    }

    fn start(&mut self) -> Result<()> {
        if self.mysqld.is_some() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open("/srv/mysqld.out");
        let log = log.context(|| "open mysqld's output".into())?;
        let stdout = log.try_clone().context(|| "share mysqld's output".into())?;
        // Our own child, in a group of its own; who ends it is known here at once.
        let child = Command::new(&self.program)
            .arg("--defaults-file=/srv/my.cnf")
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(log)
            .spawn()
            .context(|| "start mysqld".into())?;
        self.mysqld = Some(Pid::from_raw(child.id() as i32));
        Ok(())
    }
}

/// Answers requests in a thread of its own, one after the other.
fn serve(files: &Files, host: &str, services: Arc<Mutex<Services>>) -> Result<()> {
    let path = files.host(host).join("init.sock");
    let _ = fs::remove_file(&path);
    let listener = UnixListener::bind(&path).context(|| format!("bind {}", path.display()))?;
    thread::spawn(move || {
        for stream in listener.incoming() {
            if let Err(err) = stream.and_then(|stream| converse(stream, &services)) {
                eprintln!("answer a request: {err}");
            }
        }
    });
    Ok(())
}

fn converse(mut stream: UnixStream, services: &Mutex<Services>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line)?;
    if line.is_empty() {
        return Ok(());
    }
    let outcome = match serde_json::from_str(&line) {
        Ok(request) => fulfil(request, services).map_err(|err| err.to_string()),
        Err(err) => Err(err.to_string()),
    };
    let mysqld = services.lock().expect("no panic while held").mysqld.map(Pid::as_raw);
    let answer = Answer { mysqld, error: outcome.err() };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

fn fulfil(request: Request, services: &Mutex<Services>) -> Result<()> {
    let mut locked = services.lock().expect("no panic while held");
    match request {
        Request::Start => locked.start(),
        Request::RestartAfter(ms) => {
            locked.restart_after = ms.map(Duration::from_millis);
            Ok(())
        }
        Request::Status => Ok(()),
        Request::Signal(number) => {
            let signal = Signal::try_from(number).context(|| format!("take signal {number}"))?;
            let Some(pid) = locked.mysqld else {
                return Err(malformed("send a signal", "a running mysqld", "none"));
            };
            kill(pid, signal).context(|| format!("send {signal} to mysqld"))?;
            // The main thread needs the lock to note mysqld's end.
            drop(locked);
            await_effect(pid, signal, services)
        }
    }
}

/// Waits until a signal has done to mysqld what it does to every process.
fn await_effect(pid: Pid, signal: Signal, services: &Mutex<Services>) -> Result<()> {
    let state = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
    };
    let is_done = || match signal {
        Signal::SIGKILL => services.lock().expect("no panic while held").mysqld != Some(pid),
        Signal::SIGSTOP => state() == Some('T'),
        Signal::SIGCONT => state() != Some('T'),
        // What mysqld does about any other signal is its own affair.
        _ => true,
    };
    let until = std::time::Instant::now() + SIGNAL_LIMIT;
    while !is_done() {
        if std::time::Instant::now() > until {
            return Err(malformed(&format!("send {signal}"), "its effect", "none after 5 s"));
        }
        thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}

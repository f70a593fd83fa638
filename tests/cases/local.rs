//! Managers on the loopback interface, with no server to look after: for what goes wrong before
//! there is one. They take a second where a lab takes ten.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Generous: a loaded machine is not a failure.
const SOON: Duration = Duration::from_secs(30);

/// How a command ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the command line to its end.
pub fn conclave(args: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    let output = command.args(args).stdin(Stdio::null()).output().expect("run conclave");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// Expects exit status 1, nothing on the standard output, and this complaint.
pub fn refuses(args: &[&str], complaint: &str) {
    let stderr = format!("conclave: {complaint}\n");
    assert_eq!(conclave(args), Said { code: Some(1), stdout: String::new(), stderr });
}

/// A port that nobody listens at now.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.local_addr().expect("an address").port()
}

/// Waits until `is_so`.
pub fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Managers in plain text, each with an id, a port and a data directory. Dropping kills them.
pub struct Local {
    dir: TempDir,
    ports: BTreeMap<u64, u16>,
    running: BTreeMap<u64, Child>,
}

impl Local {
    /// Files, and nothing that runs.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let secrets = dir.path().join("secrets.toml");
        fs::write(&secrets, "[mysql.conclave]\npassword = \"hunter2\"\n").expect("write secrets");
        fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).expect("protect them");
        Self { dir, ports: BTreeMap::new(), running: BTreeMap::new() }
    }

    /// A running group of managers 1 to `count`, led by one of them.
    pub fn group(count: u64) -> Self {
        let mut local = Self::new();
        for id in 1..=count {
            local.start(id);
        }
        let said = local.init(1..=count);
        assert_eq!(said.code, Some(0), "{said:?}");
        local.wait_leader();
        local
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("write a file");
        path.display().to_string()
    }

    pub fn address(&mut self, id: u64) -> String {
        format!("127.0.0.1:{}", self.ports.entry(id).or_insert_with(free_port))
    }

    /// Puts a manager at an address of this machine, `127.0.0.1:PORT`.
    pub fn place(&mut self, id: u64, address: &str) {
        let port = address.strip_prefix("127.0.0.1:").and_then(|port| port.parse().ok());
        self.ports.insert(id, port.expect("an address of this machine"));
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.path(&format!("data{id}"))
    }

    /// The text of a manager's file, with its data elsewhere if wanted.
    pub fn manager_toml(&mut self, id: u64, data_dir: &Path) -> String {
        format!(
            "id = {id}\nrack = \"r{id}\"\nlisten = \"{}\"\ndata_dir = \"{}\"\nsecrets = \
             \"{}\"\ninsecure = true\n",
            self.address(id),
            data_dir.display(),
            self.path("secrets.toml").display()
        )
    }

    /// Starts a manager and waits until it listens.
    pub fn start(&mut self, id: u64) {
        let text = self.manager_toml(id, &self.data_dir(id));
        let config = self.file(&format!("m{id}.toml"), &text);
        let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
        command.args(["manager", "--config", &config]);
        self.spawn(id, command);
    }

    /// Starts a manager by this command and waits until it listens.
    pub fn spawn(&mut self, id: u64, mut command: Command) {
        let log = File::options().create(true).append(true).open(self.log_file(id));
        let before = self.log(id).matches("running").count();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("open a log"));
        self.running.insert(id, command.spawn().expect("start a manager"));
        wait("a manager to listen", || self.log(id).matches("running").count() > before);
    }

    pub fn kill(&mut self, id: u64) {
        let mut child = self.running.remove(&id).expect("it runs");
        child.kill().expect("kill it");
        child.wait().expect("wait for its end");
    }

    /// Waits until a manager ends by itself; its exit status.
    pub fn wait_end(&mut self, id: u64) -> Option<i32> {
        let mut child = self.running.remove(&id).expect("it runs");
        let mut status = None;
        wait("a manager to stop", || {
            status = child.try_wait().expect("ask for its end");
            status.is_some()
        });
        status.expect("it ended").code()
    }

    fn log_file(&self, id: u64) -> PathBuf {
        self.path(&format!("m{id}.log"))
    }

    pub fn log(&self, id: u64) -> String {
        fs::read_to_string(self.log_file(id)).unwrap_or_default()
    }

    /// `conclave group init` of these managers.
    pub fn init(&mut self, ids: impl IntoIterator<Item = u64>) -> Said {
        let members: Vec<String> =
            ids.into_iter().map(|id| format!("{id}={},r{id}", self.address(id))).collect();
        let mut args = vec!["group", "init", "--insecure", "--members"];
        args.extend(members.iter().map(String::as_str));
        conclave(&args)
    }

    /// Asks the managers with these ids.
    pub fn ask(&mut self, ids: &[u64], args: &[&str]) -> Said {
        let addresses: Vec<String> = ids.iter().map(|id| self.address(*id)).collect();
        let addresses = addresses.join(",");
        let mut all = args.to_vec();
        all.extend(["--insecure", "--managers", &addresses]);
        conclave(&all)
    }

    /// The status, as any running manager tells it.
    pub fn status(&mut self) -> Value {
        let ids: Vec<u64> = self.running.keys().copied().collect();
        let said = self.ask(&ids, &["status", "-o", "json"]);
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}"))
    }

    pub fn wait_leader(&mut self) -> u64 {
        let mut leader = None;
        wait("a leader", || {
            leader = self.status()["group"]["leader"].as_u64();
            leader.is_some()
        });
        leader.expect("a leader")
    }

    /// Waits until the leader hears everybody and a manager has all of the log.
    pub fn wait_caught_up(&mut self, id: u64) {
        wait("a manager to catch up", || {
            let status = self.status();
            let managers = status["group"]["managers"].as_array().cloned().unwrap_or_default();
            let mine = managers.iter().find(|manager| manager["id"] == id);
            mine.is_some_and(|mine| {
                mine["role"] != "silent"
                    && mine["role"] != "unknown"
                    && mine["last_log"].is_u64()
                    && mine["last_log"] == status["group"]["last_log"]
            })
        });
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // It may have ended by itself; there is nothing more to be done in any case.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for id in self.ports.keys() {
                eprintln!("--- manager {id}\n{}", self.log(*id));
            }
        }
    }
}

/// A definition of two servers at these ports of this machine.
pub fn cluster_toml(name: &str, ports: [u16; 2]) -> String {
    let server = |number: usize, port: u16| {
        format!(
            "[[server]]\nname = \"db{number}\"\nhost = \"127.0.0.1\"\nport = {port}\nrack = \
             \"r{number}\"\nreplication_account = \"repl\"\n"
        )
    };
    format!(
        "name = \"{name}\"\nmode = \"best_effort\"\nadmin_account = \"conclave\"\n{}{}",
        server(1, ports[0]),
        server(2, ports[1])
    )
}

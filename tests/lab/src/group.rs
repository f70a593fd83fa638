//! Managers on a lab's manager hosts: the same commands that a person would type, with the files
//! they need, for tests, benchmarks and the quickstart.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::host::Process;
use crate::lab::Lab;
use crate::spec::{READER_VIP, Role, WRITER_VIP};
use crate::template::{ADMIN_PASSWORD, ADMIN_USER, REPL_PASSWORD, repl_user};

/// The managers' port.
pub const PORT: u16 = 7300;

/// Longest time for a command: the longest one hands every server over in turn.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a group on a lab is made of.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    /// The `conclave` program.
    pub program: PathBuf,
    /// Name of the cluster that is applied.
    pub cluster: String,
    /// `quorum`, `fenced` or `best_effort`.
    pub mode: String,
    /// Further lines for `[policy]`.
    pub policy: Vec<String>,
    /// `RUST_LOG`-style level of the managers.
    pub log_level: String,
    /// Mutual TLS; otherwise plain text.
    pub is_tls: bool,
}

impl GroupSpec {
    /// The defaults of the product, run by this program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            cluster: "app1".into(),
            mode: "quorum".into(),
            policy: Vec::new(),
            log_level: "info".into(),
            is_tls: true,
        }
    }
}

/// A running group. Dropping it kills its managers.
#[derive(Debug)]
pub struct Group<'a> {
    lab: &'a Lab,
    spec: GroupSpec,
    managers: BTreeMap<String, Process>,
}

impl<'a> Group<'a> {
    /// Makes files and certificates, starts all managers and forms the group; no cluster yet.
    ///
    /// # Errors
    /// A manager does not start, or the group is not formed: its log says why.
    pub fn form(lab: &'a Lab, spec: GroupSpec) -> Result<Self> {
        let mut group = Self { lab, spec, managers: BTreeMap::new() };
        group.write_files()?;
        for name in group.names() {
            group.start(&name)?;
        }
        group.wait_listening(Duration::from_secs(20))?;
        let mut args = vec!["group".to_owned(), "init".to_owned()];
        args.extend(["--members".to_owned()]);
        args.extend(group.members());
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        group.expect("m1", &args)?;
        Ok(group)
    }

    /// [`Group::form`], then applies the lab's cluster and waits until its primary is adopted and
    /// nothing critical is left to say about it.
    ///
    /// # Errors
    /// As [`Group::form`], or the cluster did not become healthy.
    pub fn start_all(lab: &'a Lab, spec: GroupSpec) -> Result<Self> {
        let group = Self::form(lab, spec)?;
        let file = group.write_cluster("", &[])?;
        let file = file.display().to_string();
        group.expect("m1", &["cluster", "apply", &file])?;
        group.wait_healthy(Duration::from_secs(30))?;
        Ok(group)
    }

    /// The names of the manager hosts.
    pub fn names(&self) -> Vec<String> {
        let hosts = self.lab.hosts().into_iter();
        let managers = hosts.filter(|host| host.place().role == Role::Manager);
        managers.map(|host| host.name()).collect()
    }

    /// `ID=HOST:PORT,RACK` of every manager.
    fn members(&self) -> Vec<String> {
        let hosts = self.lab.hosts().into_iter();
        let managers = hosts.filter(|host| host.place().role == Role::Manager);
        let member = |host: crate::Host| {
            let place = host.place();
            format!("{}={}:{PORT},rack{}", place.number, host.ip(), place.rack)
        };
        managers.map(member).collect()
    }

    /// Folder of files that all hosts see under the same path.
    pub fn dir(&self) -> PathBuf {
        self.lab.root().join("group")
    }

    fn write_files(&self) -> Result<()> {
        let dir = self.dir();
        fs::create_dir_all(&dir).context(|| format!("make {}", dir.display()))?;
        let secrets = dir.join("secrets.toml");
        let mut text = format!("[mysql.{ADMIN_USER}]\npassword = \"{ADMIN_PASSWORD}\"\n");
        for server in self.lab.servers() {
            let account = repl_user(&server.name());
            text.push_str(&format!("[mysql.{account}]\npassword = \"{REPL_PASSWORD}\"\n"));
        }
        text.push_str(&format!(
            "[ssh]\nkey_file = \"{}\"\nknown_hosts = \"{}\"\n",
            self.lab.ssh_key().display(),
            self.lab.known_hosts().display()
        ));
        write_private(&secrets, &text)?;
        if self.spec.is_tls && !dir.join("tls").exists() {
            let mut args = vec![
                "tls".into(),
                "init".into(),
                "--dir".into(),
                dir.join("tls").display().to_string(),
            ];
            let hosts = self.lab.hosts().into_iter();
            for host in hosts.filter(|host| host.place().role == Role::Manager) {
                args.extend(["--manager".into(), format!("{}={}", host.name(), host.ip())]);
            }
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            self.expect("m1", &args)?;
        }
        for host in self.lab.hosts() {
            let place = host.place();
            if place.role == Role::Manager {
                let text = self.manager_toml(&host);
                let path = dir.join(format!("{}.toml", host.name()));
                fs::write(&path, text).context(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }

    fn manager_toml(&self, host: &crate::Host) -> String {
        let (dir, place, name) = (self.dir(), host.place(), host.name());
        let security = match self.spec.is_tls {
            false => "insecure = true\n".to_owned(),
            true => String::new(),
        };
        let tls = match self.spec.is_tls {
            false => String::new(),
            true => {
                let tls = dir.join("tls");
                let tls = tls.display();
                format!(
                    "[tls]\nca = \"{tls}/ca.pem\"\ncert = \"{tls}/{name}.pem\"\nkey = \
                     \"{tls}/{name}.key\"\n"
                )
            }
        };
        format!(
            "id = {}\nrack = \"rack{}\"\nlisten = \"0.0.0.0:{PORT}\"\nadvertise = \
             \"{}:{PORT}\"\ndata_dir = \"/srv/conclave\"\nsecrets = \
             \"{}\"\nhooks_dir = \"{}\"\n{security}{tls}[log]\nlevel = \"{}\"\n",
            place.number,
            place.rack,
            host.ip(),
            dir.join("secrets.toml").display(),
            self.hooks_dir().display(),
            self.spec.log_level
        )
    }

    /// Where all managers look for hooks; it is not made.
    pub fn hooks_dir(&self) -> PathBuf {
        self.dir().join("hooks")
    }

    /// Writes the definition of the lab's cluster; `top` are further lines at its top, `policy`
    /// further ones for `[policy]`. Returns its path.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_cluster(&self, top: &str, policy: &[&str]) -> Result<PathBuf> {
        let mut text = format!(
            "name = \"{}\"\nmode = \"{}\"\nadmin_account = \"{ADMIN_USER}\"\n{top}\n[defaults]\n\
             data_dir = \"/srv/data\"\nssh = {{ user = \"root\" }}\n",
            self.spec.cluster, self.spec.mode
        );
        for server in self.lab.servers() {
            let (name, place) = (server.name(), server.place());
            text.push_str(&format!(
                "[[server]]\nname = \"{name}\"\nhost = \"{}\"\nrack = \"rack{}\"\n\
                 replication_account = \"{}\"\n",
                server.ip(),
                place.rack,
                repl_user(&name)
            ));
        }
        text.push_str(&format!(
            "[vip.writer]\naddress = \"{WRITER_VIP}/24\"\ninterface = \"eth1\"\n[[vip.reader]]\n\
             address = \"{READER_VIP}/24\"\ninterface = \"eth1\"\n[policy]\n"
        ));
        for line in self.spec.policy.iter().map(String::as_str).chain(policy.iter().copied()) {
            text.push_str(line);
            text.push('\n');
        }
        let path = self.dir().join(format!("{}.toml", self.spec.cluster));
        fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Starts a manager that does not run.
    ///
    /// # Errors
    /// Its host is off.
    pub fn start(&mut self, name: &str) -> Result<()> {
        let host = self.lab.host(name)?;
        let config = self.dir().join(format!("{name}.toml")).display().to_string();
        let log = self.log(name);
        // As its unit has it (deploy/samples/conclave.service).
        let mut args = ["-n", "-10"].map(str::to_owned).to_vec();
        args.extend([self.program(), "manager".to_owned(), "--config".to_owned(), config]);
        let process = host.spawn("nice", &args, &[], &log)?;
        self.managers.insert(name.to_owned(), process);
        Ok(())
    }

    /// The log file of a manager.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir().join(format!("{name}.log"))
    }

    /// The last lines that each manager logged, for a failure's message.
    pub fn last_words(&self) -> String {
        let mut out = String::new();
        for name in self.names() {
            let text = fs::read_to_string(self.log(&name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let from = lines.len().saturating_sub(60);
            out.push_str(&format!("--- {name}\n{}\n", lines[from..].join("\n")));
        }
        out
    }

    fn program(&self) -> String {
        self.spec.program.display().to_string()
    }

    /// The process of a manager.
    ///
    /// # Errors
    /// It was never started.
    pub fn manager(&mut self, name: &str) -> Result<&mut Process> {
        self.managers.get_mut(name).ok_or_else(|| Error::NoHost {
            name: name.to_owned(),
            known: "managers that were started".into(),
        })
    }

    /// Kills a manager with SIGKILL.
    ///
    /// # Errors
    /// It was never started.
    pub fn kill(&mut self, name: &str) -> Result<()> {
        self.manager(name)?.kill()
    }

    /// Runs the command line on a host.
    ///
    /// # Errors
    /// The host is off, or the command took longer than 180 s. Its exit status is no error.
    pub fn cli(&self, host: &str, args: &[&str]) -> Result<Output> {
        self.cli_saying(host, args, &[])
    }

    /// As [`Group::cli`], with this on its standard input.
    ///
    /// # Errors
    /// As [`Group::cli`].
    pub fn cli_saying(&self, host: &str, args: &[&str], said: &[u8]) -> Result<Output> {
        let hosts = self.lab.hosts().into_iter();
        let managers = hosts.filter(|host| host.place().role == Role::Manager);
        let addresses: Vec<String> = managers.map(|h| format!("{}:{PORT}", h.ip())).collect();
        self.run_cli(host, &addresses.join(","), args, said)
    }

    /// Runs the command line on a manager's host and asks that manager only.
    ///
    /// # Errors
    /// As [`Group::cli`].
    pub fn cli_of(&self, manager: &str, args: &[&str]) -> Result<Output> {
        let address = format!("{}:{PORT}", self.lab.host(manager)?.ip());
        self.cli_at(manager, &address, args)
    }

    /// As [`Group::cli`], asking these managers.
    ///
    /// # Errors
    /// As [`Group::cli`].
    pub fn cli_at(&self, host: &str, managers: &str, args: &[&str]) -> Result<Output> {
        self.run_cli(host, managers, args, &[])
    }

    /// Starts the command line on a manager's host, asking that manager, and does not wait for it.
    ///
    /// # Errors
    /// The host is off.
    pub fn start_cli(&self, manager: &str, args: &[&str]) -> Result<Process> {
        let host = self.lab.host(manager)?;
        let all = self.arguments(&format!("{}:{PORT}", host.ip()), args);
        host.spawn(self.program(), &all, &[], &host.dir().join("log").join("cli.log"))
    }

    fn run_cli(&self, host: &str, managers: &str, args: &[&str], said: &[u8]) -> Result<Output> {
        let all = self.arguments(managers, args);
        self.lab.host(host)?.run_within(PATIENCE, &self.program(), &all, said)
    }

    fn arguments(&self, managers: &str, args: &[&str]) -> Vec<String> {
        let mut all: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let is_local = matches!(args.first(), Some(&("tls" | "manager" | "--help" | "version")));
        if !is_local {
            all.extend(["--managers".into(), managers.into()]);
            let tls = self.dir().join("tls");
            if self.spec.is_tls {
                let file = |name: &str| tls.join(name).display().to_string();
                all.extend(["--ca".into(), file("ca.pem"), "--cert".into(), file("admin.pem")]);
                all.extend(["--key".into(), file("admin.key")]);
            } else {
                all.push("--insecure".into());
            }
        }
        all
    }

    /// Runs the command line and expects it to end with 0.
    ///
    /// # Errors
    /// As [`Group::cli`], or another exit status: the message holds what it printed.
    pub fn expect(&self, host: &str, args: &[&str]) -> Result<String> {
        let output = self.cli(host, args)?;
        let (stdout, stderr) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            return Ok(stdout.into_owned());
        }
        Err(Error::Malformed {
            what: format!("run conclave {}", args.join(" ")),
            wanted: "exit status 0".into(),
            found: format!("{}: {stdout}{stderr}", output.status),
        })
    }

    /// `conclave status -o json`, from whichever manager answers.
    ///
    /// # Errors
    /// None answers, or what it says is no JSON.
    pub fn status(&self) -> Result<Value> {
        self.status_of(&self.names())
    }

    /// As [`Group::status`], asking these managers only.
    ///
    /// # Errors
    /// As [`Group::status`].
    pub fn status_of(&self, managers: &[String]) -> Result<Value> {
        let mut addresses = Vec::new();
        for name in managers {
            addresses.push(format!("{}:{PORT}", self.lab.host(name)?.ip()));
        }
        let output = self.cli_at("client", &addresses.join(","), &["status", "-o", "json"])?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).map_err(|error| Error::Malformed {
            what: "read conclave status -o json".into(),
            wanted: "a JSON document".into(),
            found: format!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)),
        })
    }

    /// The status of the lab's cluster.
    ///
    /// # Errors
    /// As [`Group::status`], or the group does not know the cluster.
    pub fn cluster(&self) -> Result<Value> {
        let status = self.status()?;
        let clusters = status["clusters"].as_array();
        let mut named = clusters.into_iter().flatten();
        let mine = named.find(|cluster| cluster["name"] == self.spec.cluster.as_str());
        mine.cloned().ok_or_else(|| Error::Malformed {
            what: "read conclave status".into(),
            wanted: format!("a cluster {}", self.spec.cluster),
            found: status.to_string(),
        })
    }

    /// The host that leads now, as `mN`; `None`: nobody says so.
    ///
    /// # Errors
    /// No manager answers.
    pub fn leader(&self) -> Result<Option<String>> {
        let status = self.status()?;
        Ok(status["group"]["leader"].as_u64().map(|id| format!("m{id}")))
    }

    /// Waits until `is_so` holds for the cluster's status.
    ///
    /// # Errors
    /// It did not within `limit`; the message holds the last status.
    pub fn wait_cluster(
        &self,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let until = Instant::now() + limit;
        loop {
            let seen = self.cluster();
            match seen {
                Ok(cluster) if is_so(&cluster) => return Ok(cluster),
                Ok(_) | Err(_) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(cluster) => {
                    let hint = format!(": {cluster:#}");
                    return Err(Error::Deadline { what: what.into(), limit, hint });
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Waits until the cluster has a primary, no open attempt and no problem at all, and the death
    /// of the primary's process would be answered by a failover, also if the leader died with it:
    /// right after a start the managers have not yet seen the replicas lack nothing, and vouch for
    /// none.
    ///
    /// # Errors
    /// As [`Group::wait_cluster`].
    pub fn wait_healthy(&self, limit: Duration) -> Result<Value> {
        self.wait_cluster("waiting for a healthy cluster", limit, |cluster| {
            cluster["primary"].is_string()
                && cluster["attempt"].is_null()
                && cluster["problems"].as_array().is_some_and(Vec::is_empty)
                && is_ready(cluster)
        })
    }

    fn wait_listening(&mut self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        for name in self.names() {
            loop {
                if !self.manager(&name)?.is_running() {
                    return Err(Error::Malformed {
                        what: format!("start manager {name}"),
                        wanted: "a running process".into(),
                        found: fs::read_to_string(self.log(&name)).unwrap_or_default(),
                    });
                }
                let log = fs::read_to_string(self.log(&name)).unwrap_or_default();
                if log.contains("running") {
                    break;
                }
                if Instant::now() > until {
                    let what = format!("waiting for manager {name} to listen");
                    return Err(Error::Deadline { what, limit, hint: format!(": {log}") });
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }
}

impl Drop for Group<'_> {
    /// A failing test tells what its managers had to say.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.last_words());
        }
    }
}

/// Whether nothing but an operator's own rule stands against a failover from a dead process, with
/// the leader or without it. A group with a manager down has nobody to spare.
fn is_ready(cluster: &Value) -> bool {
    let rules =
        ["gate.paused", "gate.not_automatic", "gate.last_failover_interval", "gate.no_majority"];
    let is_rule = |refusal: &Value| rules.iter().any(|rule| refusal["code"] == *rule);
    [0, 1].iter().all(|fault| {
        let refusals = cluster["forecasts"][fault]["refusals"].as_array();
        refusals.is_some_and(|refusals| refusals.iter().all(is_rule))
    })
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).context(|| format!("write {}", path.display()))?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(path, mode).context(|| format!("protect {}", path.display()))
}

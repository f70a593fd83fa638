//! What is this database cluster? `app1.toml` to a checked [`ClusterDefinition`].
//!
//! Rules that the replicated state enforces as well are the core's
//! ([`ClusterDefinition::mistakes`]); here they get their lines.

use std::path::Path;

use conclave_core::model::{
    ClusterDefinition, DeadAckerPolicy, HookDefinition, HookEvent, LastAckerPolicy, Millis, Mode,
    PingType, Policy, PromotionRule, RestartPolicy, ServerDefinition, SshTarget, Vip,
};

use super::{
    ConfigError, read,
    reader::{self, Section},
};

/// What is said to somebody who did not choose a mode.
pub const MODES: &str = "\
There is no default mode: it is the promise that the cluster is run under. Choose one:

  mode          promise                                   what it needs
  \"quorum\"      no acknowledged write is lost, and        semi-synchronous replication: on the
                never two primaries that can              primary wait_point=AFTER_SYNC, a timeout
                acknowledge                               without end, wait_no_replica=ON; acks + 1
                                                          servers or more with acker = true
  \"fenced\"      never two primaries; what no replica      a confirmed fence of the old primary:
                had received may be lost                  mysqld seen gone over SSH, or an operator
                                                          who vouches for it
  \"best_effort\" as MHA: try to fence the old primary,     nothing; two primaries are possible
                go on regardless

For example, as the second line of the file:  mode = \"quorum\"";

const MODE_WORDS: [(&str, Mode); 3] =
    [("quorum", Mode::Quorum), ("fenced", Mode::Fenced), ("best_effort", Mode::BestEffort)];

const PROMOTION_WORDS: [(&str, PromotionRule); 4] = [
    ("prefer", PromotionRule::Prefer),
    ("allow", PromotionRule::Allow),
    ("avoid", PromotionRule::Avoid),
    ("never", PromotionRule::Never),
];

/// Reads and checks a file.
///
/// # Errors
/// All mistakes at once.
pub fn load(file: &Path) -> Result<ClusterDefinition, ConfigError> {
    parse(&file.display().to_string(), &read(file)?)
}

/// Checks a text; `file` is its name in errors.
///
/// # Errors
/// All mistakes at once; without a mode, with an explanation of the three.
pub fn parse(file: &str, text: &str) -> Result<ClusterDefinition, ConfigError> {
    let mut lacks_mode = false;
    let parsed = reader::parse(file, text, |top| {
        lacks_mode = !top.has("mode");
        definition(top)
    });
    parsed.map_err(|mut error| {
        if lacks_mode {
            MODES.clone_into(&mut error.advice);
        }
        error
    })
}

fn definition(top: &Section<'_, '_>) -> ClusterDefinition {
    let mode = top.choice("mode", &MODE_WORDS);
    top.need("mode", mode.map(|_| ()));
    let mut subjects = vec![
        ("cluster name".to_owned(), top.line_of("name")),
        ("mode quorum".to_owned(), top.line_of(if top.has("acks") { "acks" } else { "mode" })),
    ];
    let servers = servers(top, &mut subjects);
    let (writer, readers) = vips(top, &mut subjects);
    let definition = ClusterDefinition {
        name: top.need("name", top.text("name")).as_str().into(),
        mode: mode.unwrap_or(Mode::Quorum),
        acks: u32::try_from(top.number("acks", 0, 1000).unwrap_or(1)).unwrap_or(1),
        admin_account: top.need("admin_account", top.text("admin_account")),
        servers,
        writer,
        readers,
        hooks: hooks(top, &mut subjects),
        policy: policy(top, &mut subjects),
    };
    if mode.is_some() && !definition.name.as_str().is_empty() {
        for mistake in definition.mistakes() {
            let line = subjects.iter().rfind(|(subject, _)| is_about(&mistake, subject));
            top.notes.add(line.map(|(_, line)| *line), mistake);
        }
    }
    definition
}

/// Whether a sentence begins with that subject, as a whole word.
fn is_about(sentence: &str, subject: &str) -> bool {
    sentence
        .strip_prefix(subject)
        .is_some_and(|rest| rest.starts_with(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
}

/// What `[defaults]` says for all servers.
#[derive(Default)]
struct Defaults {
    port: Option<u64>,
    rack: Option<String>,
    promotion: Option<PromotionRule>,
    acker: Option<bool>,
    replication_account: Option<String>,
    data_dir: Option<String>,
    log_bin: Option<String>,
    service: Option<String>,
    ssh: Option<Ssh>,
}

/// What is said of a login; `user` empty: not said.
#[derive(Clone, Default)]
struct Ssh {
    host: Option<String>,
    port: Option<u64>,
    user: Option<String>,
}

fn servers(top: &Section<'_, '_>, subjects: &mut Vec<(String, usize)>) -> Vec<ServerDefinition> {
    let defaults = top.section("defaults").map(|section| {
        let found = common(&section);
        section.finish();
        found
    });
    let defaults = defaults.unwrap_or_default();
    let sections = top.sections("server");
    if sections.is_empty() && !top.has("server") {
        top.notes.add(None, "no server is defined: wanted two or more sections [[server]]");
    }
    let mut out = Vec::new();
    for section in sections {
        let server = server(&section, &defaults);
        subjects.push((format!("server {}", server.name), section.line));
        subjects.push((format!("server name {:?}", server.name.0), section.line));
        section.finish();
        out.push(server);
    }
    out
}

/// The keys that `[defaults]` and `[[server]]` share.
fn common(section: &Section<'_, '_>) -> Defaults {
    Defaults {
        port: section.number("port", 1, 65_535),
        rack: section.text("rack"),
        promotion: section.choice("promotion", &PROMOTION_WORDS),
        acker: section.flag("acker"),
        replication_account: section.text("replication_account"),
        data_dir: section.text("data_dir"),
        log_bin: section.text_or_empty("log_bin"),
        service: section.text_or_empty("service"),
        ssh: section.section("ssh").map(|ssh| {
            let found = Ssh {
                host: ssh.text("host"),
                port: ssh.number("port", 1, 65_535),
                user: ssh.text("user"),
            };
            ssh.finish();
            found
        }),
    }
}

fn server(section: &Section<'_, '_>, defaults: &Defaults) -> ServerDefinition {
    let name = section.need("name", section.text("name"));
    let host = section.need("host", section.text("host"));
    let own = common(section);
    let lacks = |key: &str| {
        let text = format!("server {name}: {key} is missing here and in [defaults]");
        section.notes.add(Some(section.line), text);
        String::new()
    };
    let port = own.port.or(defaults.port).unwrap_or(3306);
    let or_default = |mine: Option<String>, common: &Option<String>| mine.or(common.clone());
    let rack = or_default(own.rack, &defaults.rack).unwrap_or_else(|| lacks("rack"));
    let account = or_default(own.replication_account, &defaults.replication_account);
    let ssh = ssh(own.ssh, defaults.ssh.as_ref(), &host, &lacks);
    let data_dir = or_default(own.data_dir, &defaults.data_dir);
    let data_dir = match (data_dir, &ssh) {
        (Some(found), _) => found,
        (None, Some(_)) => {
            lacks("data_dir (fencing finds mysqld by it)");
            "/".into()
        }
        (None, None) => String::new(),
    };
    ServerDefinition {
        port: u16::try_from(port).unwrap_or(3306),
        rack,
        promotion: own.promotion.or(defaults.promotion).unwrap_or_default(),
        acker: own.acker.or(defaults.acker).unwrap_or(true),
        replication_account: account.unwrap_or_else(|| lacks("replication_account")),
        ssh,
        data_dir,
        log_bin: or_default(own.log_bin, &defaults.log_bin).filter(|base| !base.is_empty()),
        service: or_default(own.service, &defaults.service).filter(|unit| !unit.is_empty()),
        name: name.as_str().into(),
        host,
    }
}

fn ssh(
    own: Option<Ssh>,
    defaults: Option<&Ssh>,
    server_host: &str,
    lacks: &dyn Fn(&str) -> String,
) -> Option<SshTarget> {
    if own.is_none() && defaults.is_none() {
        return None;
    }
    let own = own.unwrap_or_default();
    let common = defaults.cloned().unwrap_or_default();
    let port = own.port.or(common.port).unwrap_or(22);
    Some(SshTarget {
        host: own.host.or(common.host).unwrap_or_else(|| server_host.to_owned()),
        port: u16::try_from(port).unwrap_or(22),
        user: own.user.or(common.user).unwrap_or_else(|| lacks("ssh.user")),
    })
}

fn vips(top: &Section<'_, '_>, subjects: &mut Vec<(String, usize)>) -> (Option<Vip>, Vec<Vip>) {
    let Some(section) = top.section("vip") else { return (None, Vec::new()) };
    let mut one = |section: Section<'_, '_>| {
        let vip = vip(&section);
        subjects.push((format!("vip {}", vip.address), section.line));
        subjects.push((format!("vip {:?}", vip.address), section.line));
        section.finish();
        vip
    };
    let writer = section.section("writer").map(&mut one);
    let readers = section.sections("reader").into_iter().map(&mut one).collect();
    section.finish();
    (writer, readers)
}

fn vip(section: &Section<'_, '_>) -> Vip {
    let written = section.need("address", section.text("address"));
    let (address, prefix) = written.split_once('/').unwrap_or((&written, ""));
    let prefix = prefix.parse::<u8>().ok();
    if prefix.is_none() && !written.is_empty() {
        let text =
            format!("address: wanted an address such as 198.51.100.100/24, found {written:?}");
        section.blame("address", text);
    }
    Vip {
        address: address.to_owned(),
        prefix: prefix.unwrap_or(32),
        interface: section.need("interface", section.text("interface")),
    }
}

fn hooks(top: &Section<'_, '_>, subjects: &mut Vec<(String, usize)>) -> Vec<HookDefinition> {
    let hook = |section: Section<'_, '_>| {
        let name = section.need("name", section.text("name"));
        subjects.push((format!("hook {name}"), section.line));
        subjects.push((format!("hook {name:?}"), section.line));
        let usual = HookDefinition::DEADLINE.0;
        let on = section.texts("on").unwrap_or_default();
        let event = |word: &String| {
            let found = HookEvent::ALL.into_iter().find(|event| event.as_str() == word);
            if found.is_none() {
                let all = HookEvent::ALL.map(HookEvent::as_str).join(", ");
                section.blame("on", format!("on: wanted some of {all}, found {word:?}"));
            }
            found
        };
        let hook = HookDefinition {
            on: on.iter().filter_map(event).collect(),
            deadline_ms: Millis(section.number("deadline_ms", 0, u64::MAX).unwrap_or(usual)),
            required: section.flag("required").unwrap_or(false),
            name,
        };
        section.finish();
        hook
    };
    top.sections("hook").into_iter().map(hook).collect()
}

fn policy(top: &Section<'_, '_>, subjects: &mut Vec<(String, usize)>) -> Policy {
    let usual = Policy::default();
    let Some(section) = top.section("policy") else { return usual };
    let mut number = |key: &'static str, usual: u64| {
        subjects.push((format!("policy {key}"), section.line_of(key)));
        section.number(key, 0, u64::MAX).unwrap_or(usual)
    };
    let refusals = number("refusals", usual.refusals.into());
    let last_failover_minutes = number("last_failover_minutes", usual.last_failover_minutes);
    let limit = |key: &'static str| section.number(key, 0, u64::MAX);
    let mut millis = |key: &'static str, usual: Millis| Millis(number(key, usual.0));
    let pings = [
        ("select", PingType::Select),
        ("connect", PingType::Connect),
        ("insert", PingType::Insert),
    ];
    let restarts = [("reopen", RestartPolicy::Reopen), ("failover", RestartPolicy::Failover)];
    let dead = [("wait", DeadAckerPolicy::Wait), ("drop", DeadAckerPolicy::Drop)];
    let last = [("wait", LastAckerPolicy::Wait), ("lower", LastAckerPolicy::Lower)];
    let policy = Policy {
        ping_interval_ms: millis("ping_interval_ms", usual.ping_interval_ms),
        connect_deadline_ms: millis("connect_deadline_ms", usual.connect_deadline_ms),
        refusals: u32::try_from(refusals).unwrap_or(u32::MAX),
        doubt_interval_ms: millis("doubt_interval_ms", usual.doubt_interval_ms),
        silence_ms: millis("silence_ms", usual.silence_ms),
        ballot_age_ms: millis("ballot_age_ms", usual.ballot_age_ms),
        stall_ms: millis("stall_ms", usual.stall_ms),
        watch_interval_ms: millis("watch_interval_ms", usual.watch_interval_ms),
        heartbeat_ms: millis("heartbeat_ms", usual.heartbeat_ms),
        last_failover_minutes,
        step_deadline_ms: millis("step_deadline_ms", usual.step_deadline_ms),
        fence_patience_ms: millis("fence_patience_ms", usual.fence_patience_ms),
        progress_budget_ms: millis("progress_budget_ms", usual.progress_budget_ms),
        retry_pause_ms: millis("retry_pause_ms", usual.retry_pause_ms),
        automatic: section.flag("automatic").unwrap_or(usual.automatic),
        ping: section.choice("ping", &pings).unwrap_or(usual.ping),
        primary_restarted: section
            .choice("primary_restarted", &restarts)
            .unwrap_or(usual.primary_restarted),
        rejoin: section.flag("rejoin").unwrap_or(usual.rejoin),
        dead_acker: section.choice("dead_acker", &dead).unwrap_or(usual.dead_acker),
        dead_acker_ms: millis("dead_acker_ms", usual.dead_acker_ms),
        last_acker: section.choice("last_acker", &last).unwrap_or(usual.last_acker),
        last_acker_ms: millis("last_acker_ms", usual.last_acker_ms),
        max_loss_transactions: limit("max_loss_transactions"),
        max_loss_bytes: limit("max_loss_bytes"),
    };
    section.finish();
    policy
}

/// A definition as a file that [`parse`] reads back to the same.
pub fn to_toml(definition: &ClusterDefinition) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let word = |words: &[(&'static str, PromotionRule)], rule| {
        words.iter().find(|(_, found)| *found == rule).map_or("allow", |(name, _)| name)
    };
    let mut out = format!(
        "name = {}\nmode = \"{}\"\nacks = {}\nadmin_account = {}\n",
        quoted(definition.name.as_str()),
        definition.mode.as_str(),
        definition.acks,
        quoted(&definition.admin_account)
    );
    for server in &definition.servers {
        out += &format!(
            "\n[[server]]\nname = {}\nhost = {}\nport = {}\nrack = {}\npromotion = \"{}\"\n\
             acker = {}\nreplication_account = {}\n",
            quoted(server.name.as_str()),
            quoted(&server.host),
            server.port,
            quoted(&server.rack),
            word(&PROMOTION_WORDS, server.promotion),
            server.acker,
            quoted(&server.replication_account)
        );
        if !server.data_dir.is_empty() {
            out += &format!("data_dir = {}\n", quoted(&server.data_dir));
        }
        if let Some(log_bin) = &server.log_bin {
            out += &format!("log_bin = {}\n", quoted(log_bin));
        }
        if let Some(service) = &server.service {
            out += &format!("service = {}\n", quoted(service));
        }
        if let Some(ssh) = &server.ssh {
            let (host, user) = (quoted(&ssh.host), quoted(&ssh.user));
            out += &format!("ssh = {{ host = {host}, port = {}, user = {user} }}\n", ssh.port);
        }
    }
    let writers = definition.writer.iter().map(|vip| ("[vip.writer]", vip));
    for (head, vip) in writers.chain(definition.readers.iter().map(|vip| ("[[vip.reader]]", vip))) {
        out += &format!(
            "\n{head}\naddress = \"{}/{}\"\ninterface = {}\n",
            vip.address,
            vip.prefix,
            quoted(&vip.interface)
        );
    }
    for hook in &definition.hooks {
        let on: Vec<String> = hook.on.iter().map(|event| quoted(event.as_str())).collect();
        out += &format!(
            "\n[[hook]]\nname = {}\non = [{}]\ndeadline_ms = {}\nrequired = {}\n",
            quoted(&hook.name),
            on.join(", "),
            hook.deadline_ms.0,
            hook.required
        );
    }
    // A policy is plain keys and values, so its own form is the file's.
    let policy = toml::to_string(&definition.policy).unwrap_or_default();
    out + "\n[policy]\n" + &policy
}

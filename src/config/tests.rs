//! Tests of the files: the samples are right, and every mistake is said at once with its line.

use std::os::unix::fs::PermissionsExt;

use conclave_core::model::{HookDefinition, HookEvent, Mode, Policy};

use super::{
    ClientConfig, ConfigError, ManagerConfig, Security, client::Given, cluster, manager::LogFormat,
};
use crate::{adapters::secrets::Secrets, golden};

const MANAGER: &str = include_str!("../../deploy/samples/manager.toml");
const CLIENT: &str = include_str!("../../deploy/samples/client.toml");
const APP1: &str = include_str!("../../deploy/samples/app1.toml");

fn complaint<T: std::fmt::Debug>(result: Result<T, ConfigError>) -> String {
    format!("{}\n", result.expect_err("a text with mistakes was taken"))
}

#[test]
fn sample_manager_is_right() {
    let manager = ManagerConfig::parse("manager.toml", MANAGER).unwrap();
    assert_eq!(manager.id.0, 1);
    assert_eq!(manager.advertise, "192.0.2.11:7300");
    assert_eq!(manager.raft.election_max.as_millis(), 300);
    assert_eq!(manager.log_format, LogFormat::Text);
    assert!(matches!(manager.security, Security::Tls(files) if files.ca.ends_with("ca.pem")));
}

#[test]
fn sample_client_is_right() {
    let client = ClientConfig::parse("client.toml", CLIENT).unwrap();
    assert_eq!(client.managers.len(), 3);
}

#[test]
fn sample_cluster_is_right_and_shows_the_defaults_of_the_policy() {
    let app1 = cluster::parse("app1.toml", APP1).unwrap();
    assert_eq!(app1.mode, Mode::Quorum);
    assert_eq!(app1.policy, Policy::default());
    let ssh = app1.servers[1].ssh.as_ref().unwrap();
    assert_eq!((ssh.host.as_str(), ssh.port, ssh.user.as_str()), ("198.51.100.12", 22, "root"));
    assert_eq!(app1.writer.as_ref().map(|vip| vip.prefix), Some(24));
    assert_eq!(app1.readers.len(), 1);
}

#[test]
fn sample_secrets_are_right() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secrets.toml");
    std::fs::write(&file, include_str!("../../deploy/samples/secrets.toml")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = Secrets::load(Some(&file)).unwrap();
    let has =
        |cluster: &str, account: &str| secrets.mysql_password(&cluster.into(), account).is_some();
    assert!(has("app1", "conclave") && has("app2", "conclave") && has("app1", "repl_db3"));
    assert!(!has("app1", "root"));
}

#[test]
fn every_key_of_the_policy_is_in_the_sample() {
    let serde_json::Value::Object(keys) = serde_json::to_value(Policy::default()).unwrap() else {
        panic!("a policy is an object");
    };
    let missing: Vec<_> = keys.keys().filter(|key| !APP1.contains(&format!("{key} = "))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[test]
fn cluster_without_a_mode_is_refused_with_an_explanation() {
    let text = APP1.replace("mode = \"quorum\"", "");
    golden::check("cluster_no_mode.txt", &complaint(cluster::parse("app1.toml", &text)));
}

#[test]
fn every_mistake_of_a_cluster_is_said_at_once() {
    let text = r#"
name = "app 1"
mode = "quorum"
ack = 1
acks = 2
admin_account = ""

[defaults]
port = 70000
replication_account = "repl"
ssh = { usr = "root" }

[[server]]
name = "db1"
host = "198.51.100.11"
rack = "r1"
data_dir = "var/lib/mysql"

[[server]]
name = "db1"
host = "198.51.100.11"
promotion = "sometimes"

[vip.writer]
address = "198.51.100.100"
interface = "eth 0"

[polcy]
automatic = true

[policy]
silence_ms = 100
refusals = "three"
last_failover_minute = 60
"#;
    golden::check("cluster_mistakes.txt", &complaint(cluster::parse("app1.toml", text)));
}

#[test]
fn text_that_is_not_toml_is_refused_with_its_line() {
    let text = "name = \"app1\"\nmode = quorum\n";
    golden::check("cluster_not_toml.txt", &complaint(cluster::parse("app1.toml", text)));
}

#[test]
fn every_mistake_of_a_manager_is_said_at_once() {
    let text = r#"
id = 0
rack = "r1"
listen = "localhost"
advertise = "0.0.0.0:7300"
data_dir = "conclave"
insecure = "yes"

[raft]
heartbeat_ms = 200
election_ms = [150, 300]

[log]
format = "xml"
levle = "debug"
"#;
    golden::check("manager_mistakes.txt", &complaint(ManagerConfig::parse("m.toml", text)));
}

/// The sample with its commented hook in force.
fn hooked(change: &str) -> String {
    let lines = APP1.lines().map(|line| match line.strip_prefix("# ") {
        Some(line) if line.starts_with("[[hook]]") || line.contains(" = ") => line,
        Some(_) | None => line,
    });
    lines.collect::<Vec<_>>().join("\n").replace("name = \"notify\"", change)
}

#[test]
fn hook_of_the_sample_is_right_and_written_back_the_same() {
    let app1 = cluster::parse("app1.toml", &hooked("name = \"notify\"")).unwrap();
    let [hook] = &app1.hooks[..] else { panic!("{:?}", app1.hooks) };
    assert_eq!((&*hook.name, &hook.on[..], hook.required), ("notify", &HookEvent::ALL[..], false));
    assert_eq!(hook.deadline_ms, HookDefinition::DEADLINE);
    let written = cluster::to_toml(&app1);
    assert_eq!(cluster::parse("written.toml", &written).unwrap(), app1);
}

#[test]
fn mistakes_in_a_hook_are_told_with_their_lines() {
    let text = hooked("name = \"../notify\"").replace("\"undone\"", "\"ended\"");
    let said = complaint(cluster::parse("app1.toml", &text));
    assert!(said.starts_with("app1.toml has 2 mistakes:\n"), "{said}");
    for part in
        ["  line 43: hook \"../notify\": wanted a file name", "  line 45: on: wanted some of"]
    {
        assert!(said.contains(part), "{said}");
    }
}

#[test]
fn manager_with_tls_and_insecure_is_refused() {
    let text = MANAGER.replacen("[tls]", "insecure = true\n[tls]", 1);
    let said = complaint(ManagerConfig::parse("m.toml", &text));
    assert_eq!(said, "m.toml line 12: wanted [tls] or insecure = true, found both\n");
}

#[test]
fn insecure_set_to_false_does_not_mean_plain_text() {
    let said = complaint(ClientConfig::parse("c.toml", "managers = []\ninsecure = false\n"));
    let wanted = "c.toml: wanted [tls] with ca, cert and key (conclave tls init makes them), or \
                  insecure = true for plain text, found neither\n";
    assert_eq!(said, wanted);
}

#[test]
fn what_the_client_is_told_comes_before_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.toml");
    std::fs::write(&file, CLIENT).unwrap();
    let given = Given { managers: vec!["m9:7300".into()], file: Some(file), ..Given::default() };
    let found = ClientConfig::resolve(given).unwrap();
    assert_eq!(found.managers, ["m9:7300"]);
    assert!(matches!(found.security, Security::Tls(_)));
    let given = Given { managers: vec!["m9".into()], insecure: true, ..Given::default() };
    assert_eq!(
        complaint(ClientConfig::resolve(given)),
        "command line: --managers: wanted host:port[,host:port...], found \"m9\"\n"
    );
}

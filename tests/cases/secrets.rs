//! Wrong passwords and unknown host keys are shown as what they are, and never the password.

use std::fs;

use conclave_lab::{ADMIN_PASSWORD, ADMIN_USER, Group, GroupSpec, Host, REPL_PASSWORD};
use serde_json::Value;

use super::stand::{self, SOON};

fn restart(group: &mut Group<'_>) {
    for name in group.names() {
        group.kill(&name).unwrap();
        group.start(&name).unwrap();
    }
}

/// Every sentence of the problems with this code.
fn sentences(cluster: &Value, code: &str) -> Vec<String> {
    let problems = cluster["problems"].as_array().into_iter().flatten();
    let named = problems.filter(|problem| problem["code"] == code);
    named.filter_map(|problem| Some(problem["sentence"].as_str()?.to_owned())).collect()
}

#[test]
fn wrong_password_and_unknown_host_key_are_told_beforehand_without_the_password() {
    let lab = stand::lab();
    let spec = GroupSpec { mode: "fenced".into(), log_level: "debug".into(), ..stand::spec() };
    let mut group = Group::start_all(&lab, spec).expect("start the group");
    let writer = stand::writer(&lab);
    let secrets = group.dir().join("secrets.toml");
    let right = fs::read_to_string(&secrets).unwrap();
    fs::write(&secrets, right.replace(ADMIN_PASSWORD, "not-the-password")).unwrap();
    restart(&mut group);
    let servers: Vec<String> = lab.servers().iter().map(Host::name).collect();
    let is_denied = |text: &String| {
        text.contains("Access denied") && text.contains(&format!("'{ADMIN_USER}'@"))
    };
    let denied = |cluster: &Value| {
        let told = sentences(cluster, "problem.server_unreachable");
        told.len() == servers.len() && told.iter().all(is_denied)
    };
    let shown = group.wait_cluster("waiting for the denied logins", SOON, denied).unwrap();
    // A server that denies a login lives.
    assert_eq!((shown["primary"].as_str(), shown["epoch"].as_u64()), (Some("db1"), Some(0)));
    fs::write(&secrets, &right).unwrap();
    let known = fs::read_to_string(lab.known_hosts()).unwrap();
    let db1 = lab.host("db1").unwrap().ip().to_string();
    let without: Vec<&str> = known.lines().filter(|line| !line.contains(&db1)).collect();
    assert!(without.len() < known.lines().count());
    fs::write(lab.known_hosts(), without.join("\n") + "\n").unwrap();
    restart(&mut group);
    let is_told = |cluster: &Value| {
        let told = sentences(cluster, "problem.host_unreachable");
        matches!(&told[..], [one] if one.contains("knows no key of that host"))
            && cluster["forecasts"][0]["refusals"][0]["code"] == "gate.no_fence"
    };
    group.wait_cluster("waiting for the unknown host key", SOON, is_told).unwrap();
    let explained = group.expect("m2", &["explain", "app1"]).unwrap();
    assert!(explained.contains("ssh-keyscan"), "the remedy is missing: {explained}");
    fs::write(lab.known_hosts(), known).unwrap();
    group.wait_healthy(SOON).expect("healthy again");
    let printed = group.expect("m1", &["status"]).unwrap() + &explained + &shown.to_string();
    let logs = group.names().into_iter().map(|name| fs::read_to_string(group.log(&name)).unwrap());
    for text in logs.chain([printed]) {
        for secret in [ADMIN_PASSWORD, REPL_PASSWORD, "not-the-password"] {
            assert!(!text.contains(secret), "a password is shown");
        }
    }
    stand::nothing_lost(&lab, writer, "db1");
}

//! Several clusters under one group: what hangs in one is no matter of the others.

use std::{fs, os::unix::fs::PermissionsExt};

use conclave_lab::{Group, Lab, LabSpec, change_source};
use serde_json::Value;

use super::stand::{self, SOON};

/// db5 follows db4 from now on, and nobody else does.
fn part(lab: &Lab) {
    let (db4, db5) = (lab.host("db4").unwrap(), lab.host("db5").unwrap());
    let alone = "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL rpl_semi_sync_replica_enabled = OFF";
    db4.sql(&format!("{alone}; SET GLOBAL read_only = OFF")).unwrap();
    let follow = change_source("db5", db4.ip());
    db5.sql(&format!("{alone}; {follow}; START REPLICA")).unwrap();
}

/// The lab's definition with these servers only; without addresses where `mode` is another one.
fn apply(group: &Group<'_>, name: &str, servers: &[&str], change: impl Fn(String) -> String) {
    let file = group.write_cluster("", &[]).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let (top, rest) = text.split_once("[[server]]").unwrap();
    let (blocks, rest) = rest.split_once("[vip.writer]").unwrap();
    let mine = |block: &&str| {
        servers.iter().any(|server| block.contains(&format!("name = \"{server}\"\n")))
    };
    let blocks: String =
        blocks.split("[[server]]").filter(mine).map(|block| format!("[[server]]{block}")).collect();
    let text = change(format!("{top}{blocks}[vip.writer]{rest}"));
    let file = file.with_file_name(format!("{name}.toml"));
    fs::write(&file, text.replace("name = \"app1\"", &format!("name = \"{name}\""))).unwrap();
    group.expect("m1", &["cluster", "apply", &file.display().to_string()]).unwrap();
}

fn cluster(group: &Group<'_>, name: &str) -> Value {
    let status = group.status().unwrap();
    let mut all = status["clusters"].as_array().into_iter().flatten();
    all.find(|cluster| cluster["name"] == name).cloned().unwrap_or_default()
}

#[test]
fn hanging_script_and_server_of_one_cluster_do_not_delay_the_failover_of_another() {
    let lab = Lab::up_replicated(LabSpec { servers: 5, ..LabSpec::default() }).unwrap();
    part(&lab);
    let group = Group::form(&lab, stand::spec()).unwrap();
    let dir = group.hooks_dir();
    fs::create_dir_all(&dir).unwrap();
    let (script, begun) = (dir.join("hang"), dir.join("begun"));
    fs::write(&script, format!("#!/bin/sh\ntouch {}\nsleep 3600\n", begun.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    apply(&group, "app1", &["db1", "db2", "db3"], |text| text);
    apply(&group, "app2", &["db4", "db5"], |text| {
        let (before, rest) = text.split_once("[vip.writer]").unwrap();
        let policy = rest.split_once("[policy]").unwrap().1;
        let before = before.replace("mode = \"quorum\"", "mode = \"best_effort\"");
        let hook = "[[hook]]\nname = \"hang\"\non = [\"opened\"]\nrequired = true\n\
                    deadline_ms = 280000\n";
        format!("{before}[policy]\nprogress_budget_ms = 290000{policy}{hook}")
    });
    group.wait_healthy(SOON).unwrap();
    stand::wait("the second cluster's primary", || cluster(&group, "app2")["primary"] == "db4");
    let mut writer = stand::writer(&lab);
    lab.host("db4").unwrap().kill_mysqld().unwrap();
    stand::wait("its script to hang", || begun.exists());
    lab.host("db5").unwrap().stop_mysqld().unwrap();
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let hanging = cluster(&group, "app2");
    assert!(hanging["attempt"].is_object(), "{hanging:#}");
    stand::nothing_lost(&lab, writer, &primary);
}

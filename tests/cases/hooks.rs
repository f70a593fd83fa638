//! Scripts of the operators' own during failovers of real servers.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use conclave_lab::Group;

use super::stand::{self, SOON};

/// Puts a script where all managers find it. What it appends to `$TOLD` is in the file returned.
fn script(group: &Group<'_>, name: &str, body: &str) -> PathBuf {
    let dir = group.hooks_dir();
    fs::create_dir_all(&dir).unwrap();
    let (path, told) = (dir.join(name), dir.join(format!("{name}.told")));
    fs::write(&path, format!("#!/bin/sh\nTOLD={}\n{body}\n", told.display())).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    told
}

/// Applies the cluster again, with these hooks.
fn hook(group: &Group<'_>, hooks: &str) {
    let file = group.write_cluster("", &[]).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}\n{hooks}")).unwrap();
    group.expect("m1", &["cluster", "apply", &file.display().to_string()]).unwrap();
    group.wait_healthy(SOON).unwrap();
}

fn lines(told: &PathBuf) -> Vec<String> {
    fs::read_to_string(told).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn scripts_are_told_each_moment_and_one_that_hangs_or_floods_is_only_reported() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let words = "$CONCLAVE_EVENT $CONCLAVE_KEY $CONCLAVE_OLD_HOST $CONCLAVE_NEW_HOST";
    let told = script(&group, "note", &format!("echo \"{words}\" >>$TOLD"));
    script(&group, "hang", "sleep 3600");
    script(&group, "flood", "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo enough");
    hook(
        &group,
        "[[hook]]\nname = \"note\"\non = [\"opened\", \"published\", \"finished\", \"undone\"]\n\
         [[hook]]\nname = \"hang\"\non = [\"opened\"]\ndeadline_ms = 2000\n\
         [[hook]]\nname = \"flood\"\non = [\"published\"]\n\
         [[hook]]\nname = \"missing\"\non = [\"published\"]\n",
    );
    let mut writer = stand::writer(&lab);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let (old, new) = (lab.host("db1").unwrap().ip(), lab.host(&primary).unwrap().ip());
    let events: Vec<Vec<String>> =
        lines(&told).iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    let of = |number: usize| [&*events[number][0], &*events[number][2], &*events[number][3]];
    let (old, new) = (old.to_string(), new.to_string());
    assert_eq!(events.len(), 3, "{events:?}");
    assert_eq!(of(0), ["opened", &*old, ""]);
    assert_eq!([of(1), of(2)], [["published", &*old, &*new], ["finished", &*old, &*new]]);
    assert!(events.iter().all(|words| words[1].starts_with("app1:1.")), "{events:?}");
    let report = group.expect("m1", &["report", "app1-1"]).unwrap();
    let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "killed at its deadline of 2000 ms",
        "enough",
        "every manager needs an executable file of that name in its hooks_dir",
    ] {
        assert!(report.contains(part), "{part} is missing: {report}");
    }
    stand::nothing_lost(&lab, writer, &primary);
}

#[test]
fn leader_killed_while_a_script_runs_is_followed_by_one_that_calls_it_by_the_same_key() {
    let lab = stand::lab();
    let mut group = stand::group(&lab, &[]);
    let body = "echo \"begun $CONCLAVE_KEY $CONCLAVE_REPEATS\" >>$TOLD\n\
                [ \"$CONCLAVE_REPEATS\" = 0 ] && sleep 600\n\
                echo \"ended $CONCLAVE_KEY $CONCLAVE_REPEATS\" >>$TOLD";
    let told = script(&group, "slow", body);
    hook(&group, "[[hook]]\nname = \"slow\"\non = [\"published\"]\ndeadline_ms = 60000\n");
    let mut writer = stand::writer(&lab);
    let leader = group.leader().unwrap().expect("a leader");
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::wait("the script to be called", || !lines(&told).is_empty());
    group.kill(&leader).unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let words: Vec<Vec<String>> =
        lines(&told).iter().map(|line| line.split(' ').map(str::to_owned).collect()).collect();
    let key = &words[0][1];
    let wanted = [["begun", key, "0"], ["begun", key, "1"], ["ended", key, "1"]];
    assert_eq!(words, wanted);
    let cluster = group.cluster().unwrap();
    assert_eq!(cluster["epoch"], 1, "under the same failover id");
    stand::nothing_lost(&lab, writer, &primary);
}

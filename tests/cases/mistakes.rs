//! Each wrong input gives one clear sentence and a non-zero exit, and nothing is half done.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use super::local::{Local, Said, cluster_toml, conclave, free_port, refuses, wait};

/// A text on a port that refuses: a manager asked there would be a mistake of its own.
fn nowhere() -> String {
    format!("127.0.0.1:{}", free_port())
}

#[test]
fn manager_with_a_wrong_file_says_where_and_makes_nothing() {
    let mut local = Local::new();
    let missing = local.path("none.toml").display().to_string();
    refuses(&["manager", "--config", &missing], &format!("{missing}: there is no such file"));
    let broken = local.file("broken.toml", "id = 1\nrack = r1\n");
    let complaint = format!(
        "{broken} line 2: this is not TOML: string values must be quoted, expected literal string"
    );
    refuses(&["manager", "--config", &broken], &complaint);
    let data = local.data_dir(1);
    let text = local.manager_toml(1, &data).replace("data_dir", "datadir");
    let unknown = local.file("unknown.toml", &text);
    let complaint = format!(
        "{unknown} has 2 mistakes:\n  data_dir is missing\n  line 4: unknown key datadir at the \
         top of the file; did you mean data_dir?"
    );
    refuses(&["manager", "--config", &unknown], &complaint);
    assert!(!data.exists());
}

#[test]
fn manager_with_wrong_secrets_says_where_and_shows_none() {
    let mut local = Local::new();
    let data = local.data_dir(1);
    let text = local.manager_toml(1, &data);
    let config = local.file("m1.toml", &text);
    let args = ["manager", "--config", &config];
    let secrets = local.file("secrets.toml", "[mysql.conclave]\npasword = \"hunter2\"\n");
    let complaint =
        format!("secrets file {secrets}, line 2: unknown field `pasword`, expected `password`");
    refuses(&args, &complaint);
    local.file("secrets.toml", "[mysql.conclave]\npassword = hunter2\n");
    let complaint = format!(
        "secrets file {secrets}, line 2: wanted [mysql.ACCOUNT] password, \
         [cluster.NAME.mysql.ACCOUNT] password, or [ssh]"
    );
    refuses(&args, &complaint);
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    let complaint = format!(
        "secrets file {secrets} has mode 0644: wanted it readable by its owner only; run chmod \
         600 {secrets}"
    );
    refuses(&args, &complaint);
    fs::remove_file(&secrets).unwrap();
    let complaint = format!("secrets file {secrets}: there is no such file");
    refuses(&args, &complaint);
    assert!(!data.exists());
}

#[test]
fn cluster_with_a_wrong_file_is_refused_before_any_manager_is_asked() {
    let local = Local::new();
    let at = nowhere();
    let apply = |file: &str, complaint: &str| {
        let args = ["cluster", "apply", file, "--insecure", "--managers", &at];
        refuses(&args, complaint);
    };
    let missing = local.path("none.toml").display().to_string();
    apply(&missing, &format!("{missing}: there is no such file"));
    let good = cluster_toml("app1", [3306, 3307]);
    let broken = local.file("broken.toml", &good.replace("\"best_effort\"", "best_effort"));
    let complaint = format!(
        "{broken} line 2: this is not TOML: string values must be quoted, expected literal string"
    );
    apply(&broken, &complaint);
    let unknown = local.file("unknown.toml", &format!("{good}[policy]\nsilense_ms = 900\n"));
    let complaint =
        format!("{unknown} line 17: unknown key silense_ms in [policy]; did you mean silence_ms?");
    apply(&unknown, &complaint);
    // The file is right, and now nobody is there.
    let right = local.file("app1.toml", &good);
    let said = conclave(&["cluster", "apply", &right, "--insecure", "--managers", &at]);
    let stderr = format!(
        "conclave: no manager could be asked; manager at {at}: nothing listens there: is the \
         manager running, and is this its port?\n"
    );
    assert_eq!(said, Said { code: Some(3), stdout: String::new(), stderr });
}

#[test]
fn manager_at_a_used_port_or_a_used_directory_does_not_start() {
    let mut local = Local::new();
    local.start(1);
    let at = local.address(1);
    local.place(2, &at);
    let text = local.manager_toml(2, &local.data_dir(2));
    let config = local.file("m2.toml", &text);
    let complaint = format!(
        "listen at {at}: Address already in use (os error 98); is another process using the \
         port? (`ss -ltnp` shows it)"
    );
    refuses(&["manager", "--config", &config], &complaint);
    assert!(!local.data_dir(2).exists());
    let data = local.data_dir(1);
    let text = local.manager_toml(3, &data);
    let config = local.file("m3.toml", &text);
    let complaint = format!(
        "data directory {} is in use by another process: stop that manager, or give this \
         one a directory of its own",
        data.display()
    );
    refuses(&["manager", "--config", &config], &complaint);
    local.kill(1);
    let complaint = format!(
        "data directory {} belongs to manager 1, but the configuration says id 3: correct `id`, \
         or give this manager an empty directory",
        data.display()
    );
    refuses(&["manager", "--config", &config], &complaint);
}

#[test]
fn group_without_a_quorum_says_so_and_changes_nothing() {
    let mut local = Local::group(3);
    local.kill(1);
    local.kill(2);
    wait("the last manager to miss the others", || local.ask(&[3], &["status"]).code == Some(2));
    let shown = local.ask(&[3], &["status"]).stdout;
    let no_quorum = "2 of 3 managers have to be up and reach each other";
    assert!(shown.contains(no_quorum), "{shown}");
    let file = local.file("app1.toml", &cluster_toml("app1", [3306, 3307]));
    let all = [1, 2, 3];
    let stderr = format!(
        "conclave: nothing was changed: no quorum: manager 3 found no leader with a majority behind \
         it within 2 s; {no_quorum}\n"
    );
    let said = local.ask(&all, &["cluster", "apply", &file]);
    assert_eq!(said, Said { code: Some(1), stdout: String::new(), stderr });
    local.start(1);
    local.start(2);
    local.wait_leader();
    for id in all {
        local.wait_caught_up(id);
    }
    let list = local.ask(&all, &["cluster", "list", "-o", "json"]);
    assert!(list.stdout.contains("\"clusters\": []"), "{list:?}");
}

#[test]
fn group_is_formed_once_and_takes_no_manager_of_another_group() {
    let mut ours = Local::group(3);
    let again = ours.init(1..=3);
    assert_eq!((again.code, again.stdout.as_str()), (Some(1), ""), "{again:?}");
    let group = ours.status()["group"]["id"].as_str().unwrap().to_owned();
    let formed = format!(
        "conclave: manager 1 is already part of the running group {group}: a group is formed once\n"
    );
    assert_eq!(again.stderr, formed);
    // A new group may not take one of ours.
    for id in [4, 5] {
        ours.start(id);
    }
    let address = ours.address(3);
    let stolen = ours.init([4, 5, 3]);
    let stderr = format!(
        "conclave: nothing was done: manager 3 at {address}: manager 3 is already part of the \
         running group {group}: a group is formed once; correct this and say it again\n"
    );
    assert_eq!(stolen, Said { code: Some(1), stdout: String::new(), stderr });
    // Nothing was half done: without ours, the same two managers become a group.
    ours.start(6);
    let other = ours.init([4, 5, 6]);
    assert_eq!(other.code, Some(0), "{other:?}");
}

#[test]
fn foreign_manager_at_a_members_address_is_refused_and_shown() {
    let mut ours = Local::group(3);
    let group = ours.status()["group"]["id"].as_str().unwrap().to_owned();
    ours.kill(3);
    let mut theirs = Local::new();
    theirs.place(3, &ours.address(3));
    theirs.start(3);
    let said = theirs.init([3]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let foreign = theirs.status()["group"]["id"].as_str().unwrap().to_owned();
    let wanted = format!("manager 3 is part of group {foreign}, manager ");
    let shows = |status: &serde_json::Value| {
        let warnings = status["group"]["warnings"].as_array().into_iter().flatten();
        let mut texts = warnings.filter_map(|warning| warning.as_str());
        texts.any(|text| text.contains(&wanted) && text.contains(&group))
    };
    wait("the foreign manager to be shown", || shows(&ours.status()));
    assert_eq!(ours.ask(&[1, 2], &["status"]).code, Some(1), "a warning, since two are enough");
    let file = ours.file("app1.toml", &cluster_toml("app1", [3306, 3307]));
    let applied = ours.ask(&[1, 2], &["cluster", "apply", &file]);
    assert_eq!(applied.code, Some(0), "{applied:?}");
    // What is ours has not reached them.
    let list = theirs.ask(&[3], &["cluster", "list", "-o", "json"]);
    assert!(list.stdout.contains("\"clusters\": []"), "{list:?}");
}

#[test]
fn unreachable_server_and_missing_password_are_problems_with_their_reasons() {
    let mut local = Local::group(1);
    let ports = [free_port(), free_port()];
    let file = local.file("app1.toml", &cluster_toml("app1", ports));
    assert_eq!(local.ask(&[1], &["cluster", "apply", &file]).code, Some(0));
    let refused = "connection refused";
    wait("the unreachable servers to be shown", || {
        local.ask(&[1], &["status"]).stdout.matches(refused).count() >= 2
    });
    let text = cluster_toml("app2", ports).replace("\"conclave\"", "\"nobody\"");
    let file = local.file("app2.toml", &text);
    assert_eq!(local.ask(&[1], &["cluster", "apply", &file]).code, Some(0));
    let missing = "no password for MySQL account";
    wait("the missing password to be shown", || {
        local.ask(&[1], &["status", "app2"]).stdout.contains(missing)
    });
    assert_eq!(local.ask(&[1], &["status"]).code, Some(2));
    assert!(!local.log(1).contains("hunter2"));
}

/// A memory file system in a mount namespace that lasts as long as this value.
struct Disk {
    holder: Child,
    dir: PathBuf,
}

impl Disk {
    fn new(dir: PathBuf) -> Self {
        fs::create_dir(&dir).expect("make a mount point");
        let script = "mount -t tmpfs -o size=6m tmpfs \"$0\" && echo up && exec cat";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(&dir);
        let holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut holder = holder.expect("make a mount namespace");
        let mut up = [0; 3];
        let stdout = holder.stdout.as_mut().expect("a pipe");
        std::io::Read::read_exact(stdout, &mut up).expect("a mounted file system");
        Self { holder, dir }
    }

    /// A command that sees it.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--target", &self.holder.id().to_string(), program]);
        command
    }

    fn filler(&self) -> PathBuf {
        let inside = self.dir.strip_prefix("/").expect("an absolute path");
        PathBuf::from(format!("/proc/{}/root", self.holder.id())).join(inside).join("filler")
    }

    fn fill(&self) {
        let mut file = fs::File::create(self.filler()).expect("make a file");
        for size in [1 << 16, 1 << 10, 1] {
            while file.write(&vec![0_u8; size]).is_ok_and(|written| written > 0) {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).expect("make room");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It ends with its input in any case.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[test]
fn manager_whose_disk_is_full_stops_and_rejoins_once_there_is_room() {
    let mut local = Local::new();
    let disk = Disk::new(local.path("disk"));
    local.start(1);
    local.start(2);
    let text = local.manager_toml(3, &local.path("disk").join("data"));
    let config = local.file("m3.toml", &text);
    let run = || {
        let mut command = disk.enter(env!("CARGO_BIN_EXE_conclave"));
        command.args(["manager", "--config", &config]);
        command
    };
    local.spawn(3, run());
    assert_eq!(local.init(1..=3).code, Some(0));
    local.wait_leader();
    local.wait_caught_up(3);
    disk.fill();
    let mut versions = 0;
    // A page that is there already can still be written to.
    wait("manager 3 to meet the full disk", || {
        versions += 1;
        let file = local.file("app1.toml", &cluster_toml("app1", [3306, 3307 + versions]));
        let applied = local.ask(&[1, 2], &["cluster", "apply", &file]);
        assert_eq!(applied.code, Some(0), "the others go on: {applied:?}");
        local.log(3).contains("must stop")
    });
    assert_eq!(local.wait_end(3), Some(1));
    let remedy =
        "no space is left on the disk: make room there and start this manager again".to_owned();
    let last_words = local.log(3).lines().last().unwrap_or_default().to_owned();
    let data = local.path("disk").join("data").display().to_string();
    let is_clear = last_words.starts_with(&format!("conclave: write {data}/log"))
        && last_words.ends_with(&remedy);
    assert!(is_clear, "{last_words}");
    // Started too early, it says so again.
    let again = run().output().unwrap();
    let said = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1), "{said}");
    assert!(said.contains(&remedy), "{said}");
    disk.free();
    local.spawn(3, run());
    local.wait_caught_up(3);
}

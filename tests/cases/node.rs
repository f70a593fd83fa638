//! The node tools on real servers, as an operator without managers would use them after a disaster.

use std::{fs, path::Path};

use conclave_lab::{Host, Install, Lab, LabSpec};

use super::stand;

const CONCLAVE: &str = env!("CARGO_BIN_EXE_conclave");
const SOCKET: &str = "/run/mysqld/mysqld.sock";

/// Three servers that acknowledge nothing, so that replicas may lack what the primary committed.
fn lab() -> Lab {
    let settings = ["relay_log_purge=OFF", "max_relay_log_size=8192", "max_binlog_size=16384"];
    let my_cnf = settings.map(str::to_owned).to_vec();
    let lab = Lab::up_replicated(LabSpec { managers: 1, my_cnf, ..LabSpec::default() }).unwrap();
    lab.host("db1").unwrap().sql("SET GLOBAL rpl_semi_sync_source_enabled = OFF").unwrap();
    lab
}

/// Runs a tool on a host; its exit status and what it printed.
fn node(host: &Host, args: &[&str]) -> (Option<i32>, String) {
    let args = [&["node"], args].concat();
    let output = host.run(CONCLAVE, &args, b"").unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn must(host: &Host, args: &[&str]) -> String {
    let (code, text) = node(host, args);
    assert_eq!(code, Some(0), "{args:?}: {text}");
    text
}

/// Rows with what has gone wrong elsewhere: the word ROLLBACK, and bytes that are no text.
fn insert(host: &Host, from: u64, to: u64) {
    for id in from..to {
        let value = if id % 2 == 0 { "'\\nROLLBACK/*!*/;\\n'" } else { "x'00ff27'" };
        let insert = format!("INSERT INTO d.b VALUES ({id}, CONCAT({value}, REPEAT('x', 400)))");
        host.sql(&insert).unwrap();
    }
}

fn status(host: &Host, column: &str) -> String {
    let query = format!("SELECT {column} FROM performance_schema.replication_connection_status");
    host.sql_value(&query).unwrap()
}

fn executed(host: &Host) -> String {
    host.sql_value("SELECT @@GLOBAL.gtid_executed").unwrap().replace('\n', "")
}

fn checksum(host: &Host) -> String {
    host.sql("CHECKSUM TABLE d.b").unwrap()[0][1].clone()
}

/// The source's file and position up to which a replica has applied.
fn applied(host: &Host) -> [String; 2] {
    let row = host.run(
        &Install::ensure().unwrap().program("mysql").display().to_string(),
        &["--no-defaults", "-uroot", "-S", SOCKET, "-E", "-e", "SHOW REPLICA STATUS"],
        b"",
    );
    let text = String::from_utf8_lossy(&row.unwrap().stdout).into_owned();
    let value = |name: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
    };
    [value("Relay_Source_Log_File:"), value("Exec_Source_Log_Pos:")]
}

#[test]
fn replicas_are_brought_level_by_hand_from_relay_logs_and_the_dead_primary() {
    let lab = lab();
    let [db1, db2, db3] = ["db1", "db2", "db3"].map(|name| lab.host(name).unwrap());
    let bindir = Install::ensure().unwrap().prefix().join("bin").display().to_string();
    db1.sql("CREATE DATABASE d; CREATE TABLE d.b (id INT PRIMARY KEY, v BLOB)").unwrap();
    insert(&db1, 0, 20);
    let level = |host: &Host| executed(host) == executed(&db1);
    stand::wait("both replicas", || level(&db2) && level(&db3));
    // db3 falls behind, then db2, across rotations of all logs; then the primary dies.
    db3.sql("STOP REPLICA IO_THREAD").unwrap();
    insert(&db1, 20, 70);
    stand::wait("db2", || level(&db2));
    db2.sql("STOP REPLICA IO_THREAD").unwrap();
    insert(&db1, 70, 120);
    let (wanted_set, wanted_sum) = (executed(&db1), checksum(&db1));
    let uuid = db1.sql_value("SELECT @@server_uuid").unwrap();
    db1.kill_mysqld().unwrap();
    db3.sql("STOP REPLICA").unwrap();
    db2.sql("STOP REPLICA").unwrap();

    // What db2 has and db3 lacks, out of db2's relay logs.
    let [file, position] = applied(&db3);
    let behind = ["--target_mlf", &file, "--target_rmlp", &position];
    let relay = ["--relay-dir", "/srv/data", "--current-relay-log", "relay.000001"];
    let find = [&["apply-diff-relay-logs", "--command", "find"][..], &relay, &behind].concat();
    assert!(must(&db2, &find).starts_with("the difference begins in relay."), "it is there");
    let diff = db2.srv().join("diff");
    let made = ["--diff-file-readtolatest", "/srv/diff"];
    let generate =
        [&["apply_diff_relay_logs", "--command=generate"][..], &relay, &behind, &made].concat();
    assert!(must(&db2, &generate).starts_with("50 transactions"), "it is whole");
    fs::copy(&diff, db3.srv().join("diff")).unwrap();

    // What nobody has, out of the dead primary's binary logs; by GTIDs and by position the same.
    let have = executed(&db2);
    let save = ["save-binary-logs", "--command", "save", "--binlog-dir", "/srv/data"];
    let by_gtid = ["--binlog-prefix", "binlog", "--exclude-gtids", &have];
    let tail = [&save[..], &by_gtid, &["--output-file", "/srv/tail"]].concat();
    let said = must(&db1, &tail);
    assert!(said.starts_with("saved 50 transactions"), "{said}");
    let [file, position] = applied(&db2);
    let by_position = ["--start_file", &file, "--start_pos", &position];
    must(&db1, &[&save[..], &by_position, &["--output-file", "/srv/tail.pos"]].concat());
    let tails = ["tail", "tail.pos"].map(|name| fs::read(db1.srv().join(name)).unwrap());
    assert!(tails[0] == tails[1], "{} and {} bytes", tails[0].len(), tails[1].len());
    let nothing = ["--binlog-prefix", "binlog", "--exclude-gtids", &wanted_set];
    let nothing = [&save[..], &nothing, &["--output-file", "/srv/none"]].concat();
    assert_eq!(node(&db1, &nothing).0, Some(10));
    assert!(!db1.srv().join("none").exists());
    for host in [&db2, &db3] {
        fs::copy(db1.srv().join("tail"), host.srv().join("tail")).unwrap();
    }

    let apply = |host: &Host, files: &str| {
        let args = ["apply-diff-relay-logs", "--command", "apply", "--apply-files", files];
        let login = ["--socket", SOCKET, "--workdir", "/srv", "--client-bindir", &bindir];
        node(host, &[&args[..], &login].concat())
    };
    for (host, files) in [(&db2, "/srv/tail"), (&db3, "/srv/diff,/srv/tail")] {
        // The second time changes nothing.
        for _ in 0..2 {
            let (code, said) = apply(host, files);
            assert_eq!(code, Some(0), "{said}");
            assert_eq!(executed(host), wanted_set, "{uuid}");
            assert_eq!(checksum(host), wanted_sum);
        }
        assert_eq!(host.sql_value("SELECT @@GLOBAL.super_read_only").unwrap(), "1");
    }
    // A file cut short is refused before anything of it is applied.
    fs::write(db2.srv().join("cut"), &tails[0][..tails[0].len() - 9]).unwrap();
    let (code, said) = apply(&db2, "/srv/cut");
    assert_eq!((code, said.contains("its end is missing")), (Some(1), true), "{said}");
}

#[test]
fn relay_logs_that_are_applied_are_purged_and_replication_goes_on() {
    let lab = lab();
    let [db1, db2] = ["db1", "db2"].map(|name| lab.host(name).unwrap());
    db1.sql("CREATE DATABASE d; CREATE TABLE d.b (id INT PRIMARY KEY, v BLOB)").unwrap();
    insert(&db1, 0, 60);
    stand::wait("db2", || executed(&db2) == executed(&db1));
    let relay_logs = || {
        let names = fs::read_dir(db2.srv().join("data")).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("relay.0")).count()
    };
    assert!(relay_logs() > 4, "{} relay logs", relay_logs());
    let purge = ["purge_relay_logs", "--socket", SOCKET, "--workdir", "/srv"];
    let said = must(&db2, &purge);
    assert!(said.ends_with("0 applied ones are left\n"), "{said}");
    // The one in use, the one that the applier has just left, and perhaps one that came since.
    assert!(relay_logs() <= 3, "{} relay logs: {said}", relay_logs());
    assert!(!Path::new(&db2.srv()).join("conclave-relay-links").exists());
    assert_eq!(db2.sql_value("SELECT @@GLOBAL.relay_log_purge").unwrap(), "0");
    insert(&db1, 60, 65);
    stand::wait("db2 goes on", || executed(&db2) == executed(&db1));
    // One that purges them itself is left alone, unless it is to stop that.
    db2.sql("SET GLOBAL relay_log_purge = ON").unwrap();
    assert!(must(&db2, &purge).starts_with("relay_log_purge is ON"), "it is said");
    must(&db2, &[&purge[..], &["--disable_relay_log_purge"]].concat());
    assert_eq!(db2.sql_value("SELECT @@GLOBAL.relay_log_purge").unwrap(), "0");
    // Without an applier nothing would be purged.
    db2.sql("STOP REPLICA SQL_THREAD").unwrap();
    let (code, said) = node(&db2, &purge);
    assert_eq!((code, said.contains("the applier does not run")), (Some(1), true), "{said}");
    assert_eq!(status(&db2, "service_state"), "ON");
}

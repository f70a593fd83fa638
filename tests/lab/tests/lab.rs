//! Is the lab what it claims to be? Each test brings real servers up; what a peer sees of a fault
//! is asked from inside another host.

// Real hosts take real time: here the clock is what is tested.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{
    Host, Lab, LabSpec, Outcome, Result, Signal, WRITER_VIP, WriterSpec, double, lost_acked, now_us,
};

const LIMIT: Duration = Duration::from_secs(10);

/// What a client sees that connects to a server and waits for its greeting.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Greeting,
    Refused,
    /// Connected, but no greeting within a second.
    Mute,
    /// Not even connected within a second.
    Silence,
}

fn look(from: &Host, address: Ipv4Addr) -> Seen {
    let script =
        format!("exec 3<>/dev/tcp/{address}/3306 || exit 9; echo connected; head -c 5 <&3 | wc -c");
    let output = from.run("timeout", &["1", "bash", "-c", &script], b"").expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    match (output.status.code(), said.split_whitespace().collect::<Vec<_>>().as_slice()) {
        (Some(0), ["connected", "5"]) => Seen::Greeting,
        (Some(9), _) => Seen::Refused,
        (Some(124), ["connected"]) => Seen::Mute,
        (Some(124), []) => Seen::Silence,
        (code, said) => panic!("looking at {address}: exit {code:?}, {said:?}"),
    }
}

/// Waits until the replica has applied all that the primary has executed.
fn catch_up(replica: &Host, primary: &Host) -> Result<()> {
    let set = primary.sql_value("SELECT @@gtid_executed")?.replace('\n', "");
    let waited = replica.sql_value(&format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{set}', 8)"))?;
    assert_eq!(waited, "0", "{} does not catch up", replica.name());
    Ok(())
}

fn one_server(name: Option<String>) -> LabSpec {
    LabSpec { name, servers: 1, managers: 1, ..LabSpec::default() }
}

#[test]
fn rows_written_through_the_vip_reach_both_replicas_and_one_server_accepts() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec::default())?;
    let started = now_us();
    let mut writer = lab.write(&WriterSpec { connections: 2, ..WriterSpec::default() })?;
    let names = ["db1", "db2", "db3"];
    let mut watchers = Vec::new();
    for name in names {
        watchers.push(lab.watch(name)?);
    }
    let first = writer.wait_ok_after(started, LIMIT)?;
    assert_eq!(first.server_id, 1);
    let mut last = first;
    for _ in 0..50 {
        last = writer.wait_ok_after(last.completed_us, LIMIT)?;
    }
    let history = writer.stop()?;
    assert!(history.acked().count() > 50, "{} acknowledged", history.acked().count());
    let (db1, db2, db3) = (lab.host("db1")?, lab.host("db2")?, lab.host("db3")?);
    for replica in [&db2, &db3] {
        catch_up(replica, &db1)?;
        assert_eq!(lost_acked(&history, replica)?, Vec::<u64>::new());
    }
    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(watcher.stop()?);
    }
    let acked: Vec<bool> = seen.iter().map(|history| history.acked().count() > 0).collect();
    assert_eq!(acked, [true, false, false]);
    let refused = |op: &conclave_lab::Op| op.outcome == Outcome::Fail;
    assert!(seen[1].ops.iter().any(refused), "db2 refused nothing");
    assert_eq!(double(&seen, Duration::from_secs(1)), []);
    // A checker that cannot see a loss is worth nothing: take one row away from db3.
    let id = history.acked().next().expect("there is one").id;
    db3.sql(&format!(
        "SET GLOBAL super_read_only=OFF; SET sql_log_bin=0; DELETE FROM app.t WHERE id={id}"
    ))?;
    assert_eq!(lost_acked(&history, &db3)?, [id]);
    lab.down()
}

#[test]
fn each_fault_looks_to_a_peer_as_it_should() -> Result<()> {
    let lab = Lab::up(LabSpec { servers: 2, managers: 2, ..LabSpec::default() })?;
    let (db1, m1, m2) = (lab.host("db1")?, lab.host("m1")?, lab.host("m2")?);
    let ip = db1.ip();
    assert_eq!(look(&m1, ip), Seen::Greeting);
    db1.stop_mysqld()?;
    assert_eq!(look(&m1, ip), Seen::Mute);
    db1.cont_mysqld()?;
    assert_eq!(look(&m1, ip), Seen::Greeting);

    let started = Instant::now();
    db1.kill_mysqld()?;
    assert_eq!(look(&m1, ip), Seen::Refused);
    assert!(started.elapsed() < Duration::from_secs(1), "refused after {:?}", started.elapsed());
    assert_eq!(db1.mysqld_pid()?, None);
    db1.start_mysqld()?;
    db1.sql("SET GLOBAL read_only=OFF")?;

    // As a service manager: back by itself, and read-only as at every boot.
    db1.restart_after(Some(Duration::from_millis(300)))?;
    db1.kill_mysqld()?;
    assert_eq!(look(&m1, ip), Seen::Refused);
    let until = Instant::now() + LIMIT;
    while db1.sql_value("SELECT @@super_read_only").ok().as_deref() != Some("1") {
        assert!(Instant::now() < until, "mysqld did not come back read-only");
        thread::sleep(Duration::from_millis(20));
    }

    // One way, from a neighbour in the rack and through the router.
    for (peer, other) in [(&m1, &m2), (&m2, &m1)] {
        lab.cut(&peer.name(), "db1")?;
        assert_eq!(look(peer, ip), Seen::Silence);
        assert_eq!(look(other, ip), Seen::Greeting);
        assert_eq!(look(peer, lab.host("db2")?.ip()), Seen::Greeting);
        lab.heal()?;
        assert_eq!(look(peer, ip), Seen::Greeting);
    }
    lab.loss("db1", 1000)?;
    assert_eq!(look(&m1, ip), Seen::Silence);
    lab.heal()?;
    // 100 ms each way: the handshake takes a round trip, and so do its end and the greeting.
    lab.delay("m1", 100)?;
    let started = Instant::now();
    assert_eq!(look(&m1, ip), Seen::Greeting);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    lab.delay("m1", 0)?;
    let started = Instant::now();
    assert_eq!(look(&m1, ip), Seen::Greeting);
    assert!(started.elapsed() < Duration::from_millis(300), "{:?}", started.elapsed());
    lab.isolate("db1")?;
    assert_eq!(look(&m2, ip), Seen::Silence);

    // A cut outlives a power cycle; a VIP does not.
    db1.add_vip(WRITER_VIP)?;
    db1.power_off()?;
    assert!(!db1.is_on());
    db1.power_on(true)?;
    assert_eq!(look(&m2, ip), Seen::Silence);
    lab.heal()?;
    assert_eq!(look(&m2, ip), Seen::Greeting);
    assert!(!db1.has_address(WRITER_VIP)?);

    // The VIP moves, and who has used it before finds it at once.
    db1.add_vip(WRITER_VIP)?;
    assert_eq!(look(&m1, WRITER_VIP), Seen::Greeting);
    lab.move_vip(WRITER_VIP, "db2")?;
    lab.host("db2")?.stop_mysqld()?;
    assert_eq!(look(&m1, WRITER_VIP), Seen::Mute);

    db1.power_off()?;
    assert_eq!(look(&m1, ip), Seen::Silence);
    lab.down()
}

#[test]
fn managers_reach_database_hosts_by_ssh_with_checked_host_keys() -> Result<()> {
    let lab = Lab::up(LabSpec { start_mysqld: false, ..LabSpec::default() })?;
    let (m1, key) = (lab.host("m1")?, lab.ssh_key());
    let known = format!("UserKnownHostsFile={}", lab.known_hosts().display());
    let key = key.to_str().expect("the lab's paths are plain");
    for server in lab.servers() {
        let to = format!("root@{}", server.ip());
        let args = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o"];
        let args = [&args[..], &[&known, "-i", key, &to, "hostname"]].concat();
        let output = m1.run("ssh", &args, b"")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.trim(), server.name(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    lab.down()
}

#[test]
fn two_labs_with_the_same_addresses_know_nothing_of_each_other() -> Result<()> {
    let (a, b) = (Lab::up_replicated(one_server(None))?, Lab::up_replicated(one_server(None))?);
    assert_eq!(a.host("db1")?.ip(), b.host("db1")?.ip());
    a.host("db1")?.sql(
        "SET GLOBAL rpl_semi_sync_source_enabled=OFF; INSERT INTO app.t VALUES(7,'a',NOW(6))",
    )?;
    assert_eq!(a.host("db1")?.sql_value("SELECT COUNT(*) FROM app.t")?, "1");
    assert_eq!(b.host("db1")?.sql_value("SELECT COUNT(*) FROM app.t")?, "0");
    b.host("db1")?.kill_mysqld()?;
    assert_eq!(look(&a.host("m1")?, a.host("db1")?.ip()), Seen::Greeting);
    assert_eq!(look(&b.host("m1")?, b.host("db1")?.ip()), Seen::Refused);
    b.down()?;
    assert_eq!(look(&a.host("m1")?, a.host("db1")?.ip()), Seen::Greeting);
    a.down()
}

#[test]
fn rebuilt_server_has_its_donors_data_and_its_old_identity() -> Result<()> {
    let lab = Lab::up_replicated(LabSpec::default())?;
    let (db1, db2) = (lab.host("db1")?, lab.host("db2")?);
    db1.sql("CREATE TABLE app.seen (id INT PRIMARY KEY); INSERT INTO app.seen VALUES (7)")?;
    let identity = db2.sql_value("SELECT @@server_uuid")?;
    db2.rebuild_mysqld(&db1)?;
    assert_eq!(db2.sql_value("SELECT id FROM app.seen")?, "7");
    assert_eq!(db2.sql_value("SELECT @@server_uuid")?, identity);
    let executed = "SELECT @@global.gtid_executed";
    assert_eq!(db2.sql_value(executed)?, db1.sql_value(executed)?);
    Ok(())
}

#[test]
fn full_disk_refuses_every_byte_until_it_is_freed() -> Result<()> {
    let spec = LabSpec { srv_mb: Some(300), start_mysqld: false, ..one_server(None) };
    let lab = Lab::up(spec)?;
    let db1 = lab.host("db1")?;
    let write = |file: &str| {
        let script = format!("echo x > /srv/{file}");
        db1.run("bash", &["-c", &script], b"").map(|output| output.status.success())
    };
    assert!(write("before")?);
    db1.fill_disk()?;
    assert!(!write("full")?);
    db1.free_disk()?;
    assert!(write("after")?);
    // What is on it survives a power-off, as on any disk.
    db1.power_off()?;
    db1.power_on(true)?;
    assert!(db1.run("test", &["-s", "/srv/after"], b"")?.status.success());
    lab.down()
}

#[test]
fn spawned_program_is_stopped_continued_and_killed_by_its_handle() -> Result<()> {
    let lab = Lab::up(LabSpec { start_mysqld: false, ..one_server(None) })?;
    let m1 = lab.host("m1")?;
    let log = m1.dir().join("log/loop.log");
    let script = "while sleep 0.02; do echo $WORD $(hostname); done";
    let mut process = m1.spawn("bash", &["-c", script], &[("WORD", "on")], &log)?;
    let length = || fs::metadata(&log).map_or(0, |meta| meta.len());
    let grows = || {
        let before = length();
        thread::sleep(Duration::from_millis(400));
        length() > before
    };
    assert!(grows());
    process.signal(Signal::SIGSTOP)?;
    thread::sleep(Duration::from_millis(50));
    assert!(!grows());
    process.signal(Signal::SIGCONT)?;
    assert!(grows());
    assert!(fs::read_to_string(&log).is_ok_and(|text| text.starts_with("on m1\n")));
    process.kill()?;
    assert!(!process.is_running());
    lab.down()
}

/// Processes below a process, by id, with their names.
fn descendants(root: u32) -> BTreeMap<u32, String> {
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("there is a /proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
        let parent = tail.split(' ').nth(1).and_then(|word| word.parse::<u32>().ok());
        let name = head.split_once('(').map_or(String::new(), |(_, name)| name.to_owned());
        parents.insert(pid, (parent.unwrap_or(0), name));
    }
    let mut below = BTreeSet::from([root]);
    loop {
        let found: Vec<u32> = parents
            .iter()
            .filter(|(pid, (parent, _))| below.contains(parent) && !below.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if found.is_empty() {
            break;
        }
        below.extend(found);
    }
    below.remove(&root);
    parents.into_iter().filter(|(pid, _)| below.contains(pid)).map(|(p, (_, n))| (p, n)).collect()
}

/// Asserts that, soon, no process, folder, mount or named namespace of a lab is left.
fn assert_gone(processes: &BTreeMap<u32, String>, name: &str) {
    let until = Instant::now() + LIMIT;
    let root = Path::new("/var/tmp/conclave-lab").join(name);
    loop {
        let left: Vec<_> = processes
            .iter()
            .filter(|(pid, name)| {
                let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                comm.trim() == **name
            })
            .collect();
        if left.is_empty() && !root.exists() {
            break;
        }
        let folder = root.exists();
        assert!(Instant::now() < until, "left of {name}: {left:?}, folder: {folder}");
        thread::sleep(Duration::from_millis(20));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("there is a /proc");
    assert!(!mounts.contains(name), "a mount of {name} is left");
    let named = fs::read_dir("/run/netns").map_or(0, |dir| {
        dir.flatten().filter(|entry| entry.file_name().to_string_lossy().contains(name)).count()
    });
    assert_eq!(named, 0);
}

fn assert_has_servers(processes: &BTreeMap<u32, String>) {
    for wanted in ["mysqld", "sshd"] {
        assert!(processes.values().any(|name| name == wanted), "no {wanted} in {processes:?}");
    }
}

#[test]
fn dropped_lab_leaves_nothing() -> Result<()> {
    let lab = Lab::up(one_server(None))?;
    let name = lab.name().to_owned();
    let processes: BTreeMap<u32, String> = descendants(std::process::id())
        .into_iter()
        .filter(|(pid, _)| {
            // Other tests of this process have labs too: ours are below our own reaper.
            let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let args = String::from_utf8_lossy(&args).into_owned();
            args.contains("reaper") && args.contains(&name)
        })
        .flat_map(|(pid, reaper)| descendants(pid).into_iter().chain([(pid, reaper)]))
        .collect();
    assert_has_servers(&processes);
    drop(lab);
    assert_gone(&processes, &name);
    Ok(())
}

#[test]
fn killed_owner_leaves_nothing() {
    let name = format!("orphan-{}", std::process::id());
    let mut owner = Command::new(env!("CARGO_BIN_EXE_conclave-lab"))
        .args(["up", "--bare", "--servers=1", "--managers=1", "--name", &name])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let stdout = owner.stdout.take().expect("stdout is piped");
    // Kept open to the end: an owner whom nobody listens to would end by itself.
    let mut said = BufReader::new(stdout);
    said.read_line(&mut line).expect("it says something");
    assert!(line.contains("is up"), "{line}");
    let processes = descendants(owner.id());
    assert_has_servers(&processes);
    owner.kill().expect("it is our child");
    owner.wait().expect("it is our child");
    drop(said);
    assert_gone(&processes, &name);
}

#[test]
fn stale_folder_is_swept_and_a_kept_lab_is_found_by_name() -> Result<()> {
    let name = format!("kept-{}", std::process::id());
    let spec = LabSpec { keep: true, start_mysqld: false, ..one_server(Some(name.clone())) };
    drop(Lab::up(spec.clone())?);
    assert!(Lab::up(spec).is_err_and(|err| err.to_string().contains("already")));
    let lab = Lab::attach(&name)?;
    assert!(lab.host("db1")?.is_on());
    drop(lab);
    // Its reaper dies: the keeper follows, the folder stays.
    for (pid, _) in descendants(std::process::id()) {
        let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let args = String::from_utf8_lossy(&args).into_owned();
        if args.contains("reaper") && args.contains(&name) {
            let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
            assert!(killed.is_ok_and(|status| status.success()));
        }
    }
    let until = Instant::now() + LIMIT;
    while Lab::attach(&name).is_ok() {
        assert!(Instant::now() < until, "a lab without a reaper is still running");
        thread::sleep(Duration::from_millis(20));
    }
    Lab::sweep()?;
    assert!(!Path::new("/var/tmp/conclave-lab").join(&name).exists());
    assert!(Lab::attach(&name).is_err_and(|err| err.to_string().contains("no lab named")));
    Ok(())
}

//! What most cases begin with: a lab, a group that looks after it, and a client that writes.

use std::{
    process::Output,
    time::{Duration, Instant},
};

use conclave_lab::{
    Group, GroupSpec, History, Host, Lab, LabSpec, Writer, WriterSpec, lost_acked, now_us,
};
use serde_json::Value;

/// Generous: a loaded machine is not a failure.
pub const SOON: Duration = Duration::from_secs(60);

/// A lab with three servers and three managers, replicated from db1.
pub fn lab() -> Lab {
    Lab::up_replicated(LabSpec::default()).expect("bring the lab up")
}

/// The same, with the performance schema on, as servers have it by default: it holds their error log.
pub fn lab_with_error_log() -> Lab {
    let spec = LabSpec { performance_schema: true, ..LabSpec::default() };
    Lab::up_replicated(spec).expect("bring the lab up")
}

/// The product's own defaults.
pub fn spec() -> GroupSpec {
    GroupSpec::new(env!("CARGO_BIN_EXE_conclave"))
}

/// The group in the defaults, but with further lines of policy.
pub fn group<'a>(lab: &'a Lab, policy: &[&str]) -> Group<'a> {
    group_in(lab, "quorum", policy)
}

/// The group in this mode, with further lines of policy.
pub fn group_in<'a>(lab: &'a Lab, mode: &str, policy: &[&str]) -> Group<'a> {
    let policy = policy.iter().map(|line| (*line).to_owned()).collect();
    let spec = GroupSpec { mode: mode.into(), policy, ..spec() };
    Group::start_all(lab, spec).expect("start the group")
}

/// A client that writes through the address, and has written.
pub fn writer(lab: &Lab) -> Writer {
    let mut writer = lab.write(&WriterSpec::default()).expect("start a client");
    writer.wait_ok_after(0, SOON).expect("the client writes");
    writer
}

/// Waits until the client's writes are acknowledged again.
pub fn writes_again(writer: &mut Writer, since: u64) {
    writer.wait_ok_after(since, SOON).expect("the client writes again");
}

/// Ends the client and expects every acknowledged row on that server.
pub fn nothing_lost(lab: &Lab, writer: Writer, server: &str) -> History {
    let history = writer.stop().expect("stop the client");
    let server = lab.host(server).expect("the server");
    let lost = lost_acked(&history, &server).expect("read the rows");
    assert!(
        lost.is_empty(),
        "{} acknowledged rows are lost: {:?}",
        lost.len(),
        &lost[..lost.len().min(10)]
    );
    history
}

/// Waits until the cluster has another primary and nothing is open; returns its name.
pub fn new_primary(group: &Group<'_>, old: &str) -> String {
    let is_done = |cluster: &Value| {
        cluster["primary"].as_str().is_some_and(|name| name != old) && cluster["attempt"].is_null()
    };
    let cluster = group.wait_cluster("waiting for a new primary", SOON, is_done);
    cluster.expect("a new primary")["primary"].as_str().expect("a name").to_owned()
}

/// Codes of the problems that status shows.
pub fn problems(cluster: &Value) -> Vec<String> {
    let problems = cluster["problems"].as_array().into_iter().flatten();
    problems.filter_map(|problem| Some(problem["code"].as_str()?.to_owned())).collect()
}

/// Waits until status shows this problem.
pub fn wait_problem(group: &Group<'_>, code: &str) -> Value {
    let what = format!("waiting for {code}");
    let shows = |cluster: &Value| problems(cluster).iter().any(|found| found == code);
    group.wait_cluster(&what, SOON, shows).expect("the problem is shown")
}

/// The role that status gives a server.
pub fn role(cluster: &Value, server: &str) -> String {
    let servers = cluster["servers"].as_array().into_iter().flatten();
    let mut named = servers.filter(|found| found["name"] == server);
    named.next().and_then(|found| found["role"].as_str()).unwrap_or_default().to_owned()
}

/// What status says that a quarantined server has extra, once its logs were read.
pub fn examined(group: &Group<'_>, server: &str) -> Value {
    let of = |cluster: &Value| {
        let servers = cluster["servers"].as_array().into_iter().flatten();
        let mut named = servers.filter(|found| found["name"] == server);
        named.next().map(|found| found["extra"].clone()).unwrap_or_default()
    };
    let is_examined = |cluster: &Value| of(cluster)["is_examined"] == true;
    let cluster = group.wait_cluster("waiting for an examination", SOON, is_examined);
    of(&cluster.expect("its logs are read"))
}

/// The servers that take writes, by their own word.
pub fn writable(lab: &Lab) -> Vec<String> {
    let is_writable =
        |server: &Host| server.sql_value("SELECT @@global.read_only").expect("ask it") == "0";
    lab.servers().iter().filter(|server| is_writable(server)).map(Host::name).collect()
}

/// As [`writable`], of those that run.
pub fn reached_writable(lab: &Lab) -> Vec<String> {
    let is_writable = |server: &&Host| {
        server.sql_value("SELECT @@global.read_only").is_ok_and(|read_only| read_only == "0")
    };
    lab.servers().iter().filter(is_writable).map(Host::name).collect()
}

/// Says something to the group, and again, as it is told to, while the leader of a loaded machine
/// finds that it stalled itself.
pub fn say(group: &Group<'_>, host: &str, args: &[&str]) -> Output {
    let until = Instant::now() + SOON;
    loop {
        let output = group.cli(host, args).expect("run the command line");
        let is_stalled = String::from_utf8_lossy(&output.stdout).contains("gate.leader_stalled");
        if output.status.success() || !is_stalled || Instant::now() > until {
            return output;
        }
    }
}

/// Waits until `is_so`.
pub fn wait(what: &str, is_so: impl FnMut() -> bool) {
    wait_by(what, Duration::from_millis(20), is_so);
}

/// Waits until `is_so`, which is over again in some milliseconds.
pub fn wait_quickly(what: &str, is_so: impl FnMut() -> bool) {
    wait_by(what, Duration::from_millis(1), is_so);
}

fn wait_by(what: &str, pause: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(pause);
    }
}

/// The machine's monotonic clock.
pub fn now() -> u64 {
    now_us()
}

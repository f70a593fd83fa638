use std::{
    path::Path,
    process::{Command, Stdio},
};

use conclave_core::model::{Epoch, Term};

use super::*;

/// The turnstile in a directory of the test's own.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn script(&self, token: (u64, u64, u64), body: &str, limit: Duration) -> String {
        self.script_by(token, body, limit, 1 << 40)
    }

    fn script_by(
        &self,
        token: (u64, u64, u64),
        body: &str,
        limit: Duration,
        start_by_cs: u64,
    ) -> String {
        let token = Token { epoch: Epoch(token.0), term: Term(token.1), seq: token.2 };
        let script = wrap(&"app1".into(), token, "test", body, limit, start_by_cs);
        script.replace("/var/lib/conclave", self.0.path().to_str().unwrap())
    }

    fn run(&self, token: (u64, u64, u64), body: &str) -> (u32, String) {
        run(&self.script(token, body, Duration::from_secs(5)))
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(self.path("turnstile.app1")).unwrap()
    }
}

fn run(script: &str) -> (u32, String) {
    let output = Command::new("sh").args(["-c", script]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap() as u32, String::from_utf8(said).unwrap())
}

fn await_file(path: &Path) {
    for _ in 0..500 {
        if path.exists() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} did not appear", path.display());
}

#[test]
fn the_same_or_a_higher_token_passes_and_a_lower_one_is_refused() {
    let host = Host::new();
    assert_eq!(host.run((2, 3, 4), "echo first"), (0, "first\n".into()));
    assert_eq!(host.run((2, 3, 4), "echo again; exit 7"), (7, "again\n".into()));
    for lower in [(2, 3, 3), (2, 2, 9), (1, 9, 9)] {
        let (status, said) = host.run(lower, "echo never");
        assert_eq!(status, SUPERSEDED, "{said}");
        assert!(said.contains("is lower than 2:3:4 (of "), "{said}");
        assert!(said.ends_with("was formed anew since), refused\n"), "{said}");
    }
    for higher in [(2, 3, 10), (2, 4, 1), (3, 1, 1)] {
        assert_eq!(host.run(higher, "echo next"), (0, "next\n".into()));
    }
    assert_eq!(host.seen(), "3 1 1\n");
}

#[test]
fn a_stale_command_that_waits_at_the_lock_is_refused_when_it_gets_it() {
    let host = Host::new();
    let (begun, go) = (host.path("begun"), host.path("go"));
    let body = format!(
        "touch {}; while [ ! -e {} ]; do sleep 0.01; done",
        quote(begun.to_str().unwrap()),
        quote(go.to_str().unwrap())
    );
    let newer = host.script((5, 1, 1), &body, Duration::from_secs(10));
    let mut newer = Command::new("sh").args(["-c", &newer]).spawn().unwrap();
    await_file(&begun);
    let older = host.script((4, 9, 9), "echo never", Duration::from_secs(10));
    let mut sh = Command::new("sh");
    let older = sh.args(["-c", &older]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    std::fs::write(&go, "").unwrap();
    let output = older.wait_with_output().unwrap();
    assert!(newer.wait().unwrap().success());
    assert_eq!(output.status.code(), Some(SUPERSEDED as i32));
}

#[test]
fn a_command_that_comes_after_its_time_by_the_hosts_clock_is_refused() {
    let host = Host::new();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    let uptime: f64 = uptime.split(' ').next().unwrap().parse().unwrap();
    let now = (uptime * 100.0) as u64;
    let limit = Duration::from_secs(5);
    let (status, said) = run(&host.script_by((1, 1, 1), "echo never", limit, now - 1));
    assert_eq!((status, &*said), (BUSY, "turnstile: it comes too late, refused\n"));
    assert!(!host.path("turnstile.app1").exists());
    let soon = host.script_by((1, 1, 1), "echo in time", limit, now + 1000);
    assert_eq!(run(&soon), (0, "in time\n".into()));
}

#[test]
fn a_command_that_takes_too_long_is_ended() {
    let host = Host::new();
    let script = host.script((1, 1, 1), "sleep 30", Duration::from_millis(300));
    let begun = std::time::Instant::now();
    assert_eq!(run(&script).0, TIMED_OUT);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_held_turnstile_is_busy_and_runs_nothing() {
    let host = Host::new();
    let held =
        format!("flock -F {} sleep 30", quote(host.path("turnstile.app1.lock").to_str().unwrap()));
    let mut holder = Command::new("sh").args(["-c", &format!("exec {held}")]).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let (status, said) = run(&host.script((1, 1, 1), "echo never", Duration::from_millis(200)));
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(
        (status, said.as_str()),
        (BUSY, "turnstile: another command held it all the time\n")
    );
    assert!(!host.path("turnstile.app1").exists());
}

#[test]
fn a_damaged_file_stops_everybody() {
    let host = Host::new();
    std::fs::write(host.path("turnstile.app1"), "2 x 1\n").unwrap();
    let (status, said) = host.run((9, 9, 9), "echo never");
    assert_eq!(status, UNUSABLE, "{said}");
    std::fs::write(host.path("turnstile.app1"), "2 3\n").unwrap();
    assert_eq!(host.run((9, 9, 9), "echo never").0, UNUSABLE);
}

#[test]
fn the_log_has_a_line_per_command_and_a_bound() {
    let host = Host::new();
    host.run((1, 1, 1), "exit 3");
    host.run((0, 1, 1), "true");
    let log = host.path("turnstile.app1.log");
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> =
        text.lines().filter_map(|line| line.split_once(' ')).map(|x| x.1).collect();
    assert_eq!(lines, ["1:1:1 test: 3", "0:1:1 test: refused"]);
    std::fs::write(&log, "x\n".repeat(200_000)).unwrap();
    host.run((1, 1, 1), "true");
    assert_eq!(std::fs::read_to_string(&log).unwrap().lines().count(), 500);
}

#[test]
fn a_script_that_is_cut_off_runs_nothing() {
    let host = Host::new();
    let script = host.script((1, 1, 1), "echo ran", Duration::from_secs(5));
    for cut in [script.len() - 6, script.len() * 3 / 4] {
        let (_, said) = run(&script[..cut]);
        assert!(!said.contains("ran\n"), "{said}");
    }
    assert!(!host.path("turnstile.app1").exists());
}

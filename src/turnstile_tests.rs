use std::{path::Path, process::Command, thread::JoinHandle};

use super::*;
use crate::adapters::ssh::turnstile::wrap;

/// Both ways through: what holds for one must hold for the other.
const WAYS: [Way; 2] = [Way::Binary, Way::Shell];

#[derive(Clone, Copy, Debug)]
enum Way {
    Binary,
    Shell,
}

/// The turnstile in a directory of the test's own.
struct Host(tempfile::TempDir, Way);

impl Host {
    fn new(way: Way) -> Self {
        Self(tempfile::tempdir().unwrap(), way)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn request(&self, token: (u64, u64, u64), body: &str, limit: Duration) -> Request {
        Request {
            dir: self.0.path().to_owned(),
            cluster: "app1".into(),
            token: Token { epoch: Epoch(token.0), term: Term(token.1), seq: token.2 },
            what: "test".into(),
            limit,
            start_by_cs: 1 << 40,
            body: body.into(),
        }
    }

    fn run(&self, token: (u64, u64, u64), body: &str) -> (u32, String) {
        self.ask(&self.request(token, body, Duration::from_secs(5)))
    }

    fn ask(&self, request: &Request) -> (u32, String) {
        self.begin(request).join().unwrap()
    }

    fn begin(&self, request: &Request) -> JoinHandle<(u32, String)> {
        let (way, request) = (self.1, request.clone());
        std::thread::spawn(move || match way {
            Way::Shell => shell(&script(&request)),
            Way::Binary => {
                let said = tempfile::NamedTempFile::new().unwrap();
                let code = pass(&request, said.reopen().unwrap());
                (code, fs::read_to_string(said.path()).unwrap())
            }
        })
    }

    fn seen(&self) -> String {
        fs::read_to_string(self.path("turnstile.app1")).unwrap()
    }
}

fn script(request: &Request) -> String {
    let Request { token, what, body, limit, start_by_cs, .. } = request;
    let script = wrap(&(&*request.cluster).into(), *token, what, body, *limit, *start_by_cs);
    // As on a host where the binary is not installed.
    let script = script.replace("if conclave turnstile", "if false conclave turnstile");
    script.replace("/var/lib/conclave", request.dir.to_str().unwrap())
}

fn shell(script: &str) -> (u32, String) {
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
    for host in WAYS.map(Host::new) {
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
}

#[test]
fn one_way_knows_what_came_by_on_the_other() {
    for (way, other) in [(Way::Binary, Way::Shell), (Way::Shell, Way::Binary)] {
        let Host(dir, _) = Host::new(way);
        let host = Host(dir, way);
        assert_eq!(host.run((2, 3, 4), "true").0, 0);
        let host = Host(host.0, other);
        assert_eq!(host.run((2, 3, 3), "true").0, SUPERSEDED);
        assert_eq!(host.run((2, 3, 5), "true").0, 0);
    }
}

#[test]
fn a_stale_command_that_waits_at_the_lock_is_refused_when_it_gets_it() {
    for (way, other) in [(Way::Binary, Way::Shell), (Way::Shell, Way::Binary)] {
        let host = Host::new(way);
        let (begun, go) = (host.path("begun"), host.path("go"));
        let body = format!(
            "touch {}; while [ ! -e {} ]; do sleep 0.01; done",
            begun.display(),
            go.display()
        );
        let long = Duration::from_secs(30);
        let newer = host.begin(&host.request((5, 1, 1), &body, long));
        await_file(&begun);
        let host = Host(host.0, other);
        let older = host.begin(&host.request((4, 9, 9), "echo never", long));
        std::thread::sleep(Duration::from_millis(100));
        assert!(!older.is_finished(), "{other:?} did not wait for the lock");
        fs::write(&go, "").unwrap();
        assert_eq!(newer.join().unwrap(), (0, String::new()));
        assert_eq!(older.join().unwrap().0, SUPERSEDED);
    }
}

#[test]
fn a_command_that_comes_after_its_time_by_the_hosts_clock_is_refused() {
    for host in WAYS.map(Host::new) {
        let now = uptime_cs().unwrap();
        let by = |start_by_cs, body| Request {
            start_by_cs,
            ..host.request((1, 1, 1), body, Duration::from_secs(5))
        };
        let (status, said) = host.ask(&by(now - 1, "echo never"));
        assert_eq!((status, &*said), (BUSY, "turnstile: it comes too late, refused\n"));
        assert!(!host.path("turnstile.app1").exists());
        assert_eq!(host.ask(&by(now + 100_000, "echo in time")), (0, "in time\n".into()));
    }
}

#[test]
fn a_command_without_time_left_once_it_has_the_lock_is_not_run() {
    for host in WAYS.map(Host::new) {
        let ran = host.path("ran");
        let body = format!("touch {}", ran.display());
        let over = (BUSY, "turnstile: no time is left for the command\n".into());
        assert_eq!(host.ask(&host.request((1, 1, 1), &body, Duration::ZERO)), over);
        assert!(!ran.exists());
    }
}

#[test]
fn a_command_that_takes_too_long_is_ended_with_its_children() {
    for host in WAYS.map(Host::new) {
        let late = host.path("late");
        let body = format!("(sleep 2; touch {}) & sleep 600", late.display());
        let short = host.request((1, 1, 1), &body, Duration::from_millis(300));
        assert_eq!(host.ask(&short).0, TIMED_OUT);
        // Its children would hold the lock.
        assert_eq!(host.run((1, 1, 2), "true").0, 0);
        assert!(!late.exists());
    }
}

#[test]
fn a_held_turnstile_is_busy_and_runs_nothing() {
    for host in WAYS.map(Host::new) {
        let held = File::create(host.path("turnstile.app1.lock")).unwrap();
        held.lock().unwrap();
        let short = host.request((1, 1, 1), "echo never", Duration::from_millis(200));
        let busy = (BUSY, "turnstile: another command held it all the time\n".into());
        assert_eq!(host.ask(&short), busy);
        assert!(!host.path("turnstile.app1").exists());
    }
}

#[test]
fn what_the_command_leaves_running_holds_the_turnstile() {
    for host in WAYS.map(Host::new) {
        let go = host.path("go");
        let body =
            format!("(while [ ! -e {} ]; do sleep 0.01; done) >/dev/null 2>&1 &", go.display());
        assert_eq!(host.run((1, 1, 1), &body).0, 0);
        let short = host.request((1, 1, 2), "echo never", Duration::from_millis(200));
        assert_eq!(host.ask(&short).0, BUSY);
        fs::write(&go, "").unwrap();
        assert_eq!(host.run((1, 1, 2), "echo now"), (0, "now\n".into()));
    }
}

#[test]
fn a_damaged_file_stops_everybody() {
    for host in WAYS.map(Host::new) {
        for text in ["2 x 1\n", "2 3\n"] {
            fs::write(host.path("turnstile.app1"), text).unwrap();
            let (status, said) = host.run((9, 9, 9), "echo never");
            assert_eq!(status, UNUSABLE, "{said}");
            assert!(said.contains("is damaged; remove it only if"), "{said}");
        }
    }
}

#[test]
fn a_directory_that_takes_no_file_stops_everybody() {
    let host = Host::new(Way::Binary);
    let nowhere = Request {
        dir: host.path("missing"),
        ..host.request((1, 1, 1), "echo never", Duration::from_secs(5))
    };
    let (status, said) = host.ask(&nowhere);
    assert_eq!(status, UNUSABLE);
    assert!(said.starts_with("turnstile: cannot lock ") && !said.contains("never"), "{said}");
}

#[test]
fn the_log_has_a_line_per_command_and_a_bound() {
    for host in WAYS.map(Host::new) {
        host.run((1, 1, 1), "exit 3");
        host.run((0, 1, 1), "true");
        let log = host.path("turnstile.app1.log");
        let text = fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> =
            text.lines().filter_map(|line| line.split_once(' ')).map(|x| x.1).collect();
        assert_eq!(lines, ["1:1:1 test: 3", "0:1:1 test: refused"]);
        let now = utc(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64);
        assert_eq!(text[..10], now[..10], "{text}");
        fs::write(&log, "x\n".repeat(200_000)).unwrap();
        host.run((1, 1, 1), "true");
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), LOG_LINES);
    }
}

#[test]
fn a_script_that_is_cut_off_runs_nothing() {
    let host = Host::new(Way::Shell);
    let script = script(&host.request((1, 1, 1), "echo ran", Duration::from_secs(5)));
    for cut in [script.len() - 6, script.len() * 3 / 4] {
        let (_, said) = shell(&script[..cut]);
        assert!(!said.contains("ran\n"), "{said}");
    }
    assert!(!host.path("turnstile.app1").exists());
}

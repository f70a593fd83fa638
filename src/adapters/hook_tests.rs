use std::{fs, time::Duration};

use conclave_core::{
    model::{Epoch, HookCall, HookEvent, Millis, StepId, Term, Token},
    ports::Certainty,
};

use super::*;

struct Scripts(tempfile::TempDir);

impl Scripts {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, body: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    }

    async fn call(&self, name: &str, deadline: Duration) -> Result<String, PortError> {
        let port = HookPort::new(self.0.path().to_owned());
        port.call(&order(name), SystemClock.after(deadline)).await
    }

    async fn run(&self, body: &str) -> Result<String, PortError> {
        self.write("script", body, 0o755);
        self.call("script", Duration::from_secs(60)).await
    }
}

fn order(name: &str) -> HookOrder {
    let server = |host: &str| {
        let text = include_str!("../../deploy/samples/app1.toml");
        let definition = crate::config::cluster::parse("app1.toml", text).unwrap();
        definition.servers.into_iter().find(|server| server.host == host)
    };
    HookOrder {
        cluster: "app1".into(),
        call: HookCall {
            name: name.into(),
            event: HookEvent::Published,
            deadline_ms: Millis(300),
            required: false,
            old: "db1".into(),
            new: Some("db2".into()),
            note: String::new(),
        },
        step: StepId { epoch: Epoch(7), seq: 12 },
        repeats: 1,
        token: Token { epoch: Epoch(7), term: Term(3), seq: 12 },
        old: server("198.51.100.11"),
        new: server("198.51.100.12"),
    }
}

#[tokio::test]
async fn script_is_told_who_where_and_by_which_key() {
    let said = Scripts::new().run("env | grep ^CONCLAVE_ | sort").await.unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "CONCLAVE_CLUSTER=app1",
            "CONCLAVE_EVENT=published",
            "CONCLAVE_FAILOVER=app1-7",
            "CONCLAVE_KEY=app1:7.12",
            "CONCLAVE_NEW_HOST=198.51.100.12",
            "CONCLAVE_NEW_PORT=3306",
            "CONCLAVE_NEW_PRIMARY=db2",
            "CONCLAVE_NEW_RACK=r2",
            "CONCLAVE_NOTE=",
            "CONCLAVE_OLD_HOST=198.51.100.11",
            "CONCLAVE_OLD_PORT=3306",
            "CONCLAVE_OLD_PRIMARY=db1",
            "CONCLAVE_OLD_RACK=r1",
            "CONCLAVE_REPEATS=1",
            "CONCLAVE_TOKEN=7:3:12",
        ]
    );
}

#[tokio::test]
async fn script_learns_nothing_of_the_managers_environment() {
    let said = Scripts::new().run("env | grep -v ^CONCLAVE_ | cut -d= -f1 | sort").await.unwrap();
    let known: Vec<&str> =
        said.lines().filter(|name| !["PATH", "PWD", "_"].contains(name)).collect();
    assert!(known.is_empty(), "{known:?}");
}

#[tokio::test]
async fn failing_script_is_an_error_with_its_last_line() {
    let error = Scripts::new().run("echo one; echo two >&2; exit 3").await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Answered, Certainty::NotDone));
    assert!(error.why.ends_with("exit status: 3; it printed last: two"), "{}", error.why);
}

#[tokio::test]
async fn script_that_prints_megabytes_is_heard_out_and_its_end_is_kept() {
    let said = Scripts::new().run("head -c 20000000 /dev/zero | tr '\\0' x; echo; echo end").await;
    let said = said.unwrap();
    assert!(said.len() <= KEPT && said.ends_with("x\nend"), "{} bytes", said.len());
}

/// A child of this one shows that it is alive, again and again.
fn restless(scripts: &Scripts) -> PathBuf {
    let alive = scripts.0.path().join("alive");
    let loops = format!("(while :; do touch {}; sleep 0.02; done) & wait", alive.display());
    scripts.write("script", &loops, 0o755);
    alive
}

async fn assert_quiet(alive: &Path) {
    let _ = fs::remove_file(alive);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!alive.exists(), "a child lives on");
}

#[tokio::test]
async fn script_that_is_given_up_is_killed_with_its_children() {
    let scripts = Scripts::new();
    let alive = restless(&scripts);
    let call = scripts.call("script", Duration::from_secs(60));
    let begun = async {
        while !alive.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        ended = call => panic!("{ended:?}"),
        () = begun => {}
    }
    assert_quiet(&alive).await;
}

#[tokio::test]
async fn script_that_never_ends_is_killed_with_its_children() {
    let scripts = Scripts::new();
    let alive = restless(&scripts);
    let error = scripts.call("script", Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((error.trouble, error.certainty), (Trouble::Silent, Certainty::Unknown));
    assert!(error.why.contains("killed at its deadline of 300 ms"), "{}", error.why);
    assert_quiet(&alive).await;
}

#[tokio::test]
async fn script_that_leaves_something_running_is_not_waited_for() {
    let said = Scripts::new().run("sleep 30 & echo done").await.unwrap();
    assert_eq!(said, "done");
}

#[tokio::test]
async fn what_is_no_proper_script_is_not_run_and_the_remedy_is_named() {
    let scripts = Scripts::new();
    scripts.write("plain", "true", 0o644);
    scripts.write("open", "true", 0o777);
    fs::create_dir(scripts.0.path().join("directory")).unwrap();
    for (name, why) in [
        ("missing", "needs an executable file of that name"),
        ("plain", "chmod 755"),
        ("open", "chmod o-w"),
        ("directory", "wanted a file"),
    ] {
        let error = scripts.call(name, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!((error.trouble, error.certainty), (Trouble::Local, Certainty::NotDone));
        assert!(error.why.contains(why), "{}", error.why);
    }
}

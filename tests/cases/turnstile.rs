//! The turnstile where it is installed on the database hosts; all other cases use the shell script.

use super::stand;

#[test]
fn failover_goes_through_the_turnstile_that_is_installed_on_the_hosts() {
    let lab = stand::lab();
    for host in lab.servers() {
        // In the host's own mount namespace. Notes that it was called.
        let install = format!(
            "mount -t tmpfs tmpfs /usr/local/sbin && cd /usr/local/sbin && \
             printf '#!/bin/sh\\necho \"$*\" >>/srv/calls\\nexec {} \"$@\"\\n' >conclave && \
             chmod 755 conclave",
            env!("CARGO_BIN_EXE_conclave")
        );
        let output = host.run("sh", &["-c", &install], b"").unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let group = stand::group(&lab, &[]);
    let mut writer = stand::writer(&lab);
    let at = stand::now();
    lab.host("db1").unwrap().kill_mysqld().unwrap();
    stand::writes_again(&mut writer, at);
    let primary = stand::new_primary(&group, "db1");
    let told = |host: &str, what: &str| {
        let host = lab.host(host).unwrap();
        let calls = std::fs::read_to_string(host.srv().join("calls")).unwrap_or_default();
        let log = host.run("cat", &["/var/lib/conclave/turnstile.app1.log"], b"").unwrap();
        let log = String::from_utf8_lossy(&log.stdout).into_owned();
        let is_called = calls.lines().any(|line| line.contains("--body") && line.contains(what));
        is_called && log.lines().any(|line| line.contains(what) && line.ends_with(": 0"))
    };
    stand::wait("the fence", || told("db1", "fence"));
    stand::wait("the address", || told(&primary, "take"));
    stand::nothing_lost(&lab, writer, &primary);
}

use conclave_core::model::Epoch;

use super::*;

fn sql(action: SqlAction, link: &Link, password: Option<&str>) -> String {
    let password = password.map(|text| SecretString::from(text.to_owned()));
    let terms = Terms { link, password: password.as_ref() };
    Dialect::Mysql8.statement(&action, &terms).unwrap()
}

fn change(options: Option<LinkOptions>) -> SqlAction {
    SqlAction::ChangeSource { host: "h".into(), port: 3306, account: "repl".into(), options }
}

#[test]
fn versions_that_are_understood() {
    assert_eq!(Dialect::of((8, 4, 0)), Ok(Dialect::Mysql8));
    assert_eq!(Dialect::of((9, 7, 4)), Ok(Dialect::Mysql8));
    let older = |age| Ok(Dialect::Older(age));
    assert_eq!(Dialect::of((5, 6, 24)), older(Age::Five6));
    assert_eq!(Dialect::of((5, 7, 44)), older(Age::Five7));
    assert_eq!(Dialect::of((8, 0, 45)), older(Age::Eight0));
    assert_eq!(Dialect::of((8, 3, 0)), older(Age::Eight0));
    for maria in [(10, 6, 1), (10, 11, 9), (11, 8, 6), (12, 1, 0)] {
        assert_eq!(Dialect::of(maria), Ok(Dialect::MariaDb));
    }
    for other in [(5, 5, 68), (10, 5, 9), (6, 0, 0)] {
        let why = Dialect::of(other).unwrap_err();
        assert!(why.starts_with("wanted MySQL 5.6 to 9, or MariaDB 10.6 or newer, found"), "{why}");
    }
}

#[test]
fn quotes_cannot_be_broken_out_of() {
    assert_eq!(quote(r"it's \ fine"), r"'it\'s \\ fine'");
    assert_eq!(quote("a\nb\0"), r"'a\nb\0'");
}

#[test]
fn a_change_of_source_without_options_names_nothing_but_the_heartbeat() {
    let link = Link { channel: "c'1".into(), heartbeat: Some("0.500".into()) };
    assert_eq!(
        sql(change(None), &link, Some("p'w")),
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'h', SOURCE_PORT = 3306, SOURCE_USER = 'repl', \
         SOURCE_AUTO_POSITION = 1, SOURCE_PASSWORD = 'p\\'w', SOURCE_HEARTBEAT_PERIOD = 0.500 \
         FOR CHANNEL 'c\\'1'"
    );
}

#[test]
fn a_change_of_source_with_options_sets_them_all() {
    let options = LinkOptions { heartbeat_ms: 1050, tls_verify: true, ..LinkOptions::default() };
    assert_eq!(
        sql(change(Some(options)), &Link::default(), Some("p")),
        "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'h', SOURCE_PORT = 3306, SOURCE_USER = 'repl', \
         SOURCE_AUTO_POSITION = 1, SOURCE_PASSWORD = 'p', SOURCE_SSL = 1, \
         SOURCE_SSL_VERIFY_SERVER_CERT = 1, SOURCE_SSL_CA = '', GET_SOURCE_PUBLIC_KEY = 1, \
         SOURCE_CONNECT_RETRY = 1, SOURCE_RETRY_COUNT = 86400, SOURCE_HEARTBEAT_PERIOD = 1.050"
    );
}

#[test]
fn acknowledgements_are_counted_before_they_are_waited_for() {
    assert_eq!(
        sql(SqlAction::SetSemiSyncSource { on: true, acks: 2 }, &Link::default(), None),
        "SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = 2, \
         GLOBAL rpl_semi_sync_source_wait_point = 'AFTER_SYNC', \
         GLOBAL rpl_semi_sync_source_wait_no_replica = ON, \
         GLOBAL rpl_semi_sync_source_timeout = \
         CAST(GREATEST(@@GLOBAL.rpl_semi_sync_source_timeout, 86400000) AS UNSIGNED), \
         GLOBAL rpl_semi_sync_source_enabled = ON"
    );
}

#[test]
fn verbs_of_a_channel_name_it() {
    let link = Link { channel: "west".into(), heartbeat: None };
    let stop = sql(SqlAction::StopReceiver, &link, None);
    assert_eq!(stop, "STOP REPLICA IO_THREAD FOR CHANNEL 'west'");
    assert_eq!(sql(SqlAction::StopReceiver, &Link::default(), None), "STOP REPLICA IO_THREAD");
    assert_eq!(sql(SqlAction::ForgetSource, &Link::default(), None), "RESET REPLICA ALL");
}

#[test]
fn account_is_locked_for_every_host_and_outside_the_binary_log() {
    let hosts = ["%".to_owned(), "10.0.0.%".to_owned()];
    assert_eq!(
        Dialect::Mysql8.lock_account("re'pl", &hosts, true),
        "SET SESSION sql_log_bin = 0; ALTER USER 're\\'pl'@'%', 're\\'pl'@'10.0.0.%' ACCOUNT LOCK; \
         SET SESSION sql_log_bin = 1"
    );
}

#[test]
fn a_marker_has_no_single_statement() {
    let step = StepId { epoch: Epoch(1), seq: 2 };
    let terms = Terms { link: &Link::default(), password: None };
    assert_eq!(Dialect::Mysql8.statement(&SqlAction::WriteMarker { step }, &terms), None);
}

#[test]
fn an_applier_is_killed_only_while_that_connection_holds_the_lock() {
    let sql = Dialect::Mysql8.kill_idle_applier("conclave.app1", 7);
    assert!(sql.contains("IS_USED_LOCK('conclave.app1') = 7"), "{sql}");
}

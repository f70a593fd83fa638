//! MariaDB and older MySQL: what is said to them, and what is made of what they said. The replies were
//! recorded from servers as [`Dialect::look`] asks them; of MySQL 5.7 and 8.0 there are none.

use std::sync::Arc;

use conclave_core::model::{
    Applier, Boot, GtidSet, Receiver, ReplicaFacts, SemiSync, ServerFacts, gtid::server_identity,
};
use mysql_async::Value;
use mysql_common::{constants::ColumnType, packets::Column, row::new_row};

use super::*;

const OLDER: [Dialect; 3] =
    [Dialect::Older(Age::Five6), Dialect::Older(Age::Five7), Dialect::Older(Age::Eight0)];

fn of(dialect: Dialect, action: &SqlAction, link: &Link) -> Option<String> {
    let password = SecretString::from("p".to_owned());
    dialect.statement(action, &Terms { link, password: Some(&password) })
}

fn link() -> Link {
    Link { channel: String::new(), heartbeat: Some("0.500".into()) }
}

fn change(options: Option<LinkOptions>) -> SqlAction {
    SqlAction::ChangeSource { host: "h".into(), port: 3306, account: "repl".into(), options }
}

/// Replies as the command line client prints them with `-E`, a line of dashes between two.
fn replies(text: &str) -> Vec<Vec<Row>> {
    text.split("----\n").map(rows).collect()
}

fn rows(text: &str) -> Vec<Row> {
    let is_head = |line: &&str| line.starts_with("***");
    let mut out: Vec<Vec<(String, Value)>> = Vec::new();
    for line in text.lines() {
        if is_head(&line) {
            out.push(Vec::new());
            continue;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = match value.trim() {
            "NULL" => Value::NULL,
            text => Value::Bytes(text.as_bytes().to_vec()),
        };
        out.last_mut().expect("a row has begun").push((name.trim().to_owned(), value));
    }
    let row = |fields: Vec<(String, Value)>| {
        let column =
            |name: &str| Column::new(ColumnType::MYSQL_TYPE_VAR_STRING).with_name(name.as_bytes());
        let columns: Vec<Column> = fields.iter().map(|(name, _)| column(name)).collect();
        new_row(fields.into_iter().map(|(_, value)| value).collect(), Arc::from(columns))
    };
    out.into_iter().map(row).collect()
}

fn set(text: &str) -> GtidSet {
    text.parse().unwrap()
}

const MARIADB: &str = include_str!("replies/mariadb-10.11.19.txt");
const MYSQL56: &str = include_str!("replies/mysql-5.6.24.txt");
const BOTH: Plugins = Plugins { source: true, replica: true };

#[test]
fn replica_of_mariadb_is_read() {
    let facts = Dialect::MariaDb.facts(&replies(MARIADB), BOTH, None).unwrap();
    let expected = ServerFacts {
        uuid: server_identity(1),
        version: "10.11.19-MariaDB-0+deb12u1-log".into(),
        server_id: 1,
        uptime_seconds: 7,
        read_only: true,
        super_read_only: true,
        offline: false,
        gtid_mode: true,
        log_bin: true,
        log_replica_updates: true,
        sync_binlog: 0,
        flush_log: 1,
        sync_relay_log: 10_000,
        skips_replica_start: false,
        boot: Boot::Unknown,
        inbound: None,
        executed: set("0-1-4,0-2-6"),
        purged: GtidSet::empty(),
        rescue: None,
        relay_log: String::new(),
        replica: Some(ReplicaFacts {
            source_host: "127.0.0.1".into(),
            source_port: 23302,
            source_uuid: server_identity(2),
            receiver: Receiver::On,
            receiver_error: None,
            applier: Applier::On,
            retrieved: set("0-2-6"),
            read_to: 518,
            lag_seconds: Some(0),
            heartbeats: 4,
            auto_position: true,
            filters: String::new(),
            options: LinkOptions {
                tls: false,
                tls_verify: false,
                tls_ca: "/etc/ca.pem".into(),
                get_public_key: false,
                connect_retry_s: 60,
                retry_count: 0,
                heartbeat_ms: 500,
                channel: String::new(),
            },
        }),
        semi_sync: Some(SemiSync {
            has_source: true,
            acks: 1,
            timeout_ms: 10_000,
            wait_no_replica: true,
            ..SemiSync::default()
        }),
    };
    assert_eq!(facts, expected);
}

#[test]
fn relay_log_of_mariadb_that_the_next_start_throws_away_is_not_counted() {
    let with = |io: &str, sql: &str| {
        let text = MARIADB
            .replace("Slave_IO_Running: Yes", &format!("Slave_IO_Running: {io}"))
            .replace("Slave_SQL_Running: Yes", &format!("Slave_SQL_Running: {sql}"));
        let facts = Dialect::MariaDb.facts(&replies(&text), BOTH, None).unwrap();
        facts.replica.unwrap().retrieved
    };
    assert_eq!(with("No", "Yes"), set("0-2-6"));
    assert_eq!(with("Connecting", "No"), set("0-2-6"));
    assert_eq!(with("No", "No"), GtidSet::empty());
}

#[test]
fn server_that_greets_as_mariadb_and_is_none_is_refused() {
    let text = MARIADB.replace("10.11.19-MariaDB-0+deb12u1-log", "10.11.19");
    let odd = Dialect::MariaDb.facts(&replies(&text), BOTH, None).unwrap_err();
    assert_eq!(odd, Odd("version \"10.11.19\" is none of MariaDB's".into()));
}

#[test]
fn replica_of_mysql_5_6_is_read() {
    let dialect = Dialect::Older(Age::Five6);
    let none = Plugins::default();
    assert_eq!(dialect.plugins(&replies(MYSQL56)), Ok(none));
    let facts = dialect.facts(&replies(MYSQL56), none, None).unwrap();
    let source = "9ef4ac5a-ec8b-11f1-93fe-02fc00000001";
    let all = set(&format!("{source}:1-3"));
    assert_eq!((&*facts.uuid, &facts.executed), ("a0715460-ec8b-11f1-93fe-02fc00000001", &all));
    assert!(facts.super_read_only && facts.gtid_mode && !facts.has_super_read_only());
    let replica = facts.replica.unwrap();
    assert_eq!((replica.source_uuid, replica.heartbeats), (source.into(), 13));
    // Started anew it has received nothing yet.
    assert_eq!((replica.retrieved, replica.applier), (GtidSet::empty(), Applier::On));
    let expected = LinkOptions {
        tls: false,
        tls_verify: false,
        tls_ca: "/etc/ca.pem".into(),
        get_public_key: false,
        connect_retry_s: 1,
        retry_count: 86_400,
        heartbeat_ms: 500,
        channel: String::new(),
    };
    assert_eq!(replica.options, expected);
}

/// Options that are not named are kept by all of them [ran on MariaDB and 5.6], but for the period.
#[test]
fn a_change_of_source_keeps_the_options_of_the_link() {
    let here = "MASTER_HOST = 'h', MASTER_PORT = 3306, MASTER_USER = 'repl'";
    let rest = "MASTER_PASSWORD = 'p', MASTER_HEARTBEAT_PERIOD = 0.500";
    for dialect in OLDER {
        let expected = format!("CHANGE MASTER TO {here}, MASTER_AUTO_POSITION = 1, {rest}");
        assert_eq!(of(dialect, &change(None), &link()), Some(expected));
    }
    let expected = format!(
        "SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_current_pos; \
         CHANGE MASTER TO {here}, MASTER_USE_GTID = slave_pos, {rest}"
    );
    assert_eq!(of(Dialect::MariaDb, &change(None), &link()), Some(expected));
}

#[test]
fn a_new_link_gets_the_options_that_its_server_knows() {
    let options = LinkOptions { tls_verify: true, tls_ca: "/ca".into(), ..LinkOptions::default() };
    let said = |dialect| of(dialect, &change(Some(options.clone())), &Link::default()).unwrap();
    let common = "MASTER_SSL = 1, MASTER_SSL_VERIFY_SERVER_CERT = 1, MASTER_SSL_CA = '/ca', \
                  MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 0.500";
    for dialect in [Dialect::MariaDb, OLDER[0], OLDER[1], OLDER[2]] {
        assert!(said(dialect).contains(common), "{}", said(dialect));
    }
    let of_one = |dialect, word: &str| said(dialect).contains(word);
    assert!(OLDER.iter().all(|older| of_one(*older, "MASTER_RETRY_COUNT = 86400")));
    assert!(!of_one(Dialect::MariaDb, "RETRY_COUNT"));
    let keys = [Dialect::MariaDb, OLDER[0], OLDER[1], OLDER[2]]
        .map(|dialect| of_one(dialect, "GET_MASTER_PUBLIC_KEY = 1"));
    assert_eq!(keys, [false, false, false, true]);
}

#[test]
fn verbs_name_a_channel_where_their_server_wants_it() {
    let west = Link { channel: "west".into(), heartbeat: None };
    let said = |dialect, action: &SqlAction| of(dialect, action, &west).unwrap();
    let stop = said(Dialect::MariaDb, &SqlAction::StopReceiver);
    assert_eq!(stop, "STOP SLAVE 'west' IO_THREAD");
    let forget = said(Dialect::MariaDb, &SqlAction::ForgetSource);
    assert_eq!(forget, "RESET SLAVE 'west' ALL");
    assert!(said(Dialect::MariaDb, &change(None)).contains("CHANGE MASTER 'west' TO MASTER_HOST"));
    let stop = said(OLDER[1], &SqlAction::StopReceiver);
    assert_eq!(stop, "STOP SLAVE IO_THREAD FOR CHANNEL 'west'");
    let start = of(OLDER[0], &SqlAction::StartReplica, &Link::default());
    assert_eq!(start, Some("START SLAVE".into()));
}

#[test]
fn what_a_server_cannot_do_has_no_statement() {
    let clone = SqlAction::Clone { host: "h".into(), port: 3306, account: "a".into() };
    let offline = SqlAction::SetOffline { on: true };
    let wait = SqlAction::SetSemiSyncSource { on: true, acks: 1 };
    let persist = SqlAction::Persist { setting: conclave_core::model::Setting::SyncBinlog };
    let can = |dialect| {
        [&clone, &offline, &wait, &persist].map(|action| of(dialect, action, &link()).is_some())
    };
    assert_eq!(can(Dialect::MariaDb), [false; 4]);
    assert_eq!(can(OLDER[0]), [false; 4]);
    assert_eq!(can(OLDER[1]), [false, true, true, false]);
    assert_eq!(can(Dialect::Mysql8), [true; 4]);
    let read_only = [Dialect::MariaDb, OLDER[0], OLDER[1]]
        .map(|dialect| of(dialect, &SqlAction::SetReadOnly, &link()).unwrap());
    let expected = ["read_only", "read_only", "super_read_only"];
    assert_eq!(read_only, expected.map(|name| format!("SET GLOBAL {name} = ON")));
}

#[test]
fn looks_ask_older_servers_for_what_they_have() {
    let look = |age: Age, plugins| Dialect::Older(age).look(plugins, Wide::InboundAndBoot);
    for (age, is_later) in [(Age::Five6, false), (Age::Five7, true), (Age::Eight0, true)] {
        let (all, bare) = (look(age, BOTH), look(age, Plugins::default()));
        for word in ["super_read_only", "offline_mode", "performance_schema.replication_connection"]
        {
            assert_eq!(bare.contains(word), is_later, "{word} of {age:?}");
        }
        assert_eq!(all.contains("rpl_semi_sync_master_wait_point"), is_later, "{age:?}");
        assert!(!bare.contains("rpl_semi_sync_master_enabled") && !all.contains("source_wait"));
    }
}

#[test]
fn beginning_of_a_binary_log_of_mariadb_says_what_was_logged_before() {
    let recorded = "*** 1. row ***\nEvent_type: Format_desc\n  Info: Server ver: 10.11.19\n\
                    *** 2. row ***\nEvent_type: Gtid_list\n  Info: [0-1-4,0-2-5]\n";
    assert_eq!(Dialect::MariaDb.previous(&[rows(recorded)]), Ok(set("0-1-4,0-2-5")));
    assert!(Dialect::MariaDb.previous(&[rows("")]).is_err());
}

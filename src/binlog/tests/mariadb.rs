//! MariaDB's logs. Since 11.4 events within a transaction do not say where they end.

use super::fixture::{Memory, golden, now, said, walk};
use crate::binlog::{relay::Found, *};

const MARIADB: &[&str] = &["mariadb.000001", "mariadb.000002", "mariadb.000003"];
const RELAY: &[&str] = &[
    "mariadb-relay.000001",
    "mariadb-relay.000002",
    "mariadb-relay.000003",
    "mariadb-relay.000004",
    "mariadb-relay.000005",
];
const SOURCE: &[&str] = &["binlog.000001", "binlog.000002"];

fn position(text: &str) -> MariaPosition {
    text.parse().unwrap()
}

fn places(chain: &Chain, selection: &Selection) -> Vec<String> {
    let place =
        |span: &Span| format!("{} {}-{}", chain.files[span.file].name, span.begin, span.end);
    selection.spans.iter().map(place).collect()
}

#[test]
fn events_are_where_the_server_says_they_are() {
    let sources = SOURCE.iter().map(|name| format!("mariadb-source-{name}"));
    for name in MARIADB.iter().chain(RELAY).map(|name| (*name).to_owned()).chain(sources) {
        let (events, ending) = walk(&golden(&name)).unwrap();
        assert_eq!(ending, Ending::Clean, "{name}");
        let found: Vec<(u64, u32)> = events.iter().map(|e| (e.at, e.header.end)).collect();
        let wanted: Vec<_> = said(&name).iter().map(|(at, _, end)| (*at, *end)).collect();
        assert_eq!(found, wanted, "{name}");
        let Body::Format(format) = &events[0].body else { panic!("{:?}", events[0]) };
        assert_eq!((format.family, format.version()), (Family::MariaDb, [11, 8, 9]));
    }
}

#[test]
fn each_kind_of_transaction_begins_and_ends_where_the_server_says() {
    let (files, chain) = Memory::of(&MARIADB[..1]);
    let mut scan = Scan::new(&files, &chain, 0);
    let mut found = Vec::new();
    while let Some(one) = now(scan.next()).unwrap() {
        let [span] = one.spans[..] else { panic!("{one:?}") };
        found.push((one.gtid.to_string(), span.begin, span.end));
    }
    let wanted = [
        ("0-1-1", 325, 448, "create database"),
        ("0-1-2", 448, 622, "create table"),
        ("0-1-3", 622, 833, "statement with a variable"),
        ("0-1-4", 833, 1260, "statements; the one rolled back to its savepoint left a trace"),
        ("0-1-5", 1260, 1527, "statement with variables"),
        ("0-1-6", 1527, 1709, "statement"),
        ("0-1-7", 1709, 2017, "XA up to its prepare, with a row"),
        ("0-1-8", 2017, 2149, "XA COMMIT"),
        ("7-1-1", 2149, 2314, "another domain"),
        ("7-1-2", 2314, 2514, "an engine without transactions"),
    ];
    let wanted = wanted.map(|(gtid, begin, end, _)| (gtid.to_owned(), begin, end));
    assert_eq!(found, wanted);
}

#[test]
fn a_chain_holds_what_its_server_executed() {
    let (files, chain) = Memory::of(MARIADB);
    let all = now(select(&files, &chain, Wanted::All)).unwrap();
    let executed = String::from_utf8(golden("mariadb.executed")).unwrap();
    assert_eq!(all.position.to_string(), executed.trim());
    let beyond = |text| now(select(&files, &chain, Wanted::MariaBeyond(&position(text)))).unwrap();
    let behind = ["mariadb.000002 395-605", "mariadb.000003 383-577"];
    assert_eq!(places(&chain, &beyond("0-1-8,7-1-2")), behind);
    let ranges = [&["mariadb.000001 2017-2149", "mariadb.000001 2314-2514"][..], &behind].concat();
    assert_eq!(places(&chain, &beyond("0-1-7,7-1-1")), ranges);
    assert_eq!(beyond("0-1-99,7-9-2").transactions, 0);
}

#[test]
fn files_before_what_is_known_are_not_read() {
    let mut bytes: Vec<_> = MARIADB.iter().map(|name| ((*name).to_owned(), golden(name))).collect();
    bytes[0].1.fill(0xff);
    let (files, chain) = Memory::with(bytes);
    let known = position("0-1-8,7-1-2");
    let found = now(select(&files, &chain, Wanted::MariaBeyond(&known))).unwrap();
    assert_eq!(found.transactions, 2);
    let unknown = position("0-1-8");
    let error = now(select(&files, &chain, Wanted::MariaBeyond(&unknown))).unwrap_err();
    assert!(matches!(error.fault, Fault::NotALog { .. }), "{error}");
}

#[test]
fn everything_from_a_position_on_becomes_files_by_their_checksums() {
    let (files, chain) = Memory::of(MARIADB);
    let found = now(from_position(&files, &chain, "mariadb.000001", 2314)).unwrap();
    let made = shares(&found);
    let kinds: Vec<_> =
        made.iter().map(|share| (share.format.checksum, share.spans.len())).collect();
    assert_eq!(kinds, [(Checksum::Crc32, 2), (Checksum::Off, 1)]);
    for share in &made {
        let mut out = Vec::new();
        now(share.copy(&files, &chain, &mut out)).unwrap();
        let mut verify = Verify::events_of(share.format.checksum);
        verify.push(&out[share.head.len()..]).unwrap();
        verify.finish().unwrap();
    }
    let within = now(from_position(&files, &chain, "mariadb.000001", 907)).unwrap_err();
    assert_eq!(within.fault, Fault::WithinTransaction { position: 907, begin: 833 });
}

#[test]
fn each_transaction_of_the_source_is_found_in_the_relay_logs() {
    let (files, chain) = Memory::of(RELAY);
    for name in SOURCE {
        let bytes = golden(&format!("mariadb-source-{name}"));
        for event in walk(&bytes).unwrap().0 {
            if event.kind() != Kind::MariaGtid {
                continue;
            }
            let point = SourcePoint { file: (*name).into(), position: event.at };
            let found = now(relay::find(&files, &chain, &point)).unwrap();
            let Found::At(place) = found else { panic!("{name} {}: {found:?}", event.at) };
            let end = place.at + u64::from(event.header.len);
            let span = Span { file: place.file, format: 0, begin: place.at, end };
            let wanted = &bytes[event.at as usize..event.end() as usize];
            assert_eq!(files.slice(&chain, &span), wanted, "{name} {}", event.at);
        }
    }
}

#[test]
fn relay_logs_hold_the_bytes_of_the_source() {
    let (files, chain) = Memory::of(RELAY);
    let point = SourcePoint { file: SOURCE[0].into(), position: 2029 };
    let Found::At(place) = now(relay::find(&files, &chain, &point)).unwrap() else {
        panic!("it is there")
    };
    let mut scan = place.scan(&files, &chain);
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(found) = now(scan.next()).unwrap() {
        found.spans.iter().for_each(|span| bytes.extend(files.slice(&chain, span)));
    }
    let source = |name: &str| golden(&format!("mariadb-source-{name}"));
    assert!(bytes == [&source(SOURCE[0])[2029..2242], &source(SOURCE[1])[379..1237]].concat());
}

#[test]
fn positions_print_as_the_server_prints_them() {
    assert_eq!(position("7-2-9, 0-1-3").to_string(), "0-1-3,7-2-9");
    for text in ["0-1", "0-1-2-3", "a-b-c", "5000000000-1-1"] {
        assert!(text.parse::<MariaPosition>().is_err(), "{text}");
    }
}

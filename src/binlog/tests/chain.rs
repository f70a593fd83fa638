//! A server's binary logs: what do they hold, and where?

use conclave_core::model::GtidSet;

use super::fixture::{Memory, golden, now};
use crate::binlog::*;

/// The logs of one MySQL 9.7: rotated by hand, then by switching checksums off; then it was killed.
const MYSQL: &[&str] = &["mysql97.000001", "mysql97.000002", "mysql97.000003"];
const UUID: &str = "191d36cf-ec89-11f1-9dc8-9b7576f157df";

fn executed() -> GtidSet {
    String::from_utf8(golden("mysql97.executed")).unwrap().trim().parse().unwrap()
}

fn set(text: &str) -> GtidSet {
    text.replace("UUID", UUID).parse().unwrap()
}

/// Names and ranges, as text.
fn places(chain: &Chain, selection: &Selection) -> Vec<String> {
    let place =
        |span: &Span| format!("{} {}-{}", chain.files[span.file].name, span.begin, span.end);
    selection.spans.iter().map(place).collect()
}

#[test]
fn a_chain_holds_what_its_server_executed() {
    let (files, chain) = Memory::of(MYSQL);
    let all = now(select(&files, &chain, Wanted::All)).unwrap();
    assert_eq!(all.gtids, executed());
    assert_eq!(all.transactions, executed().count());
    // All between the head and the rotation, in one piece each.
    let wanted = ["mysql97.000001 158-3075", "mysql97.000002 245-808", "mysql97.000003 287-561"];
    assert_eq!(places(&chain, &all), wanted);
    assert_eq!((all.torn, all.unfinished), (vec![], None));
}

#[test]
fn transactions_without_gtids_are_found_by_their_ends() {
    let (files, chain) = Memory::of(&["mysql97-anonymous.000001"]);
    let mut scan = Scan::new(&files, &chain, 0);
    let mut ends = Vec::new();
    while let Some(found) = now(scan.next()).unwrap() {
        assert_eq!(found.gtid, Gtid::Anonymous);
        ends.extend(found.spans.iter().map(|span| (span.begin, span.end)));
    }
    assert_eq!(ends, [(158, 438), (438, 633), (633, 898)]);
}

#[test]
fn each_kind_of_transaction_begins_and_ends_where_the_server_says() {
    let (files, chain) = Memory::of(&MYSQL[..1]);
    let mut scan = Scan::new(&files, &chain, 0);
    let mut found = Vec::new();
    while let Some(one) = now(scan.next()).unwrap() {
        let [span] = one.spans[..] else { panic!("{one:?}") };
        found.push((one.gtid.to_string().replace(UUID, "U"), span.begin, span.end));
    }
    let wanted = [
        ("U:1", 158, 334, "create database"),
        ("U:2", 334, 552, "create table"),
        ("U:3", 552, 837, "rows"),
        ("U:4", 837, 1296, "rows and a savepoint rolled back to"),
        ("U:5", 1296, 1684, "a statement with variables"),
        ("U:6", 1684, 2005, "a statement"),
        ("U:7", 2005, 2384, "XA up to its prepare"),
        ("U:8", 2384, 2548, "XA COMMIT"),
        ("U:tag_a:1", 2548, 2830, "with a tag"),
        ("U:9", 2830, 3075, "compressed"),
    ];
    let wanted = wanted.map(|(gtid, begin, end, _)| (gtid.to_owned(), begin, end));
    assert_eq!(found, wanted);
}

#[test]
fn the_transactions_of_a_set_are_found_and_no_others() {
    let (files, chain) = Memory::of(MYSQL);
    let wanted = set("UUID:4:11-12:tag_a:1:tag_b:1-7");
    let found = now(select(&files, &chain, Wanted::Only(&wanted))).unwrap();
    assert_eq!(found.gtids, set("UUID:4:11:tag_a:1:tag_b:1"));
    let ranges = [
        "mysql97.000001 837-1296",
        "mysql97.000001 2548-2830",
        "mysql97.000002 245-531",
        "mysql97.000003 287-561",
    ];
    assert_eq!(places(&chain, &found), ranges);
}

#[test]
fn files_that_can_hold_nothing_wanted_are_not_read() {
    let mut bytes: Vec<_> = MYSQL.iter().map(|name| ((*name).to_owned(), golden(name))).collect();
    bytes[0].1.fill(0xff);
    let (files, chain) = Memory::with(bytes);
    let have = set("UUID:1-10:tag_a:1");
    let found = now(select(&files, &chain, Wanted::Beyond(&have))).unwrap();
    assert_eq!(places(&chain, &found), ["mysql97.000002 245-531", "mysql97.000003 287-561"]);
    let only = now(select(&files, &chain, Wanted::Only(&set("UUID:11")))).unwrap();
    assert_eq!(places(&chain, &only), ["mysql97.000003 287-561"]);
    // One that may hold some is read, and said to be no log.
    let error = now(select(&files, &chain, Wanted::Beyond(&set("UUID:1-10")))).unwrap_err();
    assert_eq!(error.file, "mysql97.000001");
    assert!(matches!(error.fault, Fault::NotALog { .. }), "{error}");
}

#[test]
fn everything_from_a_position_on_is_found_across_rotations() {
    let (files, chain) = Memory::of(MYSQL);
    let from = |file, position| now(from_position(&files, &chain, file, position));
    let second = ["mysql97.000002 245-808", "mysql97.000003 287-561"];
    // At the last transaction, at the rotation behind it, and at the file's very end.
    for (position, first) in [(2830, Some("mysql97.000001 2830-3075")), (3075, None), (3119, None)]
    {
        let wanted: Vec<&str> = first.into_iter().chain(second).collect();
        assert_eq!(places(&chain, &from("mysql97.000001", position).unwrap()), wanted);
    }
    let have = set("UUID:1-9:tag_b:1");
    let beyond = Wanted::Beyond(&have);
    let found = now(select_from(&files, &chain, "mysql97.000001", 2548, beyond)).unwrap();
    let wanted = ["mysql97.000001 2548-2830", "mysql97.000002 531-808", "mysql97.000003 287-561"];
    assert_eq!(places(&chain, &found), wanted);
    assert_eq!(from("mysql97.000003", 561).unwrap().transactions, 0);
    assert_eq!(from("mysql97.000001", 4).unwrap().transactions, 13);
    assert_eq!(from("mysql97.000001", 158).unwrap().transactions, 13);
}

#[test]
fn a_position_where_no_transaction_begins_is_refused() {
    let (files, chain) = Memory::of(MYSQL);
    let fault = |file, position| {
        now(from_position(&files, &chain, file, position)).expect_err("it is refused").fault
    };
    let file = "mysql97.000001";
    assert_eq!(fault(file, 702), Fault::WithinTransaction { position: 702, begin: 552 });
    assert_eq!(fault(file, 1482), Fault::WithinTransaction { position: 1482, begin: 1296 });
    assert_eq!(fault(file, 160), Fault::NoEventAt { position: 160, len: 3119 });
    assert_eq!(fault(file, 9999), Fault::NoEventAt { position: 9999, len: 3119 });
    let there = "mysql97.000001 to mysql97.000003".into();
    assert_eq!(fault("mysql97.000009", 4), Fault::NoSuchFile { there });
    // Nothing says who began here; what is before does.
    let (files, chain) = Memory::of(&["mysql97-anonymous.000001"]);
    let within = now(from_position(&files, &chain, "mysql97-anonymous.000001", 308));
    assert!(matches!(within.unwrap_err().fault, Fault::WithinTransaction { begin: 158, .. }));
}

#[test]
fn a_file_cut_anywhere_ends_with_its_last_whole_transaction() {
    let whole = golden("mysql97.000001");
    let (files, chain) = Memory::of(&MYSQL[..1]);
    let mut scan = Scan::new(&files, &chain, 0);
    let mut ends = Vec::new();
    while let Some(found) = now(scan.next()).unwrap() {
        ends.push(found.spans[0].end);
    }
    for cut in 0..whole.len() {
        let bytes = whole[..cut].to_vec();
        let (files, chain) = Memory::with(vec![("cut".into(), bytes)]);
        let found = now(select(&files, &chain, Wanted::All));
        if cut < 127 {
            assert_eq!(found, Err(Fault::NoHead { len: cut as u64 }.of("cut")));
            continue;
        }
        let found = found.unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let wanted = ends.iter().filter(|end| **end <= cut as u64).count() as u64;
        assert_eq!(found.transactions, wanted, "cut at {cut}");
        let end = found.spans.last().map_or(158, |span| span.end);
        let last = ends.iter().rfind(|end| **end <= cut as u64).copied().unwrap_or(158);
        assert_eq!(end, last, "cut at {cut}");
    }
}

#[test]
fn zeros_behind_the_last_event_are_a_torn_end() {
    let mut bytes = golden("mysql97.000003");
    bytes.extend([0; 600]);
    let (files, chain) = Memory::with(vec![("torn".into(), bytes)]);
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    assert_eq!(found.torn, [(0, 561, "zeros".to_owned())]);
    assert_eq!(places(&chain, &found), ["torn 287-561"]);
}

#[test]
fn a_transaction_whose_end_is_missing_is_told_and_left_out() {
    let bytes = golden("mysql97.000003")[..534].to_vec();
    let (files, chain) = Memory::with(vec![("cut".into(), bytes)]);
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    assert_eq!((found.transactions, found.torn), (0, vec![]));
    let (gtid, span) = found.unfinished.expect("it has begun");
    assert_eq!((gtid.to_string(), span.begin), (format!("{UUID}:11"), 287));
}

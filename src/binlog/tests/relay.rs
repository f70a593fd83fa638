//! Positions of a source in its replica's relay logs.

use super::fixture::{Memory, golden, now, walk};
use crate::binlog::{relay::Found, *};

/// The relay logs were rotated by their size (4 kB) and with the source, and the receiver connected
/// anew before the last one.
const RELAY: &[&str] = &[
    "mysql97-relay.000001",
    "mysql97-relay.000002",
    "mysql97-relay.000003",
    "mysql97-relay.000004",
    "mysql97-relay.000005",
    "mysql97-relay.000006",
];
const SOURCE: &[&str] = &["binlog.000001", "binlog.000002"];

fn source(file: &str) -> Vec<u8> {
    golden(&format!("mysql97-source-{file}"))
}

fn point(file: &str, position: u64) -> SourcePoint {
    SourcePoint { file: file.into(), position }
}

#[test]
fn each_event_of_the_source_is_found_with_its_own_bytes() {
    let (files, chain) = Memory::of(RELAY);
    for name in SOURCE {
        let bytes = source(name);
        for event in walk(&bytes).unwrap().0 {
            if matches!(event.kind(), Kind::Format | Kind::PreviousGtids | Kind::Rotate) {
                continue;
            }
            let found = now(relay::find(&files, &chain, &point(name, event.at))).unwrap();
            let Found::At(place) = found else { panic!("{name} {}: {found:?}", event.at) };
            let end = place.at + u64::from(event.header.len);
            let span = Span { file: place.file, format: 0, begin: place.at, end };
            let wanted = &bytes[event.at as usize..event.end() as usize];
            assert_eq!(files.slice(&chain, &span), wanted, "{name} {}", event.at);
        }
    }
}

#[test]
fn relay_logs_from_a_position_on_hold_what_the_source_has_from_there_on() {
    let (files, chain) = Memory::of(RELAY);
    let wanted = [&source(SOURCE[0])[4018..7106], &source(SOURCE[1])[199..2504]].concat();
    let found = now(relay::find(&files, &chain, &point(SOURCE[0], 4018))).unwrap();
    let Found::At(place) = found else { panic!("{found:?}") };
    let mut scan = place.scan(&files, &chain);
    let mut bytes: Vec<u8> = Vec::new();
    while let Some(found) = now(scan.next()).unwrap() {
        found.spans.iter().for_each(|span| bytes.extend(files.slice(&chain, span)));
    }
    assert!(bytes == wanted);
}

#[test]
fn positions_outside_of_the_relay_logs_are_told_apart() {
    let (files, chain) = Memory::of(RELAY);
    let find = |file, position| now(relay::find(&files, &chain, &point(file, position))).unwrap();
    // The end of all that was received: the next transaction will come there.
    let Found::At(place) = find(SOURCE[1], 2504) else { panic!("at the end") };
    assert_eq!((place.file, place.at), (5, 742));
    // What the source has behind it was not received.
    let end = Some(point(SOURCE[1], 2504));
    assert_eq!(find(SOURCE[1], 9999), Found::EndEarlier(end.clone()));
    assert_eq!(find("binlog.000003", 4), Found::EndEarlier(end));
    // Relay logs that were purged begin later.
    let (files, chain) = Memory::of(&RELAY[4..]);
    let found = now(relay::find(&files, &chain, &point(SOURCE[0], 158))).unwrap();
    assert_eq!(found, Found::BeginLater(Some(point(SOURCE[1], 199))));
    // Between the source's head and its first transaction there is nothing that replicas get.
    let (files, chain) = Memory::of(RELAY);
    let found = now(relay::find(&files, &chain, &point(SOURCE[1], 4))).unwrap();
    let Found::At(place) = found else { panic!("{found:?}") };
    assert_eq!((place.file, place.at), (3, 285));
}

#[test]
fn what_a_receiver_lacks_is_found_by_gtid_too() {
    let (files, chain) = Memory::of(RELAY);
    let all = now(select(&files, &chain, Wanted::All)).unwrap();
    let (source_files, source_chain) =
        Memory::of(&["mysql97-source-binlog.000001", "mysql97-source-binlog.000002"]);
    let of_source = now(select(&source_files, &source_chain, Wanted::All)).unwrap();
    assert_eq!((&all.gtids, all.transactions), (&of_source.gtids, of_source.transactions));
    assert_eq!(all.bytes(), of_source.bytes());
    let made = shares(&all);
    assert_eq!(made.len(), 1);
    let mut out = Vec::new();
    now(made[0].copy(&files, &chain, &mut out)).unwrap();
    let mut of_them = Vec::new();
    let theirs = shares(&of_source);
    now(theirs[0].copy(&source_files, &source_chain, &mut of_them)).unwrap();
    assert_eq!(theirs.len(), 1);
    assert!(out[made[0].head.len()..] == of_them[theirs[0].head.len()..]);
}

#[test]
fn a_position_in_the_middle_of_large_files_costs_a_few_reads() {
    // The same transactions over and over, with the positions that one long file would give them.
    let (head, block) = (golden("mysql97-relay.000002")[..369].to_vec(), one_transaction());
    let (mut file, mut position) = (head, 158u32);
    for _ in 0..4000 {
        for (at, len) in events_of(&block) {
            let begin = file.len();
            file.extend(&block[at..at + len]);
            position += len as u32;
            file[begin + 13..begin + 17].copy_from_slice(&position.to_le_bytes());
        }
    }
    let whole = file.len() as u64;
    let (files, chain) = Memory::with(vec![("relay.000001".into(), file)]);
    let middle = 158 + 2000 * block.len() as u64;
    let found = now(relay::find(&files, &chain, &point("binlog.000001", middle))).unwrap();
    let Found::At(place) = found else { panic!("{found:?}") };
    assert_eq!(place.at, 369 + 2000 * block.len() as u64);
    assert!(files.bytes_read() * 100 < whole, "read {} of {whole}", files.bytes_read());
}

fn one_transaction() -> Vec<u8> {
    golden("mysql97-relay.000002")[369..1141].to_vec()
}

/// Offset and length of each event.
fn events_of(bytes: &[u8]) -> Vec<(usize, usize)> {
    let mut events = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let len = u32::from_le_bytes(bytes[at + 9..at + 13].try_into().unwrap()) as usize;
        events.push((at, len));
        at += len;
    }
    events
}

#[test]
fn a_transaction_that_goes_on_in_the_next_relay_log_is_whole() {
    let (one, next) = (golden("mysql97-relay.000002"), golden("mysql97-relay.000003"));
    let parts = [one[..568].to_vec(), [&next[..321], &one[568..4229]].concat()];
    let names = ["relay.000002", "relay.000003"].map(str::to_owned);
    let (files, chain) = Memory::with(names.into_iter().zip(parts).collect());
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    assert_eq!(found.transactions, 5);
    let spans: Vec<_> = found.spans.iter().map(|s| (s.file, s.begin, s.end)).collect();
    assert_eq!(spans, [(0, 369, 568), (1, 321, 321 + 4229 - 568)]);
    let mut out = Vec::new();
    let [share] = &shares(&found)[..] else { panic!("one file") };
    now(share.copy(&files, &chain, &mut out)).unwrap();
    assert!(out[share.head.len()..] == one[369..4229]);
}

#[test]
fn a_transaction_that_was_received_again_is_there_once() {
    // The link broke within it, and the source sent it anew.
    let (one, next) = (golden("mysql97-relay.000002"), golden("mysql97-relay.000006"));
    let again = [&next[..453], &one[369..4229]].concat();
    let parts = [one[..568].to_vec(), again];
    let names = ["relay.000002", "relay.000003"].map(str::to_owned);
    let (files, chain) = Memory::with(names.into_iter().zip(parts).collect());
    let found = now(select(&files, &chain, Wanted::All)).unwrap();
    assert_eq!(found.transactions, 5);
    let spans: Vec<_> = found.spans.iter().map(|s| (s.file, s.begin, s.end)).collect();
    assert_eq!(spans, [(1, 453, 453 + 4229 - 369)]);
}

//! One file: the walk against what the file's own server says of it.

use super::fixture::{golden, said, walk};
use crate::binlog::*;

const FILES: &[&str] = &[
    "mysql97.000001",
    "mysql97.000002",
    "mysql97.000003",
    "mysql97-anonymous.000001",
    "mysql97-source-binlog.000001",
    "mysql97-source-binlog.000002",
    "mysql97-relay.000001",
    "mysql97-relay.000002",
    "mysql97-relay.000003",
    "mysql97-relay.000004",
    "mysql97-relay.000005",
    "mysql97-relay.000006",
];

#[test]
fn events_are_where_the_server_says_they_are() {
    for name in FILES {
        let (events, ending) =
            walk(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(ending, Ending::Clean, "{name}");
        let found: Vec<(u64, u32)> = events.iter().map(|e| (e.at, e.header.end)).collect();
        // The server lists what is within a compressed transaction, too, all at one place.
        let mut wanted: Vec<(u64, u32)> =
            said(name).iter().map(|(at, _, end)| (*at, *end)).collect();
        wanted.retain(|(at, end)| at != &u64::from(*end));
        assert_eq!(found, wanted, "{name}");
    }
}

//! How long does a manager need to make one log entry durable? Prints one line of JSON.
//!
//! `cargo bench --bench raft [-- DIR]`: DIR lies on the disk to measure; default: the system's
//! temporary directory. `raw` is a plain write and fdatasync of the same bytes beside it.

#![allow(clippy::disallowed_methods)]

use std::{
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use conclave::raft::{Fatal, store, types};
use openraft::{Membership, entry::RaftEntry, storage::RaftLogStorageExt};

const WARM_UP: u64 = 200;
const MEASURED: u64 = 3000;
/// Without a pause the floor is written every few ms; with one, after each append.
const PAUSE: Duration = Duration::from_millis(8);
const PAUSED: u64 = 400;

fn main() {
    let place = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let place = place.map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(place).expect("a directory to measure in");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (bytes, busy, paused) = runtime.expect("a runtime").block_on(appends(dir.path()));
    let raw = raw(&dir.path().join("raw"), bytes);
    let report = serde_json::json!({
        "bench": "raft_append",
        "entry_bytes": bytes,
        "append": percentiles(busy),
        "append_after_pause": percentiles(paused),
        "raw": percentiles(raw),
    });
    println!("{report}");
}

/// One entry at a time, each waited for until it is durable.
async fn appends(dir: &Path) -> (usize, Vec<Duration>, Vec<Duration>) {
    let mut log = store::open(&dir.join("store"), 1, &Fatal::default()).expect("a store").log;
    let (mut busy, mut paused, mut bytes) = (vec![], vec![], 0);
    for index in 0..WARM_UP + MEASURED + PAUSED {
        let entry = entry(index);
        bytes = serde_json::to_vec(&entry).expect("JSON").len();
        let is_paused = index >= WARM_UP + MEASURED;
        if is_paused {
            tokio::time::sleep(PAUSE).await;
        }
        let start = Instant::now();
        log.blocking_append([entry]).await.expect("appended");
        match index {
            0..WARM_UP => {}
            _ if is_paused => paused.push(start.elapsed()),
            _ => busy.push(start.elapsed()),
        }
    }
    (bytes, busy, paused)
}

/// About 300 bytes, as a step of a failover has.
fn entry(index: u64) -> types::Entry {
    let rack = format!("{index:0>150}");
    let node = types::MemberNode { addr: "192.0.2.1:7000".to_owned(), rack };
    let membership =
        Membership::new(vec![[1].into()], std::collections::BTreeMap::from([(1, node)]));
    types::Entry::new_membership(
        types::LogId::new_term_index(1, index),
        membership.expect("a membership"),
    )
}

fn raw(path: &Path, bytes: usize) -> Vec<Duration> {
    let mut file = File::create(path).expect("a file");
    let body = vec![7; bytes];
    let times = (0..WARM_UP + MEASURED).map(|_| {
        let start = Instant::now();
        file.write_all(&body).expect("written");
        file.sync_data().expect("durable");
        start.elapsed()
    });
    times.skip(WARM_UP as usize).collect()
}

fn percentiles(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_micros() as u64;
    serde_json::json!({ "n": times.len(), "p50_us": at(0.5), "p99_us": at(0.99) })
}

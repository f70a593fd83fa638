//! What the store notices, and how much room it takes.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    process::Command as Process,
};

use openraft::{
    RaftLogReader, RaftSnapshotBuilder,
    entry::RaftEntry,
    storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt, RaftStateMachine},
};
use tempfile::TempDir;

use super::{get, put};
use crate::raft::{
    fatal::Fatal,
    group::GroupId,
    store::{self, Ledger, Opened, StoreError, floor},
    types::{Entry, LogId, TypeConfig, Vote},
};

fn at(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

fn entry(term: u64, index: u64) -> Entry {
    let payload = openraft::EntryPayload::Normal(put(&format!("k{index}"), &"v".repeat(150)));
    Entry::new(at(term, index), payload)
}

fn open(dir: &Path) -> Result<Opened, StoreError> {
    store::open(dir, 1, &Fatal::default())
}

fn opened(dir: &Path) -> Opened {
    open(dir).expect("the store opens")
}

/// A closed store with a vote in term 3 and `count` entries of term 3.
async fn with_entries(count: u64) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let mut log = opened(dir.path()).log;
    log.join(GroupId::mint().expect("random bytes"), 1).await.expect("joined");
    log.save_vote(&Vote::new_committed(3, 1)).await.expect("saved");
    for index in 0..count {
        log.blocking_append([entry(3, index)]).await.expect("appended");
    }
    dir
}

/// Waits until the thread of a store that was dropped has let go of its files.
fn settle(dir: &Path) {
    let lock = File::options().write(true).open(dir.join("LOCK")).expect("a lock file");
    lock.lock().expect("locked");
}

fn copy(from: &Path, to: &Path) {
    let copied = Process::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

fn error(dir: &Path) -> StoreError {
    match open(dir) {
        Ok(_) => panic!("{} opened, although it should not", dir.display()),
        Err(e) => e,
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = with_entries(40).await;
    let Opened { mut log, machine } = opened(dir.path());
    assert_eq!(log.read_vote().await.expect("read"), Some(Vote::new_committed(3, 1)));
    let entries = log.try_get_log_entries(..).await.expect("read");
    assert_eq!(entries.len(), 40);
    assert_eq!(entries[39].log_id, at(3, 39));
    assert_eq!(machine.applied(), None);
    assert!(!log.is_virgin());
}

#[tokio::test]
async fn a_large_entry_is_cut_into_pieces_and_comes_back_whole() {
    let dir = tempfile::tempdir().expect("a directory");
    let big = "x".repeat(200_000);
    let payload = openraft::EntryPayload::Normal(put("big", &big));
    let mut log = opened(dir.path()).log;
    log.blocking_append([Entry::new(at(1, 0), payload), entry(1, 1)]).await.expect("appended");
    drop(log);
    assert!(!dir.path().join("log/blobs").join("0").exists());
    let mut log = opened(dir.path()).log;
    let entries = log.try_get_log_entries(..).await.expect("read");
    let openraft::EntryPayload::Normal(command) = &entries[0].payload else { panic!("a command") };
    assert_eq!(*command, put("big", &big));
    assert_eq!(entries.len(), 2);
    let blobs = fs::read_dir(dir.path().join("log/blobs")).expect("sled's directory").count();
    assert_eq!(blobs, 0, "sled never fsyncs its blobs");
}

#[tokio::test]
async fn a_truncated_tail_stays_gone_and_is_no_loss() {
    let dir = with_entries(10).await;
    let mut log = opened(dir.path()).log;
    log.truncate_after(Some(at(3, 6))).await.expect("truncated");
    drop(log);
    let mut log = opened(dir.path()).log;
    assert_eq!(log.get_log_state().await.expect("read").last_log_id, Some(at(3, 6)));
    log.blocking_append([entry(4, 7)]).await.expect("appended");
    drop(log);
    let mut log = opened(dir.path()).log;
    assert_eq!(log.get_log_state().await.expect("read").last_log_id, Some(at(4, 7)));
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let dir = with_entries(1).await;
    let _held = opened(dir.path());
    assert!(matches!(error(dir.path()), StoreError::Locked { .. }));
}

#[tokio::test]
async fn another_manager_s_directory_is_refused() {
    let dir = with_entries(1).await;
    let opened = store::open(dir.path(), 2, &Fatal::default());
    assert!(matches!(opened.err(), Some(StoreError::WrongManager { stored: 1, wanted: 2, .. })));
}

#[tokio::test]
async fn a_copied_directory_is_refused() {
    let dir = with_entries(5).await;
    settle(dir.path());
    let copies = tempfile::tempdir().expect("a directory");
    let to = copies.path().join("copy");
    copy(dir.path(), &to);
    assert!(matches!(error(&to), StoreError::Copied { .. }));
}

#[tokio::test]
async fn an_older_log_under_the_same_floor_is_refused() {
    let dir = with_entries(5).await;
    settle(dir.path());
    let copies = tempfile::tempdir().expect("a directory");
    let old = copies.path().join("log");
    copy(&dir.path().join("log"), &old);
    let mut log = opened(dir.path()).log;
    log.blocking_append([entry(3, 5)]).await.expect("appended");
    drop(log);
    settle(dir.path());
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    copy(&old, &dir.path().join("log"));
    let StoreError::BelowFloor { found, .. } = error(dir.path()) else {
        panic!("wanted BelowFloor")
    };
    assert!(found.contains("index: 4"), "{found}");
}

#[tokio::test]
async fn an_older_vote_under_the_same_floor_is_refused() {
    let dir = with_entries(5).await;
    settle(dir.path());
    let copies = tempfile::tempdir().expect("a directory");
    let old = copies.path().join("log");
    copy(&dir.path().join("log"), &old);
    let mut log = opened(dir.path()).log;
    log.save_vote(&Vote::new(4, 2)).await.expect("saved");
    drop(log);
    settle(dir.path());
    fs::remove_dir_all(dir.path().join("log")).expect("removed");
    copy(&old, &dir.path().join("log"));
    let StoreError::BelowFloor { found, .. } = error(dir.path()) else {
        panic!("wanted BelowFloor")
    };
    assert!(found.contains("vote"), "{found}");
}

#[tokio::test]
async fn an_emptied_log_is_refused_and_so_is_a_missing_floor() {
    let dir = with_entries(5).await;
    settle(dir.path());
    fs::rename(dir.path().join("log"), dir.path().join("away")).expect("moved");
    assert!(matches!(error(dir.path()), StoreError::BelowFloor { .. }));
    fs::rename(dir.path().join("away"), dir.path().join("log")).expect("moved");
    opened(dir.path());
    settle(dir.path());
    fs::remove_file(floor::path(dir.path())).expect("removed");
    assert!(matches!(error(dir.path()), StoreError::Damaged { .. }));
}

#[tokio::test]
async fn one_torn_floor_record_is_survived_two_are_not() {
    let dir = with_entries(5).await;
    settle(dir.path());
    let file = File::options().write(true).open(floor::path(dir.path())).expect("a floor");
    file.write_all_at(b"torn", 20).expect("written");
    opened(dir.path());
    settle(dir.path());
    file.write_all_at(b"torn", 20).expect("written");
    file.write_all_at(b"torn", 4096 + 20).expect("written");
    assert!(matches!(error(dir.path()), StoreError::Damaged { .. }));
}

#[tokio::test]
async fn a_flipped_or_missing_byte_never_goes_unnoticed() {
    let dir = with_entries(60).await;
    settle(dir.path());
    let copies = tempfile::tempdir().expect("a directory");
    let good = copies.path().join("log");
    copy(&dir.path().join("log"), &good);
    let size = fs::metadata(good.join("db")).expect("sled's file").len();
    let (mut noticed, mut harmless) = (0, 0);
    // Fixed steps through the file, 48 places; then four truncations.
    let flips = (0..48).map(|n| (size * n / 48 + 7 * n, None));
    let cuts = (1..5).map(|n| (0, Some(size * n / 5)));
    for (offset, cut) in flips.chain(cuts) {
        fs::remove_dir_all(dir.path().join("log")).expect("removed");
        copy(&good, &dir.path().join("log"));
        let path = dir.path().join("log/db");
        let file = File::options().read(true).write(true).open(path).expect("sled's file");
        match cut {
            Some(length) => file.set_len(length).expect("cut"),
            None => {
                let mut byte = [0];
                file.read_exact_at(&mut byte, offset).expect("read");
                file.write_all_at(&[byte[0] ^ 0x40], offset).expect("written");
            }
        }
        drop(file);
        // Opened in a thread: sled may panic, and leave its lock behind for a moment.
        match open(dir.path()) {
            Err(_) => noticed += 1,
            Ok(Opened { mut log, .. }) => {
                harmless += 1;
                let entries = log.try_get_log_entries(..).await.expect("read");
                let ids: Vec<_> = entries.iter().map(|e| e.log_id).collect();
                let wanted: Vec<_> = (0..60).map(|index| at(3, index)).collect();
                assert_eq!(ids, wanted, "offset {offset}, cut {cut:?}");
                let values =
                    entries.iter().all(|e| e.to_string() == entry(3, e.log_id.index).to_string());
                assert!(values, "offset {offset}, cut {cut:?}");
                assert_eq!(log.points().vote, Some(Vote::new_committed(3, 1)));
            }
        }
    }
    assert!(noticed > 0, "{noticed} noticed, {harmless} harmless");
}

#[tokio::test]
async fn an_unknown_format_version_is_refused() {
    let dir = with_entries(1).await;
    settle(dir.path());
    {
        let db = sled::open(dir.path().join("log")).expect("sled opens");
        let key = store::record::name_key("format");
        let tree = db.open_tree("raft").expect("the tree opens");
        tree.insert(key.clone(), store::record::seal_json(&key, &99)).expect("inserted");
        db.flush().expect("flushed");
    }
    assert!(matches!(error(dir.path()), StoreError::Version { found: 99, known: 1, .. }));
}

#[tokio::test]
async fn a_snapshot_comes_back_and_a_damaged_one_is_refused() {
    let dir = with_entries(30).await;
    let Opened { mut log, mut machine } = opened(dir.path());
    let entries = log.try_get_log_entries(..20).await.expect("read");
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    machine.apply(futures::stream::iter(entries)).await.expect("applied");
    let mut builder = machine.get_snapshot_builder().await;
    builder.build_snapshot().await.expect("built");
    log.purge(at(3, 15)).await.expect("purged");
    log.blocking_append([entry(3, 30)]).await.expect("appended");
    drop((log, machine, builder));

    let Opened { log, machine } = opened(dir.path());
    assert_eq!(machine.applied(), Some(at(3, 19)));
    assert_eq!(get(&machine.watch().borrow(), "k19"), Some("v".repeat(150)));
    assert_eq!(log.points().purged, Some(at(3, 15)));
    drop((log, machine));

    let path = dir.path().join("snapshot");
    let mut bytes = fs::read(&path).expect("a snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("written");
    assert!(matches!(error(dir.path()), StoreError::Damaged { .. }));
    fs::remove_file(&path).expect("removed");
    let e = error(dir.path()).to_string();
    assert!(e.contains("the log begins after entry"), "{e}");
}

#[tokio::test]
async fn after_a_reason_to_stop_nothing_is_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let fatal = Fatal::default();
    let mut log = store::open(dir.path(), 1, &fatal).expect("the store opens").log;
    log.blocking_append([entry(1, 0)]).await.expect("appended");
    fatal.raise("the disk is on fire");
    assert!(log.save_vote(&Vote::new(2, 1)).await.is_err());
    assert!(log.append([entry(1, 1)], IOFlushed::<TypeConfig>::noop()).await.is_err());
    assert_eq!(fatal.reason().as_deref(), Some("the disk is on fire"));
}

#[tokio::test]
async fn disk_use_stays_bounded_over_many_appends() {
    const APPENDS: u64 = 20_000;
    const EVERY: u64 = 1000;
    const KEEP: u64 = 200;
    // 1200 entries of about 250 bytes live at a time.
    const BOUND: u64 = 12 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    let Opened { mut log, mut machine } = opened(dir.path());
    let mut most = 0;
    for first in (0..APPENDS).step_by(20) {
        let entries: Vec<_> = (first..first + 20).map(|index| entry(1, index)).collect();
        log.blocking_append(entries.clone()).await.expect("appended");
        let entries = entries.into_iter().map(|mut entry| {
            // The state must not grow: only the log is measured.
            entry.payload = openraft::EntryPayload::Normal(put("one", "value"));
            Ok((entry, None))
        });
        machine.apply(futures::stream::iter(entries)).await.expect("applied");
        let last = first + 19;
        log.save_committed(Some(at(1, last))).await.expect("saved");
        if (last + 1) % EVERY == 0 {
            let mut builder = machine.get_snapshot_builder().await;
            builder.build_snapshot().await.expect("built");
            log.purge(at(1, last - KEEP)).await.expect("purged");
            most = most.max(usage(dir.path()));
        }
    }
    assert!(most < BOUND, "{most} bytes on disk, wanted fewer than {BOUND}");
    drop((log, machine));
    let Opened { mut log, machine } = opened(dir.path());
    assert_eq!(machine.applied(), Some(at(1, APPENDS - 1)));
    let kept = log.try_get_log_entries(..).await.expect("read").len() as u64;
    assert_eq!(kept, KEEP);
}

/// The bytes that a directory takes on the disk.
fn usage(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("a directory");
    let sizes = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            usage(&path)
        } else {
            fs::metadata(&path).map_or(0, |meta| meta.blocks() * 512)
        }
    });
    sizes.sum()
}

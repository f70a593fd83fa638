//! What does an acker that was killed, or whose host lost its power, still have of what it received
//! and had not applied? (SAFETY section 1, `decide::vouch`.)
//!
//! The lab's power-off ends all processes of a host, but the machine keeps what they wrote: it is no
//! test of `sync_relay_log`. So what is durable when an acker acknowledges is seen by its calls.

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use conclave_lab::{Host, Lab, LabSpec, Result, WriterSpec, lost_acked};

use nix::libc;

use crate::{SOON, restore};
use conclave_lab::freeze::{Frozen, is_sync};

/// Acknowledged writes before the ackers end.
const WRITES: usize = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    PowerOff,
}

/// Ends a server and brings it back, as it boots: without replication.
fn restart(server: &Host, end: End) -> Result<()> {
    match end {
        End::Kill => server.kill_mysqld()?,
        End::PowerOff => {
            server.power_off()?;
            server.power_on(false)?;
        }
    }
    server.start_mysqld()
}

/// What a server has received, as a look sees it: applied or not.
fn received(server: &Host) -> Result<String> {
    let ask = "SELECT CONCAT(received_transaction_set, ',', @@global.gtid_executed) \
        FROM performance_schema.replication_connection_status";
    Ok(server.sql_value(ask)?.replace('\n', "").trim_matches(',').to_owned())
}

/// Applies what the relay log holds, without a word from the source.
fn apply_alone(server: &Host) -> Result<()> {
    let wanted = received(server)?;
    server.sql("START REPLICA SQL_THREAD")?;
    let until = Instant::now() + SOON;
    let ask = format!("SELECT GTID_SUBSET('{wanted}', @@global.gtid_executed)");
    while server.sql_value(&ask)? != "1" {
        assert!(Instant::now() < until, "{} does not apply what it has", server.name());
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// What became of two ackers that were restarted.
struct Kept {
    acked: usize,
    /// Of the acknowledged writes, what neither of the two has any more.
    missing: usize,
    /// What each had received just before, and has no more.
    lost: [String; 2],
}

/// Ends both ackers under writes that they receive and do not apply.
fn round(lab: &Lab, end: End, sync: [u32; 2]) -> Result<Kept> {
    let ackers = [lab.host("db2")?, lab.host("db3")?];
    for (acker, sync) in ackers.iter().zip(sync) {
        acker.sql(&format!("STOP REPLICA SQL_THREAD; SET GLOBAL sync_relay_log = {sync}"))?;
    }
    let mut writer = lab.write(&WriterSpec { connections: 8, ..WriterSpec::default() })?;
    let until = Instant::now() + SOON;
    while writer.acked()?.len() < WRITES {
        assert!(Instant::now() < until, "the clients write too slowly");
        thread::sleep(Duration::from_millis(10));
    }
    let lost = thread::scope(|scope| {
        let ends = ackers.each_ref().map(|acker| {
            scope.spawn(move || {
                let before = received(acker)?;
                restart(acker, end)?;
                let after = received(acker)?;
                acker.sql_value(&format!("SELECT GTID_SUBTRACT('{before}', '{after}')"))
            })
        });
        ends.map(|end| end.join().expect("a restart does not panic"))
    });
    let history = writer.stop()?;
    ackers.iter().try_for_each(apply_alone)?;
    let [two, three] = ackers.each_ref().map(|acker| lost_acked(&history, acker));
    let (two, three) = (BTreeSet::from_iter(two?), BTreeSet::from_iter(three?));
    restore(lab)?;
    let lost = match lost {
        [Ok(two), Ok(three)] => [two, three],
        [two, three] => return Err(two.and(three).expect_err("one of them failed")),
    };
    let missing = two.intersection(&three).count();
    Ok(Kept { acked: history.acked().count(), missing, lost })
}

fn rounds(relay_log_recovery: bool) -> Result<Vec<Kept>> {
    let spec = LabSpec { managers: 0, relay_log_recovery, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let mut all = Vec::new();
    for (end, sync) in [(End::Kill, [1, 10_000]), (End::PowerOff, [10_000, 1])] {
        let kept = round(&lab, end, sync)?;
        println!(
            "relay_log_recovery {relay_log_recovery}, {end:?}, sync_relay_log {sync:?}: {} \
             acknowledged, {} of them on neither; lost by each: {:?}",
            kept.acked, kept.missing, kept.lost
        );
        assert!(kept.acked >= WRITES);
        all.push(kept);
    }
    lab.down()?;
    Ok(all)
}

#[test]
fn restarted_acker_keeps_all_it_received_without_relay_log_recovery() -> Result<()> {
    for kept in rounds(false)? {
        assert_eq!((kept.missing, kept.lost), (0, [String::new(), String::new()]));
    }
    Ok(())
}

#[test]
fn restarted_acker_loses_what_it_had_not_applied_with_relay_log_recovery() -> Result<()> {
    for kept in rounds(true)? {
        assert_eq!(kept.missing, kept.acked);
        assert!(kept.lost.iter().all(|lost| !lost.is_empty()), "{:?}", kept.lost);
    }
    Ok(())
}

/// How often the receiver acknowledged while something in the relay log was not durable yet, and how
/// often not. Each is seen twice, where the call begins and where it returns.
fn acknowledgements(lab: &Lab, acker: &Host) -> Result<[usize; 2]> {
    let writer = lab.write(&WriterSpec::default())?;
    let receiver = Frozen::new(acker, "name LIKE 'thread/sql/%\\_io'")?;
    let (mut is_durable, mut counts) = (true, [0; 2]);
    let until = Instant::now() + SOON;
    while counts[0] + counts[1] < 40 {
        assert!(Instant::now() < until, "it acknowledges nothing");
        let [call, file] = receiver.next_call();
        let target = receiver.target(file);
        match (target.contains("/relay."), call) {
            (true, libc::SYS_write) => is_durable = false,
            (true, call) if is_sync(call) => is_durable = true,
            (false, libc::SYS_write) if target.starts_with("socket:") => {
                counts[usize::from(is_durable)] += 1;
            }
            _ => {}
        }
    }
    drop((receiver, writer));
    Ok(counts)
}

/// An acker whose machine stopped keeps what it acknowledged with the former only.
#[test]
fn acker_syncs_before_it_acknowledges_with_sync_relay_log_1_and_not_by_default() -> Result<()> {
    let spec = LabSpec { managers: 0, servers: 2, performance_schema: true, ..LabSpec::default() };
    let lab = Lab::up_replicated(spec)?;
    let db2 = lab.host("db2")?;
    let [hasty, careful] = acknowledgements(&lab, &db2)?;
    println!("sync_relay_log 1: {} of {} after a sync", careful / 2, (hasty + careful) / 2);
    assert_eq!(hasty, 0);
    db2.sql("SET GLOBAL sync_relay_log = DEFAULT")?;
    let [hasty, careful] = acknowledgements(&lab, &db2)?;
    println!("by default: {} of {} before any", hasty / 2, (hasty + careful) / 2);
    assert!(hasty > careful, "{hasty} before a sync, {careful} after one");
    lab.down()
}

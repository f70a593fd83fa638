//! The readers' address stands on a replica that replicates.

use conclave_lab::{Lab, READER_VIP};
use serde_json::Value;

use super::stand::{self, SOON};

/// The server that status names for the readers' address.
fn reader_home(cluster: &Value) -> Option<String> {
    let vips = cluster["vips"].as_array().into_iter().flatten();
    let mut readers = vips.filter(|vip| vip["role"] == "reader");
    readers.next().and_then(|vip| vip["at"].as_str()).map(str::to_owned)
}

/// The hosts that carry it.
fn carriers(lab: &Lab) -> Vec<String> {
    let servers = lab.servers().into_iter();
    let carrying = servers.filter(|server| server.has_address(READER_VIP).expect("look"));
    carrying.map(|server| server.name()).collect()
}

#[test]
fn readers_address_stands_on_a_replica_and_leaves_one_that_died() {
    let lab = stand::lab();
    let group = stand::group(&lab, &[]);
    let placed = group
        .wait_cluster("waiting for the readers' address", SOON, |c| reader_home(c).is_some())
        .unwrap();
    let first = reader_home(&placed).unwrap();
    assert_ne!(first, "db1", "readers are sent to the primary");
    assert_eq!(carriers(&lab), [&*first]);
    lab.host(&first).unwrap().kill_mysqld().unwrap();
    let second = if first == "db2" { "db3" } else { "db2" };
    group
        .wait_cluster("waiting for the address to move", SOON, |cluster| {
            reader_home(cluster).as_deref() == Some(second)
        })
        .unwrap();
    assert!(carriers(&lab).contains(&second.to_owned()));
    // Its host runs on, and two of them would answer.
    stand::wait("the first one to let go", || carriers(&lab) == [second]);
    // Back, it is one more home, and no reason to move.
    lab.host(&first).unwrap().start_mysqld().unwrap();
    group.wait_healthy(SOON).expect("healthy again");
    let settled = group
        .wait_cluster("waiting for a look at the address", SOON, |c| reader_home(c).is_some())
        .unwrap();
    assert_eq!(reader_home(&settled).as_deref(), Some(second));
    assert_eq!(carriers(&lab), [second]);
    let log = std::fs::read_to_string(group.log("m1")).unwrap();
    assert!(log.matches("goal=\"follow\"").count() <= 2, "a chore was done over and over");
}

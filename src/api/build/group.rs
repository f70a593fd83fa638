//! How is the group of managers?

use conclave_core::model::{ManagerId, Micros};

use crate::api::{
    desk::{RaftFacts, Role, Seat, crowded_rack},
    document::{GroupDocument, Health, ManagerDocument},
};

/// A manager that the leader has not heard for longer is shown as silent.
const SILENT: Micros = Micros(1_000_000);

pub(super) fn document(raft: &RaftFacts, me: ManagerId) -> GroupDocument {
    let voters = raft.voters();
    let quorum = voters.len() / 2 + 1;
    let managers: Vec<ManagerDocument> =
        raft.members.iter().map(|(id, seat)| manager(raft, me, *id, seat)).collect();
    let (critical, warnings) = warnings(raft, &managers, quorum);
    let health = match (critical.is_empty(), warnings.is_empty()) {
        (false, _) => Health::Critical,
        (true, false) => Health::Warning,
        (true, true) => Health::Ok,
    };
    GroupDocument {
        id: raft.group.clone().unwrap_or_default(),
        health,
        warnings: critical.into_iter().chain(warnings).collect(),
        leader: raft.leader.map(|leader| leader.0),
        term: raft.term,
        quorum,
        last_log: raft.last_log,
        committed: raft.committed,
        applied: raft.applied,
        managers,
    }
}

fn manager(raft: &RaftFacts, me: ManagerId, id: ManagerId, seat: &Seat) -> ManagerDocument {
    let follower = raft.followers.get(&id);
    let heard = follower.and_then(|follower| follower.heard);
    let i_lead = raft.role == Role::Leader;
    let role = match (raft.leader == Some(id), id == me, i_lead) {
        (true, _, _) => "leader",
        (false, true, _) => raft.role.as_str(),
        (false, false, true) if heard.is_none_or(|heard| heard > SILENT) => "silent",
        (false, false, true) if seat.is_voter => "follower",
        (false, false, true) => "learner",
        (false, false, false) => "unknown",
    };
    ManagerDocument {
        id: id.0,
        rack: seat.rack.clone(),
        address: seat.address.clone(),
        role: role.into(),
        is_voter: seat.is_voter,
        last_log: match id == me {
            true => raft.last_log,
            false => follower.and_then(|follower| follower.matched),
        },
        heard_us: heard.map(|heard| heard.0),
    }
}

/// What is critical, and what else should be looked at.
fn warnings(
    raft: &RaftFacts,
    managers: &[ManagerDocument],
    quorum: usize,
) -> (Vec<String>, Vec<String>) {
    if raft.group.is_none() {
        let text = "this manager is in no group yet: conclave group init makes one";
        return (vec![text.into()], raft.warnings.clone());
    }
    let voters = || managers.iter().filter(|manager| manager.is_voter);
    let silent: Vec<&ManagerDocument> = voters().filter(|m| m.role == "silent").collect();
    let mut critical = Vec::new();
    if raft.leader.is_none() {
        critical.push(format!(
            "no leader: fewer than {quorum} of {} managers are up and reach each other; nothing \
             can be decided or changed",
            voters().count()
        ));
    } else if voters().count() - silent.len() < quorum {
        critical.push(format!(
            "the leader hears too few managers: {} of {} with itself, {quorum} needed",
            voters().count() - silent.len(),
            voters().count()
        ));
    }
    let mut warnings: Vec<String> = silent
        .into_iter()
        .map(|manager| match manager.heard_us {
            Some(us) => format!("manager {} was last heard {} ago", manager.id, Micros(us)),
            None => format!("manager {} was not heard by this leader at all", manager.id),
        })
        .collect();
    warnings.extend(crowded_rack(voters().map(|manager| manager.rack.as_str())));
    warnings.extend(raft.warnings.iter().cloned());
    (critical, warnings)
}

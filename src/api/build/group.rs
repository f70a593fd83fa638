//! How is the group of managers?

use std::time::Duration;

use conclave_core::model::Micros;

use crate::{
    api::{
        desk::crowded_rack,
        document::{GroupDocument, Health, ManagerDocument},
    },
    raft::{MemberNode, Role, Status},
};

/// A manager that the leader has not heard for longer is shown as silent.
const SILENT: Duration = Duration::from_secs(1);

pub(super) fn document(raft: &Status) -> GroupDocument {
    let quorum = raft.voters.len() / 2 + 1;
    let voters = raft.voters.iter().map(|member| (member, true));
    let learners = raft.learners.iter().map(|member| (member, false));
    let mut managers: Vec<ManagerDocument> = voters
        .chain(learners)
        .map(|((id, node), is_voter)| manager(raft, *id, node, is_voter))
        .collect();
    managers.sort_by_key(|manager| manager.id);
    let (critical, warnings) = warnings(raft, &managers, quorum);
    let health = match (critical.is_empty(), warnings.is_empty()) {
        (false, _) => Health::Critical,
        (true, false) => Health::Warning,
        (true, true) => Health::Ok,
    };
    GroupDocument {
        id: raft.group.map(|group| group.to_string()).unwrap_or_default(),
        health,
        warnings: critical.into_iter().chain(warnings).collect(),
        leader: raft.leader.as_ref().map(|leader| leader.id),
        term: raft.term,
        quorum,
        last_log: raft.last_log,
        committed: raft.committed,
        applied: raft.applied,
        managers,
    }
}

fn manager(raft: &Status, id: u64, node: &MemberNode, is_voter: bool) -> ManagerDocument {
    let follower = raft.followers.get(&id);
    let heard = follower.and_then(|follower| follower.last_ack);
    let is_leader = raft.leader.as_ref().is_some_and(|leader| leader.id == id);
    let role = match (is_leader, id == raft.id, raft.role) {
        (true, _, _) => "leader",
        (false, true, role) => role_word(role),
        (false, false, Role::Leader) if heard.is_none_or(|heard| heard > SILENT) => "silent",
        (false, false, Role::Leader) if is_voter => "follower",
        (false, false, Role::Leader) => "learner",
        (false, false, Role::Follower | Role::Candidate | Role::Learner | Role::Stopped) => {
            "unknown"
        }
    };
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    ManagerDocument {
        id,
        rack: node.rack.clone(),
        address: node.addr.clone(),
        role: role.into(),
        is_voter,
        last_log: match id == raft.id {
            true => raft.last_log,
            false => follower.and_then(|follower| follower.matched),
        },
        heard_us: heard.map(micros),
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Learner => "learner",
        Role::Stopped => "stopped",
    }
}

/// What is critical, and what else should be looked at.
fn warnings(
    raft: &Status,
    managers: &[ManagerDocument],
    quorum: usize,
) -> (Vec<String>, Vec<String>) {
    if raft.group.is_none() {
        let text = "this manager is in no group yet: conclave group init makes one";
        return (vec![text.into()], Vec::new());
    }
    let voters = || managers.iter().filter(|manager| manager.is_voter);
    let silent: Vec<&ManagerDocument> = voters().filter(|m| m.role == "silent").collect();
    let heard = voters().count() - silent.len();
    let mut critical: Vec<String> = raft.fatal.clone().into_iter().collect();
    if raft.leader.is_none() {
        critical.push(format!(
            "no quorum: manager {} hears no leader; {quorum} of {} managers have to be up and \
             reach each other, and until then nothing can be decided or changed",
            raft.id,
            voters().count()
        ));
    } else if heard < quorum {
        critical.push(format!(
            "the leader hears too few managers: {heard} of {} with itself, {quorum} needed",
            voters().count()
        ));
    }
    let mut warnings: Vec<String> = silent
        .into_iter()
        .map(|manager| match manager.heard_us {
            Some(us) => format!("manager {} was last heard {} ago", manager.id, Micros(us)),
            None => format!("manager {} was not heard by this leader yet", manager.id),
        })
        .collect();
    warnings.extend(crowded_rack(voters().map(|manager| manager.rack.as_str())));
    let refused = |(id, why): (&u64, &String)| format!("manager {id} refuses our calls: {why}");
    warnings.extend(raft.refusals.iter().map(refused));
    (critical, warnings)
}

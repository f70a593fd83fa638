//! How do empty managers become a group? One of them is told to form it, once, by a person.
//!
//! ```text
//!   1. ask each peer whether it is empty and has the id we think    (nothing changes)
//!   2. mint a group id and keep it                                  (durable)
//!   3. give it to each peer                                         (durable there)
//!   4. write the membership as the first entry of the log
//! ```
//!
//! If it stops in between, saying it again on the same manager goes on with the same group id.
//! A manager without a group id takes no Raft message at all: an emptied one cannot vote again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::future::join_all;
use openraft::{
    ChangeMembers,
    errors::{InitializeError, RaftError},
};
use tokio::{sync::Mutex, time::timeout};

use super::{
    group::GroupId,
    network::Peers,
    node::metrics,
    pb::AdoptRequest,
    store::Ledger,
    types::{MemberNode, Raft, TypeConfig},
};

/// How long a new manager may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(30);

/// How long one peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why no group was formed. The same command can be given again.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    /// The list of members does not make sense.
    #[error("{0}")]
    Members(String),
    /// It was done before.
    #[error("manager {me} is already part of the running group {group}: a group is formed once")]
    AlreadyFormed { me: u64, group: GroupId },
    /// Another manager was told to form a group with this one.
    #[error(
        "manager {minter} began to form group {group} with manager {me}: say it there again, or \
         empty the data directory of manager {me}"
    )]
    BegunElsewhere { me: u64, minter: u64, group: GroupId },
    /// Some peers cannot be reached or refuse.
    #[error("nothing was done: {}; correct this and say it again", .0.join("; "))]
    Peers(Vec<String>),
    /// A replacement was begun; saying it again goes on with it.
    #[error("the manager was not replaced: {0}; say it again")]
    Unfinished(String),
    /// This manager cannot write.
    #[error("no group was formed: {0}")]
    Storage(String),
}

/// What a manager needs to form a group or to be adopted by one.
pub struct Forming {
    me: u64,
    log: Arc<dyn Ledger>,
    group: Arc<OnceLock<GroupId>>,
    /// One at a time.
    turn: Mutex<()>,
}

impl Forming {
    #[must_use]
    pub fn new(me: u64, log: Arc<dyn Ledger>, group: Arc<OnceLock<GroupId>>) -> Self {
        Self { me, log, group, turn: Mutex::default() }
    }

    /// Takes the group id that another manager gives us. `ask`: only say whether we would.
    pub async fn adopt(
        &self,
        group: GroupId,
        target: u64,
        from: u64,
        ask: bool,
    ) -> Result<(), FormError> {
        let _turn = self.turn.lock().await;
        let me = self.me;
        if target != me {
            let what = format!("the configuration here says id {me}, not {target}");
            return Err(FormError::Members(what));
        }
        match self.log.group() {
            Some((held, minter)) if held != group && self.log.is_virgin() => {
                return Err(FormError::BegunElsewhere { me, minter, group: held });
            }
            Some((held, _)) if held != group => {
                return Err(FormError::AlreadyFormed { me, group: held });
            }
            // Said again.
            Some(_) => return Ok(()),
            None => {}
        }
        if ask {
            return Ok(());
        }
        self.join(group, from).await
    }

    /// Forms a group of `members`, this manager among them.
    pub async fn form(
        &self,
        raft: &Raft,
        peers: &Peers,
        members: BTreeMap<u64, MemberNode>,
    ) -> Result<GroupId, FormError> {
        let _turn = self.turn.lock().await;
        let me = self.me;
        check_members(me, &members)?;
        let held = self.log.group();
        if !self.log.is_virgin() {
            let group = held.map(|(group, _)| group);
            let group = group.ok_or_else(|| FormError::Storage("a log without a group".into()))?;
            return Err(FormError::AlreadyFormed { me, group });
        }
        let group = match held {
            Some((group, minter)) if minter == me => group,
            Some((group, minter)) => return Err(FormError::BegunElsewhere { me, minter, group }),
            None => GroupId::mint().map_err(|e| FormError::Storage(e.to_string()))?,
        };
        self.give(peers, &members, group, true).await?;
        self.join(group, me).await?;
        self.give(peers, &members, group, false).await?;
        raft.initialize(members).await.map_err(|e| self.not_initialized(group, e))?;
        tracing::info!(%group, "formed the group");
        Ok(group)
    }

    fn not_initialized(
        &self,
        group: GroupId,
        e: RaftError<TypeConfig, InitializeError<TypeConfig>>,
    ) -> FormError {
        match e {
            RaftError::APIError(InitializeError::NotAllowed(_)) => {
                FormError::AlreadyFormed { me: self.me, group }
            }
            RaftError::APIError(InitializeError::NotInMembers(e)) => {
                FormError::Members(e.to_string())
            }
            RaftError::Fatal(e) => FormError::Storage(e.to_string()),
        }
    }

    async fn join(&self, group: GroupId, minter: u64) -> Result<(), FormError> {
        let joined = self.log.join(group, minter).await;
        joined.map_err(|e| FormError::Storage(e.to_string()))?;
        // Filled already if it is said a second time.
        let _ = self.group.set(group);
        Ok(())
    }

    /// Puts an empty manager, under an id that was never used, in the place of a lost one.
    pub async fn replace(
        &self,
        raft: &Raft,
        peers: &Peers,
        lost: u64,
        (id, node): (u64, MemberNode),
    ) -> Result<(), FormError> {
        let _turn = self.turn.lock().await;
        let seen = metrics(raft);
        let membership = seen.membership_config.membership();
        let mut voters: BTreeSet<u64> = membership.voter_ids().collect();
        check_replacement(self.me, lost, id, &voters)?;
        let (group, _) = self.log.group().ok_or_else(|| {
            FormError::Members(format!("manager {} is not part of a group", self.me))
        })?;
        let given = self.give_one(peers, id, &node, group, false).await;
        given.map_err(|why| FormError::Peers(vec![why]))?;
        let change = async {
            raft.add_learner(id, node, true).await?;
            voters.remove(&lost);
            voters.insert(id);
            raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), false).await
        };
        match timeout(CATCH_UP, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(FormError::Unfinished(e.to_string())),
            Err(_) => Err(FormError::Unfinished(format!("not done within {CATCH_UP:?}"))),
        }
    }

    /// Gives the group id to one manager, or asks whether it would take it.
    async fn give_one(
        &self,
        peers: &Peers,
        id: u64,
        node: &MemberNode,
        group: GroupId,
        ask: bool,
    ) -> Result<(), String> {
        let peer = peers.peer(id, &node.addr);
        let who = format!("manager {id} at {}", node.addr);
        let mut client = peer.client().map_err(|e| format!("{who}: {e}"))?;
        let request = AdoptRequest { group: group.to_bytes(), target: id, from: self.me, ask };
        match timeout(PATIENCE, client.adopt(request)).await {
            Err(_) => Err(format!("{who} gives no answer within {PATIENCE:?}")),
            Ok(Err(status)) => Err(format!("{who}: {}", explain(&status))),
            Ok(Ok(_)) => Ok(()),
        }
    }

    /// Gives the group id to all others, or asks whether they would take it.
    async fn give(
        &self,
        peers: &Peers,
        members: &BTreeMap<u64, MemberNode>,
        group: GroupId,
        ask: bool,
    ) -> Result<(), FormError> {
        let others = members.iter().filter(|(id, _)| **id != self.me);
        let calls = others.map(|(id, node)| self.give_one(peers, *id, node, group, ask));
        let failed: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::err).collect();
        if failed.is_empty() { Ok(()) } else { Err(FormError::Peers(failed)) }
    }
}

/// The innermost cause of a failed call: tonic's own text says "transport error" only.
fn explain(status: &tonic::Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    let mut inner = None;
    while let Some(next) = cause.source() {
        inner = Some(next.to_string());
        cause = next;
    }
    match inner {
        Some(inner) => format!("cannot be reached: {inner}"),
        None => status.message().to_owned(),
    }
}

fn check_replacement(me: u64, lost: u64, id: u64, voters: &BTreeSet<u64>) -> Result<(), FormError> {
    let wrong = |what: String| Err(FormError::Members(what));
    if !voters.contains(&lost) {
        return wrong(format!("manager {lost} is no voter of the group (voters: {voters:?})"));
    }
    if voters.contains(&id) {
        return wrong(format!("manager {id} is a voter already: a new one needs a new id"));
    }
    if lost == me {
        return wrong(format!("manager {me} cannot replace itself: say it to another one"));
    }
    Ok(())
}

fn check_members(me: u64, members: &BTreeMap<u64, MemberNode>) -> Result<(), FormError> {
    let wrong = |what: String| Err(FormError::Members(what));
    if ![1, 3, 5].contains(&members.len()) {
        let found = members.len();
        return wrong(format!("wanted 3 or 5 managers (1 in a lab), found {found}"));
    }
    if !members.contains_key(&me) {
        let ids: Vec<_> = members.keys().collect();
        return wrong(format!("this is manager {me}, which is not among the members {ids:?}"));
    }
    let addresses: BTreeSet<_> = members.values().map(|node| &node.addr).collect();
    if addresses.len() != members.len() {
        return wrong("two managers have the same address".to_owned());
    }
    Ok(())
}

//! Where does the leader sit? Here, or at another manager that is called in the operator's name.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Response, Status, transport::Channel};

use super::{Admin, caller::Asker};
use crate::api::{
    client::{self, is_lost},
    desk::Desk,
    pb::admin_client::AdminClient,
};

/// How long a call waits for a leader.
const PATIENCE: Duration = Duration::from_secs(2);

/// Pause between looks for one.
const PAUSE: Duration = Duration::from_millis(25);

/// Where the leader sits.
pub(super) enum Seat {
    /// This manager leads.
    Mine,
    /// That one does.
    Other(AdminClient<Channel>),
}

impl<D: Desk> Admin<D> {
    /// Finds the leader; waits a little for an election.
    pub(super) async fn leader(&self, asker: &Asker) -> Result<Seat, Status> {
        let deadline = Instant::now() + PATIENCE;
        let mut unreachable = None;
        loop {
            match self.desk.leader() {
                Some(leader) if leader.id == self.desk.me() && self.hears_quorum() => {
                    return Ok(Seat::Mine);
                }
                Some(leader) if leader.id == self.desk.me() => {}
                Some(_) if asker.is_forwarded => {
                    return Err(Status::unavailable(
                        "leadership moved to another manager meanwhile: say it again",
                    ));
                }
                Some(leader) if !leader.addr.is_empty() => {
                    match client::connect(&leader.addr, self.tls.as_ref()).await {
                        Ok(there) => return Ok(Seat::Other(there)),
                        Err(error) => unreachable = Some((leader.id, error)),
                    }
                }
                Some(_) | None => {}
            }
            if Instant::now() >= deadline {
                return Err(Status::unavailable(self.no_leader(unreachable)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A leader that a majority has not answered for long may not lead any more.
    fn hears_quorum(&self) -> bool {
        let status = self.desk.snapshot().raft;
        status.voters.len() < 2 || status.quorum_ack.is_some_and(|age| age < PATIENCE)
    }

    fn no_leader(&self, unreachable: Option<(u64, client::Unreachable)>) -> String {
        let status = self.desk.snapshot().raft;
        if status.group.is_none() {
            return format!(
                "manager {} is in no group yet: conclave group init makes one",
                self.desk.me()
            );
        }
        if let Some((id, error)) = unreachable {
            return format!("manager {id} leads and cannot be reached from here: {}", error.why);
        }
        format!(
            "no quorum: manager {} found no leader with a majority behind it within {} s; {} of {} \
             managers have to be up and reach each other",
            self.desk.me(),
            PATIENCE.as_secs(),
            status.voters.len() / 2 + 1,
            status.voters.len()
        )
    }
}

/// The leader's answer to a call that was passed on and changes something.
pub(super) fn passed<T>(answer: Result<Response<T>, Status>) -> Result<Response<T>, Status> {
    answer.map_err(|status| match is_lost(&status) {
        true => Status::unknown(
            "the leader was lost before it answered, so it may or may not have been done: look at \
             conclave status before you say it again",
        ),
        false => Status::new(status.code(), status.message()),
    })
}

//! The cluster's named lock on one server, and who holds it (SAFETY invariant 6).
//!
//! The lock is `conclave.CLUSTER`, taken with `GET_LOCK` on the connection that then acts, so it is
//! held exactly as long as that connection can act. Its holder also shows who it is: for each bit
//! that is set in its epoch and term it holds one more lock, `conclave.CLUSTER.e0` to `.e31` and
//! `.t0` to `.t31`. That needs no table, no write and no performance schema, and anyone can read it
//! back. A holder with a newer epoch and term is left alone; any other is killed. Safety does not
//! rest on that comparison (a newer holder that is killed half-way through showing itself tries
//! again): who has been superseded cannot commit its step.

use std::{sync::Arc, time::Duration};

use conclave_core::{
    model::{GtidSet, Mono, ServerFacts, Token, Trail},
    ports::{Clock, Place, PortError, Session, SqlAction, Trouble},
};
use mysql_async::Row;

use super::{
    Shared,
    act::describe,
    dialect::{Dialect, Link},
    fault::Fault,
    read::{Eye, Named, Odd},
    standing_deadline, trail,
    wire::Wire,
};
use crate::adapters::clock::SystemClock;

/// Bits of the epoch and of the term that a holder shows. Larger numbers are not shown at all.
const BITS: u32 = 32;
/// "No such thread": the holder went by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// Waiting for metadata locks is short, so that a step fails and says why rather than hangs; a
/// session whose manager has vanished is ended by the server after a minute.
const SETTINGS: &str = "SET SESSION sql_mode = '', lock_wait_timeout = 2, \
    innodb_lock_wait_timeout = 2, wait_timeout = 60";

/// Lets all locks of a connection go.
const RELEASE: &str = "SELECT RELEASE_ALL_LOCKS()";
/// A connection that does not let go in this time is closed instead.
const RELEASE_LIMIT: Duration = Duration::from_millis(500);

/// A connection that holds the lock of its cluster on one server. Dropping it lets the lock go.
pub struct MysqlSession {
    pub(super) shared: Arc<Shared>,
    pub(super) place: Place,
    pub(super) wire: Wire,
    pub(super) dialect: Dialect,
    /// The present link, once read.
    pub(super) link: Option<Link>,
    pub(super) eye: Eye,
}

impl MysqlSession {
    pub(super) async fn lock(
        shared: Arc<Shared>,
        place: &Place,
        token: Token,
        deadline: Mono,
    ) -> Result<Self, PortError> {
        let target = shared.target(place)?;
        let failed = |fault: Fault| fault.not_done(&format!("lock {}", target.label));
        let mut eye = Eye::default();
        let mut begun = None;
        if let Some(mut idle) = shared.take_idle(place) {
            eye = idle.eye;
            let first = standing_deadline(deadline);
            match begin(&mut idle.wire, place, token, first).await {
                Ok(held) => begun = Some((idle.wire, held)),
                // Whatever became of it, its connection is gone and the lock with it.
                Err(_) if idle.wire.is_broken() => {}
                Err(fault) => return Err(failed(fault)),
            }
        }
        let (mut wire, is_held) = match begun {
            Some(begun) => begun,
            None => {
                let mut wire = Wire::open(&target, deadline).await.map_err(failed)?;
                let held = begin(&mut wire, place, token, deadline).await.map_err(failed)?;
                (wire, held)
            }
        };
        let dialect = Dialect::of(wire.version()).map_err(|why| failed(Fault::Local(why)))?;
        if !is_held {
            oust(&mut wire, dialect, place, token, deadline).await?;
        }
        Ok(Self { shared, place: place.clone(), wire, dialect, link: None, eye })
    }
}

/// One that is well goes on as an idle connection: the next step comes soon, and a new one takes time.
impl Drop for MysqlSession {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.wire.is_broken() {
            return;
        }
        let (shared, place, eye) = (self.shared.clone(), self.place.clone(), self.eye);
        let mut wire = self.wire.take();
        runtime.spawn(async move {
            if wire.run(RELEASE, SystemClock.after(RELEASE_LIMIT)).await.is_ok() {
                shared.put_idle(&place, wire, eye);
            }
        });
    }
}

impl Session for MysqlSession {
    async fn look(&mut self, deadline: Mono) -> Result<ServerFacts, PortError> {
        let wanted = || format!("look at {}", self.place.server.name);
        let seen = self.eye.look(&mut self.wire, deadline).await;
        let facts = seen.map_err(|fault| fault.not_done(&wanted()))?;
        let old = self.link.take();
        self.link = facts.replica.as_ref().map(|replica| Link::of(&replica.options)).or(old);
        Ok(facts)
    }

    async fn trail(&mut self, wanted: &GtidSet, deadline: Mono) -> Result<Trail, PortError> {
        let read = trail::read(&mut self.wire, self.dialect, wanted, deadline).await;
        let what = || format!("read the logs of {}", self.place.server.name);
        read.map_err(|fault| fault.not_done(&what()))
    }

    async fn act(&mut self, action: &SqlAction, deadline: Mono) -> Result<Vec<String>, PortError> {
        let began = SystemClock.now();
        let done = match action {
            SqlAction::CloseForWrites { drain } => self.close_for_writes(*drain, deadline).await,
            SqlAction::CutClients => self.cut_clients(deadline).await,
            other => self.carry_out(other, deadline).await.map(|()| Vec::new()),
        };
        let (server, took) = (&self.place.server.name, SystemClock.now().since(began));
        tracing::debug!(%server, %took, is_ok = done.is_ok(), "{}", describe(action));
        done
    }
}

/// Sets the session up and takes the lock if it is free.
async fn begin(
    wire: &mut Wire,
    place: &Place,
    token: Token,
    deadline: Mono,
) -> Result<bool, Fault> {
    let dialect = Dialect::of(wire.version()).map_err(Fault::Local)?;
    let sql = format!("{SETTINGS}; {}", take(&place.cluster.0, shown(dialect, token), 0));
    is_taken(&wire.run(&sql, deadline).await?)
}

/// Ends the session that holds the lock, unless it is a newer actor's, and takes the lock.
async fn oust(
    wire: &mut Wire,
    dialect: Dialect,
    place: &Place,
    token: Token,
    deadline: Mono,
) -> Result<(), PortError> {
    let (cluster, label) = (&place.cluster.0, wire.target().label.clone());
    let failed = |fault: Fault| fault.not_done(&format!("take lock conclave.{cluster} on {label}"));
    let sets = wire.run(&who(cluster), deadline).await.map_err(failed)?;
    let holder = holder(&sets).map_err(|odd| failed(Fault::Odd(odd.0)))?;
    if let Some(holder) = &holder {
        if let Some(shown) = holder.shown.filter(|shown| *shown > (token.epoch.0, token.term.0)) {
            let why = format!(
                "lock conclave.{cluster} on {label}: held by a newer actor, epoch {} term {}; ours \
                 is epoch {} term {}",
                shown.0, shown.1, token.epoch, token.term
            );
            return Err(PortError::not_done(Trouble::Superseded, why));
        }
        match wire.run(&format!("KILL {}", holder.connection), deadline).await {
            Ok(_) => {}
            Err(fault) if fault.code() == Some(NO_SUCH_THREAD) => {}
            Err(fault) => return Err(failed(fault)),
        }
    }
    let wait = SystemClock.left(deadline).as_secs().clamp(1, 3600);
    let sets =
        wire.run(&take(cluster, shown(dialect, token), wait), deadline).await.map_err(failed)?;
    if is_taken(&sets).map_err(failed)? {
        return Ok(());
    }
    let by = holder.map_or_else(
        || "another session".into(),
        |holder| format!("connection {}", holder.connection),
    );
    let why = format!("lock conclave.{cluster} on {label}: {by} was killed and still holds it");
    Err(PortError::not_done(Trouble::Answered, why))
}

/// Takes the lock, waiting up to `wait` seconds, and with it the locks that show the token. A
/// former holder's end may still be letting go of those one by one, hence the second for each.
fn take(cluster: &str, shown: Option<Vec<String>>, wait: u64) -> String {
    let shown = shown.into_iter().flatten();
    let shown: String =
        shown.map(|mark| format!(", GET_LOCK('conclave.{cluster}.{mark}', 1)")).collect();
    format!(
        "SELECT IF(GET_LOCK('conclave.{cluster}', {wait}) = 1, CONCAT_WS('', 1{shown}), 0) AS held"
    )
}

/// Asks who holds the lock and which of the marks.
fn who(cluster: &str) -> String {
    let marks: String = all_marks()
        .map(|mark| format!(", IS_USED_LOCK('conclave.{cluster}.{mark}') AS {mark}"))
        .collect();
    format!("SELECT IS_USED_LOCK('conclave.{cluster}') AS holder{marks}")
}

fn all_marks() -> impl Iterator<Item = String> {
    ['e', 't'].into_iter().flat_map(|part| (0..BITS).map(move |bit| format!("{part}{bit}")))
}

/// The marks that a session can hold beside the lock.
fn shown(dialect: Dialect, token: Token) -> Option<Vec<String>> {
    marks(token).filter(|_| dialect.has_many_locks())
}

/// The marks of a token; `None` if it is too large to be shown. Epoch zero and term zero have none.
fn marks(token: Token) -> Option<Vec<String>> {
    let (epoch, term) = (token.epoch.0, token.term.0);
    if (epoch | term) >> BITS != 0 {
        return None;
    }
    let of = |part: char, number: u64| {
        (0..BITS).filter(move |bit| number >> bit & 1 == 1).map(move |bit| format!("{part}{bit}"))
    };
    Some(of('e', epoch).chain(of('t', term)).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Holder {
    connection: u64,
    /// Epoch and term; `None`: it shows nothing.
    shown: Option<(u64, u64)>,
}

/// Reads the reply to [`who`]; `None`: nobody holds the lock any more. Only marks of the same
/// connection count: others belong to a session that is just ending.
fn holder(sets: &[Vec<Row>]) -> Result<Option<Holder>, Odd> {
    let row = sets.first().and_then(|rows| rows.first());
    let row = Named(row.ok_or_else(|| Odd("no reply to IS_USED_LOCK".into()))?);
    let Some(connection) = row.maybe("holder")? else { return Ok(None) };
    let mut numbers = [0_u64; 2];
    for (index, mark) in all_marks().enumerate() {
        if row.maybe(&mark)?.as_ref() == Some(&connection) {
            numbers[index / BITS as usize] |= 1 << (index % BITS as usize);
        }
    }
    let connection = super::read::parse("IS_USED_LOCK", &connection)?;
    let shown = (numbers != [0, 0]).then_some((numbers[0], numbers[1]));
    Ok(Some(Holder { connection, shown }))
}

fn is_taken(sets: &[Vec<Row>]) -> Result<bool, Fault> {
    let row = sets.first().and_then(|rows| rows.first()).map(Named);
    let held = row.ok_or(Odd("no reply to GET_LOCK".into())).and_then(|row| row.text("held"));
    Ok(held.map_err(|odd| Fault::Odd(odd.0))?.starts_with('1'))
}

#[cfg(test)]
mod tests {
    use conclave_core::model::{Epoch, Term};

    use super::*;

    fn token(epoch: u64, term: u64) -> Token {
        Token { epoch: Epoch(epoch), term: Term(term), seq: 9 }
    }

    #[test]
    fn a_token_is_shown_bit_by_bit() {
        assert_eq!(marks(token(5, 2)), Some(vec!["e0".into(), "e2".into(), "t1".into()]));
        assert_eq!(marks(token(0, 0)), Some(vec![]));
        assert_eq!(marks(token(1 << 32, 1)), None);
        assert_eq!(marks(token(u64::from(u32::MAX), 1)).map(|marks| marks.len()), Some(33));
    }

    #[test]
    fn lock_names_fit_into_64_characters() {
        let cluster = "c".repeat(48);
        let longest = all_marks().map(|mark| format!("conclave.{cluster}.{mark}").len()).max();
        assert_eq!(longest, Some(61));
    }

    #[test]
    fn marks_are_taken_only_with_the_lock() {
        assert_eq!(
            take("a", marks(token(1, 2)), 3),
            "SELECT IF(GET_LOCK('conclave.a', 3) = 1, CONCAT_WS('', 1, \
             GET_LOCK('conclave.a.e0', 1), GET_LOCK('conclave.a.t1', 1)), 0) AS held"
        );
        assert_eq!(
            take("a", None, 3),
            "SELECT IF(GET_LOCK('conclave.a', 3) = 1, CONCAT_WS('', 1), 0) AS held"
        );
    }
}

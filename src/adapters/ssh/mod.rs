//! Database hosts over SSH: standing sessions, checked host keys, commands through a turnstile.
//!
//! ```text
//!   SshPort --run--> session (one per host, kept open) --> sh on the host
//!                                                           turnstile (newest actor only)
//!                                                             command (the script itself)
//!      |---read, carry--> session --> files of dead servers, without a turnstile as nothing changes
//! ```

mod command;
mod known_hosts;
mod logs;
mod rescue;
mod save;
mod session;
pub(crate) mod turnstile;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use conclave_core::{
    model::{Mono, SshTarget, Token},
    ports::{Place, PortError, Remote, RemoteCommand, Trouble},
};
use tokio::time::timeout;

use self::session::{Exit, KeyRing, Login};
use super::{clock::SystemClock, secrets::Secrets};
use crate::turnstile::{BUSY, SUPERSEDED, TIMED_OUT, UNUSABLE};

/// Settings of this manager's own for SSH.
#[derive(Clone, Debug, Default)]
pub struct SshPortOptions {
    /// Accept whatever host key is shown. Whoever sits in between then gets our commands.
    pub accept_any_host_key: bool,
}

/// [`Remote`] for real hosts.
#[derive(Clone)]
pub struct SshPort {
    shared: Arc<Shared>,
}

struct Shared {
    ring: KeyRing,
    /// One per host that was ever named; bounded by the definitions.
    slots: Mutex<BTreeMap<Key, Slot>>,
}

/// Host, port, user.
type Key = (String, u16, String);
/// Locked while somebody connects, so that others wait for that rather than connect as well.
type Slot = Arc<tokio::sync::Mutex<Option<Arc<Login>>>>;

/// A command that has not begun on the host by then is refused there: whoever sent it may have been
/// overtaken by somebody who never came by.
const START: Duration = Duration::from_secs(2);
/// A host that does not let us in for so long is not waited for: a fence is tried three times, and all
/// of that within the time that an attempt has.
const LOGIN_LIMIT: Duration = Duration::from_secs(5);
/// A standing session that does not open a channel in this time is given up for a new one.
const STANDING_LIMIT: Duration = Duration::from_millis(500);

impl SshPort {
    /// Prepares for sessions; opens none.
    pub fn new(secrets: Arc<Secrets>, options: &SshPortOptions) -> Self {
        let ring = KeyRing::new(secrets, options.accept_any_host_key);
        Self { shared: Arc::new(Shared { ring, slots: Mutex::default() }) }
    }

    /// Opens the standing session ahead of need, or finds it open. Keepalives notice a dead host
    /// within six seconds; call this now and then.
    ///
    /// # Errors
    /// As for a command; nothing was done.
    pub async fn warm(&self, place: &Place, deadline: Mono) -> Result<(), PortError> {
        let target = target(place)?;
        let (login, _) = self.shared.login(target, deadline).await?;
        let kept = async {
            login.stand_down().await;
            login.keep_time().await
        };
        match timeout(SystemClock.left(deadline), kept).await {
            Ok(kept) => kept,
            Err(_) => {
                let why = format!("read the clock of {}: no answer", session::label(target));
                Err(PortError::not_done(Trouble::Silent, why))
            }
        }
    }
}

impl SshPort {
    /// Opens a shell for a command that may come within seconds and must not lose time then. It is
    /// closed again if none comes.
    ///
    /// # Errors
    /// As for a command; nothing was done.
    pub async fn stand_by(&self, place: &Place, deadline: Mono) -> Result<(), PortError> {
        let target = target(place)?;
        let (login, _) = self.shared.login(target, deadline).await?;
        match timeout(SystemClock.left(deadline), login.stand_by(&target.user)).await {
            Ok(opened) => opened,
            Err(_) => {
                let why = format!("open a shell on {}: no answer", session::label(target));
                Err(PortError::not_done(Trouble::Silent, why))
            }
        }
    }
}

fn target(place: &Place) -> Result<&SshTarget, PortError> {
    place.server.ssh.as_ref().ok_or_else(|| {
        let why = format!("server {} has no ssh in its definition", place.server.name);
        PortError::not_done(Trouble::Local, why)
    })
}

impl Shared {
    fn slot(&self, target: &SshTarget) -> Slot {
        let key = (target.host.clone(), target.port, target.user.clone());
        self.slots.lock().expect("no panic under this lock").entry(key).or_default().clone()
    }

    /// The standing session, opened if need be, and whether it stood before.
    async fn login(
        &self,
        target: &SshTarget,
        deadline: Mono,
    ) -> Result<(Arc<Login>, bool), PortError> {
        let slot = self.slot(target);
        let opening = async {
            let mut slot = slot.lock().await;
            if let Some(login) = slot.as_ref().filter(|login| login.is_open()) {
                return Ok((login.clone(), true));
            }
            *slot = None;
            let login = Arc::new(self.ring.log_in(target).await?);
            *slot = Some(login.clone());
            Ok((login, false))
        };
        match timeout(LOGIN_LIMIT.min(SystemClock.left(deadline)), opening).await {
            Ok(login) => login,
            Err(_) => {
                let why = format!("log in to {}: no answer in time", session::label(target));
                Err(PortError::not_done(Trouble::Silent, why))
            }
        }
    }

    /// Gives a session up, unless somebody has replaced it already or is about to.
    fn forget(&self, target: &SshTarget, login: &Arc<Login>) {
        let slot = self.slot(target);
        let Ok(mut slot) = slot.try_lock() else { return };
        if slot.as_ref().is_some_and(|found| Arc::ptr_eq(found, login)) {
            *slot = None;
        }
    }

    /// The shell that stands by, one of the standing session, or of a new one if that does not give
    /// one soon. Nothing has been run until then, so trying again is harmless.
    async fn shell(
        &self,
        target: &SshTarget,
        deadline: Mono,
    ) -> Result<(Arc<Login>, session::Channel), PortError> {
        let (login, stood) = self.login(target, deadline).await?;
        if let Some(shell) = login.take_standby() {
            return Ok((login, shell));
        }
        let left = SystemClock.left(deadline);
        let limit = if stood { STANDING_LIMIT.min(left / 2) } else { left };
        let why = match timeout(limit, login.shell(&target.user)).await {
            Ok(Ok(channel)) => return Ok((login, channel)),
            Ok(Err(error)) => error,
            Err(_) => PortError::not_done(
                Trouble::Silent,
                format!("open a shell on {}: no answer in time", session::label(target)),
            ),
        };
        self.forget(target, &login);
        if !stood {
            return Err(why);
        }
        let (login, _) = self.login(target, deadline).await?;
        match timeout(SystemClock.left(deadline), login.shell(&target.user)).await {
            Ok(channel) => Ok((login, channel?)),
            Err(_) => {
                self.forget(target, &login);
                Err(why)
            }
        }
    }
}

impl Remote for SshPort {
    async fn run(
        &self,
        place: &Place,
        token: Token,
        command: &RemoteCommand,
        deadline: Mono,
    ) -> Result<String, PortError> {
        let target = target(place)?;
        let start_by = deadline.min(SystemClock.after(START));
        let what = format!("{} on {}", command::describe(command), session::label(target));
        let (login, shell) = self.shared.shell(target, deadline).await?;
        let left = SystemClock.left(deadline);
        let (about, body) = (command::describe(command), command::script(command));
        let start_by_cs = login.uptime_at(start_by);
        let script = turnstile::wrap(&place.cluster, token, &about, &body, left, start_by_cs);
        match timeout(left, session::execute(shell, &script)).await {
            Ok(Ok(exit)) => judge(&what, exit),
            Ok(Err(error)) => {
                self.shared.forget(target, &login);
                Err(error)
            }
            Err(_) => {
                self.shared.forget(target, &login);
                Err(PortError::unknown(Trouble::Silent, format!("{what}: not done in time")))
            }
        }
    }
}

/// What the exit status of the turnstile means.
fn judge(what: &str, exit: Exit) -> Result<String, PortError> {
    let said = exit.text.trim_end();
    let why = || format!("{what}: {}", if said.is_empty() { "it printed nothing" } else { said });
    let is_login_refused = said.starts_with("sudo:");
    match exit.status {
        Some(0) => Ok(said.to_owned()),
        Some(SUPERSEDED) => Err(PortError::not_done(Trouble::Superseded, why())),
        Some(BUSY | UNUSABLE) => Err(PortError::not_done(Trouble::Answered, why())),
        Some(TIMED_OUT) => {
            let why = format!("{}; then its time was over", why());
            Err(PortError::unknown(Trouble::Answered, why))
        }
        Some(_) if is_login_refused => Err(PortError::not_done(Trouble::Denied, why())),
        Some(status) => {
            Err(PortError::unknown(Trouble::Answered, format!("{} (exit status {status})", why())))
        }
        None => Err(PortError::unknown(
            Trouble::Refused,
            format!("{}; the session broke before it ended", why()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use conclave_core::ports::Certainty;

    use super::*;

    fn exit(status: Option<u32>, text: &str) -> Result<String, (Trouble, Certainty)> {
        let exit = Exit { status, text: text.into() };
        judge("fence", exit).map_err(|error| (error.trouble, error.certainty))
    }

    #[test]
    fn only_exit_status_zero_is_success() {
        assert_eq!(exit(Some(0), "fence: gone\n"), Ok("fence: gone".into()));
        assert_eq!(exit(Some(1), "x"), Err((Trouble::Answered, Certainty::Unknown)));
        assert_eq!(exit(Some(124), "x"), Err((Trouble::Answered, Certainty::Unknown)));
        assert_eq!(exit(None, ""), Err((Trouble::Refused, Certainty::Unknown)));
    }

    #[test]
    fn what_the_turnstile_or_sudo_refused_was_not_done() {
        assert_eq!(exit(Some(113), "x"), Err((Trouble::Superseded, Certainty::NotDone)));
        assert_eq!(exit(Some(114), "x"), Err((Trouble::Answered, Certainty::NotDone)));
        let sudo = "sudo: a password is required";
        assert_eq!(exit(Some(1), sudo), Err((Trouble::Denied, Certainty::NotDone)));
    }
}

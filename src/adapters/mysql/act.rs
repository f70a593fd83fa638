//! Acting on a server over a locked session, one statement per act.

use std::{pin::pin, time::Duration};

use conclave_core::{
    model::{Mono, StepId},
    ports::{PortError, SqlAction, Trouble},
};
use mysql_async::Row;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use super::{
    MysqlSession,
    dialect::{Link, Terms},
    fault::Fault,
    read::Named,
    wire::Wire,
};

/// No such database, no such table.
const NO_TABLE: [u16; 2] = [1049, 1146];
/// The clone plugin is not loaded: its settings are not known.
const UNKNOWN_VARIABLE: u16 = 1193;
/// The copy is complete, and the server stops, since nothing supervises it [ran].
const NOT_SUPERVISED: u16 = 3707;
const MARKER_SETTINGS: &str = "SET SESSION lock_wait_timeout = 2, innodb_lock_wait_timeout = 2";

impl MysqlSession {
    pub(super) async fn carry_out(
        &mut self,
        action: &SqlAction,
        deadline: Mono,
    ) -> Result<(), PortError> {
        match action {
            SqlAction::WriteMarker { step } => return self.write_marker(*step, deadline).await,
            SqlAction::LockAccount { account } => {
                return self.lock_account(account, deadline).await;
            }
            SqlAction::UnlockAccount { account } => {
                return self.unlock_account(account, deadline).await;
            }
            SqlAction::Persist { .. } => self.eye.forget_comeback(),
            SqlAction::StopReceiver
            | SqlAction::StartReceiver
            | SqlAction::StartApplier
            | SqlAction::StopReplica
            | SqlAction::StopApplier
            | SqlAction::StartReplica
            | SqlAction::ForgetSource
            | SqlAction::ApplyRescued { .. }
            | SqlAction::DropRescued
            | SqlAction::ChangeSource { .. }
            | SqlAction::SetSemiSyncReplica { .. }
            | SqlAction::SetSemiSyncSource { .. }
            | SqlAction::SetWritable
            | SqlAction::SetReadOnly
            | SqlAction::SetOffline { .. }
            | SqlAction::AllowRebuild
            | SqlAction::CloseForWrites { .. }
            | SqlAction::CutClients
            | SqlAction::Clone { .. } => {}
        }
        let shared = self.shared.clone();
        let password = match account(action) {
            Some(account) => Some(shared.password(&self.place.cluster, account)?),
            None => None,
        };
        let label = self.wire.target().label.clone();
        let link = match &self.link {
            Some(link) => link.clone(),
            None if needs_link(action) => self.ask_link(deadline).await?,
            None => Link::default(),
        };
        let terms = Terms { link: &link, password };
        let Some(sql) = self.dialect.statement(action, &terms) else {
            let why = format!("{} on {label}: no statement for it", describe(action));
            return Err(PortError::not_done(Trouble::Local, why));
        };
        if matches!(action, SqlAction::ChangeSource { .. } | SqlAction::ForgetSource) {
            self.link = None;
        }
        let is_cut = *action == SqlAction::SetReadOnly && self.dialect.cuts_one_by_one();
        let mut done = if *action == SqlAction::StopApplier {
            self.stop_applier(&sql, deadline).await
        } else if is_cut {
            self.close_and_cut(&sql, deadline).await
        } else {
            self.wire.run(&sql, deadline).await
        };
        if matches!(action, SqlAction::Clone { .. }) {
            if done.as_ref().is_err_and(|fault| fault.code() == Some(UNKNOWN_VARIABLE)) {
                let installed = self.wire.run(self.dialect.install_clone(), deadline).await;
                let what = "load the clone plugin";
                installed.map_err(|fault| failed(&fault, what, &label, None))?;
                done = self.wire.run(&sql, deadline).await;
            }
            if done.as_ref().is_err_and(|fault| fault.code() == Some(NOT_SUPERVISED)) {
                return Ok(());
            }
        }
        match done {
            Ok(_) => Ok(()),
            Err(fault) => Err(failed(&fault, &describe(action), &label, password)),
        }
    }

    async fn ask_link(&mut self, deadline: Mono) -> Result<Link, PortError> {
        let asked = self.wire.run(self.dialect.ask_link(), deadline).await;
        let read = asked.and_then(|sets| self.dialect.link(&sets).map_err(|odd| Fault::Odd(odd.0)));
        let wanted = || format!("read the replication link of {}", self.wire.target().label);
        let link = read.map_err(|fault| fault.not_done(&wanted()))?;
        self.link = Some(link.clone());
        Ok(link)
    }

    /// Over a connection of its own: on a primary without acknowledgements it waits, and a session
    /// that waits cannot be ended, so the lock must not be on it. The table is made only if it is
    /// missing, as making it is a transaction, too.
    async fn write_marker(&mut self, step: StepId, deadline: Mono) -> Result<(), PortError> {
        let target = self.wire.target().clone();
        let fail = |fault: Fault| failed(&fault, "write the marker row", &target.label, None);
        let mut wire = match Wire::open(&target, deadline).await {
            Ok(wire) => wire,
            Err(fault) => return Err(fault.not_done(&format!("connect to {}", target.label))),
        };
        let sql = format!("{MARKER_SETTINGS}; {}", self.dialect.write_marker(step));
        let mut written = wire.run(&sql, deadline).await;
        if written
            .as_ref()
            .is_err_and(|fault| fault.code().is_some_and(|code| NO_TABLE.contains(&code)))
        {
            for sql in self.dialect.make_marker() {
                wire.run(sql, deadline).await.map_err(fail)?;
            }
            written = wire.run(&sql, deadline).await;
        }
        written.map_err(fail)?;
        wire.close(deadline).await;
        Ok(())
    }
}

/// An applier that stops by itself does so within milliseconds; with half a transaction it waits 60 s
/// for the rest [ran]. Only one that has nothing left to apply is killed, by the server's own look.
const HALF: Duration = Duration::from_millis(100);

impl MysqlSession {
    /// Killed while its stop waits, it ends in 0.3 s, with an error that the next change of the source
    /// clears [ran]. The waiting session cannot say so itself; it holds the lock until it is through,
    /// and the server kills only as long as it does (SAFETY invariant 6).
    async fn stop_applier(&mut self, sql: &str, deadline: Mono) -> Result<Vec<Vec<Row>>, Fault> {
        let target = self.wire.target().clone();
        let lock = format!("conclave.{}", self.place.cluster);
        let kill = self.dialect.kill_idle_applier(&lock, self.wire.id());
        let mut stop = pin!(self.wire.run(sql, deadline));
        loop {
            if let Ok(done) = timeout(HALF, &mut stop).await {
                return done;
            }
            let killed = async {
                let mut wire = Wire::open(&target, deadline).await?;
                wire.run(&kill, deadline).await?;
                wire.close(deadline).await;
                Ok::<(), Fault>(())
            };
            if let Err(fault) = killed.await {
                // It may have ended meanwhile, or still be at work; if not, the stop's own end tells.
                let what = format!("kill the waiting applier of {}", target.label);
                tracing::info!("{}", fault.not_done(&what));
            }
        }
    }
}

/// The thread to be ended has ended by itself.
const NO_THREAD: u16 = 1094;

impl MysqlSession {
    /// First the lock, then the end of its connections: none can follow.
    async fn lock_account(&mut self, account: &str, deadline: Mono) -> Result<(), PortError> {
        self.alter(account, true, deadline).await?;
        let what = format!("end the connections of account {account}");
        let ask = self.dialect.ask_connections(account);
        let found = self.column(&ask, "id", &what, deadline).await?;
        for id in found {
            let Ok(id) = id.parse::<u64>() else { continue };
            match self.wire.run(&format!("KILL {id}"), deadline).await {
                Ok(_) => {}
                Err(fault) if fault.code() == Some(NO_THREAD) => {}
                Err(fault) => return Err(self.failed(&fault, &what)),
            }
        }
        Ok(())
    }

    /// A replica is let go of for that moment, as nothing can be altered under `super_read_only`;
    /// applications are kept out by `read_only` all the while.
    async fn unlock_account(&mut self, account: &str, deadline: Mono) -> Result<(), PortError> {
        let what = format!("unlock account {account}");
        let ask = "SELECT @@GLOBAL.super_read_only AS found";
        let is_super = self.column(ask, "found", &what, deadline).await?;
        let is_super = is_super.first().is_some_and(|found| found == "1");
        if is_super {
            self.set_super(false, &what, deadline).await?;
        }
        let altered = self.alter(account, false, deadline).await;
        if is_super {
            self.set_super(true, &what, deadline).await?;
        }
        altered
    }

    async fn set_super(&mut self, on: bool, what: &str, deadline: Mono) -> Result<(), PortError> {
        let sql = format!("SET GLOBAL super_read_only = {}", if on { "ON" } else { "OFF" });
        let done = self.wire.run(&sql, deadline).await;
        done.map(drop).map_err(|fault| self.failed(&fault, what))
    }

    async fn alter(
        &mut self,
        account: &str,
        is_locked: bool,
        deadline: Mono,
    ) -> Result<(), PortError> {
        let what = format!("{} account {account}", if is_locked { "lock" } else { "unlock" });
        let hosts = self.column(&self.dialect.ask_hosts(account), "host", &what, deadline).await?;
        if hosts.is_empty() {
            let label = &self.wire.target().label;
            let why = format!("{what} on {label}: there is no such account");
            return Err(PortError::not_done(Trouble::Answered, why));
        }
        let sql = self.dialect.lock_account(account, &hosts, is_locked);
        let done = self.wire.run(&sql, deadline).await;
        done.map(drop).map_err(|fault| self.failed(&fault, &what))
    }

    /// One column of a reply.
    async fn column(
        &mut self,
        sql: &str,
        column: &str,
        what: &str,
        deadline: Mono,
    ) -> Result<Vec<String>, PortError> {
        let sets = self.wire.run(sql, deadline).await;
        let sets = sets.map_err(|fault| self.failed(&fault, what))?;
        let rows = sets.iter().flatten().map(|row| Named(row).text(column));
        let rows: Result<Vec<String>, _> = rows.collect();
        rows.map_err(|odd| self.failed(&Fault::Odd(odd.0), what))
    }

    pub(super) fn failed(&self, fault: &Fault, what: &str) -> PortError {
        failed(fault, what, &self.wire.target().label, None)
    }
}

/// Account whose password the statement needs.
fn account(action: &SqlAction) -> Option<&str> {
    match action {
        SqlAction::ChangeSource { account, .. } | SqlAction::Clone { account, .. } => Some(account),
        SqlAction::StopReceiver
        | SqlAction::StartReceiver
        | SqlAction::StartApplier
        | SqlAction::StopReplica
        | SqlAction::StartReplica
        | SqlAction::ForgetSource
        | SqlAction::ApplyRescued { .. }
        | SqlAction::DropRescued
        | SqlAction::SetSemiSyncReplica { .. }
        | SqlAction::SetSemiSyncSource { .. }
        | SqlAction::SetWritable
        | SqlAction::SetReadOnly
        | SqlAction::SetOffline { .. }
        | SqlAction::StopApplier
        | SqlAction::AllowRebuild
        | SqlAction::CloseForWrites { .. }
        | SqlAction::CutClients
        | SqlAction::WriteMarker { .. }
        | SqlAction::LockAccount { .. }
        | SqlAction::UnlockAccount { .. }
        | SqlAction::Persist { .. } => None,
    }
}

/// Whether the statement depends on the present link.
fn needs_link(action: &SqlAction) -> bool {
    match action {
        SqlAction::StopReceiver
        | SqlAction::StartReceiver
        | SqlAction::StartApplier
        | SqlAction::StopReplica
        | SqlAction::StopApplier
        | SqlAction::StartReplica
        | SqlAction::ForgetSource => true,
        SqlAction::ChangeSource { options, .. } => options.is_none(),
        SqlAction::ApplyRescued { .. }
        | SqlAction::DropRescued
        | SqlAction::SetSemiSyncReplica { .. }
        | SqlAction::SetSemiSyncSource { .. }
        | SqlAction::SetWritable
        | SqlAction::SetReadOnly
        | SqlAction::SetOffline { .. }
        | SqlAction::AllowRebuild
        | SqlAction::CloseForWrites { .. }
        | SqlAction::CutClients
        | SqlAction::Clone { .. }
        | SqlAction::WriteMarker { .. }
        | SqlAction::LockAccount { .. }
        | SqlAction::UnlockAccount { .. }
        | SqlAction::Persist { .. } => false,
    }
}

/// For sentences.
pub(super) fn describe(action: &SqlAction) -> String {
    let switch = |on: &bool| if *on { "on" } else { "off" };
    match action {
        SqlAction::StopReceiver => "stop the receiver".into(),
        SqlAction::StartReceiver => "start the receiver".into(),
        SqlAction::StartApplier => "start the applier".into(),
        SqlAction::StopReplica => "stop replication".into(),
        SqlAction::StopApplier => "stop the applier".into(),
        SqlAction::StartReplica => "start replication".into(),
        SqlAction::ForgetSource => "forget the source".into(),
        SqlAction::ApplyRescued { .. } => "apply what was rescued".into(),
        SqlAction::DropRescued => "remove the channel for what was rescued".into(),
        SqlAction::ChangeSource { host, port, account, .. } => {
            format!("replicate from {host}:{port} as {account}")
        }
        SqlAction::SetSemiSyncReplica { on } => format!("switch acknowledging {}", switch(on)),
        SqlAction::SetSemiSyncSource { on, acks } => {
            format!("switch waiting for {acks} acknowledgements {}", switch(on))
        }
        SqlAction::SetWritable => "switch read_only off".into(),
        SqlAction::SetReadOnly => "switch super_read_only on".into(),
        SqlAction::SetOffline { on } => format!("switch offline_mode {}", switch(on)),
        SqlAction::CloseForWrites { .. } => "end writes (super_read_only on)".into(),
        SqlAction::CutClients => "cut the applications' connections".into(),
        SqlAction::AllowRebuild => "switch super_read_only off".into(),
        SqlAction::Clone { host, port, .. } => format!(
            "copy the data of {host}:{port} (both need the clone plugin: INSTALL PLUGIN clone \
             SONAME 'mysql_clone.so')"
        ),
        SqlAction::WriteMarker { step } => format!("write the marker row of step {step}"),
        SqlAction::LockAccount { account } => {
            format!("lock account {account} and end its connections")
        }
        SqlAction::UnlockAccount { account } => format!("unlock account {account}"),
        SqlAction::Persist { setting } => setting.statement(),
    }
}

/// A server quotes the statement it could not parse, hence the password.
pub(super) fn failed(
    fault: &Fault,
    what: &str,
    label: &str,
    password: Option<&SecretString>,
) -> PortError {
    let mut why = format!("{what} on {label}: {}", fault.found());
    if let Some(password) = password.map(|password| password.expose_secret())
        && !password.is_empty()
    {
        why = why.replace(password, "***");
    }
    PortError { trouble: fault.trouble(), certainty: fault.certainty(), why }
}

#[cfg(test)]
mod tests {
    use conclave_core::ports::Certainty;
    use mysql_async::{Error, ServerError};

    use super::*;

    #[test]
    fn a_quoted_password_is_struck_out() {
        let message = "syntax error near 'hush'".to_owned();
        let error = Error::Server(ServerError { code: 1064, message, state: "42000".into() });
        let found = failed(&Fault::Error(error), "act", "db1", Some(&"hush".to_owned().into()));
        let why = "act on db1: error 1064 (syntax error near '***')".to_owned();
        assert_eq!(
            found,
            PortError { trouble: Trouble::Answered, certainty: Certainty::NotDone, why }
        );
    }
}

//! Acting on a server over a locked session, one statement per act.

use conclave_core::{
    model::{Mono, StepId},
    ports::{PortError, SqlAction, Trouble},
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    MysqlSession,
    dialect::{Link, Terms},
    fault::Fault,
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
        if let SqlAction::WriteMarker { step } = action {
            return self.write_marker(*step, deadline).await;
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
        let mut done = self.wire.run(&sql, deadline).await;
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
        | SqlAction::SetSemiSyncReplica { .. }
        | SqlAction::SetSemiSyncSource { .. }
        | SqlAction::SetWritable
        | SqlAction::SetReadOnly
        | SqlAction::SetOffline { .. }
        | SqlAction::AllowRebuild
        | SqlAction::WriteMarker { .. } => None,
    }
}

/// Whether the statement depends on the present link.
fn needs_link(action: &SqlAction) -> bool {
    match action {
        SqlAction::StopReceiver
        | SqlAction::StartReceiver
        | SqlAction::StartApplier
        | SqlAction::StopReplica
        | SqlAction::StartReplica
        | SqlAction::ForgetSource => true,
        SqlAction::ChangeSource { options, .. } => options.is_none(),
        SqlAction::SetSemiSyncReplica { .. }
        | SqlAction::SetSemiSyncSource { .. }
        | SqlAction::SetWritable
        | SqlAction::SetReadOnly
        | SqlAction::SetOffline { .. }
        | SqlAction::AllowRebuild
        | SqlAction::Clone { .. }
        | SqlAction::WriteMarker { .. } => false,
    }
}

/// For sentences.
fn describe(action: &SqlAction) -> String {
    let switch = |on: &bool| if *on { "on" } else { "off" };
    match action {
        SqlAction::StopReceiver => "stop the receiver".into(),
        SqlAction::StartReceiver => "start the receiver".into(),
        SqlAction::StartApplier => "start the applier".into(),
        SqlAction::StopReplica => "stop replication".into(),
        SqlAction::StartReplica => "start replication".into(),
        SqlAction::ForgetSource => "forget the source".into(),
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
        SqlAction::AllowRebuild => "switch super_read_only off".into(),
        SqlAction::Clone { host, port, .. } => format!(
            "copy the data of {host}:{port} (both need the clone plugin: INSTALL PLUGIN clone \
             SONAME 'mysql_clone.so')"
        ),
        SqlAction::WriteMarker { step } => format!("write the marker row of step {step}"),
    }
}

/// A server quotes the statement it could not parse, hence the password.
fn failed(fault: &Fault, what: &str, label: &str, password: Option<&SecretString>) -> PortError {
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

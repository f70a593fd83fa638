//! Does this server live? Pings for the probe loop: what came back, without a judgement.

use std::sync::Arc;

use conclave_core::{
    model::{ManagerId, Mono, PingType},
    ports::Trouble,
};
use mysql_async::Error;

use super::{
    fault::Fault,
    wire::{Target, Wire},
};

/// No such database, no such table.
const NO_TABLE: [u16; 2] = [1049, 1146];

/// What a ping met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PingOutcome {
    /// It did what was asked.
    Answered,
    /// It answered with an error that only a living server gives: too many connections, access
    /// denied, host blocked, offline, read-only ...
    AliveError {
        /// The server's error number.
        code: u16,
        /// The server's text.
        text: String,
    },
    /// Refused or reset: the kernel lives, the process is gone.
    Refused {
        /// One sentence.
        what: String,
    },
    /// Nothing came back in time, or there is no route.
    Silent {
        /// One sentence.
        what: String,
    },
    /// Something came back that proves neither life nor death: the server is shutting down, its
    /// disk or engine fails (an `insert` ping asks for that), the reply is garbled, or our own side
    /// could not ask. The time since the last answer runs on; it is not a refusal.
    Broken {
        /// One sentence.
        what: String,
    },
}

/// One manager's way to ping one server.
pub struct Pinger {
    target: Arc<Target>,
    manager: ManagerId,
    standing: Option<Wire>,
}

impl Pinger {
    pub(super) fn new(target: Arc<Target>, manager: ManagerId) -> Self {
        Self { target, manager, standing: None }
    }

    /// Pings over the standing connection; opens it first if there is none. After anything but an
    /// answer or an error of the living the connection is given up. `Connect` has no standing
    /// connection and pings afresh.
    ///
    /// An `insert` that waits (for acknowledgements, for a disk) keeps its row locked, so later
    /// ones wait behind it and time out: at most one session per manager hangs in the server.
    pub async fn ping_standing(&mut self, kind: PingType, deadline: Mono) -> PingOutcome {
        if kind == PingType::Connect {
            return self.ping_fresh(deadline).await;
        }
        let mut wire = match self.standing.take() {
            Some(wire) => wire,
            None => match Wire::open(&self.target, deadline).await {
                Ok(wire) => wire,
                Err(fault) => return outcome(&fault, &self.target.label),
            },
        };
        let asked = match kind {
            // Nothing is left behind on the server that would be worth a KILL.
            PingType::Select | PingType::Connect => {
                wire.run_unkilled("SELECT 1", deadline).await.map(drop)
            }
            PingType::Insert => self.insert(&mut wire, deadline).await,
        };
        let found = match asked {
            Ok(()) => PingOutcome::Answered,
            Err(fault) => outcome(&fault, &self.target.label),
        };
        if !wire.is_broken() {
            self.standing = Some(wire);
        }
        found
    }

    /// Pings over a new connection: TCP, greeting, TLS, authentication.
    pub async fn ping_fresh(&self, deadline: Mono) -> PingOutcome {
        match Wire::open(&self.target, deadline).await {
            Ok(wire) => {
                wire.close(deadline).await;
                PingOutcome::Answered
            }
            Err(fault) => outcome(&fault, &self.target.label),
        }
    }

    /// Forgets the standing connection, for instance after a stall of our own.
    pub fn forget(&mut self) {
        self.standing = None;
    }

    async fn insert(&self, wire: &mut Wire, deadline: Mono) -> Result<(), Fault> {
        let insert = format!(
            "REPLACE INTO conclave.ping (manager, at) VALUES ({}, UTC_TIMESTAMP(6))",
            self.manager
        );
        match wire.run(&insert, deadline).await {
            Err(fault) if fault.code().is_some_and(|code| NO_TABLE.contains(&code)) => {}
            other => return other.map(drop),
        }
        wire.run("CREATE DATABASE IF NOT EXISTS conclave", deadline).await?;
        let table = "CREATE TABLE IF NOT EXISTS conclave.ping \
            (manager BIGINT UNSIGNED PRIMARY KEY, at DATETIME(6) NOT NULL)";
        wire.run(table, deadline).await?;
        wire.run(&insert, deadline).await.map(drop)
    }
}

fn outcome(fault: &Fault, label: &str) -> PingOutcome {
    let what = format!("{label}: {}", fault.found());
    if let Fault::Error(Error::Server(error)) = fault {
        if is_no_life(error.code) {
            return PingOutcome::Broken { what };
        }
        return PingOutcome::AliveError { code: error.code, text: error.message.clone() };
    }
    match fault.trouble() {
        Trouble::Refused => PingOutcome::Refused { what },
        Trouble::Silent => PingOutcome::Silent { what },
        // A certificate that does not please us was still sent by a living server; but a proxy
        // could have sent it, so it is no answer.
        Trouble::Denied | Trouble::Answered | Trouble::Local | Trouble::Superseded => {
            PingOutcome::Broken { what }
        }
    }
}

/// Errors after which a server is not known to serve. All others are given by the living.
///
/// * It goes down in an orderly way (1053, 1077, 1079, 1080, 1152, 1184, 1927, 3169): it will
///   not serve again, so this must not count as life, or a shutdown that hangs would never be
///   noticed; the process is still there, so it is no refusal either.
/// * Its disk or engine fails (1 to 36: files; 1005, 1021, 1026, 1030, 1114, 1180, 1194, 1195,
///   1598, 1878, 3019): what an `insert` ping is for.
fn is_no_life(code: u16) -> bool {
    matches!(
        code,
        1053 | 1077 | 1079 | 1080 | 1152 | 1184 | 1927 | 3169 | 1
            ..=36 | 1005 | 1021 | 1026 | 1030 | 1114 | 1180 | 1194 | 1195 | 1598 | 1878 | 3019
    )
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use mysql_async::{IoError, ServerError};

    use super::*;

    fn of(code: u16) -> PingOutcome {
        let (message, state) = ("words".to_owned(), "HY000".to_owned());
        outcome(&Fault::Error(Error::Server(ServerError { code, message, state })), "db1")
    }

    #[test]
    fn errors_of_the_living_are_life() {
        for code in [1040, 1044, 1045, 1129, 1130, 1203, 1205, 1226, 1290, 1698, 1836, 3032, 3118] {
            assert_eq!(of(code), PingOutcome::AliveError { code, text: "words".into() });
        }
    }

    #[test]
    fn a_shutdown_or_a_failing_disk_is_neither_life_nor_death() {
        for code in [1053, 1021, 1114, 3, 28] {
            let what = format!("db1: error {code} (words)");
            assert_eq!(of(code), PingOutcome::Broken { what });
        }
    }

    #[test]
    fn a_broken_connection_is_a_refusal_and_no_answer_is_silence() {
        let eof = Fault::Error(Error::Io(IoError::Io(ErrorKind::UnexpectedEof.into())));
        let what = "db1: the server closed the connection".to_owned();
        assert_eq!(outcome(&eof, "db1"), PingOutcome::Refused { what });
        let what = "db1: no answer in time".to_owned();
        assert_eq!(outcome(&Fault::Late, "db1"), PingOutcome::Silent { what });
    }
}

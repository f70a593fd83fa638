//! What does an error of the driver mean? One pure table for sessions, looks and pings.

use std::io::ErrorKind;

use conclave_core::ports::{Certainty, PortError, Trouble};
use mysql_async::{DriverError, Error, IoError};

use crate::adapters::trouble_of_io;

/// What went wrong on a connection.
#[derive(Debug)]
pub(super) enum Fault {
    /// The deadline passed.
    Late,
    /// The connection had broken before; nothing was sent.
    Gone,
    /// Our own side.
    Local(String),
    /// It answered, with something that makes no sense.
    Odd(String),
    /// The driver says so.
    Error(Error),
}

impl Fault {
    /// The server's error number, if the server itself answered.
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Fault::Error(Error::Server(error)) => Some(error.code),
            Fault::Error(_) | Fault::Late | Fault::Gone | Fault::Local(_) | Fault::Odd(_) => None,
        }
    }

    pub(super) fn trouble(&self) -> Trouble {
        match self {
            Fault::Late => Trouble::Silent,
            Fault::Gone => Trouble::Refused,
            Fault::Local(_) => Trouble::Local,
            Fault::Odd(_) => Trouble::Answered,
            Fault::Error(error) => trouble(error),
        }
    }

    /// The account may log in and lacks a privilege for this statement.
    pub(super) fn is_denial(&self) -> bool {
        self.code().is_some_and(|code| matches!(code, 1044 | 1142 | 1143 | 1227))
    }

    /// Whether a statement that met this fault may have had its effect.
    pub(super) fn certainty(&self) -> Certainty {
        match self {
            Fault::Gone | Fault::Local(_) => Certainty::NotDone,
            Fault::Late | Fault::Odd(_) => Certainty::Unknown,
            Fault::Error(Error::Server(error)) if is_interrupted(error.code) => Certainty::Unknown,
            Fault::Error(Error::Server(_)) => Certainty::NotDone,
            Fault::Error(_) => Certainty::Unknown,
        }
    }

    /// What was found, without the subject.
    pub(super) fn found(&self) -> String {
        match self {
            Fault::Late => "no answer in time".into(),
            Fault::Gone => "the connection had broken before".into(),
            Fault::Local(why) | Fault::Odd(why) => why.clone(),
            Fault::Error(error) => sentence(error),
        }
    }

    /// As the port reports it, for something that changes nothing.
    pub(super) fn not_done(&self, wanted: &str) -> PortError {
        PortError::not_done(self.trouble(), format!("{wanted}: {}", self.found()))
    }
}

/// What kind of trouble.
pub(super) fn trouble(error: &Error) -> Trouble {
    match error {
        Error::Io(IoError::Io(error)) if is_tls(error) => Trouble::Denied,
        Error::Io(IoError::Io(error)) => trouble_of_io(error.kind()),
        Error::Io(IoError::Tls(_)) => Trouble::Denied,
        Error::Driver(error) => trouble_of_driver(error),
        Error::Server(error) if is_denial(error.code) => Trouble::Denied,
        Error::Server(_) => Trouble::Answered,
        Error::Url(_) | Error::Other(_) => Trouble::Local,
    }
}

fn trouble_of_driver(error: &DriverError) -> Trouble {
    match error {
        DriverError::ConnectionClosed | DriverError::PoolDisconnected => Trouble::Refused,
        DriverError::UnknownAuthPlugin { .. }
        | DriverError::MysqlOldPasswordDisabled
        | DriverError::CleartextPluginDisabled
        | DriverError::NoClientSslFlagFromServer => Trouble::Denied,
        _ => Trouble::Answered,
    }
}

/// What TLS has against the peer comes as an input error.
fn is_tls(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.is::<rustls::Error>())
}

/// Login or privilege.
fn is_denial(code: u16) -> bool {
    matches!(
        code,
        1044 | 1045 | 1129 | 1130 | 1142 | 1227 | 1251 | 1396 | 1698 | 1820 | 1862 | 3118 | 3955
    )
}

/// The statement was begun and then cut short: killed, timed out, or the server went down.
fn is_interrupted(code: u16) -> bool {
    matches!(code, 1053 | 1077 | 1080 | 1152 | 1180 | 1317 | 1875 | 1876 | 1927 | 3024 | 3169)
}

/// The error as one sentence. Texts of the server are quoted; payloads never are.
pub(super) fn sentence(error: &Error) -> String {
    match error {
        Error::Io(IoError::Io(error)) if is_tls(error) => format!(
            "TLS: {error}; the server needs a certificate of the configured authority that names \
             the address we connect to"
        ),
        Error::Io(IoError::Io(error)) => io_sentence(error),
        Error::Io(IoError::Tls(error)) => format!("TLS: {error}"),
        Error::Server(error) => format!("error {} ({})", error.code, error.message),
        Error::Driver(DriverError::FromValue { .. } | DriverError::FromRow { .. }) => {
            "a reply of another type than wanted".into()
        }
        Error::Driver(DriverError::UnexpectedPacket { .. }) => "a malformed reply".into(),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            "the server offers no TLS; enable it there or choose another tls setting here".into()
        }
        Error::Driver(error) => error.to_string(),
        Error::Url(error) => error.to_string(),
        Error::Other(error) => error.to_string(),
    }
}

fn io_sentence(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset => "connection reset".into(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
            "the server closed the connection".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod tests;

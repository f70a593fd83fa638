//! How is a manager called? Connections for the command line and for calls that a manager passes
//! on, with the reasons for a failure as sentences.

use std::{error::Error, io, time::Duration};

use tonic::{
    Code, Status,
    transport::{Channel, ClientTlsConfig},
};

use super::pb::{HelloRequest, admin_client::AdminClient};
use crate::raft;

/// How long a manager may take to accept a connection and say hello.
const HELLO: Duration = Duration::from_secs(2);

/// Largest document, in bytes.
const DOCUMENT_MAX: usize = 64 << 20;

/// A manager that cannot be spoken to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("manager at {address}: {why}")]
pub struct Unreachable {
    /// `host:port`.
    pub address: String,
    /// One sentence.
    pub why: String,
}

/// Connects and says hello.
///
/// # Errors
/// It cannot be spoken to; nothing was asked of it.
pub async fn connect(
    address: &str,
    tls: Option<&ClientTlsConfig>,
) -> Result<AdminClient<Channel>, Unreachable> {
    let unreachable = |why: String| Unreachable { address: address.to_owned(), why };
    let endpoint = raft::endpoint(address, tls).map_err(|error| unreachable(error.to_string()))?;
    let greet = async {
        let channel = endpoint.connect().await.map_err(|error| reason(&error, tls.is_some()))?;
        let mut client = AdminClient::new(channel).max_decoding_message_size(DOCUMENT_MAX);
        match client.hello(HelloRequest {}).await {
            Ok(_) => Ok(client),
            Err(status) if is_lost(&status) => Err(reason(&status, tls.is_some())),
            Err(status) => Err(format!("it is no manager of this version: {}", status.message())),
        }
    };
    match tokio::time::timeout(HELLO, greet).await {
        Ok(result) => result.map_err(unreachable),
        Err(_) => Err(unreachable(format!(
            "no answer within {} s: is the host up, the route open and the process not stopped?",
            HELLO.as_secs()
        ))),
    }
}

/// Whether the connection failed, rather than the manager having answered with an error.
pub fn is_lost(status: &Status) -> bool {
    status.source().is_some() || status.code() == Code::Cancelled
}

/// The reason behind a transport error, with the remedy.
fn reason(error: &(dyn Error + 'static), is_tls: bool) -> String {
    let mut deepest = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        deepest = error.to_string();
        if let Some(io) = error.downcast_ref::<io::Error>()
            && let Some(sentence) = io_reason(io)
        {
            return sentence;
        }
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_reason(tls);
        }
        next = error.source();
    }
    match is_tls {
        true => format!(
            "{deepest}; if it runs in plain text (insecure = true), say --insecure, and else see \
             that its authority made your certificate, too"
        ),
        false => {
            format!("{deepest}; if it wants TLS, give --ca, --cert and --key instead of --insecure")
        }
    }
}

fn io_reason(error: &io::Error) -> Option<String> {
    if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Some(tls_reason(tls));
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            Some("nothing listens there: is the manager running, and is this its port?".into())
        }
        io::ErrorKind::TimedOut => Some("no answer: is the host up, and the route open?".into()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Some("there is no route to it".into())
        }
        _ => error.to_string().contains("lookup").then(|| "its name is not known".into()),
    }
}

fn tls_reason(error: &rustls::Error) -> String {
    match error {
        rustls::Error::AlertReceived(alert) => format!(
            "it refuses your certificate ({alert:?}): use one of the authority that conclave tls \
             init made for this group"
        ),
        rustls::Error::InvalidCertificate(why) => format!(
            "its certificate is not accepted ({why:?}): is --ca the authority of this group, and \
             is this address among those the certificate was made for?"
        ),
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS: if it runs with insecure = true, say --insecure".into()
        }
        other => format!("TLS failed: {other}"),
    }
}

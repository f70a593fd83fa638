//! Who asks, and was it passed on already?

use tonic::{Request, Status};

use super::Admin;
use crate::api::{
    document::FORMAT,
    operator,
    pb::{
        Caller, ClusterApplyRequest, ClusterListRequest, ClusterRequest, DrainRequest,
        FailoverRequest, GroupInitRequest, HardenRequest, PauseRequest, RejoinRequest,
        ReportRequest, StatusRequest, SwitchoverRequest, WatchRequest,
    },
};

/// The person behind a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asker {
    /// Their name.
    pub(super) name: String,
    /// Another manager passed it on; it is not passed on again.
    pub(super) is_forwarded: bool,
}

/// A request that says who asks.
pub(super) trait Asked {
    fn caller(&mut self) -> &mut Option<Caller>;
}

macro_rules! asked {
    ($($name:ident)*) => {
        $(impl Asked for $name {
            fn caller(&mut self) -> &mut Option<Caller> {
                &mut self.caller
            }
        })*
    };
}

asked!(ClusterApplyRequest ClusterListRequest ClusterRequest DrainRequest FailoverRequest
    GroupInitRequest SwitchoverRequest
    HardenRequest PauseRequest RejoinRequest ReportRequest StatusRequest WatchRequest);

impl<D> Admin<D> {
    /// The person, and the request as it may be passed on in their name; asked in another version of
    /// the interface, a refusal.
    pub(super) fn identify<R: Asked>(&self, request: Request<R>) -> Result<(Asker, R), Status> {
        let owner = request
            .peer_certs()
            .and_then(|chain| chain.first().and_then(|leaf| operator::owner(leaf)));
        let mut ask = request.into_inner();
        let caller = ask.caller().take().unwrap_or_default();
        if caller.format != FORMAT {
            return Err(Status::failed_precondition(format!(
                "this manager (version {}) knows interface {FORMAT}, and was asked in {}: use the \
                 conclave of the managers' version; nothing was done",
                env!("CARGO_PKG_VERSION"),
                caller.format
            )));
        }
        let asker = match (&self.tls, owner) {
            (None, _) if caller.forwarded => asker(&caller.on_behalf_of, true),
            (None, _) => asker(&caller.login, false),
            (Some(_), None) => {
                let text = "wanted a client certificate with a common name, found none";
                return Err(Status::unauthenticated(text));
            }
            (Some(_), Some(owner)) if caller.forwarded && owner.is_manager => {
                asker(&caller.on_behalf_of, true)
            }
            (Some(_), Some(owner)) => asker(&owner.name, caller.forwarded),
        };
        let on_behalf_of = asker.name.clone();
        *ask.caller() =
            Some(Caller { login: String::new(), on_behalf_of, forwarded: true, format: FORMAT });
        Ok((asker, ask))
    }
}

/// Names end up in the record: bounded, and without control characters.
fn asker(name: &str, is_forwarded: bool) -> Asker {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
    let name = if clean.is_empty() { "unknown".to_owned() } else { clean };
    Asker { name, is_forwarded }
}

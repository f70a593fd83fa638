//! The service of `proto/admin.proto`. Any manager answers; what only the leader can do or know
//! whole is passed on to it, once, in the name of the operator who asked.

mod caller;
mod follow;
mod seat;

use std::{collections::BTreeMap, pin::Pin, sync::Arc, time::Duration};

use conclave_core::{
    decide::{Wish, harden, rejoin},
    model::{
        Actor, ClusterDefinition, ClusterName, Discard, GtidSet, Millis, Refusal, Rejoin,
        ServerName, Switchover, gtid::ParseError,
    },
    ports::ProposeError,
    state::{Command, Planned, Reply},
};
use futures::{Stream, stream};
use serde::Serialize;
use tonic::{Code, Request, Response, Status, transport::ClientTlsConfig};

use self::{caller::Asker, follow::Follow, seat::Seat};
use super::{
    advice, build,
    client::is_lost,
    desk::{Desk, Findings, crowded_rack, rehearse},
    document::FORMAT,
    pb::{
        ClusterApplyReply, ClusterApplyRequest, ClusterListRequest, ClusterRequest, Document, Done,
        DrainRequest, FailoverRequest, GroupInitReply, GroupInitRequest, HardenRequest, HelloReply,
        HelloRequest, PauseRequest, Progress, RejoinRequest, ReportRequest, StatusRequest,
        SwitchoverRequest, WatchRequest,
        admin_server::{self, AdminServer},
    },
    report,
};
use crate::raft::MemberNode;

type Answer<T> = Result<Response<T>, Status>;

/// Answers on their way to an operator.
pub type Stream1<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The service over a running manager.
pub struct Admin<D> {
    desk: Arc<D>,
    /// For calls to the leader; `None`: plain text.
    tls: Option<ClientTlsConfig>,
}

impl<D> Clone for Admin<D> {
    fn clone(&self) -> Self {
        Self { desk: self.desk.clone(), tls: self.tls.clone() }
    }
}

/// The service, to be added to a server. `tls` is what this manager calls others with; with it,
/// operators without a certificate are turned away.
pub fn service<D: Desk>(desk: Arc<D>, tls: Option<ClientTlsConfig>) -> AdminServer<Admin<D>> {
    AdminServer::new(Admin { desk, tls })
}

impl<D: Desk> Admin<D> {
    fn local_status(&self, ask: &StatusRequest, notice: &str) -> Result<Document, Status> {
        let snapshot = self.desk.snapshot();
        let wanted = (!ask.cluster.is_empty()).then(|| ClusterName::from(ask.cluster.as_str()));
        if let Some(name) = &wanted {
            self.known(name)?;
        }
        let names = snapshot.view.group.clusters.keys();
        let names = names.filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == *name));
        let findings: BTreeMap<ClusterName, Findings> =
            names.map(|name| (name.clone(), Findings::of(&snapshot.view, name))).collect();
        let status = build::status(&snapshot, &findings, notice);
        document(&status, status.exit_code)
    }

    async fn whole_status(&self, asker: &Asker, ask: StatusRequest) -> Result<Document, Status> {
        let notice = match self.leader(asker).await {
            Ok(Seat::Mine) => String::new(),
            Ok(Seat::Other(mut there)) => match there.status(ask.clone()).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if is_lost(&status) => self.partial("the leader does not answer"),
                Err(status) => return Err(status),
            },
            Err(status) => self.partial(status.message()),
        };
        self.local_status(&ask, &notice)
    }

    fn partial(&self, why: &str) -> String {
        format!("{why}; this is only what manager {} sees by itself", self.desk.me())
    }

    fn known(&self, name: &ClusterName) -> Result<(), Status> {
        let group = self.desk.group();
        if group.clusters.contains_key(name) {
            return Ok(());
        }
        let names: Vec<&str> = group.clusters.keys().map(ClusterName::as_str).collect();
        let known = match names.is_empty() {
            true => "none is defined yet: conclave cluster apply FILE".to_owned(),
            false => format!("known: {}", names.join(", ")),
        };
        Err(Status::not_found(format!("there is no cluster {name}; {known}")))
    }

    fn local_report(&self, what: &str) -> Result<Document, Status> {
        let group = self.desk.group();
        let attempt = report::find(&group, what).map_err(Status::not_found)?;
        let cluster = group.cluster(attempt.cluster());
        let cluster = cluster.map_err(|error| Status::not_found(error.to_string()))?;
        document(&report::document(cluster, attempt), 0)
    }

    async fn propose(&self, command: Command) -> Result<Reply, Status> {
        match self.desk.propose(command).await {
            Ok(reply) => Ok(reply),
            Err(ProposeError::Rejected(rejection)) => {
                Err(Status::failed_precondition(advice::rejection(&rejection)))
            }
            Err(ProposeError::NotLeader) => {
                Err(Status::unavailable("leadership moved to another manager; say it again"))
            }
            Err(error @ ProposeError::NoQuorum) => Err(Status::unavailable(error.to_string())),
            Err(ProposeError::Unknown(why)) => Err(Status::unknown(format!(
                "it may or may not have been done: {why}; look at conclave status before you say \
                 it again"
            ))),
        }
    }

    /// Plans what sets the missing settings, one step per server at a time.
    async fn plan_hardening(
        &self,
        asker: &Asker,
        name: &ClusterName,
    ) -> Result<Vec<Planned>, Status> {
        let view = self.desk.snapshot().view;
        let list = harden::list(&view, name);
        let Some((cluster, _)) = view.cluster(name) else { return Ok(Vec::new()) };
        let by = asker.actor();
        let all: Vec<Planned> = list.iter().filter_map(|each| each.plan(cluster, &by)).collect();
        for planned in all.clone() {
            let (cluster, epoch) = (name.clone(), cluster.epoch);
            self.propose(Command::PlanChore { cluster, epoch, planned }).await?;
        }
        Ok(all)
    }

    fn wish(&self, asker: &Asker, ask: &FailoverRequest) -> Result<(ClusterName, Wish), Status> {
        let (name, wanted) = self.wanted(&ask.cluster, &ask.to)?;
        let wish = Wish {
            actor: asker.actor(),
            wanted,
            asserted_dead: ask.old_primary_is_dead,
            interval_waived: ask.ignore_last_failover,
            switchover: None,
        };
        Ok((name, wish))
    }

    fn switch(
        &self,
        asker: &Asker,
        ask: &SwitchoverRequest,
    ) -> Result<(ClusterName, Wish), Status> {
        let (name, wanted) = self.wanted(&ask.cluster, &ask.to)?;
        let deadline_ms = match ask.deadline_ms {
            0 => Switchover::DEADLINE,
            some @ 500..=600_000 => Millis(some),
            other => {
                let text = format!("wanted a deadline of 500 ms to 600 s, found {other} ms");
                return Err(Status::invalid_argument(text));
            }
        };
        let plan = Switchover { deadline_ms, leaves_old: ask.leave_old, cuts: ask.cut };
        let wish = Wish {
            actor: asker.actor(),
            wanted,
            asserted_dead: false,
            interval_waived: false,
            switchover: Some(plan),
        };
        Ok((name, wish))
    }

    /// The cluster, which has a primary, and its server of that name; empty: none is asked for.
    fn wanted(&self, cluster: &str, to: &str) -> Result<(ClusterName, Option<ServerName>), Status> {
        let name = ClusterName::from(cluster);
        self.known(&name)?;
        let wanted = (!to.is_empty()).then(|| ServerName::from(to));
        let group = self.desk.group();
        let cluster = group.clusters.get(&name);
        if cluster.is_some_and(|cluster| cluster.primary().is_none()) {
            return Err(Status::failed_precondition(advice::refusal(&Refusal::NoPrimary {
                why: "none was adopted yet".into(),
            })));
        }
        let definition = cluster.map(|cluster| &cluster.definition);
        if let (Some(wanted), Some(definition)) = (&wanted, definition)
            && definition.server(wanted).is_none()
        {
            let names: Vec<&str> = definition.servers.iter().map(|s| s.name.as_str()).collect();
            let known = names.join(", ");
            let text = format!("cluster {name} has no server {wanted}; its servers: {known}");
            return Err(Status::not_found(text));
        }
        Ok((name, wanted))
    }
}

/// A document as it is sent.
fn document(value: &impl Serialize, exit_code: u8) -> Result<Document, Status> {
    let json = serde_json::to_string(value);
    let json = json.map_err(|error| Status::internal(format!("write the document: {error}")))?;
    Ok(Document { format: FORMAT, json, exit_code: exit_code.into() })
}

#[tonic::async_trait]
impl<D: Desk> admin_server::Admin for Admin<D> {
    type WatchStream = Stream1<Document>;
    type FailoverStream = Stream1<Progress>;
    type SwitchoverStream = Stream1<Progress>;

    async fn hello(&self, _request: Request<HelloRequest>) -> Answer<HelloReply> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Response::new(HelloReply { manager: self.desk.me(), version }))
    }

    async fn status(&self, request: Request<StatusRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        Ok(Response::new(self.whole_status(&asker, ask).await?))
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let (asker, ask) = self.identify(request)?;
        let pause = Duration::from_millis(u64::from(ask.every_ms).max(200));
        let admin = self.clone();
        let look = move |is_first: bool| {
            let (admin, asker) = (admin.clone(), asker.clone());
            let ask = StatusRequest { caller: ask.caller.clone(), cluster: ask.cluster.clone() };
            async move {
                if !is_first {
                    tokio::time::sleep(pause).await;
                }
                Some((admin.whole_status(&asker, ask).await, false))
            }
        };
        Ok(Response::new(Box::pin(stream::unfold(true, look))))
    }

    async fn explain(&self, request: Request<ClusterRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        let notice = match self.leader(&asker).await {
            Ok(Seat::Mine) => String::new(),
            Ok(Seat::Other(mut there)) => match there.explain(ask.clone()).await {
                Err(status) if is_lost(&status) => self.partial("the leader does not answer"),
                answer => return answer,
            },
            Err(status) => self.partial(status.message()),
        };
        let name = ClusterName::from(ask.cluster.as_str());
        self.known(&name)?;
        let snapshot = self.desk.snapshot();
        let findings = Findings::of(&snapshot.view, &name);
        let explained = build::explain(&snapshot, &name, &findings, &notice);
        let explained = explained.ok_or_else(|| Status::not_found("the cluster was removed"))?;
        Ok(Response::new(document(&explained, 0)?))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Ok(Seat::Other(mut there)) = self.leader(&asker).await
            && let Ok(answer) = there.report(ask.clone()).await
        {
            return Ok(answer);
        }
        Ok(Response::new(self.local_report(&ask.what)?))
    }

    async fn cluster_apply(
        &self,
        request: Request<ClusterApplyRequest>,
    ) -> Answer<ClusterApplyReply> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.cluster_apply(ask).await);
        }
        let parsed: Result<ClusterDefinition, _> = serde_json::from_str(&ask.definition);
        let definition = parsed.map_err(|error| {
            let text = format!("the definition is not one of this version: {error}");
            Status::invalid_argument(text)
        })?;
        let warnings = advice::on_definition(&definition);
        let command = Command::ApplyDefinition {
            definition: Box::new(definition),
            replaces: ask.replaces,
            actor: asker.actor(),
        };
        match self.propose(command).await? {
            Reply::Version { version } => {
                Ok(Response::new(ClusterApplyReply { version, warnings }))
            }
            other @ (Reply::Ok | Reply::Opened { .. } | Reply::Rejected { .. }) => {
                Err(Status::internal(format!("wanted a version, the state answered {other}")))
            }
        }
    }

    async fn cluster_list(&self, request: Request<ClusterListRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Ok(Seat::Other(mut there)) = self.leader(&asker).await
            && let Ok(answer) = there.cluster_list(ask).await
        {
            return Ok(answer);
        }
        Ok(Response::new(document(&build::list(&self.desk.group()), 0)?))
    }

    async fn cluster_show(&self, request: Request<ClusterRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Ok(Seat::Other(mut there)) = self.leader(&asker).await
            && let Ok(answer) = there.cluster_show(ask.clone()).await
        {
            return Ok(answer);
        }
        let name = ClusterName::from(ask.cluster.as_str());
        self.known(&name)?;
        let group = self.desk.group();
        let cluster = group.cluster(&name).map_err(|error| Status::not_found(error.to_string()))?;
        Ok(Response::new(document(&build::show(cluster), 0)?))
    }

    async fn cluster_harden(&self, request: Request<HardenRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.cluster_harden(ask).await);
        }
        let name = ClusterName::from(ask.cluster.as_str());
        self.known(&name)?;
        let planned = match ask.apply {
            true => self.plan_hardening(&asker, &name).await?,
            false => Vec::new(),
        };
        let found = build::harden(&self.desk.snapshot().view, &name, &planned);
        Ok(Response::new(document(&found, u8::from(found.missing > 0))?))
    }

    async fn cluster_remove(&self, request: Request<ClusterRequest>) -> Answer<Done> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.cluster_remove(ask).await);
        }
        let cluster = ClusterName::from(ask.cluster.as_str());
        self.known(&cluster)?;
        self.propose(Command::RemoveCluster { cluster }).await?;
        Ok(Response::new(Done {}))
    }

    async fn pause(&self, request: Request<PauseRequest>) -> Answer<Done> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.pause(ask).await);
        }
        let cluster = ClusterName::from(ask.cluster.as_str());
        self.known(&cluster)?;
        let command = Command::Pause { cluster, actor: asker.actor(), reason: ask.reason };
        self.propose(command).await?;
        Ok(Response::new(Done {}))
    }

    async fn resume(&self, request: Request<ClusterRequest>) -> Answer<Done> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.resume(ask).await);
        }
        let cluster = ClusterName::from(ask.cluster.as_str());
        self.known(&cluster)?;
        self.propose(Command::Resume { cluster }).await?;
        Ok(Response::new(Done {}))
    }

    async fn failover(&self, request: Request<FailoverRequest>) -> Answer<Self::FailoverStream> {
        let (asker, ask) = self.identify(request)?;
        let follow = match self.leader(&asker).await? {
            Seat::Other(mut there) => {
                let relayed = seat::passed(there.failover(ask.clone()).await)?.into_inner();
                Follow::relay(self.desk.clone(), ask.cluster.as_str().into(), relayed)
            }
            Seat::Mine => {
                let (name, wish) = self.wish(&asker, &ask)?;
                Follow::wish(self.desk.clone(), name, wish)?
            }
        };
        Ok(Response::new(Box::pin(stream::unfold(follow, Follow::next))))
    }

    async fn failover_plan(&self, request: Request<FailoverRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.failover_plan(ask).await);
        }
        let (name, wish) = self.wish(&asker, &ask)?;
        // What a rehearsal finds is as old as the view: no ballots are asked for.
        let run = rehearse(&self.desk.snapshot().view, &name, &wish);
        let exit_code = u8::from(!run.refusals.is_empty());
        Ok(Response::new(document(&build::plan(&name, &run), exit_code)?))
    }

    async fn switchover(
        &self,
        request: Request<SwitchoverRequest>,
    ) -> Answer<Self::SwitchoverStream> {
        let (asker, ask) = self.identify(request)?;
        let follow = match self.leader(&asker).await? {
            Seat::Other(mut there) => {
                let relayed = seat::passed(there.switchover(ask.clone()).await)?.into_inner();
                Follow::relay(self.desk.clone(), ask.cluster.as_str().into(), relayed)
            }
            Seat::Mine => {
                let (name, wish) = self.switch(&asker, &ask)?;
                Follow::wish(self.desk.clone(), name, wish)?
            }
        };
        Ok(Response::new(Box::pin(stream::unfold(follow, Follow::next))))
    }

    async fn switchover_plan(&self, request: Request<SwitchoverRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.switchover_plan(ask).await);
        }
        let (name, wish) = self.switch(&asker, &ask)?;
        self.desk.survey(&name).await;
        let run = rehearse(&self.desk.snapshot().view, &name, &wish);
        let exit_code = u8::from(!run.refusals.is_empty());
        Ok(Response::new(document(&build::plan(&name, &run), exit_code)?))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Answer<Done> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.drain(ask).await);
        }
        let (cluster, server) = self.wanted(&ask.cluster, &ask.server)?;
        let Some(server) = server else {
            return Err(Status::invalid_argument("wanted the name of a server, found none"));
        };
        let by = (!ask.is_over).then(|| asker.actor());
        self.propose(Command::LeaveOut { cluster, server, by }).await?;
        Ok(Response::new(Done {}))
    }

    async fn rejoin(&self, request: Request<RejoinRequest>) -> Answer<Document> {
        let (asker, ask) = self.identify(request)?;
        if let Seat::Other(mut there) = self.leader(&asker).await? {
            return seat::passed(there.rejoin(ask).await);
        }
        let (name, server) =
            (ClusterName::from(ask.cluster.as_str()), ServerName::from(ask.server.as_str()));
        self.known(&name)?;
        let discard = match (ask.discard_proved, ask.discard_all) {
            (_, true) => Discard::All,
            (true, false) => Discard::Proved,
            (false, false) => Discard::Nothing,
        };
        let view = self.desk.snapshot().view;
        let plan = rejoin::plan(&view, &name, &server, discard);
        let cluster = view.group.cluster(&name);
        let cluster = cluster.map_err(|error| Status::not_found(error.to_string()))?;
        if plan.refusals.is_empty() && !ask.dry_run {
            let extra: GtidSet = ask.extra.parse().map_err(|error: ParseError| {
                Status::invalid_argument(format!("what is to be discarded: {error}"))
            })?;
            let rejoin = Rejoin { actor: asker.actor(), discard, extra };
            let (cluster, epoch) = (name.clone(), cluster.epoch);
            let server = server.clone();
            self.propose(Command::Rejoin { cluster, epoch, server, rejoin }).await?;
        }
        let exit_code = u8::from(!plan.refusals.is_empty());
        Ok(Response::new(document(&build::extra::rejoin(cluster, &server, &plan), exit_code)?))
    }

    async fn group_init(&self, request: Request<GroupInitRequest>) -> Answer<GroupInitReply> {
        let (_, ask) = self.identify(request)?;
        let mut members: BTreeMap<u64, MemberNode> = BTreeMap::new();
        for member in ask.members {
            let node = MemberNode { addr: member.address, rack: member.rack };
            if members.insert(member.id, node).is_some() {
                let text = format!("manager {} is named twice; nothing was done", member.id);
                return Err(Status::invalid_argument(text));
            }
        }
        let racks = members.values().map(|node| node.rack.as_str());
        let warnings = crowded_rack(racks).into_iter().collect();
        let group = self.desk.init_group(members).await;
        let group = group.map_err(|why| Status::new(Code::FailedPrecondition, why))?;
        Ok(Response::new(GroupInitReply { group, warnings }))
    }
}

impl Asker {
    fn actor(&self) -> Actor {
        Actor::Operator { name: self.name.clone() }
    }
}

#[cfg(test)]
mod tests;

//! How is each server, and who replicates from whom?

use std::collections::BTreeSet;

use conclave_core::{
    decide::{ClusterView, View, view::FRESH},
    model::{Applier, GtidSet, Receiver, ReplicaFacts, ServerDefinition, ServerFacts, ServerName},
    state::{ClusterState, Standing},
};

use crate::api::{document::ServerDocument, sentence};

/// The servers in the order of the tree. What hangs nowhere hangs below the primary.
pub(super) fn tree(view: &View, cluster: &ClusterState, seen: &ClusterView) -> Vec<ServerDocument> {
    let found = Found { view, cluster, seen };
    let mut left: BTreeSet<&ServerName> =
        cluster.definition.servers.iter().map(|server| &server.name).collect();
    let mut out = Vec::new();
    let first = cluster.primary().into_iter();
    let others = cluster.definition.servers.iter().map(|server| &server.name);
    for root in first.chain(others.clone().filter(|name| found.parent(name).is_none())) {
        found.below(root, 0, &mut left, &mut out);
    }
    // What is left replicates in a circle.
    for root in others {
        found.below(root, 0, &mut left, &mut out);
    }
    out
}

struct Found<'a> {
    view: &'a View,
    cluster: &'a ClusterState,
    seen: &'a ClusterView,
}

impl<'a> Found<'a> {
    fn facts(&self, name: &ServerName) -> Option<&'a ServerFacts> {
        self.seen.facts(name, self.view.now, FRESH)
    }

    fn source(&self, name: &ServerName) -> Option<&'a ServerDefinition> {
        let replica = self.facts(name)?.replica.as_ref()?;
        self.cluster.definition.server_at(&replica.source_host, replica.source_port)
    }

    /// The server it is shown below.
    fn parent(&self, name: &ServerName) -> Option<&'a ServerName> {
        let primary = self.cluster.primary().filter(|primary| *primary != name)?;
        Some(self.source(name).map_or(primary, |source| &source.name))
    }

    fn below(
        &self,
        name: &'a ServerName,
        depth: usize,
        left: &mut BTreeSet<&'a ServerName>,
        out: &mut Vec<ServerDocument>,
    ) {
        let Some(definition) = self.cluster.definition.server(name) else { return };
        if !left.remove(name) {
            return;
        }
        out.push(self.document(definition, depth));
        for child in &self.cluster.definition.servers {
            if self.parent(&child.name) == Some(name) {
                self.below(&child.name, depth + 1, left, out);
            }
        }
    }

    fn document(&self, server: &ServerDefinition, depth: usize) -> ServerDocument {
        let name = &server.name;
        let facts = self.facts(name);
        let replica = facts.and_then(|facts| facts.replica.as_ref());
        let (missing, errant) = self.compared(name, facts);
        ServerDocument {
            name: name.to_string(),
            address: format!("{}:{}", server.host, server.port),
            rack: server.rack.clone(),
            depth,
            source: replica.map(|replica| match self.source(name) {
                Some(source) => source.name.to_string(),
                None => format!("{}:{}", replica.source_host, replica.source_port),
            }),
            role: self.role(name, facts).into(),
            is_reached: facts.is_some(),
            look_age_us: self.seen.observations.get(name).map(|o| self.view.now.since(o.at).0),
            state: self.state(name, facts),
            uuid: facts
                .map(|facts| facts.uuid.clone())
                .or_else(|| self.cluster.members.get(name)?.uuid.clone()),
            server_version: facts.map(|facts| facts.version.clone()),
            is_writable: facts.map(ServerFacts::is_writable),
            read_only: facts.map(|facts| facts.read_only),
            super_read_only: facts.map(|facts| facts.super_read_only),
            lag_s: replica.and_then(|replica| replica.lag_seconds),
            is_acker: server.acker && self.cluster.primary() != Some(name),
            semi_sync: facts.map(|facts| semi_sync(facts).into()),
            waiting_sessions: facts.and_then(|f| f.semi_sync.as_ref()).map(|semi| semi.waiting),
            executed: facts.map(|facts| facts.executed.to_string()),
            executed_short: facts.map(|facts| sentence::short(&facts.executed)),
            missing: missing.as_ref().map(sentence::gtids),
            errant: errant.as_ref().map(sentence::gtids),
            extra: super::extra::of_server(self.cluster, name),
            hearing: self.seen.hearing.get(name).map(sentence::hearing),
        }
    }

    fn role(&self, name: &ServerName, facts: Option<&ServerFacts>) -> &'static str {
        if self.cluster.primary() == Some(name) {
            return "primary";
        }
        let member = self.cluster.members.get(name);
        if member.is_some_and(|member| member.left_out.is_some()) {
            let acknowledges = self.cluster.regime().is_some_and(|it| it.ackers.contains(name));
            return if acknowledges { "draining" } else { "drained" };
        }
        let standing = member.map(|member| &member.standing);
        match (standing, facts) {
            (Some(Standing::Former { .. }), _) => "former",
            (Some(Standing::Quarantined { .. }), _) => "quarantined",
            (Some(Standing::Member) | None, None) => "unknown",
            (Some(Standing::Member) | None, Some(facts)) => match facts.replica {
                Some(_) => "replica",
                None => "alone",
            },
        }
    }

    fn state(&self, name: &ServerName, facts: Option<&ServerFacts>) -> String {
        let Some(facts) = facts else {
            return match self.seen.observations.get(name) {
                None => "not looked at yet".into(),
                Some(look) => match &look.seen {
                    Err(why) => format!("unreachable: {why}"),
                    Ok(_) => format!("not looked at for {}", self.view.now.since(look.at)),
                },
            };
        };
        let access = match (facts.offline, facts.read_only) {
            (true, _) => "offline",
            (false, true) => "read-only",
            (false, false) => "writable",
        };
        let is_primary = self.cluster.primary() == Some(name);
        match (&facts.replica, is_primary) {
            (None, _) => access.into(),
            (Some(replica), false) if facts.read_only => link(replica),
            (Some(replica), _) => format!("{access}, {}", link(replica)),
        }
    }

    /// What it has not received of the primary's transactions, and what the primary lacks. What
    /// the primary numbered itself is never errant: its own look may be the older one.
    fn compared(
        &self,
        name: &ServerName,
        facts: Option<&ServerFacts>,
    ) -> (Option<GtidSet>, Option<GtidSet>) {
        let members = &self.cluster.members;
        if let Some(Standing::Quarantined { errant, .. }) = members.get(name).map(|m| &m.standing) {
            return (None, Some(errant.clone()));
        }
        let primary = self.cluster.primary().filter(|primary| *primary != name);
        let pair = primary.and_then(|primary| self.facts(primary)).zip(facts);
        let Some((primary, facts)) = pair else { return (None, None) };
        let extra = facts.executed.minus(&primary.executed);
        let own = extra.of_origins(&[&primary.uuid]);
        (Some(primary.executed.minus(&facts.received())), Some(extra.minus(&own)))
    }
}

fn semi_sync(facts: &ServerFacts) -> &'static str {
    match &facts.semi_sync {
        None => "absent",
        Some(semi) if semi.source_enabled => "source",
        Some(semi) if semi.replica_active => "replica",
        Some(_) => "off",
    }
}

fn link(replica: &ReplicaFacts) -> String {
    let receiver = match (&replica.receiver, &replica.receiver_error) {
        (Receiver::On, _) => String::new(),
        (Receiver::Connecting, Some((code, text))) => {
            format!("receiver cannot connect ({code}: {text})")
        }
        (Receiver::Connecting, None) => "receiver is connecting".into(),
        (Receiver::Off, Some((code, text))) => format!("receiver stopped ({code}: {text})"),
        (Receiver::Off, None) => "receiver stopped".into(),
    };
    let applier = match &replica.applier {
        Applier::On => String::new(),
        Applier::Off => "applier stopped".into(),
        Applier::Broken { code, text } => format!("applier broken ({code}: {text})"),
    };
    match (receiver.is_empty(), applier.is_empty()) {
        (true, true) => "replicates".into(),
        (true, false) => applier,
        (false, true) => receiver,
        (false, false) => format!("{receiver}, {applier}"),
    }
}

//! What `quorum` mode asks of each server and does not find (SAFETY section 3), and how each may be
//! had: the list behind `problem.requirement` and behind `conclave cluster harden`.

use std::collections::BTreeSet;

use super::{
    ackers,
    view::{ClusterView, FRESH, View},
};
use crate::{
    model::{
        Boot, Family, Mode, PromotionRule, Regime, ReplicaFacts, ServerDefinition, ServerFacts,
        ServerName, Setting,
    },
    state::{ClusterState, Standing},
};

/// Why mode `quorum` is refused for servers of MariaDB (SAFETY section 7).
pub const NO_QUORUM: &str = "on MariaDB an acknowledgement proves nothing in mode quorum: an acker \
    whose threads were both stopped throws away what it received and had not applied";

/// Something missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// What is wanted, with what was found where that is not plain.
    pub what: String,
    /// How it can be had.
    pub remedy: Remedy,
    /// It is known to be missing; otherwise nobody can tell, and it is no problem yet.
    pub is_certain: bool,
}

/// How something missing can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// A setting.
    Set(Setting),
    /// Semi-sync on the primary, for so many.
    Arm {
        /// How many.
        acks: u32,
    },
    /// A person's work; statements that help, one per line.
    Hand {
        /// Statements, or words.
        text: String,
    },
}

/// Everything missing on one server; empty where it is not reached or no member, or in another
/// mode.
pub fn of(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerDefinition,
) -> Vec<Need> {
    let facts = seen.facts(&server.name, view.now, FRESH);
    let Some(facts) = facts.filter(|_| cluster.definition.mode == Mode::Quorum) else {
        return Vec::new();
    };
    let is_primary = cluster.primary() == Some(&server.name);
    let standing = cluster.members.get(&server.name).map(|member| &member.standing);
    if cluster.primary().is_none() || standing != Some(&Standing::Member) {
        return Vec::new();
    }
    if facts.family() == Family::MariaDb {
        let text = "mode = \"fenced\" in the definition, or MySQL in place of it".into();
        return vec![hand(format!("MySQL: {NO_QUORUM}"), text)];
    }
    let mut out = Vec::new();
    if is_primary || server.promotion != PromotionRule::Never {
        out.extend(settings(facts, &[Setting::SyncBinlog, Setting::FlushLog], is_primary));
    }
    match (&facts.semi_sync, is_primary) {
        (Some(semi_sync), _) if semi_sync.has_source => {}
        (Some(_) | None, true) => out.push(plugins("the semi-sync plugins")),
        (Some(_) | None, false) if server.promotion != PromotionRule::Never => {
            out.push(plugins("the semi-sync source plugin: it could not be promoted"));
        }
        (Some(_) | None, false) => {}
    }
    match cluster.regime().filter(|_| is_primary) {
        Some(regime) => out.extend(of_primary(view, cluster, seen, regime, facts)),
        None => {
            out.extend(of_replica(cluster, server, facts));
            out.extend(under_another(view, cluster, seen, server));
        }
    }
    out.extend(of_boot(facts));
    out.extend(of_account(cluster, &server.name, &server.replication_account));
    out
}

fn settings(facts: &ServerFacts, wanted: &[Setting], is_primary: bool) -> Vec<Need> {
    let missing = wanted.iter().filter(|setting| !setting.is_met(facts));
    let need = |setting: &Setting| {
        let found = match setting {
            Setting::SyncBinlog => facts.sync_binlog.to_string(),
            Setting::FlushLog => facts.flush_log.to_string(),
            Setting::SyncRelayLog => facts.sync_relay_log.to_string(),
            Setting::BootReadOnly
            | Setting::SkipReplicaStart
            | Setting::WaitPoint
            | Setting::WaitNoReplica
            | Setting::Timeout
            | Setting::SourceOff => String::new(),
        };
        let mut what = said(*setting);
        if !found.is_empty() {
            what = format!("{what} (it is {found})");
        }
        let is_later = matches!(setting, Setting::SyncBinlog | Setting::FlushLog) && !is_primary;
        if is_later {
            what += ", for the day it is promoted";
        }
        Need { what, remedy: Remedy::Set(*setting), is_certain: true }
    };
    missing.map(need).collect()
}

/// A setting in words.
fn said(setting: Setting) -> String {
    match setting {
        Setting::Timeout => "rpl_semi_sync_source_timeout of a day or more (milliseconds)".into(),
        Setting::SourceOff => {
            "rpl_semi_sync_source_enabled = OFF on a replica (its applier would hang)".into()
        }
        Setting::SyncBinlog
        | Setting::FlushLog
        | Setting::SyncRelayLog
        | Setting::BootReadOnly
        | Setting::SkipReplicaStart
        | Setting::WaitPoint
        | Setting::WaitNoReplica => {
            let pairs = setting.variables().iter().map(|(name, value)| format!("{name} = {value}"));
            pairs.collect::<Vec<_>>().join(", ")
        }
    }
}

fn plugins(what: &str) -> Need {
    let text = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so'\n\
                INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'";
    hand(what.into(), text.into())
}

fn hand(what: String, text: String) -> Need {
    Need { what, remedy: Remedy::Hand { text }, is_certain: true }
}

fn of_primary(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    regime: &Regime,
    facts: &ServerFacts,
) -> Vec<Need> {
    let Some(semi_sync) = facts.semi_sync.as_ref().filter(|semi_sync| semi_sync.has_source) else {
        return Vec::new();
    };
    let acks = cluster.definition.acks;
    let wanted = [Setting::WaitPoint, Setting::WaitNoReplica, Setting::Timeout];
    let mut out = settings(facts, &wanted, true);
    let arm = |what: String| Need { what, remedy: Remedy::Arm { acks }, is_certain: true };
    if !semi_sync.source_enabled {
        out.push(arm("rpl_semi_sync_source_enabled = ON".into()));
    }
    if semi_sync.acks < acks {
        out.push(arm(format!(
            "rpl_semi_sync_source_wait_for_replica_count = {acks}, as defined (it is {})",
            semi_sync.acks
        )));
    }
    out.extend(strangers(view, cluster, seen, regime, facts));
    out
}

/// Somebody acknowledges who is not defined: more semi-sync clients than ackers that acknowledge, and
/// connections under accounts that are nobody's, or twice under one. (The count alone may be of a
/// connection that broke a moment ago.)
fn strangers(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    regime: &Regime,
    facts: &ServerFacts,
) -> Option<Need> {
    let semi_sync = facts.semi_sync.as_ref()?;
    let servers = cluster.definition.servers.iter().filter(|server| server.name != regime.primary);
    let known = servers.filter(|server| ackers::acknowledges(view, cluster, seen, &server.name));
    let known = known.count();
    if semi_sync.clients as usize <= known {
        return None;
    }
    let dumps = &facts.inbound.as_ref()?.dumps;
    let accounts: BTreeSet<&String> =
        cluster.definition.servers.iter().map(|server| &server.replication_account).collect();
    let is_odd = |account: &&String| {
        !accounts.contains(account)
            || dumps.iter().filter(|other| other == account).count() > users(cluster, account)
    };
    let odd: BTreeSet<&str> = dumps.iter().filter(is_odd).map(String::as_str).collect();
    let named = odd.iter().copied().collect::<Vec<_>>().join(", ");
    (!odd.is_empty()).then(|| {
        let what = format!(
            "no semi-sync client but its ackers ({} are connected, {known} of them known; look at \
             account {named})",
            semi_sync.clients
        );
        let text = "SHOW REPLICAS\n-- on the stranger:\n\
                    SET PERSIST rpl_semi_sync_replica_enabled = OFF\nSTOP REPLICA IO_THREAD\n\
                    START REPLICA IO_THREAD";
        hand(what, text.into())
    })
}

/// How many servers are defined with that account.
fn users(cluster: &ClusterState, account: &str) -> usize {
    let servers = cluster.definition.servers.iter();
    servers.filter(|server| server.replication_account == account).count()
}

fn of_replica(cluster: &ClusterState, server: &ServerDefinition, facts: &ServerFacts) -> Vec<Need> {
    let is_acker = cluster.regime().is_some_and(|regime| regime.ackers.contains(&server.name));
    if cluster.attempt.is_some() {
        return Vec::new();
    }
    let mut out = Vec::new();
    if is_acker {
        out.extend(settings(facts, &[Setting::SyncRelayLog], false));
        if !facts.semi_sync.as_ref().is_some_and(|semi_sync| semi_sync.replica_active) {
            let text = "SET GLOBAL rpl_semi_sync_replica_enabled = ON\nSTOP REPLICA IO_THREAD\n\
                        START REPLICA IO_THREAD";
            out.push(hand("an active semi-sync replica side".into(), text.into()));
        }
    }
    out.extend(settings(facts, &[Setting::SourceOff], false));
    out
}

/// The second key is as good as the heartbeats; asked for in every mode.
pub fn of_heartbeat(cluster: &ClusterState, replica: &ReplicaFacts) -> Option<Need> {
    let wanted = cluster.definition.policy.heartbeat_ms;
    let found = replica.options.heartbeat_ms;
    let seconds = |millis: u64| f64::from(u32::try_from(millis).unwrap_or(u32::MAX)) / 1e3;
    (!(1..=wanted.0).contains(&found)).then(|| {
        let what = format!(
            "SOURCE_HEARTBEAT_PERIOD of at most {wanted} (it is {} s): a silent primary is noticed \
             only after two of them",
            seconds(found)
        );
        let text = format!(
            "STOP REPLICA IO_THREAD\nCHANGE REPLICATION SOURCE TO SOURCE_HEARTBEAT_PERIOD = {}\n\
             START REPLICA IO_THREAD",
            seconds(wanted.0)
        );
        hand(what, text)
    })
}

/// It is connected to the primary, and the primary serves nobody under its account: locking that
/// account would not lock it out.
fn under_another(
    view: &View,
    cluster: &ClusterState,
    seen: &ClusterView,
    server: &ServerDefinition,
) -> Option<Need> {
    let primary = seen.facts(cluster.primary()?, view.now, FRESH)?;
    let account = &server.replication_account;
    let is_odd = ackers::acknowledges(view, cluster, seen, &server.name)
        && !primary.inbound.as_ref()?.dumps.contains(account);
    is_odd.then(|| {
        let text = format!(
            "STOP REPLICA IO_THREAD\nCHANGE REPLICATION SOURCE TO SOURCE_USER = '{account}', \
             SOURCE_PASSWORD = '...', SOURCE_HEARTBEAT_PERIOD = 0.5\nSTART REPLICA IO_THREAD"
        );
        hand(format!("replication under its account as defined, {account:?}"), text)
    })
}

fn of_boot(facts: &ServerFacts) -> Vec<Need> {
    let mut out = Vec::new();
    if facts.boot != Boot::ReadOnly {
        out.push(Need {
            what: "read_only = ON and super_read_only = ON at boot".into(),
            remedy: Remedy::Set(Setting::BootReadOnly),
            is_certain: facts.boot == Boot::Open,
        });
    }
    if !facts.skips_replica_start {
        let what = "skip_replica_start = ON at boot".into();
        out.push(Need { what, remedy: Remedy::Set(Setting::SkipReplicaStart), is_certain: true });
    }
    out
}

/// One account for several servers: none of them could be locked out, and a stranger with that
/// account looks like one of them.
fn of_account(cluster: &ClusterState, server: &ServerName, account: &str) -> Option<Need> {
    let others = cluster.definition.sharing_account(server);
    let named = others.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    (!others.is_empty()).then(|| {
        let what = format!(
            "a replication account of its own (it has {account:?} in common with {named}, so that \
             none of them could be locked out)"
        );
        let own = format!("repl_{server}");
        let text = format!(
            "-- on the primary, with a password that goes into every manager's secrets file, too:\n\
             CREATE USER '{own}'@'%' IDENTIFIED BY '...'\n\
             GRANT REPLICATION SLAVE ON *.* TO '{own}'@'%'\n\
             -- then replication_account = \"{own}\" in the definition, and on {server}:\n\
             STOP REPLICA IO_THREAD\n\
             CHANGE REPLICATION SOURCE TO SOURCE_USER = '{own}', SOURCE_PASSWORD = '...', \
             SOURCE_HEARTBEAT_PERIOD = 0.5\nSTART REPLICA IO_THREAD"
        );
        hand(what, text)
    })
}

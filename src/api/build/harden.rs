//! What do the servers of one cluster lack, and what is to be said to them?

use conclave_core::{
    decide::{
        View, harden,
        harden::Hardening,
        requirement::{Need, Remedy},
    },
    model::{ClusterName, Setting},
    state::{ClusterState, Planned},
};

use crate::api::{
    document::{FORMAT, HardenDocument, HardenServer, NeedDocument},
    sentence,
};

/// Lines for every server's configuration file besides the settings.
const FILE: [&str; 6] = [
    "log_bin = binlog",
    "gtid_mode = ON",
    "enforce_gtid_consistency = ON",
    "plugin_load_add = semisync_source.so",
    "plugin_load_add = semisync_replica.so",
    "rpl_semi_sync_source_enabled = OFF   # the managers switch it on where it belongs",
];

/// Lines for every server's service unit: an orderly stop answers OK to whoever waits for an
/// acknowledgement (SAFETY, section 1).
const UNIT: [&str; 2] = ["[Service]", "KillSignal=SIGKILL"];

/// The document. `planned` are the steps that were just planned.
pub fn harden(view: &View, name: &ClusterName, planned: &[Planned]) -> HardenDocument {
    let list = harden::list(view, name);
    let cluster = view.group.clusters.get(name);
    let servers: Vec<HardenServer> = list.iter().map(|each| server(cluster, each)).collect();
    let needs = || servers.iter().flat_map(|server| &server.missing);
    HardenDocument {
        format: FORMAT,
        cluster: name.to_string(),
        mode: cluster.map_or("", |cluster| cluster.definition.mode.as_str()).into(),
        missing: needs().count(),
        applicable: needs().filter(|need| need.is_applicable).count(),
        planned: planned.iter().map(sentence::planned).collect(),
        my_cnf: my_cnf(),
        unit: UNIT.map(str::to_owned).into(),
        servers,
    }
}

fn server(cluster: Option<&ClusterState>, each: &Hardening) -> HardenServer {
    let last = each.step.as_ref();
    let is_over = last.is_some_and(|step| step.runs.len() >= harden::RUNS && step.has_failed());
    HardenServer {
        name: each.server.to_string(),
        is_primary: cluster.and_then(ClusterState::primary) == Some(&each.server),
        is_reached: each.is_reached,
        missing: each.needs.iter().map(need).collect(),
        step: last.map(sentence::step),
        is_under_way: last.is_some() && !is_over,
    }
}

fn need(need: &Need) -> NeedDocument {
    let (lines, is_applicable) = match &need.remedy {
        Remedy::Set(setting) => (vec![setting.statement()], true),
        Remedy::Arm { acks } => {
            let count = format!("SET GLOBAL rpl_semi_sync_source_wait_for_replica_count = {acks}");
            (vec![count, "SET GLOBAL rpl_semi_sync_source_enabled = ON".into()], true)
        }
        Remedy::Hand { text } => (text.lines().map(str::to_owned).collect(), false),
    };
    NeedDocument { what: need.what.clone(), is_certain: need.is_certain, lines, is_applicable }
}

fn my_cnf() -> Vec<String> {
    let settings = Setting::ALL.into_iter().filter(|setting| *setting != Setting::SourceOff);
    let pairs = settings.flat_map(|setting| setting.variables());
    let lines = pairs.map(|(name, value)| format!("{name} = {value}"));
    let file = FILE.into_iter().map(str::to_owned);
    ["[mysqld]".to_owned()].into_iter().chain(file).chain(lines).collect()
}

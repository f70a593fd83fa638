//! Tests of the group and its storage.

mod group;
pub mod sim;
mod store;
mod suite;

use conclave_core::model::{
    Actor, ClusterDefinition, ClusterName, Mode, Policy, PromotionRule, ServerDefinition,
};

use super::types::{Command, State};

// What the tests know of the replicated state stands here, and only here.

/// Sets `key` to `value`: the definition of a cluster of that name, with that account.
pub fn put(key: &str, value: &str) -> Command {
    let server = |name: &str, host: &str| ServerDefinition {
        name: name.into(),
        host: host.into(),
        port: 3306,
        rack: String::new(),
        promotion: PromotionRule::Allow,
        acker: true,
        replication_account: "repl".into(),
        ssh: None,
        data_dir: String::new(),
        log_bin: None,
        service: None,
    };
    let definition = ClusterDefinition {
        name: key.into(),
        mode: Mode::BestEffort,
        acks: 0,
        admin_account: value.to_owned(),
        servers: vec![server("a", "10.0.0.1"), server("b", "10.0.0.2")],
        writer: None,
        readers: Vec::new(),
        hooks: Vec::new(),
        policy: Policy::default(),
    };
    let definition = Box::new(definition);
    Command::ApplyDefinition { definition, replaces: None, actor: Actor::Group }
}

/// The value of `key`.
pub fn get(state: &State, key: &str) -> Option<String> {
    Some(state.clusters.get(&ClusterName(key.to_owned()))?.definition.admin_account.clone())
}

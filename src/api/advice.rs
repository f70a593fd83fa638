//! What should an operator know beside a plain yes or no?

use conclave_core::model::{ClusterDefinition, Mode, Refusal, Rejection};

use super::catalogue;

/// A rejection with its remedy.
pub fn rejection(rejection: &Rejection) -> String {
    match rejection {
        Rejection::Refused { refusal: found } => refusal(found),
        Rejection::NoSuchCluster { .. } => format!("{rejection}; conclave cluster list shows all"),
        Rejection::WrongEpoch { .. }
        | Rejection::WrongStage { .. }
        | Rejection::WrongStep { .. }
        | Rejection::StaleTerm { .. }
        | Rejection::BadDefinition { .. }
        | Rejection::NotNow { .. } => format!("nothing was changed: {rejection}"),
    }
}

/// A refusal with its remedy.
pub fn refusal(refusal: &Refusal) -> String {
    let (code, sentence) = (refusal.code(), refusal.sentence());
    format!("{code}: {sentence}; remedy: {}", catalogue::refusal_remedy(refusal))
}

/// What is no mistake in a definition, but worth a second look.
pub fn on_definition(definition: &ClusterDefinition) -> Vec<String> {
    let mut out = Vec::new();
    let without_ssh: Vec<&str> = definition
        .servers
        .iter()
        .filter(|server| server.ssh.is_none())
        .map(|server| server.name.as_str())
        .collect();
    let names = without_ssh.join(", ");
    match definition.mode {
        Mode::BestEffort => out.push(
            "mode best_effort goes on although the old primary may still take writes: two \
             primaries are possible"
                .into(),
        ),
        Mode::Fenced if !without_ssh.is_empty() => out.push(format!(
            "mode fenced needs ssh to prove that an old primary is dead; without it: {names}"
        )),
        Mode::Fenced | Mode::Quorum => {}
    }
    if !(without_ssh.is_empty() || definition.writer.is_none() && definition.readers.is_empty()) {
        out.push(format!("addresses (vip) are moved over ssh; without it: {names}"));
    }
    let racks = definition.servers.iter().map(|server| server.rack.as_str());
    let racks: std::collections::BTreeSet<&str> = racks.collect();
    if racks.len() == 1 {
        out.push("all servers stand in one rack and are lost together with it".into());
    }
    if !definition.policy.automatic {
        out.push("automatic = false: the group watches and reports, and people fail over".into());
    }
    out
}

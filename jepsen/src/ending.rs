//! All is repaired: does everything come right by itself, and what is on the servers then?

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use conclave_lab::{Host, now_us};
use serde_json::Value;

use crate::record::{Deed, Ending, Quarantined, Rows};
use crate::stage::Stage;

/// How long everything may take to come right. Generous: the machine is loaded.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How long a replica may take to apply what the primary has.
const CATCH_UP_S: u64 = 120;

/// Heals, waits, makes new what is quarantined, waits again, ends the clients and reads. What does
/// not come right is written down in the ending; it is not the harness that failed.
///
/// # Errors
/// The lab could not do its part.
pub fn end(stage: &mut Stage<'_>, ending: &mut Ending) -> anyhow::Result<()> {
    ending.healed_us = now_us();
    stage.repair(0)?;
    stage.look();
    ending.healed_us = now_us();
    match settle(stage, PATIENCE)? {
        Ok(cluster) => {
            ending.settled_us = Some(now_us());
            ending.quarantined = quarantined(stage, &cluster)?;
        }
        Err(why) => {
            ending.unsettled = Some(why);
            return Ok(());
        }
    }
    rebuild(stage)?;
    match become_healthy(stage, PATIENCE)? {
        Ok(cluster) => {
            ending.healthy_us = Some(now_us());
            ending.primary = cluster["primary"].as_str().map(str::to_owned);
            ending.epoch = cluster["epoch"].as_u64();
        }
        Err(why) => ending.unhealthy = Some(why),
    }
    Ok(())
}

/// Reads all rows of all servers, of the primary first. The clients have ended.
///
/// # Errors
/// A server does not answer, or does not apply what the primary has.
pub fn read(stage: &mut Stage<'_>, primary: &str) -> anyhow::Result<Vec<Rows>> {
    let first = stage.lab.host(primary)?;
    let executed = first.sql_value("SELECT @@global.gtid_executed")?;
    let mut all = vec![rows(&first)?];
    for name in stage.others(primary) {
        let host = stage.lab.host(&name)?;
        let wait = format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', {CATCH_UP_S})");
        let waited = host.sql_within(Duration::from_secs(CATCH_UP_S + 10), &wait)?;
        if waited != [["0"]] {
            bail!("{name} did not catch up with {primary} within {CATCH_UP_S} s");
        }
        all.push(rows(&host)?);
    }
    Ok(all)
}

fn rows(host: &Host) -> anyhow::Result<Rows> {
    let keys = |table: &str| -> anyhow::Result<Vec<u64>> {
        let found = host.sql_within(SLOW, &format!("SELECT id FROM {table} ORDER BY id"))?;
        let keys = found.iter().flatten().map(|key| key.parse());
        keys.collect::<Result<_, _>>().with_context(|| format!("read the keys of {table}"))
    };
    Ok(Rows { server: host.name(), t: keys("app.t")?, w: keys("app.w")? })
}

const SLOW: Duration = Duration::from_secs(120);

/// What became of a cluster that was waited for: its status, or why it did not come right, with the
/// last status.
pub type Waited = Result<Value, String>;

/// Waits until there is one primary that is well, and every other server replicates from it or is
/// quarantined.
///
/// # Errors
/// The lab could not do its part.
pub fn settle(stage: &mut Stage<'_>, limit: Duration) -> anyhow::Result<Waited> {
    wait(stage, limit, unsettled)
}

/// Waits until there is nothing to say about the cluster, and a write is acknowledged.
///
/// # Errors
/// As [`settle`].
pub fn become_healthy(stage: &mut Stage<'_>, limit: Duration) -> anyhow::Result<Waited> {
    let waited = wait(stage, limit, unhealthy)?;
    if waited.is_err() {
        return Ok(waited);
    }
    match stage.writes_again(limit) {
        Ok(()) => Ok(waited),
        Err(error @ conclave_lab::Error::Deadline { .. }) => {
            Ok(Err(format!("the cluster looks healthy, and {error}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn wait(
    stage: &mut Stage<'_>,
    limit: Duration,
    missing: fn(&Value) -> Option<String>,
) -> anyhow::Result<Waited> {
    let until = Instant::now() + limit;
    let mut last = Value::Null;
    while Instant::now() < until {
        if let Ok(cluster) = stage.group.cluster() {
            if missing(&cluster).is_none() {
                stage.look();
                return Ok(Ok(cluster));
            }
            last = cluster;
        }
        // The fence of an attempt that is still open kills what was started; then it is for an
        // operator to start it again.
        stage.repair(0)?;
        stage.pass(Duration::from_millis(200));
    }
    let why = missing(&last).unwrap_or_else(|| "nobody answers".into());
    Ok(Err(format!("after {} s {why}; the last status: {last}", limit.as_secs())))
}

/// What keeps a cluster from being settled.
pub fn unsettled(cluster: &Value) -> Option<String> {
    if !cluster["attempt"].is_null() {
        return Some(format!("an attempt is open: {}", cluster["attempt"]["id"]));
    }
    let Some(primary) = cluster["primary"].as_str() else {
        return Some("no primary is known".into());
    };
    let mut servers = cluster["servers"].as_array().into_iter().flatten();
    servers.find_map(|server| {
        let (name, role) = (server["name"].as_str()?, server["role"].as_str()?);
        let is_well = match role {
            "primary" => name == primary && server["is_writable"] == true,
            "replica" => server["source"] == primary && server["state"] == "replicates",
            "quarantined" => server["is_reached"] == true && server["is_writable"] == false,
            _ => false,
        };
        let state = &server["state"];
        (!is_well).then(|| format!("{name} is {role} and {state}, with {primary} as the primary"))
    })
}

/// What keeps a cluster from being healthy.
fn unhealthy(cluster: &Value) -> Option<String> {
    if let Some(why) = unsettled(cluster) {
        return Some(why);
    }
    let reasons = cluster["problems"].as_array().into_iter().flatten();
    let refusals = cluster["forecasts"][0]["refusals"].as_array().into_iter().flatten();
    let mut standing = reasons.chain(refusals);
    standing.next().map(|reason| format!("there is {}", reason["sentence"]))
}

/// The quarantined servers, with what they have and the primary has not.
fn quarantined(stage: &Stage<'_>, cluster: &Value) -> anyhow::Result<Vec<Quarantined>> {
    let primary = cluster["primary"].as_str().context("a primary")?;
    let executed = stage.lab.host(primary)?.sql_value("SELECT @@global.gtid_executed")?;
    let mut all = Vec::new();
    for server in in_quarantine(cluster) {
        let subtract = format!("SELECT GTID_SUBTRACT(@@global.gtid_executed, '{executed}')");
        let errant = stage.lab.host(&server)?.sql_value(&subtract)?.replace('\n', "");
        let mut problems = cluster["problems"].as_array().into_iter().flatten();
        let is_shown = problems.any(|problem| {
            problem["sentence"].as_str().is_some_and(|sentence| sentence.contains(&server))
        });
        all.push(Quarantined { server, errant, is_shown });
    }
    Ok(all)
}

/// Names of the servers that status shows as quarantined.
fn in_quarantine(cluster: &Value) -> Vec<String> {
    let servers = cluster["servers"].as_array().into_iter().flatten();
    let kept = servers.filter(|server| server["role"] == "quarantined");
    kept.filter_map(|server| server["name"].as_str().map(str::to_owned)).collect()
}

/// Makes new what is quarantined, each from the primary.
///
/// # Errors
/// The lab could not.
pub fn rebuild(stage: &mut Stage<'_>) -> anyhow::Result<()> {
    let cluster = stage.group.cluster()?;
    let donor = cluster["primary"].as_str().context("a primary")?.to_owned();
    for server in in_quarantine(&cluster) {
        stage.perform(Deed::Rebuild { server, donor: donor.clone() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(db2: Value) -> Value {
        json!({
            "attempt": null,
            "primary": "db1",
            "servers": [
                {"name": "db1", "role": "primary", "is_writable": true, "state": "writable"},
                db2,
            ],
            "problems": [],
            "forecasts": [{"refusals": []}],
        })
    }

    #[test]
    fn servers_that_replicate_or_are_quarantined_are_settled() {
        let replica =
            json!({"name": "db2", "role": "replica", "source": "db1", "state": "replicates"});
        assert_eq!(unsettled(&cluster(replica)), None);
        let kept = json!({"name": "db2", "role": "quarantined", "is_reached": true,
                          "is_writable": false});
        assert_eq!(unsettled(&cluster(kept)), None);
    }

    #[test]
    fn former_and_broken_servers_are_not_settled() {
        let former = json!({"name": "db2", "role": "former", "state": "unreachable"});
        assert!(unsettled(&cluster(former)).is_some_and(|why| why.contains("db2 is former")));
        let broken = json!({"name": "db2", "role": "replica", "source": "db1", "state": "broken"});
        assert!(unsettled(&cluster(broken)).is_some());
        let open = json!({"attempt": {"id": "app1-1"}});
        assert!(unsettled(&open).is_some_and(|why| why.contains("app1-1")));
    }
}

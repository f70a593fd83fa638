//! What do the managers have on record, and what do the clocks say?

use std::time::{Instant, SystemTime};

use anyhow::bail;
use conclave_lab::now_us;
use serde_json::Value;

use super::{CLUSTER, Stage};
use crate::record::{Reading, Sighting};

impl Stage<'_> {
    /// Asks whoever answers for the attempts that are not known to be over. That nobody answers is
    /// no failure while things are broken.
    pub fn look(&mut self) {
        self.looked = Instant::now();
        self.read_clocks();
        let Ok(cluster) = self.group.cluster() else { return };
        let epoch = cluster["epoch"].as_u64().unwrap_or(0);
        for epoch in self.first_open()..=epoch {
            if let Ok(output) = self.group.cli("client", &report(&id(epoch))) {
                self.note("any", &output.stdout);
            }
        }
    }

    /// Asks each manager for each attempt.
    ///
    /// # Errors
    /// One does not answer: they all run by now.
    pub fn look_everywhere(&mut self, epoch: u64) -> anyhow::Result<()> {
        for manager in self.managers() {
            // The record keeps a number of attempts; older ones were seen before.
            for epoch in epoch.saturating_sub(15).max(1)..=epoch {
                let output = self.group.cli_of(&manager, &report(&id(epoch)))?;
                if !self.note(&manager, &output.stdout) {
                    let said = String::from_utf8_lossy(&output.stderr);
                    bail!("{manager} has no report of {}: {said}", id(epoch));
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, manager: &str, said: &[u8]) -> bool {
        let report = serde_json::from_slice::<Value>(said).ok();
        let sighting = report.and_then(|report| Sighting::read(&report, manager, now_us()).ok());
        let is_one = sighting.is_some();
        self.sightings.extend(sighting);
        is_one
    }

    /// The first epoch whose end was not seen.
    fn first_open(&self) -> u64 {
        let over = self.sightings.iter().filter(|seen| seen.outcome != "open");
        over.map(|seen| seen.epoch).max().unwrap_or(0) + 1
    }

    /// Reads both clocks.
    pub fn read_clocks(&mut self) {
        let wall = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.clocks.push(Reading { us: now_us(), wall_us: wall.as_micros() as u64 });
    }
}

fn id(epoch: u64) -> String {
    format!("{CLUSTER}-{epoch}")
}

fn report(id: &str) -> [&str; 4] {
    ["report", id, "-o", "json"]
}

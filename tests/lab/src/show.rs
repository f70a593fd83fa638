//! What does a person see of a writing client? A line now and then while all is well, a line at
//! once when writes stop, and one when they go on, with the time in between as the client saw it.
//! Pure: the operations and the clock are arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::history::{Op, Outcome};

/// So long without an acknowledgement is told about, and told again each time.
const PATIENCE_US: u64 = 1_000_000;

/// The view of one client.
#[derive(Debug)]
pub struct Show {
    every_us: u64,
    /// Names of the servers by their ids.
    names: BTreeMap<u32, String>,
    start_us: u64,
    next_us: u64,
    acked: u64,
    last: Option<(u64, u32)>,
    failures: u64,
    told_us: u64,
}

impl Show {
    /// A line at least every so often; times count from `start_us`.
    pub fn new(every: Duration, names: BTreeMap<u32, String>, start_us: u64) -> Show {
        let every_us = every.as_micros() as u64;
        let (next_us, told_us) = (start_us, start_us);
        Show { every_us, names, start_us, next_us, acked: 0, last: None, failures: 0, told_us }
    }

    /// Lines about operations that are new, in the order of their completion.
    pub fn news(&mut self, ops: &[Op]) -> Vec<String> {
        ops.iter().filter_map(|op| self.one(op)).collect()
    }

    fn one(&mut self, op: &Op) -> Option<String> {
        let at = op.completed_us;
        if op.outcome != Outcome::Ok {
            self.failures += 1;
            if self.failures > 1 {
                return None;
            }
            self.told_us = at;
            let word = match op.outcome {
                Outcome::Ok => "acknowledged",
                Outcome::Fail => "refused",
                Outcome::Unknown => "not acknowledged",
            };
            let why = op.error.as_deref().unwrap_or("no reason given");
            let name = self.name(op.server_id);
            return Some(self.line(at, &format!("a write to {name} was {word}: {}", cut(why))));
        }
        self.acked += 1;
        let text = format!("write {} acknowledged by {}", self.acked, self.name(op.server_id));
        let before = self.last.replace((at, op.server_id));
        let is_broken = self.failures > 0 || self.told_us > before.map_or(u64::MAX, |b| b.0);
        let is_elsewhere = before.is_some_and(|(_, server)| server != op.server_id);
        if let Some((last_us, _)) = before.filter(|_| is_broken || is_elsewhere) {
            self.failures = 0;
            self.next_us = at + self.every_us;
            let gap = seconds(at.saturating_sub(last_us));
            return Some(self.line(at, &format!("{text}, {gap} s after the one before")));
        }
        if at < self.next_us {
            return None;
        }
        self.next_us = at + self.every_us;
        Some(self.line(at, &text))
    }

    /// A line if nothing was acknowledged for long.
    pub fn silence(&mut self, now_us: u64) -> Option<String> {
        let since = self.last.map_or(self.start_us, |(at, _)| at);
        if now_us.saturating_sub(since.max(self.told_us)) < PATIENCE_US {
            return None;
        }
        self.told_us = now_us;
        let gap = seconds(now_us.saturating_sub(since));
        Some(self.line(now_us, &format!("no write acknowledged for {gap} s")))
    }

    fn name(&self, server_id: u32) -> String {
        self.names.get(&server_id).cloned().unwrap_or_else(|| format!("server {server_id}"))
    }

    fn line(&self, at_us: u64, text: &str) -> String {
        format!("{:>8} s  {text}", seconds(at_us.saturating_sub(self.start_us)))
    }
}

/// Microseconds as seconds with three decimals.
fn seconds(us: u64) -> String {
    format!("{:.3}", us as f64 / 1e6)
}

/// What is said after the driver's own preamble, up to 50 characters.
fn cut(text: &str) -> String {
    let text = text.trim_start_matches("Input/output error: ");
    match text.chars().count() > 50 {
        true => text.chars().take(48).chain("..".chars()).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(at_us: u64, server_id: u32, outcome: Outcome) -> Op {
        let error = (outcome != Outcome::Ok).then(|| "broken pipe".to_owned());
        Op { id: at_us, conn: 0, invoked_us: at_us, completed_us: at_us, outcome, error, server_id }
    }

    fn show() -> Show {
        let names = [(1, "db1".to_owned()), (2, "db2".to_owned())];
        Show::new(Duration::from_millis(100), names.into(), 0)
    }

    #[test]
    fn writes_without_trouble_give_a_line_now_and_then() {
        let ops: Vec<Op> = (0..21).map(|n| op(n * 10_000, 1, Outcome::Ok)).collect();
        let wanted = [
            "   0.000 s  write 1 acknowledged by db1",
            "   0.100 s  write 11 acknowledged by db1",
            "   0.200 s  write 21 acknowledged by db1",
        ];
        assert_eq!(show().news(&ops), wanted);
    }

    #[test]
    fn break_and_return_on_another_server_are_told_at_once() {
        let ops = [
            op(10_000, 1, Outcome::Ok),
            op(20_000, 1, Outcome::Ok),
            op(30_000, 1, Outcome::Unknown),
            op(40_000, 2, Outcome::Fail),
            op(420_000, 2, Outcome::Ok),
            op(430_000, 2, Outcome::Ok),
        ];
        let wanted = [
            "   0.010 s  write 1 acknowledged by db1",
            "   0.030 s  a write to db1 was not acknowledged: broken pipe",
            "   0.420 s  write 3 acknowledged by db2, 0.400 s after the one before",
        ];
        assert_eq!(show().news(&ops), wanted);
    }

    #[test]
    fn silence_is_told_each_second_and_its_end_with_its_length() {
        let mut show = show();
        show.news(&[op(100_000, 1, Outcome::Ok)]);
        assert_eq!(show.silence(900_000), None);
        let told = show.silence(1_100_000);
        assert_eq!(told.as_deref(), Some("   1.100 s  no write acknowledged for 1.000 s"));
        assert_eq!(show.silence(1_900_000), None);
        assert!(show.silence(2_100_000).is_some());
        let end = show.news(&[op(2_200_000, 1, Outcome::Ok)]);
        let wanted = ["   2.200 s  write 2 acknowledged by db1, 2.100 s after the one before"];
        assert_eq!(end, wanted);
        assert_eq!(show.news(&[op(2_210_000, 1, Outcome::Ok)]), [""; 0]);
    }
}

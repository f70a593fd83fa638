//! Does one manager, by its own pings, believe that one primary is alive?
//!
//! *Refused or reset* means the kernel lives and the process is gone: strong evidence, so a few
//! repeats are enough. *Silence* may be lost packets: it needs time. An error that only the living
//! give is an answer. A ping that overlaps a stall of our own loop counts for nothing.

use crate::model::{Answer, Evidence, Micros, Mono, Policy};

/// How one ping ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ping {
    /// Answered, if only by an error that means "alive".
    Answered,
    /// Refused, reset, or closed by the other side.
    Refused,
    /// Nothing came back by its deadline.
    Silent,
    /// Our own side failed: says nothing about the server.
    Void,
}

/// What this manager remembers of its pings of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PingHistory {
    /// Start of probing, or end of the last stall.
    since: Mono,
    /// When the last answered ping began.
    answered: Option<Mono>,
    /// Refused pings since then that began after it.
    refusals: u32,
    /// Pings since then that ended in silence.
    silences: u32,
    /// Pings since then of any unanswered kind.
    unanswered_since: Option<Mono>,
    /// When our own loop stalled last.
    stalled: Option<Mono>,
}

impl PingHistory {
    /// Nothing was pinged before `now`.
    pub fn new(now: Mono) -> Self {
        Self {
            since: now,
            answered: None,
            refusals: 0,
            silences: 0,
            unanswered_since: None,
            stalled: None,
        }
    }

    /// Takes a ping that began at `began` into account.
    pub fn record(&mut self, began: Mono, ping: Ping) {
        if self.stalled.is_some_and(|stalled| began <= stalled) {
            return;
        }
        match ping {
            Ping::Answered => {
                if self.answered.is_none_or(|before| began >= before) {
                    self.answered = Some(began);
                    self.refusals = 0;
                    self.silences = 0;
                    self.unanswered_since = None;
                }
            }
            Ping::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                self.unanswered_since.get_or_insert(began);
            }
            Ping::Silent => {
                self.silences = self.silences.saturating_add(1);
                self.unanswered_since.get_or_insert(began);
            }
            Ping::Void => {}
        }
    }

    /// Our own loop stalled until `now`: all that was seen before is void.
    pub fn stall(&mut self, now: Mono) {
        *self = Self { stalled: Some(now), ..Self::new(now) };
    }

    /// When the present trouble began; `None`: the last ping was answered.
    pub fn trouble(&self) -> Option<Mono> {
        self.unanswered_since
    }

    /// When the last answered ping began.
    pub fn answered(&self) -> Option<Mono> {
        self.answered
    }

    /// The answer to a ballot, at `now`.
    pub fn judge(&self, policy: &Policy, now: Mono) -> (Answer, Evidence) {
        let span = now.since(self.answered.unwrap_or(self.since));
        let silence = Micros::from(policy.silence_ms);
        if self.refusals >= policy.refusals {
            return (Answer::Down, Evidence::Refused { times: self.refusals, span });
        }
        if span >= silence && self.silences >= 1 {
            return (Answer::Down, Evidence::Silent { span });
        }
        let is_quiet = self.unanswered_since.is_none();
        match self.answered {
            Some(answered) if is_quiet && span < silence => {
                (Answer::Up, Evidence::Answered { age: now.since(answered) })
            }
            None if self.stalled.is_some() => (Answer::Unknown, Evidence::Stalled),
            None if is_quiet => (Answer::Unknown, Evidence::NotProbed),
            Some(_) | None => {
                (Answer::Unknown, Evidence::Doubtful { refusals: self.refusals, span })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Mono {
        Mono(millis * 1000)
    }

    fn after(pings: &[(u64, Ping)]) -> PingHistory {
        let mut history = PingHistory::new(ms(0));
        for (began, ping) in pings {
            history.record(ms(*began), *ping);
        }
        history
    }

    fn answer(history: &PingHistory, at: u64) -> Answer {
        history.judge(&Policy::default(), ms(at)).0
    }

    #[test]
    fn refusals_below_the_threshold_are_doubt_and_at_it_are_down() {
        let two = [(0, Ping::Answered), (100, Ping::Refused), (120, Ping::Refused)];
        assert_eq!(answer(&after(&two), 130), Answer::Unknown);
        let mut three = two.to_vec();
        three.push((140, Ping::Refused));
        let down = after(&three).judge(&Policy::default(), ms(150));
        let span = Micros(150_000);
        assert_eq!(down, (Answer::Down, Evidence::Refused { times: 3, span }));
    }

    #[test]
    fn an_answer_between_refusals_starts_the_count_again() {
        let pings =
            [(0, Ping::Refused), (20, Ping::Refused), (40, Ping::Answered), (60, Ping::Refused)];
        assert_eq!(answer(&after(&pings), 70), Answer::Unknown);
    }

    #[test]
    fn silence_is_doubt_until_the_threshold() {
        let pings = [(0, Ping::Answered), (100, Ping::Silent), (600, Ping::Silent)];
        assert_eq!(answer(&after(&pings), 1999), Answer::Unknown);
        assert_eq!(answer(&after(&pings), 2000), Answer::Down);
    }

    #[test]
    fn an_old_answer_that_arrives_late_is_not_younger_than_it_is() {
        let pings = [(100, Ping::Answered), (200, Ping::Silent), (50, Ping::Answered)];
        assert_eq!(after(&pings).trouble(), Some(ms(200)));
    }

    #[test]
    fn a_stall_voids_what_was_seen_and_what_was_under_way() {
        let mut history = after(&[(0, Ping::Answered), (10, Ping::Refused), (20, Ping::Refused)]);
        history.stall(ms(500));
        history.record(ms(30), Ping::Refused);
        history.record(ms(490), Ping::Silent);
        assert_eq!(history.judge(&Policy::default(), ms(3000)).1, Evidence::Stalled);
        history.record(ms(510), Ping::Answered);
        assert_eq!(answer(&history, 520), Answer::Up);
    }

    #[test]
    fn a_server_that_never_answered_is_down_only_by_its_own_evidence() {
        assert_eq!(answer(&after(&[]), 10_000), Answer::Unknown);
        assert_eq!(answer(&after(&[(0, Ping::Silent)]), 10_000), Answer::Down);
        assert_eq!(answer(&after(&[(0, Ping::Void)]), 10_000), Answer::Unknown);
    }
}

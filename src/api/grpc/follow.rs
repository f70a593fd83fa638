//! What happens to a wish, until the attempt is over? Told from the record, which every manager
//! has: if the leader is lost on the way, the manager that was asked goes on telling.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use conclave_core::{
    decide::{Wish, gate},
    model::{Attempt, ClusterName, Epoch, Outcome},
};
use tokio::{sync::mpsc, time::Instant};
use tonic::{Status, Streaming};

use crate::api::{
    catalogue,
    desk::Desk,
    follow::news,
    pb::{End, Progress},
    sentence,
};

/// Pause between looks at the record.
const LOOK: Duration = Duration::from_millis(20);

/// A wish without an attempt for so long is not answered any more.
const UNANSWERED: Duration = Duration::from_secs(30);

/// Once the wish is answered, an attempt shows in the record within this time, or there is none.
const SETTLED: Duration = Duration::from_secs(1);

/// One operator, waiting.
pub(super) struct Follow<D> {
    desk: Arc<D>,
    cluster: ClusterName,
    /// Attempts up to this epoch are none of ours.
    before: Epoch,
    wish: Option<Wish>,
    answers: Option<mpsc::UnboundedReceiver<String>>,
    /// The leader's own telling, passed through.
    relayed: Option<Streaming<Progress>>,
    /// The attempt that is followed, as told so far.
    told: Option<Attempt>,
    queue: VecDeque<Progress>,
    /// When to give up waiting for an attempt.
    deadline: Instant,
    is_over: bool,
}

impl<D: Desk> Follow<D> {
    /// Hands in a wish and follows it; on the leader.
    pub(super) fn wish(desk: Arc<D>, cluster: ClusterName, wish: Wish) -> Result<Self, Status> {
        let mut follow = Self::new(desk, cluster);
        let answers = follow.desk.wish(&follow.cluster, wish.clone());
        follow.answers = Some(answers.map_err(Status::failed_precondition)?);
        follow.wish = Some(wish);
        Ok(follow)
    }

    /// Passes on what the leader tells.
    pub(super) fn relay(desk: Arc<D>, cluster: ClusterName, relayed: Streaming<Progress>) -> Self {
        Self { relayed: Some(relayed), ..Self::new(desk, cluster) }
    }

    fn new(desk: Arc<D>, cluster: ClusterName) -> Self {
        let before = desk.group().clusters.get(&cluster).map_or(Epoch(0), |found| found.epoch);
        Self {
            desk,
            cluster,
            before,
            wish: None,
            answers: None,
            relayed: None,
            told: None,
            queue: VecDeque::new(),
            deadline: Instant::now() + UNANSWERED,
            is_over: false,
        }
    }

    /// The next thing to tell; `None`: all is told.
    pub(super) async fn next(mut self) -> Option<(Result<Progress, Status>, Self)> {
        loop {
            if let Some(progress) = self.queue.pop_front() {
                return Some((Ok(progress), self));
            }
            if self.is_over {
                return None;
            }
            match self.relayed.take() {
                Some(relayed) => self.relay_one(relayed).await,
                None => {
                    self.hear().await;
                    self.look();
                }
            }
        }
    }

    async fn relay_one(&mut self, mut relayed: Streaming<Progress>) {
        match relayed.message().await {
            Ok(Some(progress)) => {
                self.is_over = progress.end() != End::Unspecified;
                self.queue.push_back(progress);
                self.relayed = Some(relayed);
            }
            Ok(None) | Err(_) => {
                // What was told already is not told again.
                self.told = self.attempt();
                self.deadline = Instant::now() + Duration::from_secs(5);
                self.say(
                    "the leader was lost; another manager goes on, and this one goes on telling",
                );
            }
        }
    }

    /// Waits for an answer to the wish, or just a moment.
    async fn hear(&mut self) {
        let Some(answers) = &mut self.answers else {
            tokio::time::sleep(LOOK).await;
            return;
        };
        match tokio::time::timeout(LOOK, answers.recv()).await {
            Err(_) => {}
            Ok(Some(sentence)) => self.answered(&sentence),
            Ok(None) => {
                self.answers = None;
                self.deadline = Instant::now() + SETTLED;
            }
        }
    }

    /// A refusal is told reason by reason, with what to do about each.
    fn answered(&mut self, sentence: &str) {
        let view = self.desk.snapshot().view;
        let refusals = gate::refusals(&view, &self.cluster, self.wish.as_ref());
        if !sentence.starts_with("refused") || refusals.is_empty() {
            self.say(sentence);
            return;
        }
        for refusal in refusals {
            let remedy = catalogue::refusal_remedy(&refusal);
            self.say(&format!("{}: {}", refusal.code(), refusal.sentence()));
            self.say(&format!("    remedy: {remedy}"));
        }
    }

    /// The attempt that is followed, as it is recorded now.
    fn attempt(&self) -> Option<Attempt> {
        let group = self.desk.group();
        let cluster = group.clusters.get(&self.cluster)?;
        let all = cluster.history.iter().chain(&cluster.attempt);
        let mut later = all.filter(|attempt| match &self.told {
            Some(told) => attempt.epoch() == told.epoch(),
            None => attempt.epoch() > self.before,
        });
        later.next().cloned()
    }

    fn look(&mut self) {
        let Some(now) = self.attempt() else {
            if Instant::now() >= self.deadline {
                self.give_up();
            }
            return;
        };
        let id = now.id.to_string();
        for news in news(self.told.as_ref(), &now) {
            self.queue.push_back(Progress {
                sentence: news.sentence,
                failover: id.clone(),
                at_us: news.at_us,
                end: End::Unspecified.into(),
            });
        }
        let (_, sentence) = sentence::outcome(&now);
        let end = match &now.outcome {
            None => None,
            Some(Outcome::Promoted { .. }) => Some(End::Promoted),
            Some(Outcome::Aborted { .. }) => Some(End::Aborted),
            Some(Outcome::Superseded { .. }) => None,
        };
        if let Some(end) = end {
            self.is_over = true;
            let failover = id;
            self.queue.push_back(Progress { sentence, failover, at_us: None, end: end.into() });
            return;
        }
        match &now.outcome {
            Some(Outcome::Superseded { .. }) => {
                self.say(&sentence);
                self.before = now.epoch();
                self.told = None;
            }
            Some(Outcome::Promoted { .. } | Outcome::Aborted { .. }) | None => {
                self.told = Some(now);
            }
        }
    }

    fn give_up(&mut self) {
        self.is_over = true;
        let sentence = match self.answers {
            Some(_) => "nobody answered in time; conclave status and conclave explain show why",
            None => "nothing was done",
        };
        self.queue.push_back(Progress {
            sentence: sentence.into(),
            failover: String::new(),
            at_us: None,
            end: End::Refused.into(),
        });
    }

    fn say(&mut self, sentence: &str) {
        let failover = self.told.as_ref().map(|told| told.id.to_string()).unwrap_or_default();
        self.queue.push_back(Progress {
            sentence: sentence.to_owned(),
            failover,
            at_us: None,
            end: End::Unspecified.into(),
        });
    }
}

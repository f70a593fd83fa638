//! How each command changes the state. Guards first, then one change; a rejected command has
//! changed nothing.

use std::collections::BTreeSet;

use super::{
    ClusterState, Command, GroupState, LastFailover, Member, Pause, Planned, Reply, Retired,
    Standing,
};
use crate::model::{
    Actor, Attempt, Cause, ClusterDefinition, ClusterName, Discard, Election, EntryNine, Epoch,
    FailoverId, Findings, GtidSet, Mark, Micros, Mode, Opening, Outcome, Refusal, Regime,
    Rejection, Rejoin, Rescue, Saved, ServerName, Stage, StepEvidence, StepId, StepKind,
    StepOutcome, StepRecord, StepRun, Term,
};

type Applied = Result<Reply, Rejection>;

impl GroupState {
    pub(super) fn try_apply(&mut self, index: u64, term: Term, command: Command) -> Applied {
        let clock_ms = self.clock_ms;
        match command {
            Command::ApplyDefinition { definition, replaces, actor: _ } => {
                self.apply_definition(*definition, replaces)
            }
            Command::RemoveCluster { cluster } => self.remove_cluster(&cluster),
            Command::Pause { cluster, actor, reason } => {
                self.cluster_mut(&cluster)?.pause = Some(Pause { actor, reason });
                Ok(Reply::Ok)
            }
            Command::Resume { cluster } => {
                self.cluster_mut(&cluster)?.pause = None;
                Ok(Reply::Ok)
            }
            Command::Adopt { cluster, primary, executed, uuids } => {
                self.cluster_mut(&cluster)?.adopt(primary, executed, uuids)
            }
            Command::Identify { cluster, uuids } => self.cluster_mut(&cluster)?.identify(uuids),
            Command::OpenAttempt { cluster, expected, opening, steps } => {
                self.cluster_mut(&cluster)?.open(expected, *opening, steps, clock_ms, term)
            }
            Command::BeginStep { cluster, step } => {
                self.cluster_mut(&cluster)?.begin_step(step, index, term)
            }
            Command::EndStep { cluster, step, begun_in, outcome, took_us, at_us } => {
                self.cluster_mut(&cluster)?.end_step(step, begun_in, outcome, took_us, at_us)
            }
            Command::Elect { cluster, epoch, election, steps, at_us } => {
                self.cluster_mut(&cluster)?.elect(epoch, *election, steps, at_us, term)
            }
            Command::PassPointOfNoReturn { cluster, epoch, executed, steps, at_us } => {
                let cluster = self.cluster_mut(&cluster)?;
                cluster.pass(epoch, executed, steps, clock_ms, (at_us, term))
            }
            Command::EnterRepoint { cluster, epoch, steps, at_us } => {
                self.cluster_mut(&cluster)?.enter_repoint(epoch, steps, at_us, term)
            }
            Command::Undo { cluster, epoch, why, steps, at_us } => {
                self.cluster_mut(&cluster)?.undo(epoch, why, steps, at_us, term)
            }
            Command::CloseAttempt { cluster, epoch, outcome, at_us } => {
                self.cluster_mut(&cluster)?.close(epoch, outcome, at_us, term)
            }
            Command::PlanChore { cluster, epoch, planned } => {
                self.cluster_mut(&cluster)?.plan_chore(epoch, planned)
            }
            Command::Quarantine { cluster, epoch, server, errant } => {
                self.cluster_mut(&cluster)?.quarantine(epoch, &server, errant)
            }
            Command::Rejoin { cluster, epoch, server, rejoin } => {
                self.cluster_mut(&cluster)?.rejoin(epoch, &server, rejoin)
            }
            Command::LeaveOut { cluster, server, by } => {
                self.cluster_mut(&cluster)?.leave_out(&server, by)
            }
            Command::AdvanceTime { from_ms, .. } if from_ms != clock_ms => {
                let why = format!("measured from group time {from_ms} ms, it is {clock_ms} ms now");
                Err(Rejection::NotNow { why })
            }
            Command::AdvanceTime { from_ms: _, by_ms } => {
                self.clock_ms = clock_ms.saturating_add(by_ms.min(3_600_000));
                Ok(Reply::Ok)
            }
        }
    }

    fn cluster_mut(&mut self, name: &ClusterName) -> Result<&mut ClusterState, Rejection> {
        self.clusters
            .get_mut(name)
            .ok_or_else(|| Rejection::NoSuchCluster { cluster: name.to_string() })
    }

    fn apply_definition(&mut self, new: ClusterDefinition, replaces: Option<u64>) -> Applied {
        let mistakes = new.mistakes();
        if !mistakes.is_empty() {
            return Err(Rejection::BadDefinition { mistakes });
        }
        if let Some(cluster) = self.clusters.get_mut(&new.name) {
            return cluster.redefine(new, replaces);
        }
        if let Some(version) = replaces {
            let why = format!("version {version} is to be replaced, but there is no such cluster");
            return Err(Rejection::NotNow { why });
        }
        if self.clusters.len() >= Self::CLUSTERS {
            let why = format!("the group looks after {} clusters, its limit", Self::CLUSTERS);
            return Err(Rejection::NotNow { why });
        }
        let before = self.retired.remove(&new.name);
        let mut cluster = ClusterState::new(new);
        if let Some(Retired { epoch, next_seq }) = before {
            // An attempt of the earlier cluster may still be on its way somewhere.
            (cluster.epoch, cluster.next_seq) = (epoch.next(), next_seq);
        }
        self.clusters.insert(cluster.definition.name.clone(), cluster);
        Ok(Reply::Version { version: 1 })
    }

    fn remove_cluster(&mut self, name: &ClusterName) -> Applied {
        let cluster = self.cluster_mut(name)?;
        cluster.no_attempt("removing the cluster")?;
        let left = Retired { epoch: cluster.epoch, next_seq: cluster.next_seq };
        self.clusters.remove(name);
        self.retired.insert(name.clone(), left);
        while self.retired.len() > Self::CLUSTERS {
            self.retired.pop_first();
        }
        Ok(Reply::Ok)
    }
}

impl ClusterState {
    /// A new definition of a running cluster changes who may do what; it never changes by itself
    /// who is primary, and it never takes away what a safe failover rests on.
    fn redefine(&mut self, new: ClusterDefinition, replaces: Option<u64>) -> Applied {
        if let Some(expected) = replaces.filter(|version| *version != self.version) {
            let why = format!(
                "made to replace version {expected}, but version {} is in force",
                self.version
            );
            return Err(Rejection::NotNow { why });
        }
        self.no_attempt("changing the definition")?;
        for regime in &self.regimes {
            let held = regime.ackers.iter().chain([&regime.primary]);
            if let Some(gone) = held.into_iter().find(|name| new.server(name).is_none()) {
                let role = if *gone == regime.primary { "primary" } else { "an acker" };
                let why = format!("server {gone} is {role} and cannot be left out");
                return Err(Rejection::NotNow { why });
            }
        }
        let weakens = |regime: &Regime| new.mode == Mode::Quorum && regime.acks == 0;
        if let Some(regime) = self.regimes.iter_mut().next_back().filter(|regime| weakens(regime)) {
            // From asynchronous to quorum: every defined acker may acknowledge from now on. For how
            // many commits wait is agreed when it was set (SAFETY section 3).
            regime.ackers.extend(new.ackers_of(&regime.primary));
        }
        self.members.retain(|name, _| new.server(name).is_some());
        self.locks.retain(|name, _| new.server(name).is_some());
        for locked in self.locks.values_mut() {
            locked.retain(|name| new.server(name).is_some());
        }
        for server in &new.servers {
            self.members.entry(server.name.clone()).or_insert_with(Member::unseen);
        }
        self.chores.clear();
        self.definition = new;
        self.version += 1;
        Ok(Reply::Version { version: self.version })
    }

    fn adopt(
        &mut self,
        primary: ServerName,
        base: GtidSet,
        uuids: std::collections::BTreeMap<ServerName, String>,
    ) -> Applied {
        if let Some(known) = self.primary() {
            let why = format!("{known} is the primary already");
            return Err(Rejection::NotNow { why });
        }
        if self.definition.server(&primary).is_none() {
            let why = format!("server {primary} is not defined");
            return Err(Rejection::NotNow { why });
        }
        self.identify(uuids)?;
        let (ackers, acks) = match self.definition.mode {
            Mode::Quorum => (self.definition.ackers_of(&primary), self.definition.acks),
            Mode::Fenced | Mode::BestEffort => (BTreeSet::new(), 0),
        };
        self.regimes = vec![Regime {
            primary,
            epoch: self.epoch,
            ackers,
            acks,
            base,
            may_be_open: true,
            is_open: true,
            recruited: BTreeSet::new(),
            closed_with: None,
        }];
        Ok(Reply::Ok)
    }

    fn identify(&mut self, uuids: std::collections::BTreeMap<ServerName, String>) -> Applied {
        for (name, uuid) in &uuids {
            let taken = |(other, member): (&ServerName, &Member)| {
                other != name && member.uuid.as_ref() == Some(uuid)
            };
            let known = self.members.iter().find(|pair| taken(*pair)).map(|(other, _)| other);
            let told = uuids.iter().find(|(other, of)| *other < name && *of == uuid);
            if let Some(other) = known.or(told.map(|(other, _)| other)) {
                let why = format!("servers {other} and {name} are the same one: uuid {uuid}");
                return Err(Rejection::NotNow { why });
            }
        }
        for (name, uuid) in uuids {
            if let Some(member) = self.members.get_mut(&name) {
                member.uuid.get_or_insert(uuid);
            }
        }
        Ok(Reply::Ok)
    }

    fn open(
        &mut self,
        expected: Epoch,
        opening: Opening,
        steps: Vec<Planned>,
        clock_ms: u64,
        term: Term,
    ) -> Applied {
        self.same_epoch(expected)?;
        let refused = |refusal| Err(Rejection::Refused { refusal });
        let Some(regime) = self.regimes.last() else {
            return refused(Refusal::NoPrimary { why: "none was adopted yet".into() });
        };
        let old_primary = regime.primary.clone();
        let is_superseding = matches!(opening.cause, Cause::CandidateLost { .. });
        match &self.attempt {
            Some(open) if !may_go_on_with(open, &opening.cause) => {
                return refused(Refusal::AttemptOpen { epoch: open.epoch() });
            }
            Some(_) | None => {}
        }
        if self.attempt.is_none() && is_superseding {
            return Err(Rejection::WrongStage { why: "no attempt is open to supersede".into() });
        }
        // One past entry 9 is finished, paused or not: its candidate is the only primary.
        if let (Some(pause), Actor::Group, false) = (&self.pause, &opening.actor, is_superseding) {
            return refused(Refusal::Paused { by: pause.by() });
        }
        let left_ms = self.interval_left_ms(clock_ms);
        if left_ms > 0 && !opening.interval_waived && !is_superseding {
            let minutes = self.definition.policy.last_failover_minutes;
            let left_s = left_ms.div_ceil(1000);
            return refused(Refusal::LastFailoverInterval { left_s, minutes });
        }
        self.epoch = expected.next();
        if let Some(mut open) = self.attempt.take() {
            open.outcome = Some(Outcome::Superseded { by: self.epoch });
            self.remember(open);
        }
        let id = FailoverId { cluster: self.definition.name.clone(), epoch: self.epoch };
        self.chores.clear();
        self.attempt = Some(Attempt {
            id: id.clone(),
            mode: self.definition.mode,
            opening,
            old_primary,
            revokes: self.regimes.clone(),
            stage: Stage::Freeze,
            steps: Vec::new(),
            marks: vec![Mark { what: "opened".into(), at_us: Some(Micros(0)), term }],
            outcome: None,
        });
        self.plan(steps)?;
        Ok(Reply::Opened { id })
    }

    fn begin_step(&mut self, step: StepId, index: u64, term: Term) -> Applied {
        let epoch = self.epoch;
        let is_chore = self.chores.values().any(|chore| chore.id == step);
        let wrong = |why: String| Rejection::WrongStep { step: step.to_string(), why };
        if step.epoch != epoch {
            return Err(Rejection::WrongEpoch { wanted: step.epoch, found: epoch });
        }
        if let Some(attempt) = &self.attempt
            && let Some(record) = attempt.step(step)
            && !attempt.allows(&record.goal)
        {
            return Err(wrong_stage(attempt, "this step has its place in another stage"));
        }
        let record = self.step_mut(step).ok_or_else(|| wrong("not planned".into()))?;
        if let Some(run) = record.runs.last().filter(|run| run.term > term) {
            return Err(Rejection::StaleTerm { found: term.0, newest: run.term.0 });
        }
        // An acker may be lost again before the candidate is opened: it is brought back.
        let is_repeatable = matches!(record.goal, StepKind::Follow { .. });
        if record.met().is_some() && !is_repeatable {
            return Err(wrong("its goal was met already".into()));
        }
        record.runs.push(StepRun {
            term,
            begun: index,
            outcome: None,
            took_us: Micros(0),
            ended_at_us: None,
        });
        if record.runs.len() > StepRecord::RUNS {
            record.runs.remove(0);
        }
        let (target, goal) = (record.target.clone(), record.goal.clone());
        if is_chore {
            self.admit_before_enabling(&target, &goal);
        }
        if matches!(goal, StepKind::OpenForWrites { .. }) {
            let opened = self.regimes.last_mut().filter(|regime| regime.primary == target);
            opened.into_iter().for_each(|regime| regime.may_be_open = true);
        }
        Ok(Reply::Ok)
    }

    /// The regime of that primary, if it is the newest one.
    fn regime_of(&mut self, primary: &ServerName) -> Option<&mut Regime> {
        self.regimes.last_mut().filter(|regime| regime.primary == *primary)
    }

    /// Adding an acker: log, then enable; fewer acknowledgements: log, then set (SAFETY section 3).
    /// The beginning of the step is the log entry; the step enables and sets. What is locked is
    /// logged beforehand as well, so that it can be undone whatever becomes of the step.
    fn admit_before_enabling(&mut self, target: &ServerName, goal: &StepKind) {
        match goal {
            StepKind::Follow { acker: true, .. } => {
                if let Some(regime) = self.regimes.last_mut() {
                    regime.ackers.insert(target.clone());
                }
            }
            StepKind::LetIn { server, .. } => {
                let is_acker = self.definition.ackers_of(target).contains(server);
                if let Some(regime) = self.regime_of(target).filter(|_| is_acker) {
                    regime.ackers.insert(server.clone());
                }
            }
            StepKind::Arm { acks, .. } => {
                if let Some(regime) = self.regime_of(target) {
                    regime.acks = regime.acks.min(*acks);
                }
            }
            StepKind::LockOut { server, .. } => {
                self.locks.entry(target.clone()).or_default().insert(server.clone());
            }
            StepKind::Level { .. }
            | StepKind::CloseForWrites { .. }
            | StepKind::Reopen { .. }
            | StepKind::StopReceiver
            | StepKind::Fence { .. }
            | StepKind::CatchUp { .. }
            | StepKind::Apply { .. }
            | StepKind::ReadLog
            | StepKind::Rescue { .. }
            | StepKind::Detach
            | StepKind::Follow { acker: false, .. }
            | StepKind::OpenForWrites { .. }
            | StepKind::TakeVip { .. }
            | StepKind::DropVips { .. }
            | StepKind::ResumeReceiver
            | StepKind::Wake
            | StepKind::MakeReadOnly
            | StepKind::Examine { .. }
            | StepKind::SaveExtra { .. }
            | StepKind::Rebuild { .. }
            | StepKind::StartServer
            | StepKind::Harden { .. }
            | StepKind::Hook { .. } => {}
        }
    }

    /// Removing an acker: disable, then log; more acknowledgements: set, then log. It was read back.
    fn settle_after(&mut self, target: &ServerName, goal: &StepKind, received: &GtidSet) {
        match goal {
            StepKind::Follow { acker: false, source, .. } => {
                self.dismiss(target, source, received);
            }
            StepKind::Arm { acks, .. } => {
                if let Some(regime) = self.regime_of(target) {
                    regime.acks = *acks;
                }
            }
            StepKind::LockOut { server, .. } => {
                // Never fewer than a commit waits for.
                let is_enough = |regime: &&mut Regime| regime.ackers.len() > regime.acks as usize;
                if let Some(regime) = self.regime_of(target).filter(is_enough) {
                    regime.ackers.remove(server);
                }
            }
            StepKind::LetIn { server, .. } => {
                if let Some(locked) = self.locks.get_mut(target) {
                    locked.remove(server);
                }
                self.locks.retain(|_, locked| !locked.is_empty());
            }
            StepKind::Level { .. }
            | StepKind::CloseForWrites { .. }
            | StepKind::Reopen { .. }
            | StepKind::StopReceiver
            | StepKind::Fence { .. }
            | StepKind::CatchUp { .. }
            | StepKind::Apply { .. }
            | StepKind::ReadLog
            | StepKind::Rescue { .. }
            | StepKind::Detach
            | StepKind::Follow { acker: true, .. }
            | StepKind::OpenForWrites { .. }
            | StepKind::TakeVip { .. }
            | StepKind::DropVips { .. }
            | StepKind::ResumeReceiver
            | StepKind::Wake
            | StepKind::MakeReadOnly
            | StepKind::Examine { .. }
            | StepKind::SaveExtra { .. }
            | StepKind::Rebuild { .. }
            | StepKind::StartServer
            | StepKind::Harden { .. }
            | StepKind::Hook { .. } => {}
        }
    }

    fn end_step(
        &mut self,
        step: StepId,
        begun_in: Term,
        outcome: StepOutcome,
        took_us: Micros,
        at_us: Option<Micros>,
    ) -> Applied {
        let wrong = |why: &str| Rejection::WrongStep { step: step.to_string(), why: why.into() };
        let is_chore = self.chores.values().any(|chore| chore.id == step);
        let record = self.step_mut(step).ok_or_else(|| wrong("not planned"))?;
        let run = record.runs.last_mut().ok_or_else(|| wrong("not begun"))?;
        if run.term != begun_in {
            return Err(Rejection::StaleTerm { found: begun_in.0, newest: run.term.0 });
        }
        if run.outcome.is_some() {
            return Err(wrong("ended already"));
        }
        let is_met = outcome.evidence().is_some();
        let received = match outcome.evidence() {
            Some(StepEvidence::Server { received, .. }) => received.clone(),
            Some(
                StepEvidence::Host { .. }
                | StepEvidence::Log { .. }
                | StepEvidence::Examined { .. }
                | StepEvidence::Hook { .. },
            )
            | None => GtidSet::empty(),
        };
        let evidence = outcome.evidence().cloned();
        run.outcome = Some(outcome);
        run.took_us = took_us;
        run.ended_at_us = at_us;
        let (target, goal) = (record.target.clone(), record.goal.clone());
        if is_met && matches!(goal, StepKind::OpenForWrites { .. }) {
            let open = self.regimes.last_mut().filter(|regime| regime.primary == target);
            open.into_iter().for_each(|regime| regime.is_open = true);
        }
        if is_chore && is_met {
            self.chores.remove(&target);
            self.settle_after(&target, &goal, &received);
            if let Some(member) = self.members.get_mut(&target) {
                member.chore_done(&goal, evidence.as_ref());
            }
        }
        Ok(Reply::Ok)
    }

    /// Removing an acker: disable, then log. It was read back as disabled; what it may have
    /// acknowledged has to be held by the others from now on.
    fn dismiss(&mut self, server: &ServerName, source: &ServerName, received: &GtidSet) {
        let uuid = self.members.get(source).and_then(|member| member.uuid.clone());
        let regime = self.regimes.last_mut().filter(|regime| regime.primary == *source);
        if let (Some(regime), Some(uuid)) = (regime, uuid) {
            // Not logged as an acker, it may have been one all the same: a definition adopted, or
            // a setting made by hand.
            regime.ackers.remove(server);
            regime.base = regime.base.union(&received.of_origins(&[&uuid]));
        }
    }

    fn elect(
        &mut self,
        epoch: Epoch,
        election: Election,
        steps: Vec<Planned>,
        at_us: Option<Micros>,
        term: Term,
    ) -> Applied {
        let attempt = self.open_attempt(epoch)?;
        if attempt.stage != Stage::Freeze {
            return Err(wrong_stage(attempt, "an election follows the freeze"));
        }
        let frozen = attempt.frozen();
        if let Some(other) = election.recruits.iter().find(|name| !frozen.contains_key(*name)) {
            let why = format!("the receiver of {other} was not read back as stopped");
            return Err(Rejection::WrongStage { why });
        }
        attempt.enter(Stage::Recover { election }, at_us, term);
        self.plan(steps)
    }

    fn pass(
        &mut self,
        epoch: Epoch,
        executed: GtidSet,
        steps: Vec<Planned>,
        clock_ms: u64,
        (at_us, term): (Option<Micros>, Term),
    ) -> Applied {
        let attempt = self.open_attempt(epoch)?;
        let Stage::Recover { election } = &attempt.stage else {
            return Err(wrong_stage(attempt, "entry 9 follows the recovery"));
        };
        if !election.target.is_subset(&executed) {
            let why = format!(
                "{} has not executed {}",
                election.candidate,
                election.target.minus(&executed)
            );
            return Err(Rejection::WrongStage { why });
        }
        let lacks = |rescue: &&Rescue| !rescue.gtids.is_subset(&executed);
        let may_lack = |rescue: &Rescue| {
            let step = attempt.rescue_of(rescue);
            !rescue.is_needed && step.is_some_and(StepRecord::has_failed)
        };
        if let Some(rescue) = election.rescues.iter().filter(lacks).find(|it| !may_lack(it)) {
            let why = format!(
                "{} has not executed what only the disk of {} held: {}",
                election.candidate,
                rescue.from,
                rescue.gtids.minus(&executed)
            );
            return Err(Rejection::WrongStage { why });
        }
        let entry = EntryNine { election: election.clone(), executed };
        let new = Regime {
            primary: entry.election.candidate.clone(),
            epoch,
            ackers: entry.election.ackers.clone(),
            acks: entry.election.acks,
            base: entry.executed.clone(),
            may_be_open: false,
            is_open: false,
            recruited: BTreeSet::new(),
            closed_with: None,
        };
        let covered = entry.executed.clone();
        let recruits = entry.election.recruits.clone();
        // A planned change says nothing of the primary's health: the next failure is not held up.
        let is_planned = attempt.opening.cause.switchover().is_some();
        attempt.enter(Stage::Promote { entry }, at_us, term);
        for regime in &mut self.regimes {
            regime.recruited.extend(recruits.intersection(&regime.ackers).cloned());
            regime.closed_with.get_or_insert_with(|| covered.clone());
        }
        self.regimes.push(new);
        if !is_planned {
            self.last_failover = Some(LastFailover { epoch, at_ms: clock_ms });
        }
        self.plan(steps)
    }

    fn enter_repoint(
        &mut self,
        epoch: Epoch,
        steps: Vec<Planned>,
        at_us: Option<Micros>,
        term: Term,
    ) -> Applied {
        let attempt = self.open_attempt(epoch)?;
        let Stage::Promote { entry } = &attempt.stage else {
            return Err(wrong_stage(attempt, "repointing follows the promotion"));
        };
        let open = |step: &&StepRecord| matches!(step.goal, StepKind::OpenForWrites { .. });
        if !attempt.steps.iter().filter(open).any(|step| step.met().is_some()) {
            return Err(wrong_stage(attempt, "the candidate was not read back as writable"));
        }
        let entry = entry.clone();
        attempt.enter(Stage::Repoint { entry }, at_us, term);
        self.plan(steps)
    }

    fn undo(
        &mut self,
        epoch: Epoch,
        why: String,
        steps: Vec<Planned>,
        at_us: Option<Micros>,
        term: Term,
    ) -> Applied {
        let attempt = self.open_attempt(epoch)?;
        match attempt.stage {
            Stage::Freeze | Stage::Recover { .. } => {}
            Stage::Promote { .. } | Stage::Repoint { .. } => {
                return Err(wrong_stage(attempt, "past entry 9 it can only go forward"));
            }
            Stage::Undo { .. } => return Err(wrong_stage(attempt, "it is being undone already")),
        }
        // A stop that began after this was proposed would never be put back.
        let mut begun = attempt.steps.iter().filter(|step| step.may_have_acted());
        if let Some(step) = begun.find(|step| !is_put_back(attempt, step, &steps)) {
            let (code, target) = (step.goal.code(), &step.target);
            let why = format!("{code} may have been done on {target} and is not put back");
            return Err(Rejection::WrongStage { why });
        }
        attempt.enter(Stage::Undo { why }, at_us, term);
        self.plan(steps)
    }

    fn close(
        &mut self,
        epoch: Epoch,
        outcome: Outcome,
        at_us: Option<Micros>,
        term: Term,
    ) -> Applied {
        let attempt = self.open_attempt(epoch)?;
        let what = match (&attempt.stage, &outcome) {
            (Stage::Repoint { .. }, Outcome::Promoted { .. }) => "finished",
            (Stage::Undo { .. }, Outcome::Aborted { .. }) => "undone",
            (
                Stage::Freeze
                | Stage::Recover { .. }
                | Stage::Promote { .. }
                | Stage::Repoint { .. }
                | Stage::Undo { .. },
                Outcome::Promoted { .. } | Outcome::Aborted { .. } | Outcome::Superseded { .. },
            ) => return Err(wrong_stage(attempt, "it cannot end this way from here")),
        };
        attempt.marks.push(Mark { what: what.into(), at_us, term });
        attempt.outcome = Some(outcome.clone());
        match &outcome {
            Outcome::Promoted { left_behind } => self.establish(left_behind),
            Outcome::Aborted { .. } | Outcome::Superseded { .. } => {
                if self.regimes.len() > 1 {
                    // The failover that this attempt was to supersede was not completed.
                    self.last_failover = None;
                }
                self.establish(&BTreeSet::new());
            }
        }
        if let Some(closed) = self.attempt.take() {
            self.remember(closed);
        }
        Ok(Reply::Ok)
    }

    /// Only the newest regime is left: the older ones are revoked for good. Whoever is not behind
    /// it waits for readmission.
    fn establish(&mut self, left_behind: &BTreeSet<ServerName>) {
        let Some(new) = self.regimes.pop() else { return };
        let replaced = self.regimes.drain(..).map(|regime| regime.primary);
        let replaced: BTreeSet<_> = replaced.filter(|name| *name != new.primary).collect();
        let followed = self.attempt.iter().flat_map(|attempt| &attempt.steps);
        let is_behind = |step: &&StepRecord| matches!(&step.goal, StepKind::Follow { source, .. } if *source == new.primary);
        let followed = followed.filter(is_behind).filter(|step| step.met().is_some());
        let followed: BTreeSet<_> = followed.map(|step| step.target.clone()).collect();
        let opening = self.attempt.as_ref().map(|attempt| &attempt.opening);
        let left_out = opening.filter(|it| it.cause.switchover().is_some_and(|it| it.leaves_old));
        let left_out = left_out.map(|opening| opening.actor.clone());
        for name in replaced.union(left_behind) {
            let steps = self.attempt.iter().flat_map(|attempt| &attempt.steps);
            let mut fences = steps
                .filter(|step| matches!(step.goal, StepKind::Fence { .. }) && step.target == *name);
            let vips_dropped = fences.any(|step| step.met().is_some());
            let Some(member) = self.members.get_mut(name) else { continue };
            if followed.contains(name) && !left_behind.contains(name) {
                continue;
            }
            member.left_out = left_out.clone().filter(|_| replaced.contains(name));
            if replaced.contains(name) || member.standing == Standing::Member {
                member.standing = Standing::Former { vips_dropped };
            }
        }
        self.regimes.push(new);
    }

    fn plan_chore(&mut self, epoch: Epoch, planned: Planned) -> Applied {
        self.same_epoch(epoch)?;
        self.no_attempt("a chore")?;
        if !self.members.contains_key(&planned.target) {
            let why = format!("server {} is not defined", planned.target);
            return Err(Rejection::NotNow { why });
        }
        let id = StepId { epoch, seq: self.next_seq };
        self.next_seq += 1;
        let Planned { target, goal } = planned;
        // Numbered anew because its host refused the old number, it goes on resting between runs.
        let former = self.chores.get(&target);
        let former = former.filter(|former| former.goal == goal && goal.is_remote());
        let runs = former.map_or_else(Vec::new, |former| former.runs.clone());
        let chore = StepRecord { id, target: target.clone(), goal, runs };
        self.chores.insert(target, chore);
        Ok(Reply::Ok)
    }

    fn quarantine(&mut self, epoch: Epoch, server: &ServerName, errant: GtidSet) -> Applied {
        self.same_epoch(epoch)?;
        self.no_attempt("a quarantine")?;
        match self.members.get_mut(server) {
            Some(member) => {
                member.standing = Standing::Quarantined { errant, findings: None, saved: None };
                member.rejoin = None;
            }

            None => {
                let why = format!("server {server} is not defined");
                return Err(Rejection::NotNow { why });
            }
        }
        self.chores.remove(server);
        Ok(Reply::Ok)
    }

    /// What is discarded must be what the operator saw, judged and on record as saved.
    fn rejoin(&mut self, epoch: Epoch, server: &ServerName, rejoin: Rejoin) -> Applied {
        self.same_epoch(epoch)?;
        self.no_attempt("a rejoin")?;
        let refused = |why: String| Err(Rejection::NotNow { why });
        let Some(member) = self.members.get_mut(server) else {
            return refused(format!("server {server} is not defined"));
        };
        match &member.standing {
            Standing::Member => return refused(format!("server {server} is a member already")),
            Standing::Former { .. } if !rejoin.extra.is_empty() => {
                return refused(format!("{server} is not known to have anything to discard"));
            }
            Standing::Former { .. } => {}
            Standing::Quarantined { errant, findings, saved } => {
                let proved = findings.as_ref().is_some_and(Findings::is_all_proved);
                let may = match rejoin.discard {
                    Discard::Nothing => false,
                    Discard::Proved => proved,
                    Discard::All => true,
                };
                if !may || *errant != rejoin.extra || saved.is_none() {
                    let why = format!("what {server} has extra is another than was agreed to");
                    return refused(why);
                }
            }
        }
        member.rejoin = Some(rejoin);
        Ok(Reply::Ok)
    }

    fn leave_out(&mut self, server: &ServerName, by: Option<Actor>) -> Applied {
        self.no_attempt("leaving a server out, or having it back,")?;
        let refused = |why: String| Err(Rejection::NotNow { why });
        if by.is_some() && self.primary() == Some(server) {
            return refused(format!(
                "{server} is the primary: conclave switchover --leave-old replaces it first"
            ));
        }
        let is_in = |name: &&ServerName| {
            *name != server && self.members.get(*name).is_some_and(|it| it.left_out.is_none())
        };
        if let Some(regime) = self.regime().filter(|_| by.is_some())
            && regime.ackers.contains(server)
            && regime.ackers.iter().filter(is_in).count() < regime.acks as usize
        {
            let acks = regime.acks;
            return refused(format!(
                "{server} is needed: commits wait for {acks} acknowledgement(s), and too few \
                 servers would be left that give them"
            ));
        }
        match self.members.get_mut(server) {
            Some(member) => member.left_out = by,
            None => return refused(format!("server {server} is not defined")),
        }
        self.chores.remove(server);
        Ok(Reply::Ok)
    }

    fn same_epoch(&self, wanted: Epoch) -> Result<(), Rejection> {
        match wanted == self.epoch {
            true => Ok(()),
            false => Err(Rejection::WrongEpoch { wanted, found: self.epoch }),
        }
    }

    fn no_attempt(&self, what: &str) -> Result<(), Rejection> {
        match &self.attempt {
            None => Ok(()),
            Some(open) => Err(Rejection::NotNow {
                why: format!("{what} has to wait: the attempt {} is open", open.id),
            }),
        }
    }

    fn open_attempt(&mut self, epoch: Epoch) -> Result<&mut Attempt, Rejection> {
        let found = self.epoch;
        match &mut self.attempt {
            Some(attempt) if attempt.epoch() == epoch => Ok(attempt),
            Some(_) => Err(Rejection::WrongEpoch { wanted: epoch, found }),
            None => Err(Rejection::WrongStage { why: "no attempt is open".into() }),
        }
    }

    fn step_mut(&mut self, id: StepId) -> Option<&mut StepRecord> {
        let planned = self.attempt.iter_mut().flat_map(|attempt| &mut attempt.steps);
        planned.chain(self.chores.values_mut()).find(|step| step.id == id)
    }

    /// Numbers steps and adds them to the open attempt.
    fn plan(&mut self, steps: Vec<Planned>) -> Applied {
        let epoch = self.epoch;
        let Some(attempt) = &mut self.attempt else {
            return Err(Rejection::WrongStage { why: "no attempt is open".into() });
        };
        let reply = Reply::Opened { id: attempt.id.clone() };
        for Planned { target, goal } in steps.into_iter().take(Self::STEPS) {
            let id = StepId { epoch, seq: self.next_seq };
            self.next_seq += 1;
            attempt.steps.push(StepRecord { id, target, goal, runs: Vec::new() });
        }
        Ok(reply)
    }

    fn remember(&mut self, attempt: Attempt) {
        self.history.push_back(attempt);
        while self.history.len() > Self::HISTORY {
            self.history.pop_front();
        }
    }
}

impl Attempt {
    fn enter(&mut self, stage: Stage, at_us: Option<Micros>, term: Term) {
        self.marks.push(Mark { what: stage.code().into(), at_us, term });
        self.stage = stage;
    }
}

impl Member {
    /// What a completed chore changes about a server.
    fn chore_done(&mut self, goal: &StepKind, evidence: Option<&StepEvidence>) {
        match goal {
            StepKind::Follow { .. } => {
                (self.standing, self.cut) = (Standing::Member, None);
                self.left_out = self.left_out.take().filter(|_| self.rejoin.is_none());
                self.rejoined = self.rejoin.take().or(self.rejoined.take());
            }
            StepKind::Rebuild { .. } => self.standing = Standing::Former { vips_dropped: true },
            StepKind::MakeReadOnly => {
                if let Some(StepEvidence::Server { waited_for, .. }) = evidence {
                    let waited_for = waited_for.unwrap_or(0);
                    self.cut = Some(self.cut.map_or(waited_for, |least| least.min(waited_for)));
                }
            }
            StepKind::Examine { extra, .. } | StepKind::SaveExtra { extra, .. } => {
                self.looked_into(extra, evidence);
            }
            StepKind::DropVips { .. } => {
                if let Standing::Former { vips_dropped } = &mut self.standing {
                    *vips_dropped = true;
                }
            }
            StepKind::Level { .. }
            | StepKind::CloseForWrites { .. }
            | StepKind::Reopen { .. }
            | StepKind::StopReceiver
            | StepKind::Fence { .. }
            | StepKind::CatchUp { .. }
            | StepKind::Apply { .. }
            | StepKind::ReadLog
            | StepKind::Rescue { .. }
            | StepKind::Detach
            | StepKind::OpenForWrites { .. }
            | StepKind::TakeVip { .. }
            | StepKind::ResumeReceiver
            | StepKind::Wake
            | StepKind::StartServer
            | StepKind::Arm { .. }
            | StepKind::LockOut { .. }
            | StepKind::LetIn { .. }
            | StepKind::Harden { .. }
            | StepKind::Hook { .. } => {}
        }
    }

    /// The verdict on what it has extra, or where that was copied to; unless it has changed since.
    fn looked_into(&mut self, extra: &GtidSet, evidence: Option<&StepEvidence>) {
        let Standing::Quarantined { errant, findings, saved } = &mut self.standing else { return };
        match evidence.filter(|_| errant == extra) {
            Some(StepEvidence::Examined { findings: found }) => *findings = Some(found.clone()),
            Some(StepEvidence::Host { text }) => *saved = Saved::of(text),
            Some(
                StepEvidence::Server { .. } | StepEvidence::Log { .. } | StepEvidence::Hook { .. },
            )
            | None => {}
        }
    }
}

impl Pause {
    /// Who paused, for a sentence.
    pub fn by(&self) -> String {
        let who = match &self.actor {
            Actor::Group => "the group",
            Actor::Operator { name } => name,
        };
        match self.reason.is_empty() {
            true => who.to_owned(),
            false => format!("{who} ({})", self.reason),
        }
    }
}

/// Whether an attempt may be opened for that cause although this one is open: past entry 9, if its
/// candidate was lost; before it only one that finds the primary of a switchover dead.
fn may_go_on_with(open: &Attempt, cause: &Cause) -> bool {
    match cause {
        Cause::CandidateLost { .. } => open.stage.entry_nine().is_some(),
        Cause::PrimaryDown => {
            open.stage.entry_nine().is_none() && open.opening.cause.switchover().is_some()
        }
        Cause::PrimaryRestarted | Cause::Manual | Cause::Switchover { .. } => false,
    }
}

/// What a step of the freeze did is undone by one of these.
fn is_put_back(attempt: &Attempt, step: &StepRecord, undo: &[Planned]) -> bool {
    let is_there = |is_it: &dyn Fn(&StepKind) -> bool| {
        undo.iter().any(|planned| planned.target == step.target && is_it(&planned.goal))
    };
    let is_back = |goal: &StepKind| matches!(goal, StepKind::Follow { source, .. } if *source == attempt.old_primary);
    let goal = &step.goal;
    let is_stopped = *goal == StepKind::StopReceiver;
    let is_closed = matches!(goal, StepKind::CloseForWrites { .. });
    (!is_stopped || is_there(&|goal| *goal == StepKind::ResumeReceiver))
        && (!is_closed || is_there(&|goal| matches!(goal, StepKind::Reopen { .. })))
        && (!attempt.moves_ahead(goal) || is_there(&is_back))
}

fn wrong_stage(attempt: &Attempt, why: &str) -> Rejection {
    Rejection::WrongStage {
        why: format!("{} is in stage {}: {why}", attempt.id, attempt.stage.code()),
    }
}

//! A model of one MySQL 9.7 server: what it has executed, whom it follows, who waits in it.
//!
//! Only states and how they change; the threads are tasks in [`crate::link`], statements come in
//! through [`crate::sql`]. Facts in brackets are those of the table of measured behaviour that
//! SAFETY.md rests on.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    task::Waker,
};

use conclave_core::model::{
    Applier, Boot, FileEnd, GtidSet, Inbound, LinkOptions, LogFile, LogMark, Receiver,
    ReplicaFacts, SemiSync, ServerFacts, Token, Trail,
};

use crate::{
    clock::{Micros, Slot},
    disk::Channel,
    gtids::Gtids,
    network::Ix,
    sql::RETRY,
};

/// A transaction in a binary or relay log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trx {
    /// Which server numbered it.
    pub origin: Ix,
    /// Its number there.
    pub number: u64,
}

/// Why a statement of a client did not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// 1290: read-only.
    ReadOnly,
    /// 2013, 2006: the connection is gone; whether the statement took effect is not known.
    Lost,
    /// 2003, 3032: no connection; nothing was done.
    Refused,
}

/// What a client is told of its commit.
pub type Told = Slot<Result<Trx, Mishap>>;

/// A commit in the binary log that waits for acknowledgements.
pub struct Wait {
    /// Its place in the binary log, counted from one.
    pub index: usize,
    /// Whoever waits; `None`: the session was killed, or it is the applier.
    pub client: Option<(u64, Told)>,
    /// It is the applier's.
    pub is_applier: bool,
}

/// Somebody who is not in the definition.
const STRANGER: Ix = Ix::MAX;

/// Semi-synchronous replication, both sides.
#[derive(Debug, Default)]
pub struct Semi {
    /// `rpl_semi_sync_source_enabled`.
    pub source: bool,
    /// `rpl_semi_sync_replica_enabled`.
    pub replica: bool,
    /// `rpl_semi_sync_source_wait_for_replica_count`.
    pub acks: u32,
    /// A client that is not in the definition acknowledges everything at once.
    pub has_stranger: bool,
    /// The position up to which each replica has acknowledged.
    pub acked: BTreeMap<Ix, usize>,
}

/// The connection of a receiver to its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wire {
    /// The source.
    pub source: Ix,
    /// The source's incarnation.
    pub boot: u64,
    /// The semi-sync side was asked for when connecting.
    pub is_semi: bool,
    /// The dump thread at the source.
    pub dump: u64,
}

/// A connection that is sent the binary log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dump {
    /// Which one.
    pub number: u64,
    /// It acknowledges.
    pub is_semi: bool,
}

/// Replication from a source.
#[derive(Debug)]
pub struct Link {
    /// `Source_Host`, `Source_Port`.
    pub source: (String, u16),
    /// Options of the link.
    pub options: LinkOptions,
    /// Which receiver thread this is; zero: none.
    pub receiver_run: u64,
    /// The receiver.
    pub receiver: Receiver,
    /// Its error.
    pub error: Option<(u32, String)>,
    /// Its connection.
    pub wire: Option<Wire>,
    /// `Source_UUID`.
    pub source_uuid: String,
    /// Which applier thread this is; zero: none.
    pub applier_run: u64,
    /// The applier.
    pub applier: Applier,
    /// `Retrieved_Gtid_Set`.
    pub retrieved: Gtids,
    /// Received and not applied.
    pub queue: VecDeque<Trx>,
    /// Heartbeats since the receiver was started.
    pub heartbeats: u64,
}

/// A manager's session.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Who it acts for.
    pub token: Token,
    /// Which manager.
    pub manager: u64,
}

/// What a thread waits for at a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Its binary log grows, or its state changes.
    Log,
    /// Its relay log grows, or its state changes.
    Queue,
    /// Its state changes.
    State,
}

/// One server.
pub struct Server {
    /// Its place in the definition.
    pub ix: Ix,
    /// `server_uuid`.
    pub uuid: String,
    /// Address.
    pub address: (String, u16),
    /// mysqld runs.
    pub is_running: bool,
    /// It is stopped (SIGSTOP).
    pub is_hung: bool,
    /// Changes with each start of mysqld.
    pub boot: u64,
    /// When it was started.
    pub started: Micros,
    /// How long it had been up already when the world began.
    pub age: Micros,
    /// `read_only`.
    pub read_only: bool,
    /// `super_read_only`.
    pub super_read_only: bool,
    /// A statement that switches that on waited for commits under way, last at this moment. [The
    /// setting is seen on already.]
    pub closing: Option<Micros>,
    /// `offline_mode`.
    pub offline: bool,
    /// `gtid_executed`: without the commits that wait.
    pub executed: Gtids,
    /// The binary log.
    pub binlog: Vec<Trx>,
    /// Who is sent it. One whose replica is gone is noticed only if the network says so.
    pub dumps: BTreeMap<Ix, Dump>,
    /// Replicas whose accounts are locked.
    pub locked: BTreeSet<Ix>,
    /// Acknowledgements are lost on their way to it.
    pub is_deaf: bool,
    /// Commits that wait for acknowledgements, in order.
    pub waits: VecDeque<Wait>,
    /// Semi-sync.
    pub semi: Semi,
    /// Replication.
    pub link: Option<Link>,
    /// The channel for rescued transactions.
    pub rescue: Option<Channel>,
    /// What lies beside the relay logs for it.
    pub rescued: Option<Vec<Trx>>,
    /// Sessions of managers.
    pub sessions: BTreeMap<u64, Session>,
    /// The session that holds the cluster's named lock.
    pub holder: Option<u64>,
    /// Connections of applications.
    pub clients: BTreeSet<u64>,
    /// How long applying one transaction takes.
    pub apply_us: Micros,
    /// The configuration file says `read_only` and `super_read_only`.
    pub boots_read_only: bool,
    /// `relay_log_recovery`: a restart throws away what was received and not applied.
    pub relay_log_recovery: bool,
    /// Where in the binary log each run of mysqld ended, and whether it was shut down in order.
    pub ends: Vec<(usize, bool)>,
    /// A person has changed its semi-sync settings, or started its threads, by hand.
    pub is_loose: bool,
    /// Next number of its own.
    next: u64,
    uuids: Vec<String>,
    watchers: [Vec<Waker>; 3],
}

impl Server {
    /// A server that was never written to, running and read-only.
    pub fn new(ix: Ix, uuids: Vec<String>, address: (String, u16)) -> Self {
        Self {
            ix,
            uuid: uuids[ix].clone(),
            address,
            is_running: true,
            is_hung: false,
            boot: 1,
            started: 0,
            age: 0,
            read_only: true,
            super_read_only: true,
            closing: None,
            offline: false,
            executed: Gtids::default(),
            binlog: Vec::new(),
            dumps: BTreeMap::new(),
            locked: BTreeSet::new(),
            is_deaf: false,
            waits: VecDeque::new(),
            semi: Semi::default(),
            link: None,
            rescue: None,
            rescued: None,
            sessions: BTreeMap::new(),
            holder: None,
            clients: BTreeSet::new(),
            apply_us: 300,
            boots_read_only: true,
            relay_log_recovery: false,
            ends: Vec::new(),
            is_loose: false,
            next: 1,
            uuids,
            watchers: Default::default(),
        }
    }

    /// Another server at the same address, empty and read-only, that everybody but its identity
    /// takes for this one.
    pub fn stranger(&self, now: Micros) -> Self {
        let stranger = Self::new(self.ix, self.uuids.clone(), self.address.clone());
        let uuid = format!("99999999-0000-0000-0000-{:012}", self.boot);
        Self { uuid, boot: self.boot + 1, started: now.saturating_sub(1_000_000), ..stranger }
    }

    /// Answers statements.
    pub fn is_serving(&self) -> bool {
        self.is_running && !self.is_hung
    }

    /// An application could commit here, if it got its acknowledgements.
    pub fn is_writable(&self) -> bool {
        self.is_running && !self.read_only && !self.offline
    }

    /// Executed, or in the relay log.
    pub fn received(&self) -> GtidSet {
        let retrieved = self.link.as_ref().map(|link| link.retrieved.set(&self.uuids));
        retrieved.iter().fold(self.executed(), |sum, set| sum.union(set))
    }

    /// `gtid_executed`, as it is seen.
    pub fn executed(&self) -> GtidSet {
        self.executed.set(&self.uuids)
    }

    /// In the binary log: executed, or waiting for acknowledgements.
    pub fn logged(&self) -> GtidSet {
        let mut logged = self.executed.clone();
        self.waits.iter().for_each(|wait| logged.add(self.binlog[wait.index - 1]));
        logged.set(&self.uuids)
    }

    /// Executed, or in the relay log.
    pub fn has_received(&self, trx: Trx) -> bool {
        let is_retrieved = |link: &Link| link.retrieved.has(trx);
        self.executed.has(trx) || self.link.as_ref().is_some_and(is_retrieved)
    }

    /// In the binary log: executed, or waiting.
    pub fn has_logged(&self, trx: Trx) -> bool {
        self.executed.has(trx) || self.waits.iter().any(|wait| self.binlog[wait.index - 1] == trx)
    }

    /// To be woken at the next change of that kind.
    pub fn watch(&mut self, what: Watch, waker: &Waker) {
        let watchers = &mut self.watchers[what as usize];
        if !watchers.iter().any(|known| known.will_wake(waker)) {
            watchers.push(waker.clone());
        }
    }

    /// Wakes all threads that look at this server.
    pub fn changed(&mut self) {
        self.watchers.iter_mut().flat_map(|list| list.drain(..)).for_each(Waker::wake);
    }

    fn grew(&mut self, what: Watch) {
        self.watchers[what as usize].drain(..).for_each(Waker::wake);
    }

    /// Into the relay log.
    pub fn receive(&mut self, events: &[Trx]) {
        if let Some(link) = &mut self.link {
            for trx in events {
                link.retrieved.add(*trx);
                link.queue.push_back(*trx);
            }
        }
        self.grew(Watch::Queue);
    }

    /// Writes a transaction of its own; the client is told when it is committed.
    pub fn commit(&mut self, client: Option<(u64, Told)>) -> Trx {
        let trx = Trx { origin: self.ix, number: self.next };
        self.append(trx, client, false);
        trx
    }

    /// Writes a transaction received from elsewhere; true: it is committed.
    pub fn apply(&mut self, trx: Trx) -> bool {
        self.append(trx, None, true);
        !self.waits.iter().any(|wait| wait.is_applier)
    }

    /// AFTER_SYNC: into the binary log, from where it is sent; committed when acknowledged.
    fn append(&mut self, trx: Trx, client: Option<(u64, Told)>, is_applier: bool) {
        self.binlog.push(trx);
        if trx.origin == self.ix {
            self.next = self.next.max(trx.number + 1);
        }
        self.waits.push_back(Wait { index: self.binlog.len(), client, is_applier });
        if self.semi.has_stranger {
            self.semi.acked.insert(STRANGER, self.binlog.len());
        }
        self.release();
        self.grew(Watch::Log);
    }

    /// [ACCOUNT LOCK and KILL of its connections: nothing that it sends is taken any more.]
    pub fn lock_out(&mut self, replica: Ix) {
        self.locked.insert(replica);
        self.dumps.remove(&replica);
        self.changed();
    }

    /// Connections that acknowledge, a stranger's among them.
    fn semi_clients(&self) -> u32 {
        let known = self.dumps.values().filter(|dump| dump.is_semi).count();
        (known + usize::from(self.semi.has_stranger)) as u32
    }

    /// A replica acknowledges everything up to that place in the binary log.
    pub fn acknowledged(&mut self, by: Ix, index: usize) {
        if self.semi.source && !self.is_deaf {
            let known = self.semi.acked.entry(by).or_default();
            *known = index.max(*known);
            self.release();
        }
    }

    /// Commits what has waited long enough [k lowered: released at once; switched off: at once].
    pub fn release(&mut self) {
        while let Some(wait) = self.waits.front() {
            let by = self.semi.acked.values().filter(|index| **index >= wait.index).count();
            if self.semi.source && by < self.semi.acks as usize {
                return;
            }
            let Some(wait) = self.waits.pop_front() else { return };
            let trx = self.binlog[wait.index - 1];
            self.executed.add(trx);
            if let Some((_, told)) = wait.client {
                told.put(Ok(trx));
            }
            if wait.is_applier {
                self.grew(Watch::Queue);
            }
        }
    }

    /// `rpl_semi_sync_source_enabled` and its count.
    pub fn set_semi_source(&mut self, on: bool, acks: u32) {
        if on && !self.semi.source {
            self.semi.acked.clear();
        }
        self.semi.source = on;
        if on {
            self.semi.acks = acks;
        }
        self.release();
    }

    /// [`offline_mode` cuts the replicas' connections, too: their accounts are not privileged.]
    pub fn set_offline(&mut self, on: bool) {
        self.offline = on;
        if on {
            self.cut_clients();
            self.dumps.clear();
        }
    }

    /// [KILL CONNECTION, offline_mode: the client gets 2013, the transaction stays and is
    /// committed once the wait ends.]
    pub fn cut_clients(&mut self) {
        self.clients.clear();
        for wait in &mut self.waits {
            if let Some((_, told)) = wait.client.take() {
                told.put(Err(Mishap::Lost));
            }
        }
    }

    /// Ends a manager's session; its lock is free.
    pub fn end_session(&mut self, session: u64) {
        self.sessions.remove(&session);
        if self.holder == Some(session) {
            self.holder = None;
        }
    }

    /// kill -9.
    pub fn crash(&mut self) {
        if self.is_running {
            self.ends.push((self.binlog.len(), false));
        }
        self.cut_clients();
        self.is_running = false;
        self.is_hung = false;
        self.boot += 1;
        self.sessions.clear();
        self.holder = None;
        self.semi.acked.clear();
        self.dumps.clear();
        if let Some(link) = &mut self.link {
            link.stop_receiver();
            link.stop_applier();
        }
        self.rescue.iter_mut().for_each(Channel::stop);
        self.changed();
    }

    /// [SIGTERM: semi-sync is switched off, all who wait are answered OK.]
    pub fn shut_down(&mut self) {
        self.set_semi_source(false, 0);
        self.crash();
        if let Some((_, is_in_order)) = self.ends.last_mut() {
            *is_in_order = true;
        }
    }

    /// While it does not run its disk is put back to an older copy: the last transactions are gone.
    pub fn put_back(&mut self, by: usize) {
        self.waits.clear();
        self.binlog.truncate(self.binlog.len().saturating_sub(by));
        let len = self.binlog.len();
        self.ends.iter_mut().for_each(|(at, _)| *at = len.min(*at));
        self.executed = Gtids::default();
        self.next = 1;
        for trx in self.binlog.clone() {
            self.executed.add(trx);
            if trx.origin == self.ix {
                self.next = trx.number + 1;
            }
        }
    }

    /// What a clone of it has: committed data, and where it replicates from.
    pub fn copy(&self) -> (Gtids, Vec<Trx>, Option<Link>) {
        let committed = self.binlog.iter().filter(|trx| self.executed.has(**trx));
        let link = self.link.as_ref();
        let link = link.map(|link| Link::new(link.source.clone(), link.options.clone()));
        (self.executed.clone(), committed.copied().collect(), link)
    }

    /// The end of a clone: other data, the same identity, and mysqld is gone.
    pub fn replace_data(&mut self, executed: Gtids, binlog: Vec<Trx>, link: Option<Link>) {
        self.crash();
        self.waits.clear();
        (self.executed, self.binlog, self.link) = (executed, binlog, link);
        (self.rescue, self.rescued) = (None, None);
        let own = self.binlog.iter().filter(|trx| trx.origin == self.ix);
        self.next = own.map(|trx| trx.number + 1).max().unwrap_or(1);
        self.ends = vec![(self.binlog.len(), true)];
    }

    /// Starts mysqld: recovery commits what is in the binary log [kill -9, restart]; the
    /// configuration file decides the rest.
    pub fn start(&mut self, now: Micros) {
        for wait in std::mem::take(&mut self.waits) {
            self.executed.add(self.binlog[wait.index - 1]);
        }
        self.is_running = true;
        self.boot += 1;
        (self.started, self.age) = (now, 0);
        self.read_only = self.boots_read_only;
        self.super_read_only = self.boots_read_only;
        self.offline = false;
        self.semi = Semi::default();
        let executed = self.executed.clone();
        let forgets = self.relay_log_recovery;
        if let Some(link) = &mut self.link {
            if forgets {
                link.queue.clear();
                link.retrieved = Gtids::default();
            }
            link.queue.retain(|trx| !executed.has(*trx));
        }
        self.changed();
    }

    /// What a look sees.
    pub fn facts(&self, now: Micros) -> ServerFacts {
        ServerFacts {
            uuid: self.uuid.clone(),
            version: "9.7.4".into(),
            server_id: self.ix as u32 + 1,
            uptime_seconds: (now.saturating_sub(self.started) + self.age) / 1_000_000,
            read_only: self.read_only,
            super_read_only: self.super_read_only
                || self.closing.is_some_and(|at| now.saturating_sub(at) <= RETRY),
            offline: self.offline,
            gtid_mode: true,
            log_bin: true,
            log_replica_updates: true,
            sync_binlog: 1,
            flush_log: 1,
            sync_relay_log: 1,
            skips_replica_start: true,
            boot: if self.boots_read_only { Boot::ReadOnly } else { Boot::Open },
            inbound: Some(Inbound {
                dumps: self.dumps.keys().map(|ix| account(*ix)).collect(),
                connected: self.dumps.keys().map(|ix| account(*ix)).collect(),
                locked: self.locked.iter().map(|ix| account(*ix)).collect(),
            }),
            executed: self.executed(),
            purged: GtidSet::empty(),
            replica: self.link.as_ref().map(|link| link.facts(&self.uuids)),
            rescue: self.rescue.as_ref().map(|channel| channel.applier.clone()),
            relay_log: "/data/relay".into(),
            semi_sync: Some(SemiSync {
                has_source: true,
                source_enabled: self.semi.source,
                replica_enabled: self.semi.replica,
                replica_active: self.is_acker(),
                clients: self.semi_clients(),
                acks: self.semi.acks,
                timeout_ms: 86_400_000_000,
                after_sync: true,
                wait_no_replica: true,
                waiting: self.waits.len() as u32,
            }),
        }
    }

    /// What its own logs tell: one binary log file for each run of mysqld, an error log that goes
    /// back to the first.
    pub fn trail(&self) -> Trail {
        let mut out = Trail { files: Vec::new(), marks: Some(Vec::new()) };
        let mut previous = Gtids::default();
        let mut from = 0;
        let runs = self.ends.iter().map(|(at, is_in_order)| (*at, Some(*is_in_order)));
        for (number, (to, end)) in runs.chain([(self.binlog.len(), None)]).enumerate() {
            out.files.push(LogFile {
                path: format!("/data/binlog.{number:06}"),
                previous: previous.set(&self.uuids),
                end: match end {
                    None => FileEnd::Current,
                    Some(true) => FileEnd::Stopped,
                    Some(false) => FileEnd::Torn,
                },
            });
            let marks = out.marks.iter_mut();
            marks.for_each(|marks| {
                marks.extend([LogMark::Starting, LogMark::Ready]);
                marks.extend((end == Some(true)).then_some(LogMark::ShutdownAsked));
            });
            self.binlog[from..to].iter().for_each(|trx| previous.add(*trx));
            from = to;
        }
        out
    }

    /// `Rpl_semi_sync_replica_status`: its receiver is connected and acknowledges.
    pub fn is_acker(&self) -> bool {
        self.link.as_ref().and_then(|link| link.wire).is_some_and(|wire| wire.is_semi)
    }

    /// It acknowledges the commits of that server.
    pub fn is_acker_of(&self, source: Ix) -> bool {
        let wire = self.link.as_ref().and_then(|link| link.wire);
        wire.is_some_and(|wire| wire.is_semi && wire.source == source)
    }
}

/// The replication account of a server.
pub fn account(ix: Ix) -> String {
    format!("repl_db{}", ix + 1)
}

impl Link {
    /// A link to that source, stopped.
    pub fn new(source: (String, u16), options: LinkOptions) -> Self {
        Self {
            source,
            options,
            receiver_run: 0,
            receiver: Receiver::Off,
            error: None,
            wire: None,
            source_uuid: String::new(),
            applier_run: 0,
            applier: Applier::Off,
            retrieved: Gtids::default(),
            queue: VecDeque::new(),
            heartbeats: 0,
        }
    }

    /// Stops the receiver: what is half received is thrown away.
    pub fn stop_receiver(&mut self) {
        self.receiver_run = 0;
        self.receiver = Receiver::Off;
        self.wire = None;
    }

    /// Stops the applier.
    pub fn stop_applier(&mut self) {
        self.applier_run = 0;
        self.applier = Applier::Off;
    }

    fn facts(&self, uuids: &[String]) -> ReplicaFacts {
        ReplicaFacts {
            source_host: self.source.0.clone(),
            source_port: self.source.1,
            source_uuid: self.source_uuid.clone(),
            receiver: self.receiver.clone(),
            receiver_error: self.error.clone(),
            applier: self.applier.clone(),
            retrieved: self.retrieved.set(uuids),
            read_to: 0,
            lag_seconds: (self.applier == Applier::On).then_some(0),
            heartbeats: self.heartbeats,
            auto_position: true,
            filters: String::new(),
            options: self.options.clone(),
        }
    }
}

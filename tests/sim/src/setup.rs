//! What a run starts with.

use conclave_core::model::{
    ClusterDefinition, HookDefinition, HookEvent, Mode, Policy, PromotionRule, ServerDefinition,
    SshTarget, Vip,
};

use crate::server::account;

/// What a run starts with; everything else follows from the seed.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// How many managers.
    pub managers: u64,
    /// The cluster.
    pub definition: ClusterDefinition,
    /// Clients at the writer address.
    pub writers: u32,
    /// Pause between two writes of a client.
    pub write_every_us: u64,
    /// A restart throws away what was received and not applied.
    pub relay_log_recovery: bool,
    /// For how long the servers had been up when the run begins.
    pub age_us: u64,
    /// Whether readable lines are kept.
    pub trace: bool,
}

impl Setup {
    /// Three managers, and so many servers in one mode.
    pub fn new(mode: Mode, servers: usize, acks: u32) -> Self {
        let policy = Policy { last_failover_minutes: 0, ..Policy::default() };
        let definition = ClusterDefinition {
            name: "app1".into(),
            mode,
            acks,
            admin_account: "conclave".into(),
            servers: (1..=servers).map(server).collect(),
            writer: Some(vip("10.0.0.100")),
            readers: Vec::new(),
            hooks: Vec::new(),
            policy,
        };
        Self {
            seed: 1,
            managers: 3,
            definition,
            writers: 2,
            write_every_us: 20_000,
            relay_log_recovery: false,
            age_us: 0,
            trace: false,
        }
    }

    /// `quorum` mode with the smallest number of servers.
    pub fn quorum() -> Self {
        Self::new(Mode::Quorum, 3, 1)
    }

    /// `quorum` mode with five servers, two of which acknowledge each commit.
    pub fn quorum_of_five() -> Self {
        Self::new(Mode::Quorum, 5, 2)
    }

    /// Another seed.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Readable lines are kept.
    #[must_use]
    pub fn traced(self) -> Self {
        Self { trace: true, ..self }
    }

    /// The servers have been up for an hour: none of them is taken for just restarted.
    #[must_use]
    pub fn aged(self) -> Self {
        Self { age_us: 3_600_000_000, ..self }
    }

    /// One server is preferred as candidate.
    #[must_use]
    pub fn prefer(mut self, ix: usize) -> Self {
        self.definition.servers[ix].promotion = PromotionRule::Prefer;
        self
    }

    /// A script is called at every moment.
    #[must_use]
    pub fn hooked(mut self, required: bool) -> Self {
        self.definition.hooks.push(HookDefinition {
            name: "script".into(),
            on: HookEvent::ALL.to_vec(),
            deadline_ms: HookDefinition::DEADLINE,
            required,
        });
        self
    }

    /// Another policy.
    #[must_use]
    pub fn policy(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(&mut self.definition.policy);
        self
    }
}

fn server(number: usize) -> ServerDefinition {
    let host = format!("10.0.0.{number}");
    ServerDefinition {
        name: format!("db{number}").as_str().into(),
        host: host.clone(),
        port: 3306,
        rack: format!("r{number}"),
        promotion: PromotionRule::Allow,
        acker: true,
        replication_account: account(number - 1),
        ssh: Some(SshTarget { host, port: 22, user: "root".into() }),
        data_dir: "/var/lib/mysql".into(),
        log_bin: None,
        service: Some("mysqld".into()),
    }
}

fn vip(address: &str) -> Vip {
    Vip { address: address.into(), prefix: 24, interface: "eth0".into() }
}

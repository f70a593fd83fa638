//! MySQL servers over their own protocol: looks, locked sessions, acts and pings.
//!
//! ```text
//!   MysqlPort --lock--> MysqlSession (session, act) --+
//!      |------look----> a standing connection (read) -+--> wire (deadlines)
//!      `------pinger--> Pinger (ping) ----------------+      fault (what errors mean)
//! ```
//! SQL that differs between kinds of servers is made in [`dialect`] only.

mod act;
mod close;
mod dialect;
mod fault;
mod ping;
mod read;
mod session;
mod trail;
mod wire;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use conclave_core::{
    model::{ClusterName, ManagerId, Mono, ServerFacts, Survey, Token},
    ports::{Clock, Mysql, Place, PortError, Trouble},
};
use secrecy::SecretString;

pub use ping::{PingOutcome, Pinger};
pub use session::MysqlSession;

use self::{
    dialect::Dialect,
    fault::Fault,
    read::Eye,
    wire::{Target, Wire},
};
use super::{clock::SystemClock, secrets::Secrets};

/// The replication channel over which a server executes what was rescued from a dead one's disk.
pub(crate) const RESCUE_CHANNEL: &str = "conclave_rescue";

/// How MySQL connections are secured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum MysqlTls {
    /// Plain text; passwords still go through `caching_sha2_password`'s own exchange.
    Off,
    /// TLS where the server offers it, whatever its certificate: keeps listeners out, not
    /// impostors. MySQL's self-made certificates can be had in no other way.
    #[default]
    Preferred,
    /// TLS, with a certificate of one of these authorities for the address we connect to.
    Verified {
        /// PEM file.
        ca_file: PathBuf,
    },
}

/// Settings of this manager's own for MySQL connections.
#[derive(Clone, Debug, Default)]
pub struct MysqlPortOptions {
    /// TLS.
    pub tls: MysqlTls,
}

/// [`MysqlTls`] with its file read.
#[derive(Clone)]
enum Tls {
    Off,
    Unverified,
    Verified { ca_pem: Vec<u8> },
}

/// [`Mysql`] for real servers.
#[derive(Clone)]
pub struct MysqlPort {
    shared: Arc<Shared>,
}

/// Cluster, account, host and port.
type Key = (ClusterName, String, String, u16);

struct Shared {
    secrets: Arc<Secrets>,
    tls: Tls,
    /// One per server that was ever named; bounded by the definitions.
    targets: Mutex<BTreeMap<Key, Arc<Target>>>,
    /// At most [`IDLE_MOST`] idle connections per server, between two looks or steps.
    idle: Mutex<BTreeMap<Key, Vec<Idle>>>,
}

struct Idle {
    wire: Wire,
    eye: Eye,
    since: Mono,
}

/// A step acts over one connection and looks over another, and the next one is about to begin.
const IDLE_MOST: usize = 3;
/// An idle connection older than this is not used again: firewalls forget.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// A look or a lock over a standing connection falls back to a new one after this.
const STANDING_LIMIT: Duration = Duration::from_millis(300);

impl MysqlPort {
    /// Prepares for connections; opens none.
    ///
    /// # Errors
    /// `Local`: the file of the certificate authority cannot be read.
    pub fn new(secrets: Arc<Secrets>, options: &MysqlPortOptions) -> Result<Self, PortError> {
        // Only ring is compiled in; said once here, so that nobody has to guess it.
        rustls::crypto::ring::default_provider().install_default().ok();
        let tls = match &options.tls {
            MysqlTls::Off => Tls::Off,
            MysqlTls::Preferred => Tls::Unverified,
            MysqlTls::Verified { ca_file } => {
                let failed = |cause| {
                    let why = format!("read certificate authority {}: {cause}", ca_file.display());
                    PortError::not_done(Trouble::Local, why)
                };
                Tls::Verified { ca_pem: std::fs::read(ca_file).map_err(failed)? }
            }
        };
        let shared = Shared { secrets, tls, targets: Mutex::default(), idle: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Opens connections that steps are about to need, and could not wait for.
    ///
    /// # Errors
    /// As for a look; nothing was done.
    pub async fn stand_by(&self, place: &Place, deadline: Mono) -> Result<(), PortError> {
        let target = self.shared.target(place)?;
        while self.shared.count_idle(place) < IDLE_MOST {
            let opened = async {
                let mut wire = Wire::open(&target, deadline).await?;
                let mut eye = Eye::default();
                eye.look(&mut wire, deadline).await?;
                Ok((wire, eye))
            };
            let wanted = || format!("connect to {}", target.label);
            let (wire, eye) = opened.await.map_err(|fault: Fault| fault.not_done(&wanted()))?;
            self.shared.put_idle(place, wire, eye);
        }
        Ok(())
    }

    /// Pings for the probe loop of one server. The server's table of pings is keyed by `manager`.
    ///
    /// # Errors
    /// `Local`: there is no password for the account.
    pub fn pinger(&self, place: &Place, manager: ManagerId) -> Result<Pinger, PortError> {
        Ok(Pinger::new(self.shared.target(place)?, manager))
    }
}

impl Shared {
    fn key(place: &Place) -> Key {
        let server = &place.server;
        (place.cluster.clone(), place.admin_account.clone(), server.host.clone(), server.port)
    }

    fn target(&self, place: &Place) -> Result<Arc<Target>, PortError> {
        let key = Self::key(place);
        if let Some(found) = self.targets.lock().expect("no panic under this lock").get(&key) {
            return Ok(found.clone());
        }
        let (server, account) = (&place.server, &place.admin_account);
        let password = self.password(&place.cluster, account)?;
        let label = format!("{} ({}:{})", server.name, server.host, server.port);
        let (host, port) = (&server.host, server.port);
        let made = Arc::new(Target::new(label, host, port, account, password, &self.tls));
        self.targets.lock().expect("no panic under this lock").insert(key, made.clone());
        Ok(made)
    }

    fn password(&self, cluster: &ClusterName, account: &str) -> Result<&SecretString, PortError> {
        self.secrets.mysql_password(cluster, account).ok_or_else(|| {
            let why = format!(
                "no password for MySQL account {account:?} of cluster {cluster}: put [mysql.\
                 {account}] with a password into this manager's secrets file"
            );
            PortError::not_done(Trouble::Local, why)
        })
    }

    fn take_idle(&self, place: &Place) -> Option<Idle> {
        let mut all = self.idle.lock().expect("no panic under this lock");
        let idle = all.get_mut(&Self::key(place))?;
        let now = SystemClock.now();
        idle.retain(|found| Duration::from(now.since(found.since)) < IDLE_LIMIT);
        idle.pop()
    }

    fn count_idle(&self, place: &Place) -> usize {
        let all = self.idle.lock().expect("no panic under this lock");
        all.get(&Self::key(place)).map_or(0, Vec::len)
    }

    fn put_idle(&self, place: &Place, wire: Wire, eye: Eye) {
        if !wire.is_broken() {
            let idle = Idle { wire, eye, since: SystemClock.now() };
            let mut all = self.idle.lock().expect("no panic under this lock");
            let others = all.entry(Self::key(place)).or_default();
            others.push(idle);
            // The oldest goes.
            if others.len() > IDLE_MOST {
                others.remove(0);
            }
        }
    }
}

/// The nearer of `deadline` and the patience with a standing connection.
fn standing_deadline(deadline: Mono) -> Mono {
    deadline.min(SystemClock.after(STANDING_LIMIT))
}

impl Mysql for MysqlPort {
    type Session = MysqlSession;

    async fn lock(
        &self,
        place: &Place,
        token: Token,
        deadline: Mono,
    ) -> Result<MysqlSession, PortError> {
        MysqlSession::lock(self.shared.clone(), place, token, deadline).await
    }

    async fn look(&self, place: &Place, deadline: Mono) -> Result<ServerFacts, PortError> {
        let target = self.shared.target(place)?;
        let wanted = || format!("look at {}", target.label);
        let mut eye = Eye::default();
        if let Some(mut idle) = self.shared.take_idle(place) {
            let seen = idle.eye.look(&mut idle.wire, standing_deadline(deadline)).await;
            if seen.is_ok() || !idle.wire.is_broken() {
                self.shared.put_idle(place, idle.wire, idle.eye);
                return seen.map_err(|fault| fault.not_done(&wanted()));
            }
            eye = idle.eye;
        }
        let opened = Wire::open(&target, deadline).await;
        let mut wire = opened
            .map_err(|fault: Fault| fault.not_done(&format!("connect to {}", target.label)))?;
        let seen =
            eye.look(&mut wire, deadline).await.map_err(|fault| fault.not_done(&wanted()))?;
        self.shared.put_idle(place, wire, eye);
        Ok(seen)
    }

    async fn survey(&self, place: &Place, deadline: Mono) -> Result<Survey, PortError> {
        let target = self.shared.target(place)?;
        let fail = |fault: Fault| fault.not_done(&format!("list the sessions of {}", target.label));
        let mut wire = Wire::open(&target, deadline).await.map_err(fail)?;
        let dialect = Dialect::of(wire.version())
            .map_err(|why| PortError::not_done(Trouble::Answered, why))?;
        let sets = wire.run(&dialect.survey(&place.admin_account), deadline).await.map_err(fail)?;
        wire.close(deadline).await;
        dialect.surveyed(&sets).map_err(|odd| fail(Fault::Odd(odd.0)))
    }
}

//! Which hosts does a lab have, and under which addresses?
//!
//! ```text
//!  rack 1: 10.77.1.0/24   rack 2: 10.77.2.0/24   rack 3: 10.77.3.0/24   client: 10.77.0.0/24
//!   db1 .11   m1 .21       db2 .11   m2 .21       db3 .11   m3 .21       client .50
//!     |eth0     |eth0        |         |            |         |            |
//!   ==bridge br1==========bridge br2==============bridge br3=============bridge br0==   eth0 side
//!                     `---------- router 10.77.x.1 ----------'
//!   == segment 10.77.200.0/24: eth1 of every host, writer VIP .100, reader VIP .101 ==   eth1 side
//! ```
//!
//! Two labs have the same addresses: nothing of them exists outside their own namespaces.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::template::MAX_SERVERS;

/// The address that writing clients use; it lives on the primary's `eth1`.
pub const WRITER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 200, 100);
/// The address that reading clients use.
pub const READER_VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 200, 101);
/// MySQL's port on every database host.
pub const MYSQL_PORT: u16 = 3306;

/// What a lab is made of. All fields have defaults.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LabSpec {
    /// Name of the lab, unique on the machine; `None` makes one up.
    pub name: Option<String>,
    /// The lab outlives this process: only `conclave-lab down` ends it.
    pub keep: bool,
    /// Number of database hosts `db1`, `db2`, ... (1 to [`MAX_SERVERS`]), one per rack in turn.
    pub servers: usize,
    /// Number of manager hosts `m1`, `m2`, ... (0 to 7), one per rack in turn.
    pub managers: usize,
    /// Start mysqld on the database hosts at once.
    pub start_mysqld: bool,
    /// `performance_schema`: off by default, it costs 140 MB a server.
    pub performance_schema: bool,
    /// `relay_log_recovery` of every server.
    pub relay_log_recovery: bool,
    /// Size in MB of a database host's `/srv` as a memory file system, so that it can be filled;
    /// `None` puts it on the machine's disk.
    pub srv_mb: Option<u32>,
    /// The server's program in place of the lab's own MySQL; whoever sets it writes `/srv/my.cnf`
    /// and `/srv/data` before he starts it (see [`crate::mariadb`]).
    pub mysqld: Option<PathBuf>,
    /// Further lines for every server's `my.cnf`; a later line wins over an earlier one.
    pub my_cnf: Vec<String>,
}

impl Default for LabSpec {
    fn default() -> LabSpec {
        LabSpec {
            name: None,
            keep: false,
            servers: 3,
            managers: 3,
            start_mysqld: true,
            performance_schema: false,
            relay_log_recovery: true,
            srv_mb: None,
            mysqld: None,
            my_cnf: Vec::new(),
        }
    }
}

/// What a host is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// A database host: mysqld and sshd.
    Server,
    /// A manager's host: holds the SSH key to the database hosts.
    Manager,
    /// The application's host.
    Client,
}

/// A host's place in the lab: everything follows from role and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// What the host is for.
    pub role: Role,
    /// Number within the role, from 1.
    pub number: u8,
    /// Rack, from 1; 0 is the client's.
    pub rack: u8,
}

/// Number of racks that servers and managers are spread over.
pub const RACKS: u8 = 3;

impl Place {
    fn new(role: Role, number: u8) -> Place {
        let rack = match role {
            Role::Server | Role::Manager => (number - 1) % RACKS + 1,
            Role::Client => 0,
        };
        Place { role, number, rack }
    }

    /// The host's name: `db1`, `m1`, `client`.
    pub fn name(self) -> String {
        match self.role {
            Role::Server => format!("db{}", self.number),
            Role::Manager => format!("m{}", self.number),
            Role::Client => "client".to_owned(),
        }
    }

    /// Last byte of the host's addresses; distinct for all hosts, so racks can be shared.
    fn last_byte(self) -> u8 {
        match self.role {
            Role::Server => 10 + self.number,
            Role::Manager => 20 + self.number,
            Role::Client => 50,
        }
    }

    /// The host's own address (`eth0`), in its rack.
    pub fn ip(self) -> Ipv4Addr {
        let last = match self.role {
            Role::Server => 11 + (self.number - 1) / RACKS,
            Role::Manager => 21 + (self.number - 1) / RACKS,
            Role::Client => 50,
        };
        Ipv4Addr::new(10, 77, self.rack, last)
    }

    /// The host's address on the shared segment (`eth1`), where the VIPs live.
    pub fn segment_ip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 200, self.last_byte())
    }

    /// Hardware address of `eth0` (leg 0) or `eth1` (leg 1); the same after every power-on.
    pub(crate) fn mac(self, leg: u8) -> String {
        format!("02:77:00:00:{leg:02x}:{:02x}", self.last_byte())
    }

    /// Names of the host's ports in the router: for `eth0` and for `eth1`.
    pub(crate) fn ports(self) -> [String; 2] {
        [self.name(), format!("{}v", self.name())]
    }

    /// The router's bridges that these ports belong to.
    pub(crate) fn bridges(self) -> [String; 2] {
        [format!("br{}", self.rack), "brv".to_owned()]
    }

    /// MySQL's `server_id` on a database host.
    pub fn server_id(self) -> u32 {
        u32::from(self.number)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())
    }
}

impl LabSpec {
    /// Checks the numbers and the name.
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |what: &str, wanted: String, found: String| {
            Err(Error::Malformed { what: format!("check the lab's {what}"), wanted, found })
        };
        if !(1..=MAX_SERVERS).contains(&self.servers) {
            return bad("servers", format!("1 to {MAX_SERVERS}"), self.servers.to_string());
        }
        if self.managers > 7 {
            return bad("managers", "0 to 7".into(), self.managers.to_string());
        }
        let Some(name) = &self.name else { return Ok(()) };
        let fits = (1..=30).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if fits {
            return Ok(());
        }
        bad("name", "1 to 30 letters, digits or dashes".into(), name.clone())
    }

    /// All hosts: servers, managers, the client.
    pub fn places(&self) -> Vec<Place> {
        let servers = (1..=self.servers as u8).map(|n| Place::new(Role::Server, n));
        let managers = (1..=self.managers as u8).map(|n| Place::new(Role::Manager, n));
        servers.chain(managers).chain([Place::new(Role::Client, 1)]).collect()
    }

    /// The place of a host by its name.
    ///
    /// # Errors
    /// There is no such host; the message names those that exist.
    pub fn place(&self, name: &str) -> Result<Place> {
        let places = self.places();
        places.iter().copied().find(|place| place.name() == name).ok_or_else(|| Error::NoHost {
            name: name.to_owned(),
            known: places.iter().map(|place| place.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

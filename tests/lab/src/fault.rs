//! Which packets does the network lose?
//!
//! All faults of the network are one nftables ruleset in the router, in the bridge family, keyed by
//! the names of the hosts' ports. It sees everything that goes to or comes from a host, between
//! neighbours as well as routed, IP as well as ARP. It is replaced as a whole, at once, and it
//! outlives the hosts: one that comes back from a power cycle is still cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs::{self, File};
use std::process::Command;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Context, Error, Result};
use crate::host::Host;
use crate::install::run;
use crate::keeper::{feed, ip_batch, malformed};
use crate::lab::{Lab, Shared, in_parallel};
use crate::spec::{LabSpec, Place};

/// The faults of the network that are in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// One-way cuts `(from, to)`: `to` does not hear `from`.
    pub cuts: BTreeSet<(String, String)>,
    /// Hosts that neither hear nor are heard.
    pub isolated: BTreeSet<String>,
    /// Packets lost per thousand, on the way to the host and again on the way from it.
    pub loss: BTreeMap<String, u32>,
}

impl Faults {
    /// The whole ruleset as nft's text.
    fn ruleset(&self, spec: &LabSpec) -> Result<String> {
        let mut before = String::new();
        let mut after = String::new();
        for host in &self.isolated {
            for port in spec.place(host)?.ports() {
                let drop = counted(&format!("isolate {host}"));
                let _ = writeln!(before, "  iifname \"{port}\" {drop}");
                let _ = writeln!(after, "  oifname \"{port}\" {drop}");
            }
        }
        for (from, to) in &self.cuts {
            let drop = counted(&format!("cut {from} {to}"));
            let from = spec.place(from)?;
            for port in spec.place(to)?.ports() {
                after += &deaf(&port, from, &drop);
            }
        }
        for (host, permille) in &self.loss {
            // nft refuses a comparison that is always true.
            let drop = counted(&format!("loss {host}"));
            let lose = match permille {
                1000.. => drop,
                0..1000 => format!("numgen random mod 1000 < {permille} {drop}"),
            };
            for port in spec.place(host)?.ports() {
                let _ = writeln!(before, "  iifname \"{port}\" {lose}");
                let _ = writeln!(after, "  oifname \"{port}\" {lose}");
            }
        }
        Ok(format!(
            "table bridge lab {{}}\nflush table bridge lab\ndelete table bridge lab\n\
             table bridge lab {{\n\
             chain before {{ type filter hook prerouting priority 0; policy accept;\n{before} }}\n\
             chain after {{ type filter hook postrouting priority 0; policy accept;\n{after} }}\n\
             }}\n"
        ))
    }

    /// Puts the ruleset in force in the current network namespace, which is the router's.
    pub(crate) fn apply_here(&self, spec: &LabSpec) -> Result<()> {
        feed(Command::new("nft").args(["-f", "-"]), &self.ruleset(spec)?)
    }
}

/// Drops a packet and counts it for a fault, see [`Lab::dropped`].
fn counted(fault: &str) -> String {
    format!("counter drop comment \"{fault}\"")
}

/// Sums the counters of nft's JSON listing by the comments of their rules.
fn sum_counters(listing: &Value) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for rule in listing["nftables"].as_array().into_iter().flatten().map(|item| &item["rule"]) {
        let Some(fault) = rule["comment"].as_str() else { continue };
        let parts = rule["expr"].as_array().into_iter().flatten();
        let packets = parts.filter_map(|part| part["counter"]["packets"].as_u64()).sum::<u64>();
        *sums.entry(fault.to_owned()).or_default() += packets;
    }
    sums
}

/// Rules by which a port passes nothing that a host sent: by hardware address from a neighbour
/// (whatever address it claims, a VIP's too), by IP address through the router.
fn deaf(port: &str, from: Place, drop: &str) -> String {
    format!(
        "  oifname \"{port}\" ether saddr {{ {}, {} }} {drop}\n\
           oifname \"{port}\" ip saddr {{ {}, {} }} {drop}\n",
        from.mac(0),
        from.mac(1),
        from.ip(),
        from.segment_ip()
    )
}

/// Makes the router and all hosts forget whom they have asked for in vain: after a question without
/// an answer they would ask again only a second later.
pub(crate) fn forget_unreachable(shared: &Arc<Shared>) -> Result<()> {
    let flush = || ip_batch("neigh flush all nud incomplete nud failed\n");
    shared.keeper.within(flush).context(|| "enter the router".into())??;
    let places = shared.spec.places().into_iter();
    let hosts: Vec<Host> = places.map(|place| Host::new(Arc::clone(shared), place)).collect();
    in_parallel(&hosts, |host| match host.namespaces() {
        Ok(inside) => inside.within(flush).context(|| format!("enter {}", host.name()))?,
        Err(Error::HostOff { .. }) => Ok(()),
        Err(err) => Err(err),
    })
}

impl Lab {
    /// One way: `to` no longer hears `from`.
    ///
    /// # Errors
    /// Unknown host, or nft failed: nothing has changed then.
    pub fn cut(&self, from: &str, to: &str) -> Result<()> {
        self.change_faults(|faults| {
            faults.cuts.insert((from.to_owned(), to.to_owned()));
        })
    }

    /// Both ways: neither hears the other.
    ///
    /// # Errors
    /// As [`Lab::cut`].
    pub fn split(&self, a: &str, b: &str) -> Result<()> {
        self.change_faults(|faults| {
            faults.cuts.insert((a.to_owned(), b.to_owned()));
            faults.cuts.insert((b.to_owned(), a.to_owned()));
        })
    }

    /// The host neither hears nor is heard by anyone; its own processes go on.
    ///
    /// # Errors
    /// As [`Lab::cut`].
    pub fn isolate(&self, host: &str) -> Result<()> {
        self.change_faults(|faults| {
            faults.isolated.insert(host.to_owned());
        })
    }

    /// Loses `permille` of the packets to the host and of those from it; 0 ends it.
    ///
    /// # Errors
    /// As [`Lab::cut`]; also for more than 1000.
    pub fn loss(&self, host: &str, permille: u32) -> Result<()> {
        if permille > 1000 {
            return Err(Error::Malformed {
                what: format!("set the loss of {host}"),
                wanted: "0 to 1000 per mille".into(),
                found: permille.to_string(),
            });
        }
        self.change_faults(|faults| {
            faults.loss.insert(host.to_owned(), permille);
            faults.loss.retain(|_, permille| *permille > 0);
        })
    }

    /// Ends all cuts, isolations and losses. Delays and powered-off hosts stay. Returns when a new
    /// connection would pass at once.
    ///
    /// # Errors
    /// nft failed: all faults are still in force.
    pub fn heal(&self) -> Result<()> {
        self.change_faults(|faults| *faults = Faults::default())?;
        forget_unreachable(self.shared())
    }

    /// The faults in force.
    ///
    /// # Errors
    /// The lab's folder cannot be read.
    pub fn faults(&self) -> Result<Faults> {
        let path = self.files().faults();
        if !path.exists() {
            return Ok(Faults::default());
        }
        let text = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).map_err(|err| Error::Malformed {
            what: format!("read {}", path.display()),
            wanted: "the faults in force".into(),
            found: err.to_string(),
        })
    }

    /// The packets that each fault in force has swallowed since the faults were last changed: by
    /// `cut FROM TO`, `isolate HOST`, `loss HOST`.
    ///
    /// # Errors
    /// nft failed.
    pub fn dropped(&self) -> Result<BTreeMap<String, u64>> {
        let mut list = Command::new("nft");
        list.args(["-j", "list", "table", "bridge", "lab"]).env("PATH", crate::ns::PATH);
        let text = self.in_router(|| run("count lost packets", &mut list))?;
        let listing = serde_json::from_str(&text)
            .map_err(|err| malformed("count lost packets", "nft's JSON", &err.to_string()))?;
        Ok(sum_counters(&listing))
    }

    fn change_faults(&self, change: impl FnOnce(&mut Faults)) -> Result<()> {
        let lock_path = self.files().faults_lock();
        let lock = File::create(&lock_path).context(|| format!("open {}", lock_path.display()))?;
        lock.lock().context(|| "lock the network's faults".into())?;
        let mut faults = self.faults()?;
        change(&mut faults);
        self.in_router(|| faults.apply_here(self.spec()))?;
        let text = serde_json::to_string(&faults).expect("plain data serialises");
        fs::write(self.files().faults(), text).context(|| "note the network's faults".into())
    }
}

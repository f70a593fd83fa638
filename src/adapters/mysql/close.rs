//! The end of writes on a server that is well: who is in the way is cut, and told of.

use std::{collections::BTreeMap, pin::pin, time::Duration};

use conclave_core::{
    model::{Micros, Mono},
    ports::{PortError, SqlAction},
};
use mysql_async::Row;
use tokio::time::timeout;

use super::{MysqlSession, act::failed, dialect::Client, fault::Fault, wire::Wire};

/// The session to be ended has ended by itself.
const NO_THREAD: u16 = 1094;

impl MysqlSession {
    /// `SET GLOBAL super_read_only` waits for running writes and for `LOCK TABLES ... WRITE`, and
    /// whoever wants to write waits behind it [ran]. After `drain` they are cut over a second
    /// connection, as long as the first holds the lock (SAFETY invariant 6).
    pub(super) async fn close_for_writes(
        &mut self,
        drain: Micros,
        deadline: Mono,
    ) -> Result<Vec<String>, PortError> {
        let target = self.wire.target().clone();
        let fail = |fault: Fault| failed(&fault, "switch super_read_only on", &target.label, None);
        let lock = format!("conclave.{}", self.place.cluster);
        let (dialect, admin) = (self.dialect, self.place.admin_account.clone());
        let holder = self.wire.id();
        let mut set = pin!(self.wire.run(dialect.close(), deadline));
        if let Ok(done) = timeout(Duration::from(drain), &mut set).await {
            return done.map(|_| Vec::new()).map_err(fail);
        }
        let cut = async {
            let mut wire = Wire::open(&target, deadline).await?;
            let clients = wire.run(&dialect.list_clients(&admin), deadline).await?;
            let clients = dialect.clients(&clients).map_err(|odd| Fault::Odd(odd.0))?;
            for client in &clients {
                kill(&mut wire, &dialect.kill_client(client.id, &lock, holder), deadline).await?;
            }
            wire.close(deadline).await;
            Ok::<_, Fault>(told(&clients))
        };
        // Cutting and the statement that waits for it go on side by side.
        let (done, cut) = tokio::join!(set, cut);
        done.map_err(fail)?;
        cut.map_err(|fault| failed(&fault, "cut who is in the way", &target.label, None))
    }

    /// Makes a server read-only that has no `offline_mode`: whoever is in the way is cut before, and
    /// who came in between after it. All on the connection that holds the lock.
    pub(super) async fn close_and_cut(
        &mut self,
        sql: &str,
        deadline: Mono,
    ) -> Result<Vec<Vec<Row>>, Fault> {
        self.cut_all(deadline).await?;
        let done = self.wire.run(sql, deadline).await?;
        self.cut_all(deadline).await?;
        Ok(done)
    }

    async fn cut_all(&mut self, deadline: Mono) -> Result<(), Fault> {
        let list = self.dialect.list_clients(&self.place.admin_account);
        let sets = self.wire.run(&list, deadline).await?;
        let clients = self.dialect.clients(&sets).map_err(|odd| Fault::Odd(odd.0))?;
        for client in clients {
            kill(&mut self.wire, &format!("KILL {}", client.id), deadline).await?;
        }
        Ok(())
    }

    /// Unprivileged sessions are cut by one switch, privileged ones one by one.
    pub(super) async fn cut_clients(&mut self, deadline: Mono) -> Result<Vec<String>, PortError> {
        let list = self.dialect.list_clients(&self.place.admin_account.clone());
        let what = "cut the applications' connections";
        let clients = self.wire.run(&list, deadline).await;
        let clients =
            clients.and_then(|sets| self.dialect.clients(&sets).map_err(|odd| Fault::Odd(odd.0)));
        let clients = clients.map_err(|fault| self.failed(&fault, what))?;
        let off = SqlAction::SetOffline { on: true };
        self.carry_out(&off, deadline).await?;
        let left = self.wire.run(&list, deadline).await;
        let left =
            left.and_then(|sets| self.dialect.clients(&sets).map_err(|odd| Fault::Odd(odd.0)));
        for client in left.map_err(|fault| self.failed(&fault, what))? {
            let killed = kill(&mut self.wire, &format!("KILL {}", client.id), deadline).await;
            killed.map_err(|fault| self.failed(&fault, what))?;
        }
        Ok(told(&clients))
    }
}

async fn kill(wire: &mut Wire, sql: &str, deadline: Mono) -> Result<(), Fault> {
    match wire.run(sql, deadline).await {
        Ok(_) => Ok(()),
        Err(fault) if fault.code() == Some(NO_THREAD) => Ok(()),
        Err(fault) => Err(fault),
    }
}

/// Those at work one by one, ten at most; of all others their number.
fn told(clients: &[Client]) -> Vec<String> {
    const NAMED: usize = 10;
    let mut out: Vec<String> =
        clients.iter().filter_map(|client| client.busy.as_ref()).map(ToString::to_string).collect();
    let more = out.len().saturating_sub(NAMED);
    out.truncate(NAMED);
    if more > 0 {
        out.push(format!("{more} more at work"));
    }
    let mut idle: BTreeMap<&str, usize> = BTreeMap::new();
    for client in clients.iter().filter(|client| client.busy.is_none()) {
        *idle.entry(&client.account).or_default() += 1;
    }
    let idle =
        idle.into_iter().map(|(account, count)| format!("{count} idle session(s) of {account}"));
    out.extend(idle);
    out
}

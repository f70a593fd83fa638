//! The client program that runs inside a host: it inserts rows as an application does, and writes
//! down what it saw, one JSON line per operation.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, OptsBuilder};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::{Context, Result};
use crate::history::{Op, Outcome, Table, now_us};
use crate::spec::MYSQL_PORT;
use crate::template::{APP_PASSWORD, APP_USER};

/// Server errors after which the row certainly does not exist: read-only (1290, 1792, 1836), access
/// denied (1044, 1045, 1142), duplicate key (1062), lock wait and deadlock (1205, 1213).
const REFUSALS: [u16; 9] = [1290, 1792, 1836, 1044, 1045, 1142, 1062, 1205, 1213];

/// Arguments of the hidden command `load`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Address to connect to
    #[arg(long)]
    pub address: Ipv4Addr,
    /// Table to write to
    #[arg(long, value_enum)]
    pub table: Table,
    /// File that the operations are appended to
    #[arg(long)]
    pub out: PathBuf,
    /// Number of connections
    #[arg(long)]
    pub connections: u32,
    /// Microseconds from one operation's start to the next on a connection
    #[arg(long)]
    pub interval_us: u64,
    /// Milliseconds until an operation's outcome is called unknown
    #[arg(long)]
    pub op_ms: u64,
    /// Milliseconds for a connection, authentication included
    #[arg(long)]
    pub connect_ms: u64,
    /// Milliseconds between two attempts to connect, at most (at least 2)
    #[arg(long)]
    pub pause_ms: u64,
    /// Each operation is a transaction of reads and writes rather than one insert
    #[arg(long)]
    pub mixed: bool,
}

/// Runs until SIGTERM, and then finishes the operations that are under way; or until its input ends
/// because the one who started it is gone.
///
/// # Errors
/// The output cannot be opened. What servers and network do is never an error, but an outcome.
pub fn run(args: Args) -> Result<()> {
    let out = File::options().create(true).append(true).open(&args.out);
    let out = Rc::new(out.context(|| format!("open {}", args.out.display()))?);
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context(|| "make a runtime".into())?;
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        let mut terminate = signal(SignalKind::terminate()).context(|| "hear SIGTERM".into())?;
        let (stop, stopped) = watch::channel(false);
        let first_id = now_us() * 1000;
        let mut clients = Vec::new();
        for conn in 0..args.connections {
            let client = Client {
                args: args.clone(),
                conn,
                next_id: first_id + u64::from(conn),
                out: Rc::clone(&out),
            };
            clients.push(tokio::task::spawn_local(client.run(stopped.clone())));
        }
        terminate.recv().await;
        // No receiver left means that no client is left.
        let _ = stop.send(true);
        for client in clients {
            client.await.expect("a client does not panic");
        }
        Ok(())
    }))
}

/// One connection, made again whenever it breaks.
struct Client {
    args: Args,
    conn: u32,
    next_id: u64,
    out: Rc<File>,
}

impl Client {
    async fn run(mut self, stopped: watch::Receiver<bool>) {
        let interval = Duration::from_micros(self.args.interval_us);
        let mut next = Instant::now();
        let mut held: Option<(Conn, u32)> = None;
        while !*stopped.borrow() {
            let Some((mut conn, server_id)) = held.take() else {
                held = self.connect().await;
                if held.is_none() {
                    sleep(self.pause()).await;
                }
                continue;
            };
            sleep_until(next).await;
            // After a delay the rhythm starts anew; missed beats are not made up for.
            next = (next + interval).max(Instant::now());
            let op = self.insert(&mut conn, server_id).await;
            if op.outcome == Outcome::Ok {
                held = Some((conn, server_id));
            } else {
                // Read-only or broken: the address may lead elsewhere by now.
                discard(conn);
            }
            self.record(&op);
        }
    }

    fn opts(&self) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname(self.args.address.to_string())
            .tcp_port(MYSQL_PORT)
            .prefer_socket(false)
            .user(Some(APP_USER))
            .pass(Some(APP_PASSWORD))
            // Given, so that the driver need not ask the server for them.
            .max_allowed_packet(Some(1 << 20))
            .wait_timeout(Some(28_800))
            .into()
    }

    /// One deadline over connection, greeting, authentication and the question who is there.
    async fn connect(&self) -> Option<(Conn, u32)> {
        let limit = Duration::from_millis(self.args.connect_ms);
        let opts = self.opts();
        let mut attempt = Box::pin(async move {
            let mut conn = Conn::new(opts).await?;
            let server_id: Option<u32> = conn.query_first("SELECT @@server_id").await?;
            Ok::<_, mysql_async::Error>((conn, server_id.unwrap_or_default()))
        });
        match timeout(limit, &mut attempt).await {
            Ok(connected) => connected.ok(),
            Err(_) => {
                discard(attempt);
                None
            }
        }
    }

    async fn insert(&mut self, conn: &mut Conn, server_id: u32) -> Op {
        let id = self.next_id;
        self.next_id += u64::from(self.args.connections);
        let table = self.args.table.name();
        let statement = format!("INSERT INTO {table} VALUES ({id}, 'lab', NOW(6))");
        let limit = Duration::from_millis(self.args.op_ms);
        let invoked_us = now_us();
        let answer = match self.args.mixed {
            true => timeout(limit, mixed(conn, table, id, &statement)).await,
            false => timeout(limit, conn.query_drop(statement)).await,
        };
        let completed_us = now_us();
        let (outcome, error) = match answer {
            Ok(Ok(())) => (Outcome::Ok, None),
            Ok(Err(err)) => (certainty(&err), Some(err.to_string())),
            Err(_) => (Outcome::Unknown, Some(format!("no answer within {limit:?}"))),
        };
        Op { id, conn: self.conn, invoked_us, completed_us, outcome, error, server_id }
    }

    fn record(&self, op: &Op) {
        let mut line = serde_json::to_string(op).expect("plain data serialises");
        line.push('\n');
        // One write per line: a reader sees it at once. A full disk here is seen as missing lines.
        if let Err(err) = (&*self.out).write_all(line.as_bytes()) {
            eprintln!("write down an operation: {err}");
        }
    }

    /// From 2 ms to the given limit, spread over the connections by the clock's low digits.
    fn pause(&self) -> Duration {
        let spread = self.args.pause_ms.saturating_sub(2) * 1000;
        Duration::from_micros(2000 + now_us() % (spread + 1))
    }
}

/// A transaction as sysbench's `oltp_read_write` has it, with fewer reads: point selects, a range, two
/// updates and the insert that counts.
async fn mixed(conn: &mut Conn, table: &str, id: u64, insert: &str) -> mysql_async::Result<()> {
    conn.query_drop("BEGIN").await?;
    for back in 1..=4u64 {
        let row = id.saturating_sub(back * 1000);
        conn.query_drop(format!("SELECT * FROM {table} WHERE id = {row}")).await?;
    }
    let from = id.saturating_sub(100_000);
    conn.query_drop(format!("SELECT id FROM {table} WHERE id > {from} LIMIT 20")).await?;
    for back in [1, 7] {
        let row = id.saturating_sub(back * 16);
        conn.query_drop(format!("UPDATE {table} SET v = 'mixed' WHERE id = {row}")).await?;
    }
    conn.query_drop(insert).await?;
    conn.query_drop("COMMIT").await
}

fn certainty(err: &mysql_async::Error) -> Outcome {
    match err {
        mysql_async::Error::Server(err) if REFUSALS.contains(&err.code) => Outcome::Fail,
        _ => Outcome::Unknown,
    }
}

/// Closes a connection by closing its socket. Dropped inside the runtime, the driver would wait for
/// the server to answer what is under way.
fn discard<T: Send + 'static>(connection: T) {
    std::thread::spawn(move || drop(connection));
}

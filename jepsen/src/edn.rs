//! The history in the form that Jepsen writes and its tools read: one map a line, in the order of
//! time, an invocation and its completion apart.
//!
//! ```text
//! {:index 0, :time 12000, :process 0, :type :invoke, :f :add, :value 17}
//! {:index 1, :time 15000, :process 0, :type :ok, :f :add, :value 17}
//! {:index 2, :time 15100, :process :nemesis, :type :info, :f :kill-server, :value "db1"}
//! ```
//!
//! Times are nanoseconds since the clients began. As in Jepsen, a process whose operation ended
//! with `:info` does nothing more: its successor has another number. Inserts through the address
//! are `:add`, those of a watcher on one server `:probe`.

use std::fmt::Write;

use conclave_lab::{Op, Outcome};

use crate::record::{Aim, Record};

/// How far apart the numbers of one connection's successive processes are; more connections than
/// this there are not.
const CONNECTIONS: u64 = 1000;

/// One line, before it has its index.
struct Line {
    us: u64,
    /// An invocation before a completion of the same microsecond.
    rank: u8,
    rest: String,
}

/// The whole history.
pub fn history(record: &Record) -> String {
    let mut lines = Vec::new();
    let mut connection = 0;
    for client in &record.clients {
        let width = client.ops.iter().map(|op| u64::from(op.conn) + 1).max().unwrap_or(1);
        let f = match client.aim {
            Aim::Address => ":add",
            Aim::Server { .. } => ":probe",
        };
        for conn in 0..width {
            let ops = client.ops.iter().filter(|op| u64::from(op.conn) == conn);
            of_connection(connection + conn, f, ops, &mut lines);
        }
        connection += width;
    }
    for action in &record.actions {
        let (code, subject) = (action.deed.code(), action.deed.subject());
        for us in [action.at_us, action.done_us] {
            let rest = format!(":process :nemesis, :type :info, :f :{code}, :value \"{subject}\"");
            lines.push(Line { us, rank: 0, rest });
        }
    }
    if let (Some(rows), Some(us)) = (record.ending.rows.first(), record.ending.healthy_us) {
        let keys: Vec<String> = rows.t.iter().map(u64::to_string).collect();
        let reader = |kind: &str, value: &str| {
            format!(":process {connection}, :type {kind}, :f :read, :value {value}")
        };
        // After everything else: the clients have ended before the final read.
        let last = lines.iter().map(|line| line.us).max().unwrap_or(us).max(us);
        lines.push(Line { us: last, rank: 2, rest: reader(":invoke", "nil") });
        let set = format!("#{{{}}}", keys.join(" "));
        lines.push(Line { us: last, rank: 3, rest: reader(":ok", &set) });
    }
    lines.sort_by_key(|line| (line.us, line.rank));
    let mut text = String::new();
    for (index, Line { us, rest, .. }) in lines.iter().enumerate() {
        let time = us.saturating_sub(record.began_us) * 1000;
        let _ = writeln!(text, "{{:index {index}, :time {time}, {rest}}}");
    }
    text
}

fn of_connection<'a>(
    connection: u64,
    f: &str,
    ops: impl Iterator<Item = &'a Op>,
    lines: &mut Vec<Line>,
) {
    let mut process = connection;
    for op in ops {
        let told = match op.outcome {
            Outcome::Ok => ":ok",
            Outcome::Fail => ":fail",
            Outcome::Unknown => ":info",
        };
        let rest =
            |kind: &str| format!(":process {process}, :type {kind}, :f {f}, :value {}", op.id);
        let error = match &op.error {
            Some(error) => format!(", :server {}, :error {error:?}", op.server_id),
            None => format!(", :server {}", op.server_id),
        };
        lines.push(Line { us: op.invoked_us, rank: 0, rest: rest(":invoke") });
        lines.push(Line { us: op.completed_us, rank: 1, rest: rest(told) + &error });
        if op.outcome == Outcome::Unknown {
            process += CONNECTIONS;
        }
    }
}

//! How much has to be read to find a position or a transaction in a large set of logs?
//!
//! `cargo bench --bench rescue -- [--mb N] [--dir DIR] [--json FILE]` makes N MB (2048 by default) of
//! relay logs and of binary logs out of a template, one transaction of a real MySQL 9.7 over and
//! over with the positions, GTIDs and checksums that a server would give it. Then it looks for a
//! position and for the last transactions as a rescue does, and prints time, bytes read, their share
//! of all, and the process's largest resident memory. The files are removed at the end.

#![allow(clippy::disallowed_methods)]

use std::{
    fs::{self, File},
    future::Future,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;
use conclave::{
    binlog::{
        Chain, Files, Need, SourcePoint, Wanted, from_position,
        relay::{self, Found},
        select, shares,
    },
    node::disk::Disk,
};
use conclave_core::model::GtidSet;
use serde_json::{Value, json};

/// Megabytes of one file.
const FILE_MB: u64 = 256;
/// The source of the template.
const UUID: &str = "191d36cf-ec89-11f1-9dc8-9b7576f157df";

#[derive(Debug, Parser)]
struct Args {
    /// Megabytes of each of both sets
    #[arg(long, default_value_t = 2048)]
    mb: u64,
    /// Where the files are made
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// Write the result here, too
    #[arg(long)]
    json: Option<PathBuf>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

/// Counts what is read.
struct Counted {
    disk: Disk,
    bytes: AtomicU64,
    reads: AtomicU64,
}

impl Files for Counted {
    async fn read(&self, file: &str, need: Need) -> Result<Vec<u8>, String> {
        let bytes = self.disk.read(file, need).await?;
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(bytes)
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let dir = tempfile::Builder::new().prefix("conclave-rescue").tempdir_in(&args.dir)?;
    let made = Made::make(dir.path(), args.mb)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let results = runtime.block_on(measure(dir.path(), &made))?;
    let result = json!({
        "benchmark": "rescue: find in large logs",
        "megabytes_of_each_set": args.mb,
        "transactions_of_each_set": made.transactions,
        "results": results,
        "largest_resident_kb": largest_resident()?,
    });
    let text = serde_json::to_string_pretty(&result)?;
    println!("{text}");
    if let Some(path) = args.json {
        fs::write(path, text + "\n")?;
    }
    Ok(())
}

async fn measure(dir: &Path, made: &Made) -> anyhow::Result<Vec<Value>> {
    let of = |base: &str| -> anyhow::Result<(Counted, Chain)> {
        let disk = Disk::new(dir.join(base));
        let chain = disk.chain(base)?.0;
        Ok((Counted { disk, bytes: AtomicU64::new(0), reads: AtomicU64::new(0) }, chain))
    };
    let (relay_files, relay) = of("relay")?;
    let (files, binlog) = of("binlog")?;
    let mut results = Vec::new();
    let near_end = SourcePoint { file: "binlog.000001".into(), position: made.middle_of_last };
    let oldest = SourcePoint { file: "binlog.000001".into(), position: made.middle_of_first };
    for (what, target) in [("newest", &near_end), ("oldest", &oldest)] {
        let name = format!("position in the {what} relay log");
        results.push(
            timed(&name, &relay_files, &relay, async {
                match relay::find(&relay_files, &relay, target).await? {
                    Found::At(place) => Ok(format!("file {} at {}", place.file, place.at)),
                    other => anyhow::bail!("{other:?}"),
                }
            })
            .await?,
        );
    }
    let have = GtidSet::run(UUID, 1, made.transactions - 1000);
    results.push(
        timed("the last 1000 transactions by GTID in binary logs", &files, &binlog, async {
            let found = select(&files, &binlog, Wanted::Beyond(&have)).await?;
            anyhow::ensure!(found.transactions == 1000, "{} transactions", found.transactions);
            Ok(format!("{} spans, {} bytes", found.spans.len(), found.bytes()))
        })
        .await?,
    );
    let last = binlog.files.last().map_or("", |file| &file.name);
    results.push(
        timed("from a position to the end, 1000 transactions", &files, &binlog, async {
            let found = from_position(&files, &binlog, last, made.tail_at).await?;
            anyhow::ensure!(found.transactions == 1000, "{} transactions", found.transactions);
            Ok(format!("{} bytes", found.bytes()))
        })
        .await?,
    );
    let (file, position) = &made.all_from;
    results.push(
        timed("copied and verified: the newest file", &files, &binlog, async {
            let found = from_position(&files, &binlog, file, *position).await?;
            let mut sink = Nowhere(0);
            for share in shares(&found) {
                share.copy(&files, &binlog, &mut sink).await?;
            }
            Ok(format!("{} transactions, {} bytes", found.transactions, sink.0))
        })
        .await?,
    );
    Ok(results)
}

/// Takes bytes and forgets them.
struct Nowhere(u64);

impl conclave::binlog::Sink for Nowhere {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.0 += bytes.len() as u64;
        Ok(())
    }
}

async fn timed(
    what: &str,
    files: &Counted,
    chain: &Chain,
    work: impl Future<Output = anyhow::Result<String>>,
) -> anyhow::Result<Value> {
    files.bytes.store(0, Ordering::Relaxed);
    files.reads.store(0, Ordering::Relaxed);
    let begin = Instant::now();
    let found = work.await?;
    let took = begin.elapsed();
    let all: u64 = chain.files.iter().map(|file| file.len).sum();
    let read = files.bytes.load(Ordering::Relaxed);
    Ok(json!({
        "what": what,
        "found": found,
        "ms": took.as_secs_f64() * 1000.0,
        "bytes_read": read,
        "reads": files.reads.load(Ordering::Relaxed),
        "share_of_all": read as f64 / all as f64,
    }))
}

fn largest_resident() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.unwrap_or_default().parse()?)
}

/// What was made.
struct Made {
    transactions: u64,
    middle_of_first: u64,
    middle_of_last: u64,
    tail_at: u64,
    all_from: (String, u64),
}

/// A head without transactions, and one transaction, of a golden file.
fn template(name: &str, head: usize, end: usize) -> anyhow::Result<(Vec<u8>, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binlog").join(name);
    let bytes = fs::read(path)?;
    Ok((bytes[..head].to_vec(), bytes[head..end].to_vec()))
}

impl Made {
    fn make(dir: &Path, mb: u64) -> anyhow::Result<Self> {
        let files = (mb / FILE_MB).max(1);
        // The relay logs go on with one file of the source's; the first one says its name.
        let (relay_head, one) = template("mysql97-relay.000002", 369, 1141)?;
        let (next_head, _) = template("mysql97-relay.000003", 321, 1093)?;
        let (head, _) = template("mysql97-source-binlog.000001", 127, 930)?;
        let each = FILE_MB * (1 << 20) / one.len() as u64;
        let len = one.len() as u64;
        for base in ["relay", "binlog"] {
            fs::create_dir(dir.join(base))?;
        }
        let mut number = 0;
        for file in 1..=files {
            let name = |base: &str| dir.join(base).join(format!("{base}.{file:06}"));
            let mut relay = BufWriter::new(File::create(name("relay"))?);
            relay.write_all(if file == 1 { &relay_head } else { &next_head })?;
            let mut binlog = BufWriter::new(File::create(name("binlog"))?);
            binlog.write_all(&head)?;
            let previous = previous_gtids(number);
            binlog.write_all(&previous)?;
            let binlog_begin = (head.len() + previous.len()) as u64;
            for i in 0..each {
                let position = 158 + (number) * len;
                number += 1;
                relay.write_all(&numbered(&one, position, number))?;
                binlog.write_all(&numbered(&one, binlog_begin + i * len, number))?;
            }
            relay.flush()?;
            binlog.flush()?;
        }
        let last_head = (head.len() + previous_gtids(1).len()) as u64;
        Ok(Self {
            transactions: number,
            middle_of_first: 158 + each / 2 * len,
            middle_of_last: 158 + (number - each / 2) * len,
            tail_at: last_head + (each - 1000) * len,
            all_from: (format!("binlog.{files:06}"), 4),
        })
    }
}

/// The transaction with another number, at another place of its source's file.
fn numbered(one: &[u8], begin: u64, number: u64) -> Vec<u8> {
    let mut bytes = one.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let mut raw = [0; 4];
        raw.copy_from_slice(&bytes[at + 9..at + 13]);
        let end = at + u32::from_le_bytes(raw) as usize;
        let position = (begin + end as u64) as u32;
        bytes[at + 13..at + 17].copy_from_slice(&position.to_le_bytes());
        if bytes[at + 4] == 33 {
            bytes[at + 36..at + 44].copy_from_slice(&number.to_le_bytes());
        }
        seal(&mut bytes[at..end]);
        at = end;
    }
    bytes
}

/// An event that says that earlier files hold all up to a number.
fn previous_gtids(last: u64) -> Vec<u8> {
    let mut body = u64::from(last > 0).to_le_bytes().to_vec();
    if last > 0 {
        let digits: String = UUID.chars().filter(|c| *c != '-').collect();
        let byte = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).expect("a uuid");
        body.extend((0..16).map(byte));
        for number in [1, 1, last + 1] {
            body.extend(u64::to_le_bytes(number));
        }
    }
    let len = (19 + body.len() + 4) as u32;
    let mut event = [&[0; 4][..], &[35], &1u32.to_le_bytes(), &len.to_le_bytes()].concat();
    event.extend((127 + len).to_le_bytes());
    event.extend([0x80, 0]);
    event.extend(body);
    event.extend([0; 4]);
    seal(&mut event);
    event
}

/// Puts the checksum right.
fn seal(event: &mut [u8]) {
    let place = event.len() - 4;
    let sum = crc32fast::hash(&event[..place]);
    event[place..].copy_from_slice(&sum.to_le_bytes());
}

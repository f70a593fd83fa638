//! Golden files and what their servers say is in them.

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    sync::Mutex,
    task::{Context, Poll, Waker},
};

use crate::binlog::*;

/// A file of `tests/golden/binlog`.
pub fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/binlog").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// What the server says is in it: offset, type and end position of each event.
pub fn said(name: &str) -> Vec<(u64, String, u32)> {
    let text = String::from_utf8(golden(&format!("{name}.events"))).unwrap();
    let fields = text.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    fields.map(|f| (f[0].parse().unwrap(), f[1].to_owned(), f[3].parse().unwrap())).collect()
}

/// Files in memory, and how much of them was read.
#[derive(Default)]
pub struct Memory {
    files: BTreeMap<String, Vec<u8>>,
    read: Mutex<u64>,
}

impl Memory {
    pub fn of(names: &[&str]) -> (Self, Chain) {
        Self::with(names.iter().map(|name| ((*name).to_owned(), golden(name))).collect())
    }

    pub fn with(files: Vec<(String, Vec<u8>)>) -> (Self, Chain) {
        let length = |(name, bytes): &(String, Vec<u8>)| LogFile {
            name: name.clone(),
            len: bytes.len() as u64,
        };
        let chain = Chain { files: files.iter().map(length).collect() };
        (Self { files: files.into_iter().collect(), read: Mutex::new(0) }, chain)
    }

    pub fn bytes_read(&self) -> u64 {
        *self.read.lock().unwrap()
    }

    pub fn slice(&self, chain: &Chain, span: &Span) -> &[u8] {
        let file = &self.files[&chain.files[span.file].name];
        &file[span.begin as usize..span.end as usize]
    }
}

impl Files for Memory {
    async fn read(&self, file: &str, need: Need) -> Result<Vec<u8>, String> {
        let bytes = self.files.get(file).ok_or("no such file")?;
        let from = (need.at as usize).min(bytes.len());
        let to = (from + need.len).min(bytes.len());
        *self.read.lock().unwrap() += (to - from) as u64;
        Ok(bytes[from..to].to_vec())
    }
}

impl Sink for Vec<u8> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.extend(bytes);
        Ok(())
    }
}

/// Runs what never waits.
pub fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("files in memory never wait"),
    }
}

/// All events of a file, and how it ends.
pub fn walk(bytes: &[u8]) -> Result<(Vec<Event>, Ending), Fault> {
    let mut walk = Walk::new(bytes.len() as u64);
    let mut events = Vec::new();
    loop {
        match walk.next()? {
            Step::Event(event) => events.push(event),
            Step::End(ending) => return Ok((events, ending)),
            Step::Need(need) => {
                assert!(need.at + need.len as u64 <= bytes.len() as u64, "{need:?} is too much");
                walk.feed(need, bytes[need.at as usize..][..need.len].to_vec());
            }
        }
    }
}

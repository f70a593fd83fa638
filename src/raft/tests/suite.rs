//! openraft's own suite for stores, on each of ours.

use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;

use crate::raft::{
    fatal::Fatal,
    machine::{Machine, Shelf},
    store::{self, memory::MemoryStore, sled::SledStore},
    types::TypeConfig,
};

struct OnDisk;

impl StoreBuilder<TypeConfig, SledStore, Machine, TempDir> for OnDisk {
    async fn build(&self) -> Result<(TempDir, SledStore, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = store::open(dir.path(), 1, &Fatal::default()).expect("a new store opens");
        Ok((dir, opened.log, opened.machine))
    }
}

struct InMemory;

impl StoreBuilder<TypeConfig, MemoryStore, Machine> for InMemory {
    async fn build(&self) -> Result<((), MemoryStore, Machine), StorageError<TypeConfig>> {
        let machine = Machine::open(Shelf::memory(), &Fatal::default());
        Ok(((), MemoryStore::default(), machine.expect("a new machine opens")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sled_store_passes_the_suite_of_openraft() {
    Suite::test_all(OnDisk).await.expect("the suite passes");
}

#[tokio::test]
async fn the_memory_store_passes_the_suite_of_openraft() {
    Suite::test_all(InMemory).await.expect("the suite passes");
}

//! Tests of the group and its storage.

mod group;
mod store;
mod suite;

use super::types::{Command, State};

// What the tests know of the replicated state stands here, and only here.

/// Sets `key` to `value`.
pub fn put(key: &str, value: &str) -> Command {
    Command { key: key.to_owned(), value: value.to_owned() }
}

/// The value of `key`.
pub fn get(state: &State, key: &str) -> Option<String> {
    state.entries.get(key).cloned()
}

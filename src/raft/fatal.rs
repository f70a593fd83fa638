//! Must this manager stop? One place holds the first reason, once there is one.
//!
//! After a failed write, or once stored data proved wrong, a manager may neither vote nor
//! acknowledge: it says why and its process exits (SAFETY, invariant 13).

use std::{io, sync::Arc};

use tokio::sync::watch;

/// The reason why this manager must stop, shared by all its parts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fatal {
    reason: Arc<watch::Sender<Option<Arc<str>>>>,
}

impl Default for Fatal {
    fn default() -> Self {
        Self { reason: Arc::new(watch::Sender::new(None)) }
    }
}

impl Fatal {
    /// States a reason to stop. The first one stays.
    pub fn raise(&self, reason: &str) {
        let first = self.reason.send_if_modified(|held| {
            let first = held.is_none();
            held.get_or_insert_with(|| reason.into());
            first
        });
        if first {
            tracing::error!(reason, "this manager must stop");
        }
    }

    /// The reason, if there is one.
    #[must_use]
    pub fn reason(&self) -> Option<Arc<str>> {
        self.reason.borrow().clone()
    }

    /// Waits until there is a reason to stop.
    pub async fn raised(&self) -> Arc<str> {
        let mut watch = self.reason.subscribe();
        let held = watch.wait_for(Option::is_some).await;
        held.ok().and_then(|held| held.clone()).unwrap_or_else(|| "unknown".into())
    }

    /// Refuses to go on once there is a reason.
    pub(crate) fn check(&self) -> io::Result<()> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(reason.to_string())),
        }
    }
}

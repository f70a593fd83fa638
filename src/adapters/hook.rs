//! Scripts of the operators' own, run on this manager's host as this manager's user.
//!
//! ```text
//!   definition says: hook notify, on published  -->  DIR/notify, an executable file of this host
//!   told by environment: CONCLAVE_EVENT, _CLUSTER, _KEY, _OLD_HOST, _NEW_HOST, ...
//!   heard: exit status 0 is success; the last lines it prints are kept, whatever more there is
//! ```
//! Its whole process group is killed at its deadline, and when nobody hears it out any more: another
//! leader may be calling it by now.

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use conclave_core::{
    model::{Mono, ServerDefinition},
    ports::{HookOrder, Hooks, PortError, Trouble},
};
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    process::{Child, Command},
    time::timeout,
};

use super::clock::SystemClock;

/// So much of what a script prints is kept.
const KEPT: usize = 4096;

/// [`Hooks`] for real scripts.
#[derive(Clone, Debug)]
pub struct HookPort {
    dir: PathBuf,
}

impl HookPort {
    /// Scripts are looked for in that directory, and nowhere else.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }
}

impl Hooks for HookPort {
    async fn call(&self, order: &HookOrder, deadline: Mono) -> Result<String, PortError> {
        let path = self.dir.join(&order.call.name);
        let label = format!("hook {} on {}", path.display(), order.call.event.as_str());
        let local = |why: String| PortError::not_done(Trouble::Local, format!("{label}: {why}"));
        check(&path).map_err(local)?;
        tracing::info!(cluster = %order.cluster, step = %order.step, "{label} begins");
        let (heard, voice) = voice().map_err(|error| local(error.to_string()))?;
        let mut child = spawn(&path, order, voice).map_err(|error| local(error.to_string()))?;
        let mut group = Group(child.id().map(|id| Pid::from_raw(id.cast_signed())));
        let mut said = Vec::new();
        let ended = timeout(SystemClock.left(deadline), hear(&mut child, heard, &mut said)).await;
        let text = String::from_utf8_lossy(&said).trim().to_owned();
        match ended {
            // What it left running is its own affair.
            Ok(_) => group.0 = None,
            Err(_) => {
                drop(group);
                let _ = child.wait().await;
            }
        }
        tracing::info!(cluster = %order.cluster, step = %order.step, ?ended, "{label} ended: {text}");
        match ended {
            Ok(Ok(status)) if status.success() => Ok(text),
            Ok(Ok(status)) => {
                let why = format!("{label}: {status}{}", quoted(&text));
                Err(PortError::not_done(Trouble::Answered, why))
            }
            Ok(Err(error)) => Err(PortError::unknown(Trouble::Local, format!("{label}: {error}"))),
            Err(_) => {
                let limit = order.call.deadline_ms;
                let why =
                    format!("{label}: killed at its deadline of {} ms{}", limit.0, quoted(&text));
                Err(PortError::unknown(Trouble::Silent, why))
            }
        }
    }
}

/// A script and its children, which end with this.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        // It may be gone by itself in this very moment.
        let _ = self.0.map(|group| killpg(group, Signal::SIGKILL));
    }
}

fn quoted(text: &str) -> String {
    let last = text.lines().last().unwrap_or_default();
    if last.is_empty() { String::new() } else { format!("; it printed last: {last}") }
}

/// A file that anybody on the host could have written is not run.
fn check(path: &Path) -> Result<(), String> {
    let meta = path.metadata().map_err(|error| {
        format!("{error}; every manager needs an executable file of that name in its hooks_dir")
    })?;
    let mode = meta.permissions().mode();
    let me = nix::unistd::geteuid().as_raw();
    match () {
        () if !meta.is_file() => Err("wanted a file".into()),
        () if mode & 0o111 == 0 => Err("it is not executable: chmod 755".into()),
        () if mode & 0o002 != 0 => Err("everybody may write to it: chmod o-w".into()),
        () if meta.uid() != 0 && meta.uid() != me => {
            Err(format!("it belongs to user {}: wanted root or user {me}", meta.uid()))
        }
        () => Ok(()),
    }
}

/// One pipe for both outputs, so that lines stay in their order.
fn voice() -> io::Result<(pipe::Receiver, io::PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    Ok((pipe::Receiver::from_owned_fd(reader.into())?, writer))
}

fn spawn(path: &Path, order: &HookOrder, voice: io::PipeWriter) -> io::Result<Child> {
    let mut command = Command::new(path);
    command.env_clear().envs(environment(order)).current_dir("/").stdin(Stdio::null());
    command.stdout(voice.try_clone()?).stderr(voice).process_group(0).kill_on_drop(true);
    command.spawn()
}

/// Hears the script until it ends. What it left running may hold the pipe open for longer.
async fn hear(
    child: &mut Child,
    mut heard: pipe::Receiver,
    said: &mut Vec<u8>,
) -> io::Result<ExitStatus> {
    let mut chunk = [0; 4096];
    let status = loop {
        tokio::select! {
            biased;
            read = heard.read(&mut chunk) => match read? {
                0 => break child.wait().await?,
                n => keep(said, &chunk[..n]),
            },
            status = child.wait() => break status?,
        }
    };
    while let Ok(n @ 1..) = heard.try_read(&mut chunk) {
        keep(said, &chunk[..n]);
    }
    Ok(status)
}

fn keep(said: &mut Vec<u8>, chunk: &[u8]) {
    said.extend_from_slice(chunk);
    said.drain(..said.len().saturating_sub(KEPT));
}

/// Everything a script is told. Nothing of this manager's own environment, which may hold secrets.
fn environment(order: &HookOrder) -> Vec<(String, String)> {
    let call = &order.call;
    let mut out = vec![
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()),
        ("CONCLAVE_EVENT", call.event.as_str().into()),
        ("CONCLAVE_CLUSTER", order.cluster.to_string()),
        ("CONCLAVE_FAILOVER", format!("{}-{}", order.cluster, order.token.epoch)),
        ("CONCLAVE_KEY", format!("{}:{}", order.cluster, order.step)),
        ("CONCLAVE_REPEATS", order.repeats.to_string()),
        ("CONCLAVE_TOKEN", order.token.to_string()),
        ("CONCLAVE_OLD_PRIMARY", call.old.to_string()),
        ("CONCLAVE_NOTE", call.note.clone()),
    ];
    out.extend(call.new.as_ref().map(|new| ("CONCLAVE_NEW_PRIMARY", new.to_string())));
    let mut out: Vec<_> = out.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    for (which, server) in [("OLD", &order.old), ("NEW", &order.new)] {
        let Some(ServerDefinition { host, port, rack, .. }) = server else { continue };
        out.push((format!("CONCLAVE_{which}_HOST"), host.clone()));
        out.push((format!("CONCLAVE_{which}_PORT"), port.to_string()));
        out.push((format!("CONCLAVE_{which}_RACK"), rack.clone()));
    }
    out
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;

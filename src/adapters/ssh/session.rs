//! One SSH session: connect, check the host's key, log in, run a script and read what it says.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use conclave_core::{
    model::{Micros, Mono, SshTarget},
    ports::{Clock, PortError, Trouble},
};
use russh::{
    ChannelMsg, Preferred,
    client::{self, Handle},
    keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate, load_secret_key},
};
use secrecy::ExposeSecret;

use super::{
    known_hosts::{Known, Verdict},
    turnstile,
};
use crate::adapters::{clock::SystemClock, secrets::Secrets, trouble_of_io};

/// Two of these without an answer end a session.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// How much of what a script prints is kept: the end of it.
const OUTPUT_BYTES: usize = 4096;

/// A channel on which one script can be run.
pub(super) type Channel = russh::Channel<client::Msg>;

/// How a script ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Exit {
    /// `None`: the session broke, or a signal ended it.
    pub(super) status: Option<u32>,
    /// The end of what it printed, errors included.
    pub(super) text: String,
}

/// An open, authenticated session.
pub(super) struct Login {
    handle: Handle<HostKeys>,
    label: String,
    clock: Mutex<HostClock>,
    /// A shell that waits for the next script, and since when.
    standby: Mutex<Option<(Mono, Channel)>>,
}

/// A shell that has waited for longer is not used: nothing would tell that its host is gone.
const STANDBY_AGE: Micros = Micros(5_000_000);

/// What we log in with.
pub(super) struct KeyRing {
    secrets: Arc<Secrets>,
    accept_any_host_key: bool,
    /// Read once, as a passphrase costs much time; forgotten when a host refuses it.
    key: Mutex<Option<Arc<PrivateKey>>>,
}

/// `root@10.0.0.1:22`, for sentences.
pub(super) fn label(target: &SshTarget) -> String {
    format!("{}@{}:{}", target.user, target.host, target.port)
}

/// What a host's own clock said, and when: its uptime in hundredths of a second.
#[derive(Clone, Copy, Debug)]
struct HostClock {
    read_at: Mono,
    uptime_cs: u64,
}

/// A reading older than this is taken again: clocks drift apart.
const CLOCK_AGE: Micros = Micros(60_000_000);

/// What a host's clock may differ from ours by, in hundredths of a second.
const CLOCK_MARGIN_CS: u64 = 50;

impl Login {
    /// The host's uptime at that moment, in hundredths of a second.
    pub(super) fn uptime_at(&self, moment: Mono) -> u64 {
        let clock = *self.clock.lock().expect("no panic under this lock");
        clock.uptime_cs + moment.since(clock.read_at).0 / 10_000 + CLOCK_MARGIN_CS
    }

    /// Reads the host's clock again if that was done a while ago.
    pub(super) async fn keep_time(&self) -> Result<(), PortError> {
        let read_at = self.clock.lock().expect("no panic under this lock").read_at;
        if SystemClock.now().since(read_at) > CLOCK_AGE {
            let clock = read_clock(&self.handle, &self.label).await?;
            *self.clock.lock().expect("no panic under this lock") = clock;
        }
        Ok(())
    }

    pub(super) fn is_open(&self) -> bool {
        !self.handle.is_closed()
    }

    /// A shell as root that runs nothing until it has been given a whole script.
    pub(super) async fn shell(&self, user: &str) -> Result<Channel, PortError> {
        // All of it is read before any of it runs, and nothing of it shows in the host's ps.
        self.begin(user, turnstile::waiting_shell()).await
    }

    /// Begins a command as root.
    pub(super) async fn begin(&self, user: &str, shell: String) -> Result<Channel, PortError> {
        let failed = |error| failed(&format!("open a shell on {}", self.label), &error);
        let channel = self.handle.channel_open_session().await.map_err(failed)?;
        let command = if user == "root" { shell } else { format!("sudo -n {shell}") };
        channel.exec(false, command).await.map_err(failed)?;
        Ok(channel)
    }

    /// The shell that stands by, if it has not done so for long.
    pub(super) fn take_standby(&self) -> Option<Channel> {
        let (since, shell) = self.standby.lock().expect("no panic under this lock").take()?;
        (SystemClock.now().since(since) < STANDBY_AGE).then_some(shell)
    }

    /// Opens a shell for the next script, unless one waits.
    pub(super) async fn stand_by(&self, user: &str) -> Result<(), PortError> {
        let shell = match self.take_standby() {
            Some(shell) => shell,
            None => self.shell(user).await?,
        };
        *self.standby.lock().expect("no panic under this lock") = Some((SystemClock.now(), shell));
        Ok(())
    }

    /// Closes a shell that nobody wanted.
    pub(super) async fn stand_down(&self) {
        let is_old =
            |(since, _): &mut (Mono, Channel)| SystemClock.now().since(*since) >= STANDBY_AGE;
        let old = self.standby.lock().expect("no panic under this lock").take_if(is_old);
        if let Some((_, shell)) = old {
            // It ends with the session otherwise.
            let _ = shell.close().await;
        }
    }
}

impl KeyRing {
    pub(super) fn new(secrets: Arc<Secrets>, accept_any_host_key: bool) -> Self {
        Self { secrets, accept_any_host_key, key: Mutex::default() }
    }

    /// Connects and logs in. Has no deadline of its own.
    pub(super) async fn log_in(&self, target: &SshTarget) -> Result<Login, PortError> {
        let label = label(target);
        let key = self.key().await?;
        let host_keys = self.host_keys(target)?;
        let default = Preferred::default();
        let preferred = match &host_keys.known {
            Some(known) => Preferred { key: known.preferred(&default.key).into(), ..default },
            None => default,
        };
        let config = client::Config {
            nodelay: true,
            keepalive_interval: Some(KEEPALIVE),
            keepalive_max: 2,
            preferred,
            ..client::Config::default()
        };
        let address = (target.host.as_str(), target.port);
        let connected = client::connect(Arc::new(config), address, host_keys).await;
        let mut handle = connected.map_err(|error| match error {
            HandshakeError::Ssh(error) => failed(&format!("connect to {label}"), &error),
            HandshakeError::Key(why) => PortError::not_done(Trouble::Denied, why),
        })?;
        let hash = if key.algorithm().is_rsa() { rsa_hash(&handle).await } else { None };
        let pair = PrivateKeyWithHashAlg::new(key, hash);
        let answer = handle.authenticate_publickey(&target.user, pair).await;
        let answer = answer.map_err(|error| failed(&format!("log in to {label}"), &error))?;
        if !answer.success() {
            *self.key.lock().expect("no panic under this lock") = None;
            let why = format!(
                "log in to {label}: the host refuses this manager's key; add its public key to \
                 authorized_keys there"
            );
            return Err(PortError::not_done(Trouble::Denied, why));
        }
        let clock = Mutex::new(read_clock(&handle, &label).await?);
        Ok(Login { handle, label, clock, standby: Mutex::default() })
    }

    async fn key(&self) -> Result<Arc<PrivateKey>, PortError> {
        if let Some(key) = self.key.lock().expect("no panic under this lock").as_ref() {
            return Ok(key.clone());
        }
        let local = |why: String| PortError::not_done(Trouble::Local, why);
        let ssh = self.secrets.ssh().clone();
        let Some(path) = ssh.key_file else {
            return Err(local("no SSH key: put [ssh] key_file into this manager's secrets".into()));
        };
        // Taking a passphrase apart costs a good part of a second of computing.
        let loading = tokio::task::spawn_blocking(move || {
            let passphrase = ssh.passphrase.as_ref().map(|secret| secret.expose_secret());
            load_key(&path, passphrase)
        });
        let key = loading.await.map_err(|error| local(format!("read the SSH key: {error}")))?;
        let key = Arc::new(key.map_err(local)?);
        *self.key.lock().expect("no panic under this lock") = Some(key.clone());
        Ok(key)
    }

    fn host_keys(&self, target: &SshTarget) -> Result<HostKeys, PortError> {
        let (host, port) = (target.host.clone(), target.port);
        if self.accept_any_host_key {
            return Ok(HostKeys { host, port, file: String::new(), known: None });
        }
        let local = |why: String| PortError::not_done(Trouble::Local, why);
        let Some(path) = &self.secrets.ssh().known_hosts else {
            let why = "no known_hosts file: put [ssh] known_hosts into this manager's secrets, or \
                       set accept_any_host_key";
            return Err(local(why.into()));
        };
        let file = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|error| local(format!("read known_hosts file {file}: {error}")))?;
        let known = Some(Known::read(&text, &host, port));
        Ok(HostKeys { host, port, file, known })
    }
}

/// The reading counts from when its answer is here: never later than it is.
async fn read_clock(handle: &Handle<HostKeys>, label: &str) -> Result<HostClock, PortError> {
    let what = format!("read the clock of {label}");
    let opened = handle.channel_open_session().await;
    let mut channel = opened.map_err(|error| failed(&what, &error))?;
    channel.exec(false, "cat /proc/uptime").await.map_err(|error| failed(&what, &error))?;
    let mut said = Vec::new();
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. } = message {
            said.extend_from_slice(&data);
        }
        if said.contains(&b'\n') {
            break;
        }
    }
    let read_at = SystemClock.now();
    let said = String::from_utf8_lossy(&said);
    let Some(uptime_cs) = hundredths(&said) else {
        let why = format!("{what}: wanted the line of /proc/uptime, found {:?}", said.trim());
        return Err(PortError::not_done(Trouble::Answered, why));
    };
    Ok(HostClock { read_at, uptime_cs })
}

/// The first number of /proc/uptime, seconds with two digits after the point.
fn hundredths(line: &str) -> Option<u64> {
    let (seconds, rest) = line.split_whitespace().next()?.split_once('.')?;
    let digits = rest.parse::<u64>().ok().filter(|_| rest.len() == 2)?;
    seconds.parse::<u64>().ok()?.checked_mul(100)?.checked_add(digits)
}

fn load_key(path: &Path, passphrase: Option<&str>) -> Result<PrivateKey, String> {
    let shown = path.display();
    let metadata =
        std::fs::metadata(path).map_err(|error| format!("read SSH key {shown}: {error}"))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "SSH key {shown} has mode {mode:04o}: wanted it readable by its owner only; run chmod \
             600 {shown}"
        ));
    }
    load_secret_key(path, passphrase).map_err(|error| {
        let hint = if passphrase.is_none() { " (is a passphrase missing?)" } else { "" };
        format!("read SSH key {shown}: {error}{hint}")
    })
}

/// The best signature for an RSA key that the host takes.
async fn rsa_hash(handle: &Handle<HostKeys>) -> Option<HashAlg> {
    match handle.best_supported_rsa_hash().await {
        Ok(Some(hash)) => hash,
        // It does not say. All that are not very old take this one.
        Ok(None) | Err(_) => Some(HashAlg::Sha512),
    }
}

/// Judges the key that a host shows.
pub(super) struct HostKeys {
    host: String,
    port: u16,
    file: String,
    /// `None`: any key will do.
    known: Option<Known>,
}

#[derive(Debug)]
pub(super) enum HandshakeError {
    Ssh(russh::Error),
    Key(String),
}

impl From<russh::Error> for HandshakeError {
    fn from(error: russh::Error) -> Self {
        HandshakeError::Ssh(error)
    }
}

impl client::Handler for HostKeys {
    type Error = HandshakeError;

    async fn check_server_key(
        &mut self,
        shown: &PublicKeyOrCertificate,
    ) -> Result<bool, HandshakeError> {
        let Some(known) = &self.known else { return Ok(true) };
        let (host, port, file) = (&self.host, self.port, &self.file);
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            let why = format!("host {host} shows a certificate: only plain host keys are checked");
            return Err(HandshakeError::Key(why));
        };
        let print = key.fingerprint(HashAlg::Sha256);
        let shown = format!("host {host} port {port} shows {} key {print}", key.algorithm());
        let remedy = format!(
            "compare it on the host (ssh-keygen -lf), then: ssh-keyscan -p {port} {host} >> {file}"
        );
        match known.judge(key) {
            Verdict::Accepted => Ok(true),
            Verdict::Absent => Err(HandshakeError::Key(format!(
                "{shown}, but {file} knows no key of that host; {remedy}"
            ))),
            Verdict::Other => Err(HandshakeError::Key(format!(
                "{shown}, but {file} knows another key of that host: it was reinstalled, or \
                 somebody is in between; if it was reinstalled, ssh-keygen -R, {remedy}"
            ))),
            Verdict::Revoked => {
                Err(HandshakeError::Key(format!("{shown}, which {file} marks as revoked")))
            }
        }
    }
}

/// Gives a script to a waiting shell and reads until it has ended and closed its output.
pub(super) async fn execute(mut channel: Channel, script: &str) -> Result<Exit, PortError> {
    let sent = |error: russh::Error| {
        PortError::unknown(trouble(&error), format!("send a command: {error}"))
    };
    channel.data_bytes(script.as_bytes().to_vec()).await.map_err(sent)?;
    channel.eof().await.map_err(sent)?;
    Ok(read_to_end(&mut channel, OUTPUT_BYTES).await)
}

/// Reads until what was run has ended and closed its output; the last `keep` bytes of that.
pub(super) async fn read_to_end(channel: &mut Channel, keep: usize) -> Exit {
    let (mut status, mut output, mut is_over) = (None, Vec::new(), false);
    while !(is_over && status.is_some()) {
        // Either of the end of output and the exit status may come first.
        match channel.wait().await {
            Some(ChannelMsg::Data { data } | ChannelMsg::ExtendedData { data, .. }) => {
                output.extend_from_slice(&data);
                output.drain(..output.len().saturating_sub(keep));
            }
            Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(exit_status),
            Some(ChannelMsg::Eof) => is_over = true,
            Some(ChannelMsg::ExitSignal { .. } | ChannelMsg::Close) | None => break,
            Some(_) => {}
        }
    }
    Exit { status, text: String::from_utf8_lossy(&output).into_owned() }
}

fn trouble(error: &russh::Error) -> Trouble {
    match error {
        russh::Error::IO(error) => trouble_of_io(error.kind()),
        russh::Error::HUP
        | russh::Error::Disconnect
        | russh::Error::SendError
        | russh::Error::Inconsistent => Trouble::Refused,
        russh::Error::ConnectionTimeout
        | russh::Error::KeepaliveTimeout
        | russh::Error::InactivityTimeout => Trouble::Silent,
        russh::Error::NoCommonAlgo { .. }
        | russh::Error::UnknownKey
        | russh::Error::WrongServerSig
        | russh::Error::NoAuthMethod => Trouble::Denied,
        _ => Trouble::Answered,
    }
}

fn failed(wanted: &str, error: &russh::Error) -> PortError {
    PortError::not_done(trouble(error), format!("{wanted}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_read_to_the_hundredth() {
        assert_eq!(hundredths("12345.67 234.00\n"), Some(1_234_567));
        assert_eq!(hundredths("0.05 0.00\n"), Some(5));
        for odd in ["", "12345", "12.3 1.00", "x.10 1.00", "This account is closed."] {
            assert_eq!(hundredths(odd), None, "{odd:?}");
        }
    }
}

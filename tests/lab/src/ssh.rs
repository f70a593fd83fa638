//! How do managers get onto the database hosts? By SSH as root, with keys made for this lab alone.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::error::{Context, Result};
use crate::install::run;
use crate::lab::Shared;
use crate::spec::{Place, Role};

/// Makes an ed25519 key without a passphrase.
fn keygen(path: &Path, comment: &str) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    run("make an SSH key", &mut command).map(|_| ())
}

/// Makes the key with which the managers log in.
pub(crate) fn make_client_key(shared: &Shared) -> Result<()> {
    keygen(&shared.files.ssh("client_key"), "managers")
}

/// Makes a database host's own key and its sshd's configuration.
pub(crate) fn make_server(shared: &Shared, place: Place) -> Result<()> {
    let dir = shared.files.host(&place.name());
    let key = dir.join("ssh_host_key");
    keygen(&key, &place.name())?;
    let config = format!(
        "Port 22\nListenAddress 0.0.0.0\nHostKey {}\nPidFile /run/sshd.pid\n\
         AuthorizedKeysFile {}\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nUsePAM no\nUseDNS no\nStrictModes no\n\
         PrintMotd no\nMaxStartups 100:30:200\nSubsystem sftp internal-sftp\n",
        key.display(),
        shared.files.ssh("client_key.pub").display()
    );
    fs::write(dir.join("sshd_config"), config).context(|| format!("write {place}'s sshd_config"))
}

/// Gathers the database hosts' public keys, under their names and both of their addresses.
pub(crate) fn write_known_hosts(shared: &Shared) -> Result<()> {
    let mut known = String::new();
    for place in shared.spec.places().into_iter().filter(|place| place.role == Role::Server) {
        let path = shared.files.host(&place.name()).join("ssh_host_key.pub");
        let key = fs::read_to_string(&path).context(|| format!("read {}", path.display()))?;
        let mut words = key.split_whitespace();
        let (kind, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let names = format!("{place},{},{}", place.ip(), place.segment_ip());
        let _ = writeln!(known, "{names} {kind} {blob}");
    }
    fs::write(shared.files.ssh("known_hosts"), known).context(|| "write known_hosts".into())
}

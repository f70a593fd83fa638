use std::{io::Write, os::unix::fs::OpenOptionsExt};

use secrecy::ExposeSecret;

use super::*;

const FILE: &str = r#"
[mysql.admin]
password = "general"
[cluster.app1.mysql.admin]
password = "own"
[ssh]
key_file = "/k"
known_hosts = "/h"
passphrase = "from file"
"#;

fn write(directory: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = directory.join(name);
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    path
}

fn password(secrets: &Secrets, cluster: &str, account: &str) -> Option<String> {
    let found = secrets.mysql_password(&cluster.into(), account);
    found.map(|secret| secret.expose_secret().to_owned())
}

fn nothing() -> std::iter::Empty<(String, String)> {
    std::iter::empty()
}

#[test]
fn an_entry_of_the_cluster_goes_before_a_general_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "s", FILE, 0o600);
    let secrets = Secrets::assemble(Some(&path), nothing(), None).unwrap();
    assert_eq!(password(&secrets, "app1", "admin").as_deref(), Some("own"));
    assert_eq!(password(&secrets, "app2", "admin").as_deref(), Some("general"));
    assert_eq!(password(&secrets, "app1", "other"), None);
}

#[test]
fn environment_goes_before_credentials_before_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "s", FILE, 0o600);
    let credentials = tempfile::tempdir().unwrap();
    write(credentials.path(), "mysql.admin", "credential\n", 0o600);
    write(credentials.path(), "ssh.passphrase", "credential\n", 0o600);
    let environment = [("CONCLAVE_CLUSTER_APP_2_MYSQL_ADMIN_PASSWORD".into(), "env".into())];
    let secrets =
        Secrets::assemble(Some(&path), environment.into_iter(), Some(credentials.path())).unwrap();
    assert_eq!(password(&secrets, "app-2", "admin").as_deref(), Some("env"));
    assert_eq!(password(&secrets, "app1", "admin").as_deref(), Some("credential"));
    let passphrase = secrets.ssh().passphrase.as_ref().unwrap();
    assert_eq!(passphrase.expose_secret(), "credential");
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o644] {
        let path = write(directory.path(), &format!("s{mode:o}"), FILE, mode);
        let error = Secrets::assemble(Some(&path), nothing(), None).unwrap_err();
        assert!(matches!(error, SecretsError::Open { mode: found, .. } if found == mode));
    }
}

#[test]
fn a_malformed_file_is_refused_without_quoting_it() {
    let directory = tempfile::tempdir().unwrap();
    let text = "[mysql.admin]\npassword = hush\n";
    let path = write(directory.path(), "s", text, 0o600);
    let error = Secrets::assemble(Some(&path), nothing(), None).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hush"), "{error}");
    assert!(matches!(error, SecretsError::Parse { line: 2, .. }), "{error}");
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "s", "[mysql.admin]\npasword = \"hush\"\n", 0o600);
    let error = Secrets::assemble(Some(&path), nothing(), None).unwrap_err();
    assert!(error.to_string().contains("unknown field `pasword`"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[test]
fn debug_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = write(directory.path(), "s", FILE, 0o600);
    let environment = [("CONCLAVE_MYSQL_X_PASSWORD".into(), "from env".into())];
    let secrets = Secrets::assemble(Some(&path), environment.into_iter(), None).unwrap();
    let shown = format!("{secrets:?}");
    for secret in ["general", "own\"", "from file", "from env"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

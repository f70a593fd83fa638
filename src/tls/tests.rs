use std::os::unix::fs::PermissionsExt;

use super::*;

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let names = [
        ("m1".to_owned(), vec!["127.0.0.1".to_owned(), "localhost".to_owned()]),
        ("m2".to_owned(), vec!["127.0.0.1".to_owned()]),
    ];
    init(dir.path(), &names).expect("certificates");
    dir
}

#[test]
fn what_init_makes_can_be_loaded_and_keys_are_private() {
    let dir = made();
    for name in ["m1", "m2", ADMIN] {
        let files = TlsFiles::of(dir.path(), name);
        files.load().expect(name);
        let mode = fs::metadata(&files.key).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn init_overwrites_nothing() {
    let dir = made();
    let before = fs::read(dir.path().join("m1.key")).expect("a key");
    let again = init(dir.path(), &[("m3".to_owned(), vec![])]);
    assert!(matches!(again, Err(TlsError::Exists { path }) if path.ends_with("ca.pem")));
    assert!(!dir.path().join("m3.pem").exists());
    assert_eq!(before, fs::read(dir.path().join("m1.key")).expect("a key"));
}

#[test]
fn a_name_that_is_a_path_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["../m1", "", "ca", ADMIN] {
        let made = init(dir.path(), &[(name.to_owned(), vec![])]);
        assert!(matches!(made, Err(TlsError::Name { name: found }) if found == name), "{name}");
    }
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let dir = made();
    let files = TlsFiles::of(dir.path(), "m1");
    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert!(matches!(files.load(), Err(TlsError::Readable { mode: 0o640, .. })));
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let dir = made();
    let key = TlsFiles::of(dir.path(), "m2").key;
    let files = TlsFiles { key, ..TlsFiles::of(dir.path(), "m1") };
    assert!(matches!(files.load(), Err(TlsError::Mismatch { .. })));
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let (ours, theirs) = (made(), made());
    let ca = theirs.path().join("ca.pem");
    let files = TlsFiles { ca, ..TlsFiles::of(ours.path(), "m1") };
    assert!(matches!(files.load(), Err(TlsError::Rejected { .. })));
}

#[test]
fn an_expired_certificate_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let params = authority(this_year());
    let root = params.self_signed(&key).expect("a root");
    let issuer = Issuer::new(params, key);
    let year = this_year() - YEARS - 2;
    let (cert, key) = pair("m1", &["localhost".to_owned()], year, &issuer).expect("a pair");
    let files = TlsFiles::of(dir.path(), "m1");
    write(&files.ca, &root.pem(), 0o644).expect("written");
    write(&files.cert, &cert.pem(), 0o644).expect("written");
    write(&files.key, &key.serialize_pem(), 0o600).expect("written");
    let Err(TlsError::Rejected { cause, .. }) = files.load() else { panic!("wanted Rejected") };
    assert!(cause.to_lowercase().contains("expired"), "{cause}");
}

#[test]
fn a_missing_and_an_empty_file_are_named() {
    let dir = made();
    let files = TlsFiles::of(dir.path(), "m9");
    assert!(matches!(files.load(), Err(TlsError::Io { path, .. }) if path == files.cert));
    let files = TlsFiles::of(dir.path(), "m1");
    fs::write(&files.cert, "").expect("written");
    assert!(matches!(files.load(), Err(TlsError::NotPem { path, .. }) if path == files.cert));
}

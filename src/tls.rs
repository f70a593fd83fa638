//! Who may talk to whom? Mutual TLS under a private authority that `conclave tls init` makes.
//!
//! ```text
//!   DIR/ca.pem  ca.key            the authority; the key is needed only to add certificates
//!   DIR/NAME.pem  NAME.key        one pair per manager, and `admin` for the command line
//! ```

// Certificates are made for the time on the wall.
#![allow(clippy::disallowed_methods)]

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tonic::transport::{Certificate as Pem, ClientTlsConfig, Identity, ServerTlsConfig};

/// The name of the command line's certificate.
pub const ADMIN: &str = "admin";

/// For how many years certificates are made: a failover tool must not stop over a forgotten date.
const YEARS: i32 = 20;

/// A name, and the addresses or DNS names at which its owner is called.
pub type Name = (String, Vec<String>);

/// Why certificates were not made or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The system refused something.
    #[error("{what} {}: {cause}", path.display())]
    Io { what: &'static str, path: PathBuf, cause: io::Error },
    /// A file that would be overwritten.
    #[error(
        "{} exists already: nothing was made; give another directory, or remove the files there \
         if no manager uses them", path.display()
    )]
    Exists { path: PathBuf },
    /// A name that cannot be a file name.
    #[error("wanted a name of letters, digits, '-', '_' or '.', other than \"ca\", found {name:?}")]
    Name { name: String },
    /// A certificate could not be made.
    #[error("make the certificate of {name}: {cause}")]
    Make { name: String, cause: rcgen::Error },
    /// Others can read a private key.
    #[error(
        "private key {} can be read by others (mode {mode:03o}): `chmod 600` it, and make new \
         certificates if it may have been read", path.display()
    )]
    Readable { path: PathBuf, mode: u32 },
    /// A file that holds no certificate or key.
    #[error("{} holds no {what} in PEM form: {cause}", path.display())]
    NotPem { path: PathBuf, what: &'static str, cause: String },
    /// The key is not the certificate's.
    #[error("{} and {} do not belong together: {cause}", cert.display(), key.display())]
    Mismatch { cert: PathBuf, key: PathBuf, cause: rustls::Error },
    /// The certificate is expired, of another authority, or otherwise unusable.
    #[error("certificate {} is not accepted under {}: {cause}", cert.display(), ca.display())]
    Rejected { cert: PathBuf, ca: PathBuf, cause: String },
}

impl TlsError {
    fn io(what: &'static str, path: &Path, cause: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), cause }
    }
}

/// The files of one party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl TlsFiles {
    /// Where [`init`] puts the files of `name`.
    #[must_use]
    pub fn of(dir: &Path, name: &str) -> Self {
        let file = |ending: &str| dir.join(format!("{name}.{ending}"));
        Self { ca: dir.join("ca.pem"), cert: file("pem"), key: file("key") }
    }

    /// Reads and checks the files.
    ///
    /// # Errors
    /// See [`TlsError`]; each names the file.
    pub fn load(&self) -> Result<Tls, TlsError> {
        use_ring();
        let (ca, cert, key) = (read(&self.ca)?, read(&self.cert)?, read_key(&self.key)?);
        self.check(&ca, &cert, &key)?;
        let (ca, identity) = (Pem::from_pem(ca), Identity::from_pem(cert, key));
        let server = ServerTlsConfig::new().identity(identity.clone()).client_ca_root(ca.clone());
        let client = ClientTlsConfig::new().ca_certificate(ca).identity(identity);
        Ok(Tls { server, client })
    }

    /// Lets rustls say beforehand what it would say at the first connection.
    fn check(&self, ca: &[u8], cert: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let chain = certificates(&self.cert, cert)?;
        let not_pem = |e: rustls::pki_types::pem::Error| {
            let (path, what) = (self.key.clone(), "private key");
            TlsError::NotPem { path, what, cause: e.to_string() }
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(not_pem)?;
        let rejected = |cause: String| {
            let (cert, ca) = (self.cert.clone(), self.ca.clone());
            TlsError::Rejected { cert, ca, cause }
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca, ca)? {
            roots.add(root).map_err(|e| rejected(e.to_string()))?;
        }
        let provider = Arc::new(ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let verifier = verifier.build().map_err(|e| rejected(e.to_string()))?;
        let (first, rest) = (&chain[0], &chain[1..]);
        let verified = verifier.verify_client_cert(first, rest, UnixTime::now());
        verified.map_err(|e| rejected(e.to_string()))?;
        let versions =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(|e| rejected(e.to_string()))?.with_no_client_auth();
        let paired = builder.with_single_cert(chain, key);
        paired.map(|_| ()).map_err(|cause| {
            let (cert, key) = (self.cert.clone(), self.key.clone());
            TlsError::Mismatch { cert, key, cause }
        })
    }
}

/// What a manager listens and calls with.
#[derive(Clone)]
pub struct Tls {
    /// Takes only callers that the authority knows.
    pub server: ServerTlsConfig,
    /// Calls only servers that the authority knows, by the name or address that is dialled.
    pub client: ClientTlsConfig,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(***)")
    }
}

/// Makes an authority, a pair for each name, and one for [`ADMIN`].
///
/// # Errors
/// Any of the files exists already, or cannot be written.
pub fn init(dir: &Path, names: &[Name]) -> Result<(), TlsError> {
    fs::create_dir_all(dir).map_err(|e| TlsError::io("create", dir, e))?;
    let admin = (ADMIN.to_owned(), vec![]);
    let all: Vec<&Name> = names.iter().chain([&admin]).collect();
    check_free(dir, &all)?;
    let year = this_year();
    let make = |name: &str| {
        let name = name.to_owned();
        move |cause| TlsError::Make { name, cause }
    };
    let key = KeyPair::generate().map_err(make("ca"))?;
    let params = authority(year);
    let root = params.self_signed(&key).map_err(make("ca"))?;
    let issuer = Issuer::new(params, key);
    for (name, addresses) in all {
        let (cert, key) = pair(name, addresses, year, &issuer).map_err(make(name))?;
        let files = TlsFiles::of(dir, name);
        write(&files.key, &key.serialize_pem(), 0o600)?;
        write(&files.cert, &cert.pem(), 0o644)?;
    }
    write(&dir.join("ca.key"), &issuer.key().serialize_pem(), 0o600)?;
    write(&dir.join("ca.pem"), &root.pem(), 0o644)
}

fn check_free(dir: &Path, names: &[&Name]) -> Result<(), TlsError> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let mut paths = vec![dir.join("ca.pem"), dir.join("ca.key")];
    for (name, _) in names {
        if name.is_empty() || name == "ca" || !name.chars().all(is_fine) {
            return Err(TlsError::Name { name: name.clone() });
        }
        let files = TlsFiles::of(dir, name);
        // A name given twice would meet its own file half-way.
        if paths.contains(&files.cert) {
            return Err(TlsError::Name { name: name.clone() });
        }
        paths.extend([files.cert, files.key]);
    }
    match paths.into_iter().find(|path| path.exists()) {
        Some(path) => Err(TlsError::Exists { path }),
        None => Ok(()),
    }
}

fn authority(year: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Conclave private authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, year);
    params
}

fn pair(
    name: &str,
    addresses: &[String],
    year: i32,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(Certificate, KeyPair), rcgen::Error> {
    let mut params = CertificateParams::new(addresses)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !addresses.is_empty() {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    valid(&mut params, year);
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?, key))
}

/// From last year on, so that clocks need not agree.
fn valid(params: &mut CertificateParams, year: i32) {
    params.not_before = date_time_ymd(year - 1, 1, 1);
    params.not_after = date_time_ymd(year + YEARS, 1, 1);
}

fn this_year() -> i32 {
    const SECONDS_PER_YEAR: u64 = 31_556_952;
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    1970 + i32::try_from(since.as_secs() / SECONDS_PER_YEAR).unwrap_or(0)
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), TlsError> {
    let written = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    written().map_err(|e| TlsError::io("write", path, e))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|e| TlsError::io("read", path, e))
}

fn read_key(path: &Path) -> Result<Vec<u8>, TlsError> {
    let meta = fs::metadata(path).map_err(|e| TlsError::io("read", path, e))?;
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TlsError::Readable { path: path.to_owned(), mode });
    }
    read(path)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let not_pem = |cause: String| TlsError::NotPem { path: path.to_owned(), what, cause };
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = read.map_err(|e| not_pem(e.to_string()))?;
    if found.is_empty() { Err(not_pem("found none".to_owned())) } else { Ok(found) }
}

/// rustls wants one provider of cryptography per process, chosen before the first connection.
fn use_ring() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may have been faster, with the same one.
        let _ = ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests;

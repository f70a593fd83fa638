//! Who asks? The common name of a client certificate, and whether it is a manager's.
//!
//! A certificate is DER: nested (tag, length, content). Only the way to the two fields is walked;
//! that the certificate is genuine, TLS has checked before.

use tonic::{Request, Status};

/// What a certificate says of its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Common name of the subject.
    pub name: String,
    /// It may serve, not only call: a manager's certificate.
    pub is_manager: bool,
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const OCTETS: u8 = 0x04;

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];

/// Lets managers through and nobody else: what is said between managers decides who leads and which
/// primary is dead, and an operator's certificate is no manager's.
///
/// # Errors
/// The caller showed no certificate, or not a manager's.
pub fn only_managers(request: Request<()>) -> Result<Request<()>, Status> {
    let chain = request.peer_certs();
    let owner = chain.and_then(|chain| chain.first().and_then(|leaf| owner(leaf)));
    match owner {
        Some(Owner { is_manager: true, .. }) => Ok(request),
        Some(Owner { name, .. }) => Err(Status::permission_denied(format!(
            "wanted a manager's certificate (one made for an address), found that of {name}"
        ))),
        None => Err(Status::unauthenticated("wanted a manager's certificate, found none")),
    }
}

/// Reads a certificate; `None`: it names nobody.
///
/// **Source:** RFC 5280, section 4.1.
pub fn owner(der: &[u8]) -> Option<Owner> {
    let (certificate, _) = expect(SEQUENCE, der)?;
    let (body, _) = expect(SEQUENCE, certificate)?;
    let mut fields = Items(body).filter(|(tag, _)| *tag != VERSION);
    // serial number, signature algorithm, issuer, validity, subject
    let (_, subject) = fields.nth(4).filter(|(tag, _)| *tag == SEQUENCE)?;
    let extensions = fields.find(|(tag, _)| *tag == EXTENSIONS).map(|(_, content)| content);
    Some(Owner {
        name: common_name(subject)?,
        is_manager: extensions.is_some_and(|content| may_serve(content).unwrap_or(false)),
    })
}

fn common_name(subject: &[u8]) -> Option<String> {
    Items(subject).filter(|(tag, _)| *tag == SET).find_map(|(_, set)| {
        let (pair, _) = expect(SEQUENCE, set)?;
        let (oid, rest) = expect(OID, pair)?;
        let (_, text) = Items(rest).next()?;
        let text = std::str::from_utf8(text).ok()?;
        (oid == COMMON_NAME && !text.is_empty()).then(|| text.to_owned())
    })
}

fn may_serve(extensions: &[u8]) -> Option<bool> {
    let (list, _) = expect(SEQUENCE, extensions)?;
    let usage = Items(list).find_map(|(_, extension)| {
        let (oid, rest) = expect(OID, extension)?;
        let (_, value) = Items(rest).find(|(tag, _)| *tag == OCTETS)?;
        (oid == EXTENDED_KEY_USAGE).then_some(value)
    })?;
    let (purposes, _) = expect(SEQUENCE, usage)?;
    Some(Items(purposes).any(|(tag, oid)| tag == OID && oid == SERVER_AUTH))
}

/// The content of an item with that tag, and what follows it.
fn expect(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = item(bytes)?;
    (found == tag).then_some((content, rest))
}

/// One item: tag, content, and what follows it.
fn item(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..0x80 => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        0x80 | 0x85.. => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// The items of a content, one after the other; ends at the first that is malformed.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (tag, content, rest) = item(self.0)?;
        self.0 = rest;
        Some((tag, content))
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, pem::PemObject};

    use super::*;
    use crate::tls;

    fn read(dir: &std::path::Path, name: &str) -> Option<Owner> {
        let pem = std::fs::read(dir.join(format!("{name}.pem"))).unwrap();
        owner(&CertificateDer::from_pem_slice(&pem).unwrap())
    }

    #[test]
    fn certificates_of_tls_init_name_their_owners() {
        let dir = tempfile::tempdir().unwrap();
        let names = [("m1".to_owned(), vec!["10.0.0.1".to_owned()]), ("alice".to_owned(), vec![])];
        tls::init(dir.path(), &names).unwrap();
        let is = |name: &str, is_manager| Some(Owner { name: name.into(), is_manager });
        assert_eq!(read(dir.path(), "m1"), is("m1", true));
        assert_eq!(read(dir.path(), "alice"), is("alice", false));
        assert_eq!(read(dir.path(), tls::ADMIN), is(tls::ADMIN, false));
    }

    #[test]
    fn a_cut_certificate_names_nobody_and_does_no_harm() {
        let dir = tempfile::tempdir().unwrap();
        tls::init(dir.path(), &[]).unwrap();
        let pem = std::fs::read(dir.path().join("admin.pem")).unwrap();
        let der = CertificateDer::from_pem_slice(&pem).unwrap();
        for length in 0..der.len() - 1 {
            assert_eq!(owner(&der[..length]), None, "at {length} bytes");
        }
    }
}

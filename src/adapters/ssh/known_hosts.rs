//! Which host keys does the known_hosts file vouch for?
//!
//! **Source:** sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Plain, hashed, wildcard and negated names,
//! several keys per host, `@revoked`. Certificate authorities are not supported and their lines
//! vouch for nothing.

use hmac::{Hmac, KeyInit, Mac};
use russh::keys::{
    Algorithm, PublicKey,
    ssh_key::known_hosts::{Entry, HostPatterns, Marker},
};
use sha1::Sha1;

/// The keys that a file has for one host.
#[derive(Debug, Default)]
pub(super) struct Known {
    accepted: Vec<PublicKey>,
    revoked: Vec<PublicKey>,
}

/// What the file says of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Revoked,
    /// The host is there with other keys only.
    Other,
    /// The host is not there.
    Absent,
}

impl Known {
    /// Reads the lines for a host. Lines that cannot be read vouch for nothing.
    pub(super) fn read(text: &str, host: &str, port: u16) -> Self {
        let name = if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") };
        let mut known = Self::default();
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let Ok(entry) = words.join(" ").parse::<Entry>() else { continue };
            if !is_named(entry.host_patterns(), &name) {
                continue;
            }
            match entry.marker() {
                None => known.accepted.push(entry.public_key().clone()),
                Some(Marker::Revoked) => known.revoked.push(entry.public_key().clone()),
                Some(Marker::CertAuthority) => {}
            }
        }
        known
    }

    /// Judges a key that a host has shown.
    pub(super) fn judge(&self, key: &PublicKey) -> Verdict {
        let is_in =
            |keys: &[PublicKey]| keys.iter().any(|found| found.key_data() == key.key_data());
        if is_in(&self.revoked) {
            Verdict::Revoked
        } else if is_in(&self.accepted) {
            Verdict::Accepted
        } else if self.accepted.is_empty() {
            Verdict::Absent
        } else {
            Verdict::Other
        }
    }

    /// The algorithms to ask the host for, out of `all`: those of its known keys. A host shows
    /// only one of its keys, so asking for another kind would get a key that is not in the file.
    pub(super) fn preferred(&self, all: &[Algorithm]) -> Vec<Algorithm> {
        let is_known = |wanted: &Algorithm| {
            self.accepted.iter().any(|key| match (key.algorithm(), wanted) {
                (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
                (found, wanted) => found == *wanted,
            })
        };
        let known: Vec<Algorithm> = all.iter().filter(|one| is_known(one)).cloned().collect();
        if known.is_empty() { all.to_vec() } else { known }
    }
}

fn is_named(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            let Ok(mac) = Hmac::<Sha1>::new_from_slice(salt) else { return false };
            mac.chain_update(name).verify_slice(hash).is_ok()
        }
        HostPatterns::Patterns(patterns) => {
            let mut is_named = false;
            for pattern in patterns {
                match pattern.strip_prefix('!') {
                    Some(pattern) if is_match(pattern, name) => return false,
                    Some(_) => {}
                    None => is_named |= is_match(pattern, name),
                }
            }
            is_named
        }
    }
}

/// `*` and `?`, without regard to case.
fn is_match(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    // Where the last star was, and how much of the name it has swallowed so far.
    let (mut at, mut star, mut in_pattern) = (0, None, 0);
    while at < name.len() {
        match pattern.get(in_pattern) {
            Some(b'*') => {
                star = Some((in_pattern, at));
                in_pattern += 1;
            }
            Some(found) if *found == b'?' || *found == name[at] => {
                in_pattern += 1;
                at += 1;
            }
            Some(_) | None => {
                let Some((back, swallowed)) = star else { return false };
                star = Some((back, swallowed + 1));
                (in_pattern, at) = (back + 1, swallowed + 1);
            }
        }
    }
    pattern[in_pattern..].iter().all(|rest| *rest == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    const ED: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA6rWI3G1sz07DnfFlrouTcysQlj2P+jpNSOEWD9OJ3X";
    /// `example.com`, with the key below.
    const HASHED: &str = "|1|O33ESRMWPVkMYIwJ1Uw+n877jTo=|nuuC5vEqXlEZ/8BXQR7m619W6Ak= \
        ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";
    const HASHED_KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILIG2T/B0l0gaqj3puu510tu9N1OkQ4znY3LYuEm5zCF";

    fn judge(file: &str, host: &str, port: u16, key: &str) -> Verdict {
        Known::read(file, host, port).judge(&key.parse().unwrap())
    }

    #[test]
    fn plain_names_and_ports() {
        let file = format!("# comment\n\ndb1,10.0.0.1 {ED} root@db1\n[db2]:2222\t{OTHER}\n");
        assert_eq!(judge(&file, "10.0.0.1", 22, ED), Verdict::Accepted);
        assert_eq!(judge(&file, "db1", 22, OTHER), Verdict::Other);
        assert_eq!(judge(&file, "db2", 2222, OTHER), Verdict::Accepted);
        assert_eq!(judge(&file, "db2", 22, OTHER), Verdict::Absent);
        assert_eq!(judge("", "db1", 22, ED), Verdict::Absent);
    }

    #[test]
    fn hashed_names() {
        assert_eq!(judge(HASHED, "example.com", 22, HASHED_KEY), Verdict::Accepted);
        assert_eq!(judge(HASHED, "example.org", 22, HASHED_KEY), Verdict::Absent);
        assert_eq!(judge(HASHED, "example.com", 22, ED), Verdict::Other);
    }

    #[test]
    fn one_of_several_keys_of_a_kind_is_enough() {
        let file = format!("db1 {OTHER}\ndb1 {ED}\n");
        assert_eq!(judge(&file, "db1", 22, ED), Verdict::Accepted);
    }

    #[test]
    fn a_revoked_key_is_refused_whatever_else_the_file_says() {
        let file = format!("db1 {ED}\n@revoked * {ED}\n");
        assert_eq!(judge(&file, "db1", 22, ED), Verdict::Revoked);
    }

    #[test]
    fn authorities_and_broken_lines_vouch_for_nothing() {
        let file = format!("@cert-authority db1 {ED}\ndb1 ssh-ed25519 AAAA\ndb1\n");
        assert_eq!(judge(&file, "db1", 22, ED), Verdict::Absent);
    }

    #[test]
    fn wildcards_and_negations() {
        let file = format!("db*.example.com,!db9.* {ED}\n");
        assert_eq!(judge(&file, "DB12.example.com", 22, ED), Verdict::Accepted);
        assert_eq!(judge(&file, "db9.example.com", 22, ED), Verdict::Absent);
        assert!(is_match("a*b?c*", "aXXbYbZcd") && !is_match("a*b", "abc") && is_match("*", ""));
    }

    #[test]
    fn the_host_is_asked_for_the_kind_of_key_that_is_known() {
        let all = [
            Algorithm::Ed25519,
            Algorithm::Rsa { hash: Some(russh::keys::HashAlg::Sha512) },
            Algorithm::Rsa { hash: None },
        ];
        let known = Known::read(&format!("db1 {ED}"), "db1", 22);
        assert_eq!(known.preferred(&all), vec![Algorithm::Ed25519]);
        assert_eq!(Known::default().preferred(&all), all.to_vec());
    }
}

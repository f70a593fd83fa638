//! Which group is this? A random 128-bit id, minted once by `group init`.

use std::{fmt, fs::File, io, io::Read, str::FromStr};

use serde::{Deserialize, Serialize};

/// The id of a group of managers; printed as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GroupId([u8; 16]);

/// A text or byte string that is no group id.
#[derive(Debug, thiserror::Error)]
#[error("wanted a group id of 32 hexadecimal digits, found {found:?}")]
pub struct NotAGroupId {
    found: String,
}

impl GroupId {
    /// A new random id.
    ///
    /// # Errors
    /// The system's random source cannot be read.
    pub fn mint() -> io::Result<Self> {
        let mut bytes = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The id as it goes over the wire.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// Reads [`Self::to_bytes`].
    ///
    /// # Errors
    /// Not 16 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NotAGroupId> {
        let sixteen = bytes.try_into();
        sixteen.map(Self).map_err(|_| NotAGroupId { found: format!("{bytes:02x?}") })
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for GroupId {
    type Err = NotAGroupId;

    fn from_str(text: &str) -> Result<Self, NotAGroupId> {
        let wrong = || NotAGroupId { found: text.to_owned() };
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(|n| Self(n.to_be_bytes())).map_err(|_| wrong())
    }
}

impl TryFrom<String> for GroupId {
    type Error = NotAGroupId;

    fn try_from(text: String) -> Result<Self, NotAGroupId> {
        text.parse()
    }
}

impl From<GroupId> for String {
    fn from(id: GroupId) -> Self {
        id.to_string()
    }
}

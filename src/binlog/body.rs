//! Reading numbers off the front of an event's body.

/// What is left of a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next bytes; `None`: there are not so many.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(len)?;
        self.0 = tail;
        Some(head)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of MySQL's protocol: one byte below 251, else a byte that says how many follow.
    pub fn packed(&mut self) -> Option<u64> {
        let bytes = match self.u8()? {
            small @ 0..=250 => return Some(small.into()),
            252 => 2,
            253 => 3,
            254 => 8,
            251 | 255 => return None,
        };
        self.little(bytes)
    }

    /// A number of MySQL's serialization library: as many ones at the low end of the first byte as
    /// bytes follow it.
    /// **Source:** MySQL source documentation, "Library: Serialization".
    pub fn varlen(&mut self) -> Option<u64> {
        let more = self.0.first()?.trailing_ones() as usize;
        if more == 8 {
            self.u8()?;
            return self.u64();
        }
        Some(self.little(more + 1)? >> (more + 1))
    }

    /// The same for numbers with a sign, which is the lowest bit.
    pub fn varlen_signed(&mut self) -> Option<i64> {
        let raw = self.varlen()?;
        let size = i64::try_from(raw >> 1).ok()?;
        Some(if raw & 1 == 0 { size } else { -1 - size })
    }

    fn little(&mut self, len: usize) -> Option<u64> {
        let mut raw = [0; 8];
        raw.get_mut(..len)?.copy_from_slice(self.take(len)?);
        Some(u64::from_le_bytes(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_serialization_library_are_read_as_its_documentation_says() {
        let cases: [(&[u8], u64); 5] = [
            (&[0x00], 0),
            (&[0xfe], 127),
            (&[0x01, 0x02], 128),
            (&[0x03, 0x00, 0x02], 1 << 14),
            (&[0xff, 1, 0, 0, 0, 0, 0, 0, 0x80], (1 << 63) + 1),
        ];
        for (bytes, wanted) in cases {
            assert_eq!(Reader(bytes).varlen(), Some(wanted), "{bytes:02x?}");
            assert_eq!(Reader(&bytes[..bytes.len() - 1]).varlen(), None, "{bytes:02x?} cut");
        }
        assert_eq!(Reader(&[0x04]).varlen_signed(), Some(1));
        assert_eq!(Reader(&[0x02]).varlen_signed(), Some(-1));
    }

    #[test]
    fn numbers_of_the_protocol_are_read_as_the_manual_says() {
        assert_eq!(Reader(&[250]).packed(), Some(250));
        assert_eq!(Reader(&[252, 0x2c, 1]).packed(), Some(300));
        assert_eq!(Reader(&[253, 0, 0, 1]).packed(), Some(1 << 16));
        assert_eq!(Reader(&[254, 0, 0, 0, 0, 1, 0, 0, 0]).packed(), Some(1 << 32));
        assert_eq!(Reader(&[255]).packed(), None);
    }
}

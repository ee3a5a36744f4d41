//! UUIDs: how the hypervisor and the tools name a guest for good.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::str::FromStr;

/// A UUID, its bytes in the order they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// A new random one (version 4).
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Ok(Self(bytes))
    }
}

impl Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for Uuid {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let dashes = text.len() - digits.len();
        if digits.len() != 32 || !matches!(dashes, 0 | 4) || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(());
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
            let pair = str::from_utf8(pair).map_err(drop)?;
            *byte = u8::from_str_radix(pair, 16).map_err(drop)?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let text = "8a0a3c4e-1b2d-4f60-9c7e-0123456789ab";
        assert_eq!(text.parse::<Uuid>().unwrap().to_string(), text);
        for wrong in [
            "",
            "8a0a",
            "8a0a3c4e-1b2d-4f60-9c7e-0123456789ag",
            "8a0a3c4e1b2d-4f609c7e0123456789ab",
        ] {
            assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
        }
        assert_ne!(Uuid::random().unwrap(), Uuid::random().unwrap());
    }
}

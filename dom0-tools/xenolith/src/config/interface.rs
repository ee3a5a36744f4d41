//! Network interfaces.

use super::Place;
use crate::failure::Result;
use crate::uuid::Uuid;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};

const EXPECTED: &str = "expected a string like \"mac=00:16:3e:00:00:01,bridge=xenbr0\"";
const DEFAULT_BRIDGE: &str = "xenbr0";
/// Linux's limit for an interface's name.
const NAME_MAX: usize = 15;

/// A network interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its address; made from the guest's UUID when there is none.
    pub mac: Option<MacAddress>,
    /// The bridge that its end in dom0 is added to.
    pub bridge: String,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MacAddress([u8; 6]);

impl Interface {
    /// Reads a specification.
    pub fn parse(text: &str, place: &Place) -> Result<Self> {
        let mut interface = Self {
            mac: None,
            bridge: DEFAULT_BRIDGE.into(),
        };
        let fail = |message: String| place.fail(format!("vif \"{text}\": {message}"), EXPECTED);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| fail(format!("`{part}` has no value")))?;
            match (key.trim(), value.trim()) {
                ("mac", mac) => {
                    let parsed =
                        MacAddress::parse(mac).ok_or_else(|| fail(format!("`{mac}` is no address")))?;
                    interface.mac = Some(parsed);
                }
                ("bridge", name) if !name.is_empty() && name.len() <= NAME_MAX && !name.contains('/') => {
                    interface.bridge = name.to_owned();
                }
                ("bridge", name) => return Err(fail(format!("`{name}` is no bridge's name"))),
                // Xen's default script does what we do ourselves; the other two change nothing for PVH.
                ("script", "vif-bridge") | ("type", "vif" | "netfront") | ("model", _) => {}
                ("script", _) => {
                    return Err(fail("scripts are not run: devices are wired without them".into()));
                }
                (known @ ("ip" | "backend" | "rate" | "vifname" | "gatewaydev" | "type" | "mtu"), _) => {
                    return Err(fail(format!("`{known}` is not supported")));
                }
                (unknown, _) => return Err(fail(format!("unknown key `{unknown}`"))),
            }
        }
        Ok(interface)
    }
}

impl MacAddress {
    /// An address in Xen's range for the interface `index` of a guest: the same whenever the guest is started.
    pub fn derived(uuid: Uuid, index: usize) -> Self {
        let bytes = uuid.0;
        let fold = |offset: usize| {
            bytes
                .iter()
                .skip(offset)
                .step_by(3)
                .fold(0, |all, byte| all ^ *byte)
        };
        Self([
            0x00,
            0x16,
            0x3e,
            fold(0) & 0x7f,
            fold(1),
            fold(2).wrapping_add(index as u8),
        ])
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| matches!(part.len(), 1 | 2))?;
            *byte = u8::from_str_radix(part, 16).ok()?;
        }
        // The lowest bit of the first byte marks a group of receivers.
        (parts.next().is_none() && bytes[0] & 1 == 0).then_some(Self(bytes))
    }
}

impl Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Interface> {
        Interface::parse(
            text,
            &Place {
                source: "t.cfg".into(),
                line: 3,
            },
        )
    }

    #[test]
    fn defaults_and_settings() {
        assert_eq!(
            parse("").unwrap(),
            Interface {
                mac: None,
                bridge: "xenbr0".into()
            }
        );
        let interface = parse("mac=00:16:3E:00:00:01, bridge=br1, script=vif-bridge").unwrap();
        assert_eq!(interface.mac.unwrap().to_string(), "00:16:3e:00:00:01");
        assert_eq!(interface.bridge, "br1");
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("mac=00:16", "no address"),
            ("mac=01:16:3e:00:00:01", "no address"),
            ("bridge=", "no bridge's name"),
            ("bridge=../../etc", "no bridge's name"),
            ("script=vif-mini", "scripts"),
            ("rate=1Mb/s", "not supported"),
            ("colour=red", "unknown key"),
            ("mac", "has no value"),
        ] {
            let failure = parse(text).unwrap_err();
            assert!(
                failure.message.starts_with("t.cfg:3: ") && failure.message.contains(part),
                "{text}: {failure}"
            );
        }
    }

    #[test]
    fn derived_addresses_differ_by_index() {
        let uuid = Uuid([7; 16]);
        assert_eq!(MacAddress::derived(uuid, 0), MacAddress::derived(uuid, 0));
        assert_ne!(MacAddress::derived(uuid, 0), MacAddress::derived(uuid, 1));
    }
}

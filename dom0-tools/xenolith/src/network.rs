//! Adding a network interface to a bridge: one message to the kernel, where Xen runs a script.

use crate::failure::{Context, Failure, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};
use std::path::Path;

const NEW_LINK: u16 = 16;
const REQUEST_WITH_ANSWER: u16 = 1 | 4;
const ANSWER: u16 = 2;
const ATTRIBUTE_MASTER: u16 = 10;
const UP: u32 = 1;
const HEADER: usize = 16;

/// Whether there is a bridge of this name.
pub fn is_bridge(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).join("bridge").is_dir()
}

/// Whether there is a network interface of this name.
pub fn exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// Adds an interface to a bridge and sets it up.
pub fn join_bridge(interface: &str, bridge: &str) -> Result<()> {
    let doing = format!("cannot add {interface} to bridge {bridge}");
    let message = link_message(index(interface)?, index(bridge)?);
    ask_kernel(&message).context(doing)
}

fn index(interface: &str) -> Result<u32> {
    let path = Path::new("/sys/class/net").join(interface).join("ifindex");
    let text = std::fs::read_to_string(&path).context(format_args!("no network interface {interface}"))?;
    text.trim()
        .parse()
        .map_err(|_| Failure::new(format!("{} is no number", path.display())))
}

fn link_message(interface: u32, bridge: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    for word in [interface, UP, UP] {
        body.extend(word.to_ne_bytes());
    }
    body.extend(8_u16.to_ne_bytes());
    body.extend(ATTRIBUTE_MASTER.to_ne_bytes());
    body.extend(bridge.to_ne_bytes());
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(NEW_LINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

fn ask_kernel(message: &[u8]) -> std::result::Result<(), Errno> {
    // Protocol 0 is the one for routing and links.
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    send(&socket, message, SendFlags::empty())?;
    let mut answer = [0; 1024];
    let (received, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    let kind = answer
        .get(4..6)
        .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    let error = answer[..received]
        .get(HEADER..)
        .and_then(|body| body.first_chunk::<4>());
    match (kind, error.map(|bytes| i32::from_ne_bytes(*bytes))) {
        (Some(ANSWER), Some(0)) => Ok(()),
        (Some(ANSWER), Some(error)) => Err(Errno::from_raw_os_error(-error)),
        _ => Err(Errno::PROTO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_netlinks() {
        let message = link_message(5, 9);
        assert_eq!(message.len(), 40);
        assert_eq!(message[..4], 40_u32.to_ne_bytes());
        assert_eq!(message[20..24], 5_u32.to_ne_bytes());
        assert_eq!(message[36..], 9_u32.to_ne_bytes());
    }
}

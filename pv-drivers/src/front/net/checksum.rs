//! Checksums of TCP and UDP, where one of the two ends left them out.

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;
const V4: u16 = 0x0800;
const V6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Where a frame's TCP or UDP begins and ends, where its checksum is, and the sum of the pseudo-header.
struct Transport {
    start: usize,
    end: usize,
    checksum: usize,
    pseudo: u32,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// Whether a frame says that it is IPv6.
pub fn is_v6(frame: &[u8]) -> bool {
    word(frame, 12) == Some(V6)
}

fn transport(frame: &[u8]) -> Option<Transport> {
    let (protocol, start, end, addresses) = match word(frame, 12)? {
        V4 => {
            let header = usize::from(frame.get(ETHERNET)? & 0xf) * 4;
            let total = usize::from(word(frame, ETHERNET + 2)?);
            // Only a part of the whole: the checksum is over more than is here.
            if word(frame, ETHERNET + 6)? & 0x3fff != 0 || header < 20 {
                return None;
            }
            let protocol = *frame.get(ETHERNET + 9)?;
            (
                protocol,
                ETHERNET + header,
                ETHERNET + total,
                frame.get(ETHERNET + 12..ETHERNET + 20)?,
            )
        }
        V6 => {
            let payload = usize::from(word(frame, ETHERNET + 4)?);
            let protocol = *frame.get(ETHERNET + 6)?;
            (
                protocol,
                ETHERNET + 40,
                ETHERNET + 40 + payload,
                frame.get(ETHERNET + 8..ETHERNET + 40)?,
            )
        }
        _ => return None,
    };
    let checksum = match protocol {
        TCP => start + 16,
        UDP => start + 6,
        _ => return None,
    };
    if end > frame.len() || checksum + 2 > end {
        return None;
    }
    let length = (end - start) as u32;
    Some(Transport {
        start,
        end,
        checksum,
        pseudo: sum(addresses) + u32::from(protocol) + (length >> 16) + (length & 0xffff),
    })
}

/// The ones' complement sum of 16-bit words, not folded: frames are too short for it to overflow.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let whole: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    whole + rest.first().map_or(0, |byte| u32::from(*byte) << 8)
}

fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    ((once & 0xffff) + (once >> 16)) as u16
}

/// What stands in the checksum's place for the other end to complete: where, and the folded sum of the pseudo-header.
pub fn to_be_completed(frame: &[u8]) -> Option<(usize, [u8; 2])> {
    let transport = transport(frame)?;
    Some((transport.checksum, fold(transport.pseudo).to_be_bytes()))
}

/// Whether a frame's checksum is right. What has none is.
#[cfg_attr(not(feature = "smoltcp"), allow(dead_code))]
pub fn is_right(frame: &[u8]) -> bool {
    let Some(transport) = transport(frame) else {
        return true;
    };
    let udp_without = transport.checksum == transport.start + 6 && word(frame, transport.checksum) == Some(0);
    let total = transport.pseudo + sum(frame.get(transport.start..transport.end).unwrap_or(&[]));
    fold(total) == 0xffff || udp_without && !is_v6(frame)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// A UDP datagram of four bytes from 10.9.0.1 to 10.9.0.2, its checksum computed by hand.
    fn datagram() -> Vec<u8> {
        let mut frame = std::vec![0u8; 12];
        frame.extend([8, 0]);
        frame.extend([0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
        frame.extend([0, 7, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4]);
        frame
    }

    #[test]
    fn a_sum_completed_by_the_other_end_is_right() {
        let mut frame = datagram();
        let (place, partial) = to_be_completed(&frame).unwrap();
        assert_eq!(place, 14 + 20 + 6);
        // 0a09 + 0001 + 0a09 + 0002 + 0011 + 000c
        assert_eq!(partial, [0x14, 0x32]);
        frame[place..place + 2].copy_from_slice(&partial);
        // What a backend does with it.
        let whole = !fold(sum(&frame[34..]));
        frame[place..place + 2].copy_from_slice(&whole.to_be_bytes());
        assert!(is_right(&frame));
        frame[44] ^= 1;
        assert!(!is_right(&frame));
    }

    #[test]
    fn no_frame_is_a_panic() {
        let mut random = 0x1234_5678_9abc_def1_u64;
        let mut frame = datagram();
        for round in 0..20_000 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = random as usize % frame.len();
            frame[at] = (random >> 32) as u8;
            if round % 3 == 0 {
                frame[12] = if round % 2 == 0 { 8 } else { 0x86 };
                frame[13] = if round % 2 == 0 { 0 } else { 0xdd };
            }
            let length = (random >> 40) as usize % (frame.len() + 1);
            let _ = (to_be_completed(&frame[..length]), is_right(&frame[..length]));
        }
    }
}

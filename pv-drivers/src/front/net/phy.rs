//! A network interface as a device of `smoltcp`.

use smoltcp::phy::{self, Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::{Frame, Net, checksum};
use crate::front::Platform;

/// Bytes of an ordinary frame: 1500 and an Ethernet header.
const FRAME: usize = 1514;

/// An interface with a buffer for each direction.
pub struct Phy<P: Platform> {
    net: Net<P>,
    incoming: [u8; FRAME],
    outgoing: [u8; FRAME],
    /// Frames with a wrong checksum.
    damaged: u64,
}

impl<P: Platform> Phy<P> {
    /// Takes an interface, connected or not: while it is not, no frames come and none can be sent.
    pub fn new(net: Net<P>) -> Phy<P> {
        Phy {
            net,
            incoming: [0; FRAME],
            outgoing: [0; FRAME],
            damaged: 0,
        }
    }

    /// The interface, for [`Net::poll`] above all.
    pub fn net(&mut self) -> &mut Net<P> {
        &mut self.net
    }

    /// Frames that were received with a wrong checksum and dropped.
    pub fn damaged(&self) -> u64 {
        self.damaged
    }
}

impl<P: Platform> Device for Phy<P> {
    type RxToken<'a>
        = RxToken<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = TxToken<'a, P>
    where
        Self: 'a;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_, P>)> {
        // What arrives may have to be answered.
        if !self.net.can_send() {
            return None;
        }
        let length = loop {
            let received = self.net.receive(&mut self.incoming).ok()??;
            if received.checksum_good || checksum::is_right(&self.incoming[..received.length]) {
                break received.length;
            }
            self.damaged += 1;
        };
        let receive = RxToken {
            frame: &self.incoming[..length],
        };
        let transmit = TxToken {
            net: &mut self.net,
            buffer: &mut self.outgoing,
        };
        Some((receive, transmit))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, P>> {
        self.net.can_send().then_some(TxToken {
            net: &mut self.net,
            buffer: &mut self.outgoing,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        let mtu = self
            .net
            .offer()
            .map_or(FRAME, |offer| offer.mtu + checksum::ETHERNET);
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = mtu.min(FRAME);
        let mut left_out = ChecksumCapabilities::default();
        // Received ones are looked at here, where it is known whether they were left out. TCP's sent ones the backend fills in;
        // datagrams might be sent in fragments, for which it cannot.
        let blank = self.net.offer().is_some_and(|offer| offer.checksum_v4);
        left_out.tcp = if blank { Checksum::None } else { Checksum::Tx };
        left_out.udp = Checksum::Tx;
        capabilities.checksum = left_out;
        capabilities
    }
}

/// A frame that was received.
pub struct RxToken<'a> {
    frame: &'a [u8],
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, work: F) -> R {
        work(self.frame)
    }
}

/// A frame that may be sent.
pub struct TxToken<'a, P: Platform> {
    net: &'a mut Net<P>,
    buffer: &'a mut [u8; FRAME],
}

impl<P: Platform> phy::TxToken for TxToken<'_, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, work: F) -> R {
        let frame = &mut self.buffer[..length.min(FRAME)];
        let result = work(frame);
        let blank = self.net.offer().is_some_and(|offer| offer.checksum_v4)
            && checksum::to_be_completed(frame).is_some()
            && !checksum::is_v6(frame);
        // The interface went away since the token was made: as good as lost on a wire.
        let _ = self.net.send(&Frame {
            bytes: frame,
            checksum_blank: blank,
            segment_size: 0,
        });
        result
    }
}

//! What the two ends of an interface tell each other in the store (`io/netif.h`).

use hypercall_abi::io::xenbus::State;

use super::queue::Queue;
use super::{Address, Net, Offer, QUEUES};
use crate::front::store::{Store, path};
use crate::front::xenbus::Phase;
use crate::front::{Error, Platform, Text};

/// Bytes behind the Ethernet header of an ordinary frame.
const USUAL_MTU: u64 = 1500;

impl<P: Platform> Net<P> {
    /// Makes rings, pages and ports and writes them to the store.
    pub(super) fn announce(&mut self, store: &mut Store<P>) -> Result<(), Error> {
        let offered = self.link.offer(store, "multi-queue-max-queues")?;
        let count = offered.clamp(1, self.config.queues.clamp(1, QUEUES) as u64) as usize;
        self.offered = self.read_offer(store)?;
        let split = self.offered.split_event_channels;
        self.prepare(count, split)?;
        let (link, queues, wishes) = (&self.link, &self.queues, self.wishes());
        store.transaction(|store, transaction| {
            let front = &link.front;
            if count > 1 {
                let node = path(format_args!("{front}/multi-queue-num-queues"))?;
                store.write_number(Some(transaction), &node, count as u64)?;
            }
            for (index, queue) in queues.iter().enumerate() {
                let base = if count > 1 {
                    path(format_args!("{front}/queue-{index}"))?
                } else {
                    front.clone()
                };
                let mut write = |name: &str, number: u32| {
                    let node = path(format_args!("{base}/{name}"))?;
                    store.write_number(Some(transaction), &node, number.into())
                };
                write("tx-ring-ref", queue.transmit.reference())?;
                write("rx-ring-ref", queue.receive.reference())?;
                let port = queue.port.unwrap_or(0);
                match queue.receive_port {
                    None => write("event-channel", port)?,
                    Some(receive) => {
                        write("event-channel-tx", port)?;
                        write("event-channel-rx", receive)?;
                    }
                }
            }
            for (name, value) in wishes {
                let node = path(format_args!("{front}/{name}"))?;
                store.write_number(Some(transaction), &node, value.into())?;
            }
            Ok(())
        })?;
        self.link.tell(store, State::Connected)?;
        self.link.phase = Phase::Announced;
        Ok(())
    }

    /// What we want of the backend.
    fn wishes(&self) -> [(&'static str, bool); 8] {
        let config = &self.config;
        [
            ("request-rx-copy", true),
            ("feature-rx-notify", true),
            ("feature-sg", true),
            ("feature-gso-tcpv4", config.large_receive),
            ("feature-gso-tcpv6", config.large_receive),
            ("feature-no-csum-offload", !config.checksum_offload),
            ("feature-ipv6-csum-offload", config.checksum_offload),
            ("request-multicast-control", self.offered.multicast_control),
        ]
    }

    fn prepare(&mut self, count: usize, split: bool) -> Result<(), Error> {
        let (peer, config) = (self.link.peer, self.config);
        let fits = self.queues.len() == count
            && self.queues.iter().all(|queue| {
                queue.transmit.fits(config.transmit_pages, peer)
                    && queue.receive.fits(config.receive_pages, peer)
            });
        if !fits {
            for queue in &mut self.queues {
                self.lost_pages += queue.end(&self.platform);
            }
            self.queues.clear();
            for _ in 0..count {
                let queue = Queue::new(&self.platform, config.transmit_pages, config.receive_pages, peer)?;
                self.queues.push(queue).map_err(|_| Error::Full)?;
            }
        }
        self.queues
            .iter_mut()
            .try_for_each(|queue| queue.start(&self.platform, peer, split))
    }

    fn read_offer(&mut self, store: &mut Store<P>) -> Result<Offer, Error> {
        let link = &self.link;
        let node = path(format_args!("{}/mac", link.front))?;
        let text = store.read(None, &node)?;
        let address = parse(text).ok_or(Error::Malformed {
            node: Text::of(b"mac"),
            expected: "six bytes like 00:16:3e:00:00:01",
            found: Text::of(text),
        })?;
        if link.offer(store, "feature-rx-copy")? != 1 {
            return Err(Error::Unsupported {
                what: "feature-rx-copy",
            });
        }
        let mtu = match link.offer(store, "mtu")? {
            0 => USUAL_MTU,
            // Never less than IPv4 needs, never more than a frame can hold.
            mtu => mtu.clamp(68, (super::MOST - super::checksum::ETHERNET) as u64),
        };
        let mut says = |name: &str| link.offer(store, name).map(|value| value == 1);
        Ok(Offer {
            address,
            mtu: mtu as usize,
            scatter_gather: says("feature-sg")?,
            checksum_v4: !says("feature-no-csum-offload")?,
            checksum_v6: says("feature-ipv6-csum-offload")?,
            segmentation_v4: says("feature-gso-tcpv4")?,
            segmentation_v6: says("feature-gso-tcpv6")?,
            multicast_control: self.config.multicast_control && says("feature-multicast-control")?,
            split_event_channels: says("feature-split-event-channels")?,
        })
    }
}

/// `00:16:3e:00:00:01`.
fn parse(text: &[u8]) -> Option<Address> {
    let text = core::str::from_utf8(text).ok()?.trim_end_matches('\0').trim();
    let mut address = Address::default();
    let mut parts = text.split(':');
    for byte in &mut address {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(address)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn addresses_are_read_and_nothing_else_is() {
        assert_eq!(parse(b"00:16:3e:00:00:0F\0"), Some([0, 0x16, 0x3e, 0, 0, 0xf]));
        for wrong in [
            &b""[..],
            b"00:16:3e:00:00",
            b"00:16:3e:00:00:01:02",
            b"00:16:3e:00:00:1ff",
            b"x",
            b"+1:1:1:1:1:",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }
}

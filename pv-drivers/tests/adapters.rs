//! The disk as `embedded-sdmmc` sees it, and the network as `smoltcp` does. With all features.
#![cfg(all(feature = "smoltcp", feature = "embedded-sdmmc"))]

use embedded_sdmmc_types::{Block as Sector, BlockDevice, BlockIdx};
use hypercall_abi::io::net::receive_flag;
use pv_drivers::front::Error;
use pv_drivers::front::block::{self, Block, card::Card};
use pv_drivers::front::net::{self, Net, phy::Phy};
use pv_drivers::testing::World;
use pv_drivers::testing::disk::{Disk, NUMBER};
use pv_drivers::testing::wire::Wire;
use smoltcp::phy::{Checksum, Device, RxToken, TxToken};
use smoltcp::time::Instant;

const SECOND: u64 = 1_000_000_000;

fn card(sectors: usize) -> (World, Disk, Card<World>) {
    let world = World::new(1000);
    let disk = Disk::plug(&world, sectors, &[]);
    let mut store = world.store();
    let mut block = Block::open(world.clone(), &mut store, NUMBER, block::Config::default()).unwrap();
    block.wait_until_connected(&mut store, SECOND).unwrap();
    (world.clone(), disk, Card::new(world, block, SECOND))
}

fn read(card: &Card<World>, at: u32, count: usize) -> Result<Vec<u8>, Error> {
    let mut blocks = vec![Sector::new(); count];
    card.read(&mut blocks, BlockIdx(at))?;
    Ok(blocks.iter().flat_map(|block| block.contents).collect())
}

#[test]
fn sectors_come_from_pages_that_are_kept_until_somebody_writes() {
    // The last page is not whole.
    let (_world, disk, card) = card(100);
    let content: Vec<u8> = (0..100 * 512).map(|index| (index / 512 + index) as u8).collect();
    disk.0.borrow_mut().content = content.clone();
    for at in (0..100).chain([99, 3, 50]) {
        assert_eq!(
            read(&card, at, 1).unwrap(),
            content[at as usize * 512..][..512],
            "sector {at}"
        );
    }
    assert_eq!(read(&card, 3, 90).unwrap(), content[3 * 512..93 * 512]);
    assert_eq!(card.num_blocks().unwrap().0, 100);
    let before = disk.0.borrow().requests.len();
    read(&card, 51, 1).unwrap();
    assert_eq!(disk.0.borrow().requests.len(), before, "its page was kept");
    // Written by us, and by somebody else.
    let mut block = Sector::new();
    block.contents = [7; 512];
    card.write(&[block.clone()], BlockIdx(51)).unwrap();
    assert_eq!(read(&card, 51, 1).unwrap(), [7; 512]);
    disk.0.borrow_mut().content[50 * 512..51 * 512].fill(9);
    assert_ne!(read(&card, 50, 1).unwrap(), [9; 512]);
    card.forget();
    assert_eq!(read(&card, 50, 1).unwrap(), [9; 512]);
    assert!(matches!(read(&card, 100, 1), Err(Error::OutOfRange { .. })));
    assert!(matches!(read(&card, 90, 20), Err(Error::OutOfRange { .. })));
}

#[test]
fn a_failed_read_keeps_no_page() {
    let (_world, disk, card) = card(100);
    disk.0.borrow_mut().content.fill(1);
    disk.0.borrow_mut().mischief = Some(Box::new(|response| {
        response.status = -1;
        1
    }));
    assert_eq!(read(&card, 0, 1), Err(Error::Failed { status: -1 }));
    disk.0.borrow_mut().mischief = None;
    assert_eq!(read(&card, 0, 1).unwrap(), [1; 512]);
}

/// UDP over IPv4 from 10.9.0.1 to 10.9.0.2 with this checksum.
fn datagram(checksum: [u8; 2]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([
        8, 0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2,
    ]);
    frame.extend([0, 7, 0, 9, 0, 12, checksum[0], checksum[1], 1, 2, 3, 4]);
    frame
}

#[test]
fn frames_with_a_wrong_checksum_do_not_reach_the_stack() {
    let world = World::new(1000);
    let wire = Wire::plug(&world, &[]);
    let mut store = world.store();
    let mut net = Net::open(world.clone(), &mut store, 0, net::Config::default()).unwrap();
    net.wait_until_connected(&mut store, SECOND).unwrap();
    let mut phy = Phy::new(net);
    assert!(matches!(phy.capabilities().checksum.tcp, Checksum::None));
    let good = datagram([0xe7, 0xab]);
    // Wrong; wrong, but left out; wrong, but looked at by the other end; right.
    wire.give(&world, 0, &[&datagram([1, 2])], 0, &[]);
    wire.give(&world, 0, &[&datagram([1, 2])], receive_flag::CHECKSUM_BLANK, &[]);
    wire.give(&world, 0, &[&datagram([1, 3])], receive_flag::DATA_VALIDATED, &[]);
    wire.give(&world, 0, &[&good], 0, &[]);
    let mut received = Vec::new();
    while let Some((token, _)) = phy.receive(Instant::ZERO) {
        received.push(token.consume(<[u8]>::to_vec));
    }
    assert_eq!(received, [datagram([1, 2]), datagram([1, 3]), good.clone()]);
    assert_eq!(phy.damaged(), 1);
    let token = phy.transmit(Instant::ZERO).unwrap();
    token.consume(good.len(), |frame| frame.copy_from_slice(&good));
    world.turn();
    assert_eq!(wire.0.borrow().sent[0].bytes.len(), good.len());
    // While there is no backend there are no frames and no room, and nothing breaks.
    world.set("/local/domain/0/backend/vif/5/0/state", "5");
    world.turn();
    let _ = phy.net().poll(&mut store);
    assert!(phy.receive(Instant::ZERO).is_none() && phy.transmit(Instant::ZERO).is_none());
}

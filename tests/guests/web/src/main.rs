//! A unikernel: files from its PV disk over HTTP.
//!
//! One loop, no allocator, no interrupts: look at disk, network and toolstack, let the TCP stack work, move what can be moved,
//! sleep until something happens. `address=10.9.0.3/24` and `gateway=10.9.0.1` come on the kernel's command line.
#![no_std]
#![no_main]

mod files;
mod server;

use core::fmt::Write;

use pv_drivers::front::block::{self, Block, card::Card};
use pv_drivers::front::console::Console;
use pv_drivers::front::control::{Control, Request};
use pv_drivers::front::net::{self, Net, phy::Phy};
use pv_drivers::front::{Error, Platform, Text};
use pv_drivers::pvh::{End, Pvh};
use smoltcp::iface::{Config, Interface, SocketSet, SocketStorage};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr, Ipv4Address, Ipv4Cidr};

use files::Files;
use server::{CONNECTIONS, Connection, RECEIVE, SEND};

pv_drivers::pvh_main!(main);

const SECOND: u64 = 1_000_000_000;
/// How long devices may take to be there, and the disk to answer.
const PATIENCE: u64 = 20 * SECOND;
/// The first disk, `xvda`.
const DISK: u32 = 51712;

fn main(xen: &'static Pvh) -> Result<(), Error> {
    let mut console = xen.console()?;
    say(&mut console, format_args!("guest: web begins"));
    let mut store = xen.store()?;
    let mut control = Control::open(&mut store)?;
    let mut disk = Block::open(xen, &mut store, DISK, block::Config::default())?;
    let mut net = Net::open(xen, &mut store, 0, net::Config::default())?;
    let deadline = xen.now() + PATIENCE;
    let geometry = disk.wait_until_connected(&mut store, deadline)?;
    let offer = net.wait_until_connected(&mut store, deadline)?;
    say(
        &mut console,
        format_args!(
            "guest: disk of {} sectors, read-only: {}",
            geometry.sectors, geometry.read_only
        ),
    );

    let files = Files::open(Card::new(xen, disk, PATIENCE))?;
    let mut phy = Phy::new(net);
    let mut config = Config::new(EthernetAddress(offer.address).into());
    config.random_seed = xen.now();
    let mut interface = Interface::new(config, &mut phy, instant(xen));
    let address: Ipv4Cidr = option(xen, "address")?;
    let gateway: Ipv4Address = option(xen, "gateway")?;
    interface.update_ip_addrs(|addresses| {
        // The list is empty, and has room for one.
        let _ = addresses.push(IpCidr::Ipv4(address));
    });
    // The table of routes is empty, and has room for one.
    let _ = interface.routes_mut().add_default_ipv4_route(gateway);

    let mut receive = [[0; RECEIVE]; CONNECTIONS];
    let mut send = [[0; SEND]; CONNECTIONS];
    let mut storage: [SocketStorage<'_>; CONNECTIONS] = Default::default();
    let mut sockets = SocketSet::new(&mut storage[..]);
    let mut connections: heapless::Vec<Connection, CONNECTIONS> = receive
        .iter_mut()
        .zip(&mut send)
        .map(|(receive, send)| Connection::add(&mut sockets, receive, send))
        .collect();
    say(&mut console, format_args!("guest: serves {address}"));
    say(&mut console, format_args!("guest: ready"));

    loop {
        let mut busy =
            interface.poll(instant(xen), &mut phy, &mut sockets) != smoltcp::iface::PollResult::None;
        for connection in &mut connections {
            busy |= connection.serve(&mut sockets, &files);
        }
        if xen.take_event(store.port()) || !busy {
            // What happens to a device is told, and is not the end: it may come back.
            if let Err(error) = phy.net().poll(&mut store) {
                say(&mut console, format_args!("guest: network: {error}"));
            }
            if let Err(error) = files.with_disk(|disk| disk.poll(&mut store).map(drop)) {
                say(&mut console, format_args!("guest: disk: {error}"));
            }
            match control.poll(&mut store)? {
                Some(Request::PowerOff) => break,
                Some(Request::Reboot) => xen.end(End::Reboot),
                _ => {}
            }
        }
        if !busy {
            let mut ports: heapless::Vec<_, 8> = phy.net().ports().collect();
            // There is room: an interface has two ports here.
            let _ = ports.push(store.port());
            let delay = interface.poll_delay(instant(xen), &sockets);
            let delay = delay.map_or(SECOND, |delay| (delay.total_micros() * 1000).min(SECOND));
            xen.wait(&ports, xen.now() + delay);
        }
    }
    let served: u64 = connections.iter().map(|connection| connection.served).sum();
    say(
        &mut console,
        format_args!("guest: good bye after {served} requests"),
    );
    Ok(())
}

/// Now, as the TCP stack counts.
fn instant(xen: &'static Pvh) -> Instant {
    Instant::from_micros((xen.now() / 1000) as i64)
}

/// An option of the command line, or what is wrong with it.
fn option<T: core::str::FromStr>(xen: &'static Pvh, name: &'static str) -> Result<T, Error> {
    let text = xen.option(name).unwrap_or_default();
    text.parse().map_err(|_| Error::Malformed {
        node: Text::of(name.as_bytes()),
        expected: "an address, on the command line",
        found: Text::of(text.as_bytes()),
    })
}

/// Prints a line. What nobody reads is dropped: a kernel does not stop for that.
fn say(console: &mut Console<&'static Pvh>, text: core::fmt::Arguments<'_>) {
    let _ = writeln!(console, "{text}");
}

//! [`Platform`] for PVH guests on x86_64: from the first instruction to pages, grants, events and the clock.
//!
//! A kernel names its main function with [`pvh_main!`](crate::pvh_main), and links with `pvh.ld` of this package:
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! pv_drivers::pvh_main!(main);
//! fn main(xen: &'static Pvh) -> Result<(), Error> { ... }
//! ```
//!
//! Sources: `arch-x86/hvm/start_info.h` and `docs/misc/pvh` of Xen (entry), `arch-x86/cpuid.h` (is it Xen?), `hvm/params.h` (store
//! and console), `grant_table.h`, `event_channel.h`, `xen.h` (shared page, time).
//!
//! One vCPU. [`Platform::wait`] polls (`SCHEDOP_poll`) and needs no interrupts; who wants them calls [`Pvh::enable_upcalls`].

mod bare;
mod clock;
mod events;
mod grants;
mod life;
mod pool;
mod start;

use hypercall_abi::event_channel::Port;
use hypercall_abi::grant_table::GrantReference;
use hypercall_abi::hvm::{self, Param, param};
use hypercall_abi::hypercall::number;
use hypercall_abi::memory::{self, AddToPhysmap, map_space};
use hypercall_abi::{DomainId, Error as Errno, PAGE_SIZE};
use spin::Once;

use crate::front::console::Console;
use crate::front::store::Store;
use crate::front::{Access, Error, Platform};
use crate::ring::SharedMemory;

pub use clock::Runstate;
pub use life::{End, panicked, run};
use life::{exception, upcall};
pub use pool::POOL_PAGES;

/// This guest, and the hypervisor below it.
pub struct Pvh {
    shared: SharedMemory,
    grants: grants::Grants,
    pool: pool::Pool,
    store: Option<(SharedMemory, Port)>,
    console: Option<(SharedMemory, Port)>,
    start: start::Start,
    last_time: core::sync::atomic::AtomicU64,
}

static PVH: Once<Pvh> = Once::new();
static SHARED_INFO: bare::StaticPages<PAGE_SIZE> = bare::StaticPages::new();

impl Pvh {
    /// Takes everything up; done by [`run`], once.
    fn begin(start_information: u64) -> Result<&'static Pvh, Error> {
        let base = bare::find_hypervisor().ok_or(Error::NotOnXen)?;
        let hypercalls = core::arch::x86_64::__cpuid(base + hypercall_abi::cpuid::LEAF_HYPERCALL);
        bare::install_hypercall_page(hypercalls.ebx);
        bare::install_exceptions();
        let start = start::Start::read(start_information)?;
        let shared = SHARED_INFO.memory();
        put_at(map_space::SHARED_INFO, 0, frame_of(&shared), "the shared page")?;
        let pvh = Pvh {
            shared,
            grants: grants::Grants::begin()?,
            pool: pool::Pool::begin(&start.pool)?,
            store: ring(param::STORE_PFN, param::STORE_EVTCHN)?,
            console: ring(param::CONSOLE_PFN, param::CONSOLE_EVTCHN)?,
            start,
            last_time: core::sync::atomic::AtomicU64::new(0),
        };
        Ok(PVH.call_once(|| pvh))
    }

    /// The kernel's command line, from the toolstack (`extra` in xl.cfg).
    pub fn command_line(&self) -> &str {
        self.start.command_line.as_str()
    }

    /// The value of `name=value` on the command line.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.command_line()
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// RAM that neither the image nor the pages to share nor what the loader left take: physical addresses, which are
    /// virtual ones, too, where they are below 4 GiB. For the kernel's own use.
    pub fn free_memory(&self) -> core::ops::Range<u64> {
        self.start.free.clone()
    }

    /// How many hypercalls this kernel has made: what its drivers cost in switches to the hypervisor.
    pub fn hypercalls(&self) -> u64 {
        bare::MADE.load(core::sync::atomic::Ordering::Relaxed)
    }

    /// A client of the store. One at a time: two would read each other's answers.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a guest without (dom0 of another's making), [`Error::Ring`].
    pub fn store(&'static self) -> Result<Store<&'static Pvh>, Error> {
        let (page, port) = self.store.as_ref().ok_or(Error::Unsupported {
            what: "a store page for this guest",
        })?;
        Store::attach(self, page, *port)
    }

    /// The console. One at a time.
    ///
    /// # Errors
    /// As [`Pvh::store`].
    pub fn console(&'static self) -> Result<Console<&'static Pvh>, Error> {
        let (page, port) = self.console.as_ref().ok_or(Error::Unsupported {
            what: "a console page for this guest",
        })?;
        Console::attach(self, page, *port)
    }
}

/// Frame and port of a ring that the toolstack made, from the domain's parameters; `None` where there is none.
fn ring(frame: u32, port: u32) -> Result<Option<(SharedMemory, Port)>, Error> {
    let (frame, port) = (parameter(frame)?, parameter(port)?);
    if frame == 0 {
        return Ok(None);
    }
    let page = frame
        .checked_mul(PAGE_SIZE as u64)
        .and_then(|address| bare::physical(address, PAGE_SIZE))
        .ok_or(Error::OutOfRange {
            start: frame,
            length: 1,
            limit: bare::MAPPED / PAGE_SIZE as u64,
        })?;
    Ok(Some((page, port as Port)))
}

fn parameter(index: u32) -> Result<u64, Error> {
    let mut argument = Param {
        domain: DomainId::SELF,
        index,
        ..Param::default()
    };
    let result = bare::operate(number::HVM_OP, hvm::op::GET_PARAM, &mut argument);
    checked("get_param", result)?;
    Ok(argument.value)
}

/// Puts something of the hypervisor's in place of a frame of ours.
fn put_at(space: u32, index: u64, guest_frame: u64, call: &'static str) -> Result<(), Error> {
    let mut request = AddToPhysmap {
        domain: DomainId::SELF,
        space,
        index,
        guest_frame,
        ..AddToPhysmap::default()
    };
    let result = bare::operate(number::MEMORY_OP, memory::op::ADD_TO_PHYSMAP, &mut request);
    checked(call, result).map(drop)
}

fn checked(call: &'static str, result: i64) -> Result<i64, Error> {
    match Errno::from_result(result) {
        None => Ok(result),
        Some(error) => Err(Error::Hypervisor { call, error }),
    }
}

fn frame_of(memory: &SharedMemory) -> u64 {
    (memory.address() / PAGE_SIZE) as u64
}

impl Platform for &'static Pvh {
    type Pages = SharedMemory;

    fn allocate(&self, count: usize) -> Result<SharedMemory, Error> {
        self.pool.allocate(count)
    }

    fn release(&self, pages: SharedMemory) {
        self.pool.release(pages);
    }

    fn frame(&self, pages: &SharedMemory, index: usize) -> u64 {
        frame_of(pages) + index as u64
    }

    fn grant(&self, to: DomainId, frame: u64, access: Access) -> Result<GrantReference, Error> {
        self.grants.grant(to, frame, access)
    }

    fn revoke(&self, reference: GrantReference) -> bool {
        self.grants.revoke(reference)
    }

    fn open_port(&self, to: DomainId) -> Result<Port, Error> {
        events::open(to)
    }

    fn close_port(&self, port: Port) {
        events::close(port);
    }

    fn notify(&self, port: Port) {
        events::send(port);
    }

    fn take_event(&self, port: Port) -> bool {
        events::take(&self.shared, port)
    }

    fn now(&self) -> u64 {
        Pvh::system_time(self)
    }

    fn wait(&self, ports: &[Port], until: u64) {
        events::wait(ports, until);
    }
}

//! Three domains on a machine of the host, for tests that make hypercalls: the privileged one and two others.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use machine::sync::atomic::Ordering;

use hypercall_abi::{DomainId, Error};
use machine::Machine;
use machine::address::{GuestAddress, GuestFrame, Order};
use machine::fake::{Configuration, FakeMachine, set_interleave};
use machine::virtual_cpu::PagingState;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Kernel;
use crate::audit::Auditor;
use crate::cpu_policy::CpuPolicy;
use crate::domain::{Domain, DomainConfig, VcpuHandle};
use crate::guest_memory::write_physical;
use crate::hypercall::memory_op::claim;
use crate::hypercall::{Call, Outcome, dispatch};
use crate::lifecycle::Destruction;

/// Pages that each domain has from the start, from guest frame 0 on.
pub const PAGES: u64 = 64;
/// Pages that each may have.
pub const MOST_PAGES: u64 = 2048;
/// Where arguments are put, by address: the first page is theirs.
pub const ARGUMENT: u64 = 0x100;
/// Where arrays that arguments point to are put.
pub const ARRAY: u64 = 0x2000;

/// A machine with three domains.
pub struct Bench {
    pub kernel: Arc<Kernel<FakeMachine>>,
    /// By number.
    pub domains: Vec<Arc<Domain<FakeMachine>>>,
    /// Frames free before any domain was made.
    pub free_at_start: u64,
}

impl Bench {
    pub fn new() -> Bench {
        let machine = FakeMachine::new(&Configuration {
            memory_mib: 32,
            ..Configuration::default()
        });
        let free_at_start = machine.memory().free_frames();
        let kernel = Arc::new(Kernel::new(machine, ""));
        let mut bench = Bench {
            kernel,
            domains: Vec::new(),
            free_at_start,
        };
        for id in 0..3 {
            bench.add_domain(id);
        }
        bench
    }

    fn add_domain(&mut self, id: u16) {
        let config = DomainConfig {
            pool: 0,
            handle: [id as u8; 16],
            max_vcpus: 1,
            max_event_port: 1023,
            max_grant_frames: 4,
            max_maptrack_frames: 2,
            privileged: id == 0,
            direct_ports: Vec::new(),
        };
        let policy = Arc::new(CpuPolicy::of_machine(&self.kernel.machine).unwrap());
        let domain = self
            .kernel
            .create_domain(Some(DomainId(id)), &config, policy)
            .expect("a domain");
        domain.allotted_vcpus.store(1, Ordering::SeqCst);
        domain.max_pages.store(MOST_PAGES, Ordering::SeqCst);
        for frame in 0..PAGES {
            let page = claim::allocate(&self.kernel, &domain, Order::PAGE).expect("a page");
            domain.physmap.populate(GuestFrame(frame), page).expect("a hole");
        }
        self.domains.push(domain);
    }

    pub fn free_frames(&self) -> u64 {
        self.kernel.machine.memory().free_frames()
    }

    /// Make a hypercall as often as it asks for it. Gives the result and how often it was cut.
    pub fn call_counted(&self, domain: usize, number: u64, arguments: [u64; 3]) -> (Result<u64, Error>, u32) {
        let vcpu = VcpuHandle::new(&self.domains[domain], 0).expect("a vCPU");
        let mut arguments = [arguments[0], arguments[1], arguments[2], 0, 0, 0];
        for cuts in 0..1_000_000 {
            // Without paging, pointers are guest-physical addresses.
            let started = self.kernel.machine.now();
            let paging = PagingState::default();
            let mut call = Call {
                kernel: &self.kernel,
                vcpu: &vcpu,
                paging,
                arguments,
                started,
            };
            match dispatch(&mut call, number) {
                Ok(Outcome::Value(value)) => return (Ok(value), cuts),
                Ok(Outcome::Restart) => arguments = call.arguments,
                Err(error) => return (Err(error), cuts),
            }
        }
        panic!("a hypercall that never ends");
    }

    pub fn call(&self, domain: usize, number: u64, arguments: [u64; 3]) -> Result<u64, Error> {
        self.call_counted(domain, number, arguments).0
    }

    /// Write to a domain's memory, by guest-physical address.
    pub fn put<T: IntoBytes + Immutable + ?Sized>(&self, domain: usize, at: u64, value: &T) {
        write_physical(&self.domains[domain].physmap, GuestAddress(at), value.as_bytes())
            .expect("memory there");
    }

    /// Read from one page of a domain's memory.
    pub fn get<T: FromBytes + IntoBytes>(&self, domain: usize, at: u64) -> T {
        let mut value = T::new_zeroed();
        let at = GuestAddress(at);
        let (page, _) = self.domains[domain]
            .physmap
            .get(at.frame())
            .expect("memory there");
        page.read(at.offset(), value.as_mut_bytes())
            .expect("within the page");
        value
    }

    /// Destroy a domain, piece by piece.
    pub fn destroy(&self, domain: usize) {
        while self.kernel.destroy_domain(&self.domains[domain]) == Destruction::More {}
    }

    /// Destroy all domains, and see that everything has come back.
    pub fn end(mut self) {
        set_interleave(None);
        let mut auditor = Auditor::default();
        crate::testing::audit_by_hand(&self.kernel, &mut auditor);
        for domain in (0..self.domains.len()).rev() {
            self.destroy(domain);
            crate::testing::audit_by_hand(&self.kernel, &mut auditor);
        }
        assert_eq!(*self.kernel.domains.claims.lock(), 0, "a claim is left");
        for domain in &self.domains {
            assert_eq!(domain.grants.mappings(), 0, "d{} holds mappings", domain.id);
            assert_eq!(
                domain.owned_pages(&self.kernel.machine),
                0,
                "d{} owns memory",
                domain.id
            );
        }
        self.domains.clear();
        assert_eq!(self.free_frames(), self.free_at_start, "frames are lost");
    }

    /// Let time pass at every lock taken, so that long operations are cut often, for the time of `act`.
    pub fn hurried<R>(&self, act: impl FnOnce() -> R) -> R {
        let kernel = self.kernel.clone();
        set_interleave(Some(Box::new(move || kernel.machine.advance(50_000))));
        let result = act();
        set_interleave(None);
        result
    }
}

/// Numbers that look random and are the same on each run.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 16) % limit
    }
}

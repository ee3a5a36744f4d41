//! What a kernel provides.

use hypercall_abi::DomainId;
use hypercall_abi::event_channel::Port;
use hypercall_abi::grant_table::GrantReference;

use super::Error;
use crate::ring::Memory;

/// What another domain may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    ReadWrite,
}

/// What the frontends stand on: pages, grants, event channels, time. For PVH guests on x86_64 there is one ready
/// (`pvh::Pvh`, feature `pvh`). Cheap to copy: commonly a reference to the kernel's own state.
pub trait Platform: Clone {
    /// Whole pages that can be shared: next to each other for this kernel, not necessarily for the hypervisor.
    /// Whoever holds them has them alone, but for those to whom they are granted.
    type Pages: Memory + 'static;

    /// Takes `count` pages, filled with zeroes.
    ///
    /// # Errors
    /// [`Error::OutOfPages`].
    fn allocate(&self, count: usize) -> Result<Self::Pages, Error>;

    /// Takes pages back. Nobody else has a grant to them any more.
    fn release(&self, pages: Self::Pages);

    /// The guest frame number of the page at `index`.
    fn frame(&self, pages: &Self::Pages, index: usize) -> u64;

    /// Lets a domain map or copy a frame (`GTF_permit_access`).
    ///
    /// # Errors
    /// [`Error::OutOfGrants`]; [`Error::OutOfRange`] for a frame that no entry can name.
    fn grant(&self, to: DomainId, frame: u64, access: Access) -> Result<GrantReference, Error>;

    /// Ends a grant; false while the other domain still has the frame mapped. Then nothing has changed, and the page must
    /// not be used for anything else.
    #[must_use = "a page that is still mapped must not be used for anything else"]
    fn revoke(&self, reference: GrantReference) -> bool;

    /// Makes an event channel that `to` may bind to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// [`Error::Hypervisor`].
    fn open_port(&self, to: DomainId) -> Result<Port, Error>;

    /// Closes one. What happens to it afterwards is nobody's business: no error.
    fn close_port(&self, port: Port);

    /// Sends an event (`EVTCHNOP_send`). One to a port whose other end is gone is lost, which is no error here: the
    /// store tells that the other end is gone.
    fn notify(&self, port: Port);

    /// Has there been an event since this was last asked? Takes it.
    fn take_event(&self, port: Port) -> bool;

    /// Nanoseconds since some moment in the past; never goes back.
    fn now(&self) -> u64;

    /// Sleeps until one of the ports has an event, or the clock (of [`Platform::now`]) shows `until`. May come back
    /// earlier. Events stay for [`Platform::take_event`].
    fn wait(&self, ports: &[Port], until: u64);
}

//! Where a core audits itself without being asked: when a domain's destruction is done, and, on the metal, when the
//! control domain has ended.

use alloc::sync::Arc;

use machine::Machine;

use super::Violation;
use super::domains::check_remains;
use crate::Kernel;
use crate::domain::Domain;

/// What begins each line about a broken invariant: whoever reads the console looks for it.
const MARK: &str = "audit: VIOLATION";

const NEWCOMER: &str = "domains: a new one owns nothing of one that ended";

impl<M: Machine> Kernel<M> {
    /// A domain is about to be entered in the table: no frame is its own already but for pages that the core shares with it.
    pub(crate) fn audit_newcomer(&self, domain: &Domain<M>) {
        let owned = self.machine.memory().frames_owned(domain.id.0);
        if owned != 0 {
            complain(&Violation {
                invariant: NEWCOMER,
                found: alloc::format!("d{} owns {owned} frames from before its time", domain.id.0),
            });
        }
    }

    /// A domain was taken apart, and has left the table: nothing of it may be left but pages that others hold.
    pub(crate) fn audit_destroyed(&self, domain: &Arc<Domain<M>>) {
        if let Err(violation) = check_remains(domain, false) {
            complain(&violation);
        }
    }

    /// The control domain has ended: everything else is stopped, and looked at once as a whole. The caller is one of its
    /// vCPUs, and holds no lock but its context.
    #[cfg(target_os = "none")]
    pub(crate) fn audit_at_the_end(&self) {
        use hypercall_abi::DomainId;

        /// Processors without a guest still serve their timers now and then. What is wrong only for as long as that takes is
        /// not wrong.
        const ATTEMPTS: u32 = 5;
        const BETWEEN: machine::Nanoseconds = 2_000_000;
        let mut next = DomainId(0);
        while let Some(domain) = self.domains.at_or_after(next) {
            self.pause_domain(&domain);
            next = DomainId(domain.id.0.saturating_add(1));
        }
        let mut auditor = super::Auditor::default();
        let mut result = auditor.audit(self);
        for _ in 1..ATTEMPTS {
            if result.is_ok() {
                break;
            }
            let again = self.machine.now() + BETWEEN;
            while self.machine.now() < again {
                machine::sync::wait_for_another();
            }
            result = auditor.audit(self);
        }
        match result {
            Ok(audited) => log::info!("audit: {audited}: consistent"),
            Err(violation) => complain(&violation),
        }
    }
}

/// On the host, tests and simulations end here. On the metal the console tells, and the machine goes on: it is watched.
fn complain(violation: &Violation) {
    #[cfg(not(target_os = "none"))]
    panic!("{MARK}: {violation}");
    #[cfg(target_os = "none")]
    log::error!("{MARK}: {violation}");
}

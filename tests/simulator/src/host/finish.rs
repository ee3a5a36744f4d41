//! The end of a host: everything that was given must come back.

use core::sync::atomic::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kernel::lifecycle::Destruction;
use machine::Machine;
use machine::fake::failure::{self, Source};
use machine::fake::{Stop, order};

use super::{End, Failure, Host, actors, last_panic};

impl Host {
    /// Stop all vCPUs, destroy all domains, and look whether each frame has come back.
    ///
    /// # Errors
    /// What has not, and what goes wrong meanwhile.
    pub fn finish(&mut self, end: End) -> Result<End, Failure> {
        self.tally = self.tally();
        failure::disarm(Source::Frames);
        failure::disarm(Source::Heap);
        let outcome = match end {
            // What is done here is done by nobody's turn: a panic comes straight to us.
            End::Script => catch_unwind(AssertUnwindSafe(|| self.take_apart())).unwrap_or_else(|payload| {
                Err(self.failed(format!("panic: {}", last_panic(payload.as_ref()))))
            }),
            // The processor that switched the machine off will not come back; what is left is not looked at.
            End::MachineOff => Ok(()),
        };
        let (taken, violation) = order::unwatch();
        self.tally.locks += taken;
        outcome.and(match violation {
            Some(violation) => Err(self.failed(violation)),
            None => Ok(end),
        })
    }

    /// Leave a host that failed, or was switched off, as it is.
    pub fn abandon(mut self) {
        order::unwatch();
        if let Some(turns) = self.turns.take() {
            turns.abandon();
        }
        actors::end();
        // Whatever a stack that is never unwound refers to must stay.
        core::mem::forget(self.kernel.clone());
    }

    fn take_apart(&mut self) -> Result<(), Failure> {
        let kernel = self.kernel.clone();
        let domains: Vec<_> = actors::domains(&kernel);
        for domain in &domains {
            domain.pauses.fetch_add(1, Ordering::SeqCst);
        }
        for round in 0..64 {
            for processor in 0..self.shape.processors {
                kernel.machine.kick(processor);
                if self.turn(processor, u64::MAX)?.is_some() {
                    return Ok(());
                }
            }
            self.settle()?;
            if self.stops.iter().all(|&stop| stop == Stop::Idle) {
                break;
            }
            if round == 63 {
                return Err(self.failed(format!("end: paused domains still run ({:?})", self.stops)));
            }
        }
        self.check()?;
        drop(domains);
        // The highest number first: the privileged domain is the last one.
        for domain in actors::domains(&kernel).into_iter().rev() {
            let mut pieces = 0u32;
            while kernel.destroy_domain(&domain) == Destruction::More {
                pieces += 1;
                if pieces == 1_000_000 {
                    return Err(self.failed(format!("end: d{} is never gone", domain.id.0)));
                }
            }
            // Nobody works on it who could have come too late.
            if let Some(at) = domain.physmap.highest() {
                let id = domain.id.0;
                return Err(self.failed(format!("end: d{id} is gone, and maps guest frame {:#x}", at.0)));
            }
        }
        actors::end();
        // Timers and queues may hold a vCPU until a processor looks at them.
        for processor in 0..self.shape.processors {
            kernel.machine.kick(processor);
            self.turn(processor, u64::MAX)?;
        }
        self.settle()?;
        // The processors leave: what their stacks hold is given back in order.
        self.on.store(false, Ordering::SeqCst);
        for processor in 0..self.shape.processors {
            kernel.machine.kick(processor);
            self.turn(processor, u64::MAX)?;
        }
        let left = kernel.domains.count();
        if left != 0 {
            return Err(self.failed(format!("end: {left} domains are left")));
        }
        let free = kernel.machine.memory().free_frames();
        if free != self.frames_before {
            return Err(self.failed(format!(
                "end: {free} frames are free, before there were {}",
                self.frames_before
            )));
        }
        Ok(())
    }
}

//! Sentences that take a second look: made only when something is wrong already.

use alloc::sync::Arc;
use core::fmt;

use machine::Machine;
use machine::stage_two::audit::Visit;

use crate::domain::Domain;

/// Who holds a frame, in words.
pub(super) struct Holders<'a, M: Machine> {
    pub domains: &'a [Arc<Domain<M>>],
    pub frame: u64,
}

impl<M: Machine> fmt::Display for Holders<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut say = |what: fmt::Arguments<'_>| {
            let result = write!(f, "{separator}{what}");
            separator = ", ";
            result
        };
        for domain in self.domains {
            let id = domain.id.0;
            if domain.shared_info.frame().0 == self.frame {
                say(format_args!("shared info of d{id}"))?;
            }
            for vcpu in &domain.vcpus {
                let index = vcpu.index;
                if vcpu.info.lock().page.frame().0 == self.frame {
                    say(format_args!("info of d{id} v{index}"))?;
                }
                let runstate = vcpu.runstate.lock();
                if let Some(area) = &runstate.area {
                    for page in [Some(&area.first), area.second.as_ref()].into_iter().flatten() {
                        if page.frame().0 == self.frame {
                            say(format_args!("run state of d{id} v{index}"))?;
                        }
                    }
                }
                drop(runstate);
                if vcpu.time_area.lock().as_ref().map(|area| area.page.frame().0) == Some(self.frame) {
                    say(format_args!("time of d{id} v{index}"))?;
                }
            }
            domain.events.each_page(|page| {
                if page.frame().0 == self.frame {
                    say(format_args!("event queues of d{id}"))?;
                }
                Ok(())
            })?;
            domain.grants.each_frame(|frame| {
                if frame.0 == self.frame {
                    say(format_args!("grant table of d{id}"))?;
                }
                Ok(())
            })?;
            domain.grants.each_pinned(|pinned| {
                if pinned.page.is_some_and(|page| page.0 == self.frame) {
                    say(format_args!("grant {} of d{id}", pinned.reference))?;
                }
                Ok(())
            })?;
            domain.physmap.read().walk(&mut |visit| {
                if let Visit::Leaf(at, leaf) = visit
                    && (leaf.frame.0..leaf.frame.0 + leaf.order.frames()).contains(&self.frame)
                {
                    say(format_args!("{:?} at {:#x} of d{id}", leaf.kind, at.0))?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }
}

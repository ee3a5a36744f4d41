//! What audits look at.

use hypercall_abi::event_channel::{Port, fifo as abi};
use machine::memory::FrameReference;

use super::{Fifo, QueueName};

impl Fifo {
    /// Visit the pages that the guest gave: event words, then control blocks.
    pub fn each_page<E>(&self, visit: impl FnMut(&FrameReference) -> Result<(), E>) -> Result<(), E> {
        let blocks = self
            .vcpus
            .iter()
            .filter_map(|queues| queues.block.as_ref().map(|(page, _)| page));
        self.pages.iter().chain(blocks).try_for_each(visit)
    }

    /// Ports that have a word.
    pub fn words(&self) -> Port {
        self.pages.len() as Port * abi::WORDS_PER_PAGE
    }

    /// vCPUs that can have queues.
    pub fn vcpus(&self) -> usize {
        self.vcpus.len()
    }

    /// Visit the ends of queues that have one; said, too, is whether there is a control block for them.
    pub fn each_tail<E>(
        &self,
        mut visit: impl FnMut(QueueName, Port, bool) -> Result<(), E>,
    ) -> Result<(), E> {
        for (vcpu, queues) in self.vcpus.iter().enumerate() {
            for (priority, &tail) in queues.tails.iter().enumerate() {
                if tail != 0 {
                    let name = QueueName {
                        vcpu: vcpu as u32,
                        priority: priority as u8,
                    };
                    visit(name, tail, queues.block.is_some())?;
                }
            }
        }
        Ok(())
    }
}

/// Breaking things on purpose.
#[cfg(test)]
impl Fifo {
    pub fn sabotage_tail(&mut self, vcpu: usize, priority: usize, tail: Port) {
        self.vcpus[vcpu].tails[priority] = tail;
    }
}

//! Names of vCPUs that fit into one atomic: for notes that need not keep a vCPU alive.

use hypercall_abi::DomainId;
use machine::sync::atomic::{AtomicU64, Ordering};
use machine::{Machine, Nanoseconds};

use crate::domain::VcpuHandle;

/// A vCPU's domain and index. A later domain may get the number again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Name {
    /// The domain.
    pub domain: DomainId,
    /// The vCPU's index.
    pub vcpu: u32,
}

const NOBODY: u64 = 0;

impl Name {
    /// A vCPU's.
    pub fn of<M: Machine>(vcpu: &VcpuHandle<M>) -> Name {
        Name {
            domain: vcpu.domain_id,
            vcpu: vcpu.index,
        }
    }

    fn pack(self) -> u64 {
        (1 << 63) | (u64::from(self.domain.0) << 32) | u64::from(self.vcpu)
    }

    fn unpack(word: u64) -> Option<Name> {
        (word != NOBODY).then_some(Name {
            domain: DomainId((word >> 32) as u16),
            vcpu: word as u32,
        })
    }
}

/// Which vCPU something belongs to, if any.
#[derive(Default)]
pub struct Owner(AtomicU64);

impl Owner {
    /// Whose it is.
    pub fn get(&self) -> Option<Name> {
        Name::unpack(self.0.load(Ordering::SeqCst))
    }

    /// Make it somebody's who may already have it; `false`: it is another's.
    pub fn take(&self, name: Name) -> bool {
        let word = name.pack();
        match self
            .0
            .compare_exchange(NOBODY, word, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => true,
            Err(other) => other == word,
        }
    }

    /// Make it nobody's, if it is this one's.
    pub fn release(&self, name: Name) -> bool {
        let released = self
            .0
            .compare_exchange(name.pack(), NOBODY, Ordering::SeqCst, Ordering::SeqCst);
        released.is_ok()
    }

    /// Note somebody, or nobody, whoever it was before.
    pub fn set(&self, name: Option<Name>) {
        self.0.store(name.map_or(NOBODY, Name::pack), Ordering::Relaxed);
    }

    /// As [`Owner::get`], on the processor that sets it.
    pub fn own(&self) -> Option<Name> {
        Name::unpack(self.0.load(Ordering::Relaxed))
    }
}

/// Who woke a vCPU, and how much of its time from then on is still theirs. A note: two who wake at once may be mistaken
/// for each other.
#[derive(Default)]
pub struct Waker {
    name: Owner,
    left: AtomicU64,
}

impl Waker {
    /// Woken by another, whose time the next `most` nanoseconds are.
    pub fn note(&self, name: Option<Name>, most: Nanoseconds) {
        self.name.set(name);
        self.left.store(most, Ordering::Relaxed);
    }

    /// Disturbed by another while it is awake: at least the next `least` nanoseconds are theirs, unless they still are
    /// somebody's.
    pub fn add(&self, name: Name, least: Nanoseconds) {
        if self.left.load(Ordering::Relaxed) < least {
            self.note(Some(name), least);
        }
    }

    /// So much time was spent. Says how much of it is whose.
    pub fn spend(&self, time: Nanoseconds) -> Option<(Nanoseconds, Name)> {
        let name = self.name.own()?;
        let left = self.left.load(Ordering::Relaxed);
        let theirs = time.min(left);
        self.left.store(left.saturating_sub(theirs), Ordering::Relaxed);
        Some((theirs, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_owns_and_gives_back() {
        let [one, other] = [0, 1].map(|vcpu| Name {
            domain: DomainId(0),
            vcpu,
        });
        let owner = Owner::default();
        assert_eq!(owner.get(), None);
        assert!(owner.take(one) && owner.take(one) && !owner.take(other));
        assert!(!owner.release(other));
        assert_eq!(owner.get(), Some(one));
        assert!(owner.release(one) && owner.take(other));
    }

    #[test]
    fn a_waker_pays_up_to_the_limit() {
        let waker = Waker::default();
        assert_eq!(waker.spend(5), None);
        let name = Name {
            domain: DomainId(7),
            vcpu: 3,
        };
        waker.note(Some(name), 8);
        assert_eq!(waker.spend(5), Some((5, name)));
        assert_eq!(waker.spend(5), Some((3, name)));
        assert_eq!(waker.spend(5), Some((0, name)));
        let other = Name { vcpu: 4, ..name };
        waker.add(other, 2);
        assert_eq!(waker.spend(1), Some((1, other)));
        waker.note(Some(name), 8);
        waker.add(other, 2);
        assert_eq!(waker.spend(5), Some((5, name)), "there is enough left");
        waker.note(None, 0);
        assert_eq!(waker.spend(5), None);
    }
}

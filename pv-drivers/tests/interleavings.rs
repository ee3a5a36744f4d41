//! Every order in which the two ends' accesses can happen, as the memory model allows them: messages arrive whole, and an end
//! that goes to sleep is woken. Run with `RUSTFLAGS="--cfg loom" cargo test -p pv-drivers --test interleavings --release`.
#![cfg(loom)]

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use loom::thread;
use pv_drivers::ring::{BackRing, FrontRing, Memory};

/// A ring of one slot of one word, in memory that loom watches.
struct Words([AtomicU32; 17]);

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self(std::array::from_fn(|_| AtomicU32::new(0))))
    }
}

/// Loom's own `Arc`, as memory.
#[derive(Clone)]
struct Shared(Arc<Words>);

impl Memory for Shared {
    fn length(&self) -> usize {
        68
    }

    fn load(&self, offset: usize, order: Ordering) -> u32 {
        self.0.0[offset / 4].load(order)
    }

    fn store(&self, offset: usize, value: u32, order: Ordering) {
        self.0.0[offset / 4].store(value, order);
    }

    fn load_byte(&self, _: usize) -> u8 {
        unreachable!("no byte ring here")
    }

    fn store_byte(&self, _: usize, _: u8) {
        unreachable!("no byte ring here")
    }

    fn full_fence(&self) {
        fence(Ordering::SeqCst);
    }
}

#[test]
fn a_request_arrives_whole_and_a_sleeping_backend_is_woken() {
    loom::model(|| {
        let memory = Shared(Words::new());
        let mut front = FrontRing::<u32, u32, _>::initialise(memory.clone()).unwrap();
        // The backend has been idle for a while, and asked for the notification long ago or not at all.
        let mut back = BackRing::<u32, u32, _>::attach(memory).unwrap();
        let notified = Arc::new(AtomicBool::new(false));
        let wake = notified.clone();
        let frontend = thread::spawn(move || {
            front.push(&0x1234_5678).unwrap();
            if front.publish() {
                wake.store(true, Ordering::Release);
            }
            front
        });
        let mut request = back.pop().unwrap();
        if request.is_none() && back.announce().unwrap() {
            request = back.pop().unwrap();
            assert!(request.is_some());
        }
        let asleep = request.is_none();
        frontend.join().unwrap();
        match request {
            Some(request) => assert_eq!(request, 0x1234_5678),
            None => assert!(
                asleep && notified.load(Ordering::Acquire),
                "asleep, and nobody called"
            ),
        }
    });
}

#[test]
fn a_second_request_wakes_a_backend_that_fell_asleep_after_the_first() {
    loom::model(|| {
        let memory = Shared(Words::new());
        let mut front = FrontRing::<u32, u32, _>::initialise(memory.clone()).unwrap();
        let mut back = BackRing::<u32, u32, _>::attach(memory).unwrap();
        // The first round is over.
        front.push(&1).unwrap();
        let _ = front.publish();
        back.pop().unwrap().unwrap();
        back.push(&1).unwrap();
        let _ = back.publish();
        front.pop().unwrap().unwrap();
        let notified = Arc::new(AtomicBool::new(false));
        let wake = notified.clone();
        let frontend = thread::spawn(move || {
            front.push(&2).unwrap();
            if front.publish() {
                wake.store(true, Ordering::Release);
            }
        });
        let seen = back.announce().unwrap();
        frontend.join().unwrap();
        assert!(
            seen || notified.load(Ordering::Acquire),
            "asleep, and nobody called"
        );
        assert_eq!(back.pop().unwrap(), Some(2));
    });
}

#[test]
fn a_slot_is_not_reused_before_its_response_was_read() {
    loom::model(|| {
        let memory = Shared(Words::new());
        let mut front = FrontRing::<u32, u32, _>::initialise(memory.clone()).unwrap();
        let mut back = BackRing::<u32, u32, _>::attach(memory).unwrap();
        front.push(&10).unwrap();
        let _ = front.publish();
        let backend = thread::spawn(move || {
            if let Some(request) = back.pop().unwrap() {
                back.push(&(request + 1)).unwrap();
                let _ = back.publish();
            }
            back
        });
        let first = front.pop().unwrap();
        if let Some(response) = first {
            assert_eq!(response, 11);
            front.push(&20).unwrap();
            let _ = front.publish();
        }
        let mut back = backend.join().unwrap();
        match first {
            Some(_) => assert_eq!(back.pop().unwrap(), Some(20)),
            None => assert_eq!(front.pop().unwrap(), Some(11)),
        }
    });
}

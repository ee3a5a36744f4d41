//! Simulated processors that take turns on one thread of the host.
//!
//! Each processor is a coroutine with a stack of its own that runs the core's ordinary code. The core passes *points* (each
//! lock, each ordering access to an atomic, each copy from or to a guest); whoever gives a processor its turn says after how
//! many of them it ends, so that one number after another, all from a seed, is a whole interleaving. Where the core waits
//! for another processor the turn ends at once.
//!
//! A test without turns may set a callback for the points instead ([`set_interleave`](super::set_interleave)).

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::{CURRENT, failure};
use crate::ProcessorId;

/// Why a turn ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// It has passed as many points as it was given.
    Point,
    /// It waits for another processor: for a lock, or for a guest to be left.
    Contended,
    /// It has nothing to run and waits for an interrupt.
    Idle,
    /// It is about to enter a guest. Nothing of the core's is under way on it.
    Entry,
    /// It has left the core for good (its body returned).
    Ended,
}

type Turn = Yielder<(), Stop>;
type Seat = Coroutine<(), Stop, ()>;

std::thread_local! {
    /// Points left until something is to be done at one.
    static LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    /// What this turn was given.
    static GIVEN: Cell<u64> = const { Cell::new(0) };
    /// The coroutine that runs on this thread; null outside of all.
    static TURN: Cell<*const Turn> = const { Cell::new(core::ptr::null()) };
    static HOOK: RefCell<Option<Rc<dyn Fn()>>> = const { RefCell::new(None) };
}

/// A point at which another simulated processor may run.
#[inline]
pub fn interleave() {
    LEFT.with(|left| match left.get() {
        0 => act(),
        more => left.set(more - 1),
    });
}

/// Points passed in this turn.
#[inline]
pub(super) fn passed() -> u64 {
    if TURN.get().is_null() {
        return 0;
    }
    GIVEN.get() - LEFT.get().min(GIVEN.get())
}

/// Do something that passes no points, whatever it touches.
pub(super) fn quietly<R>(act: impl FnOnce() -> R) -> R {
    let turn = TURN.replace(core::ptr::null());
    let left = LEFT.replace(u64::MAX);
    let result = act();
    LEFT.set(left);
    TURN.set(turn);
    result
}

#[cold]
fn act() {
    if !TURN.get().is_null() {
        end_turn(Stop::Point);
        return;
    }
    // Taken out of the cell for the call, so that the callback may change it. Points that it passes itself are none.
    let hook = HOOK.with(|hook| hook.borrow().clone());
    if let Some(hook) = hook {
        LEFT.set(u64::MAX);
        hook();
        let still = HOOK.with(|hook| hook.borrow().is_some());
        LEFT.set(if still { 0 } else { u64::MAX });
    }
}

/// A wait for something that another processor does.
pub fn wait_for_another() {
    if TURN.get().is_null() {
        interleave();
    } else {
        end_turn(Stop::Contended);
    }
}

/// End the turn of the processor that runs on this thread; nothing without turns. A processor whose code panics keeps the
/// turn until it is unwound.
pub(super) fn end_turn(stop: Stop) {
    let turn = TURN.get();
    if turn.is_null() {
        return;
    }
    if std::thread::panicking() {
        if stop == Stop::Contended {
            // What it waits for will not come: nobody else gets a turn.
            std::eprintln!("a processor that panicked waits for another one");
            std::process::abort();
        }
        return;
    }
    let exemptions = failure::exemptions();
    // SAFETY: `Turns::resume` set the pointer, which its coroutine's own body gave, for the time that this coroutine runs; it
    // runs now, or this code would not, and its yielder lives as long as its body.
    unsafe { (*turn).suspend(stop) };
    failure::set_exemptions(exemptions);
}

/// Set what this thread does at each point outside of turns, or nothing.
pub fn set_interleave(hook: Option<Box<dyn Fn()>>) {
    LEFT.set(if hook.is_some() { 0 } else { u64::MAX });
    HOOK.with(|cell| *cell.borrow_mut() = hook.map(Rc::from));
}

/// All processors of a machine, each somewhere in the core or before it.
pub struct Turns {
    seats: Vec<(Seat, Rc<Cell<*const Turn>>)>,
}

impl Turns {
    /// `processors` of them; each runs `body` from its first turn on.
    pub fn new(processors: usize, body: impl Fn(ProcessorId) + Clone + 'static) -> Turns {
        let seats = (0..processors).map(|processor| {
            let place = Rc::new(Cell::new(core::ptr::null()));
            let (told, body) = (place.clone(), body.clone());
            let seat = Coroutine::new(move |turn: &Turn, ()| {
                told.set(core::ptr::from_ref(turn));
                TURN.set(told.get());
                body(processor);
            });
            (seat, place)
        });
        Turns {
            seats: seats.collect(),
        }
    }

    /// Give a processor its turn for at most `points` points. Returns why it ended, and how many it passed.
    ///
    /// A panic of the processor's comes out of here.
    pub fn resume(&mut self, processor: ProcessorId, points: u64) -> (Stop, u64) {
        let (seat, place) = &mut self.seats[processor];
        if seat.done() {
            return (Stop::Ended, 0);
        }
        let _back = Back {
            processor: CURRENT.replace(processor),
        };
        TURN.set(place.get());
        GIVEN.set(points);
        LEFT.set(points);
        let result = failure::watched(|| seat.resume(()));
        let passed = points - LEFT.get().min(points);
        match result {
            CoroutineResult::Yield(stop) => (stop, passed),
            CoroutineResult::Return(()) => (Stop::Ended, passed),
        }
    }

    /// Leave the processors where they are for ever: what they hold stays held. For machines that have failed.
    pub fn abandon(self) {
        core::mem::forget(self);
    }
}

/// Puts the thread back to where no processor runs, also when a panic comes through.
struct Back {
    processor: ProcessorId,
}

impl Drop for Back {
    fn drop(&mut self) {
        CURRENT.set(self.processor);
        TURN.set(core::ptr::null());
        LEFT.set(u64::MAX);
        GIVEN.set(0);
    }
}

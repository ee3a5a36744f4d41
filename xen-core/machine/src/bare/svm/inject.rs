//! Events on their way into a guest: what EVENTINJ takes and EXITINTINFO gives back, and how two of them combine.

use crate::virtual_cpu::Exception;

const VALID: u64 = 1 << 31;
const HAS_ERROR_CODE: u64 = 1 << 11;
const KIND_SHIFT: u32 = 8;

/// What an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An interrupt from outside, or a virtual one.
    External,
    /// A non-maskable interrupt.
    Nmi,
    /// An exception.
    Exception,
    /// INT n.
    Software,
}

/// An event in hardware's form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event(u64);

/// Two events met.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Combined {
    /// This one is delivered.
    Event(Event),
    /// The processor shuts down.
    TripleFault,
}

impl Event {
    /// A non-maskable interrupt.
    pub const NMI: Event = Event(VALID | 2 << KIND_SHIFT | 2);
    const DOUBLE_FAULT: Event = Event(VALID | HAS_ERROR_CODE | 3 << KIND_SHIFT | 8);

    /// An exception for EVENTINJ.
    pub fn exception(exception: Exception) -> Event {
        let bits = VALID | 3 << KIND_SHIFT | u64::from(exception.vector);
        match exception.error_code {
            Some(code) => Event(bits | HAS_ERROR_CODE | u64::from(code) << 32),
            None => Event(bits),
        }
    }

    /// What hardware says it was delivering when the guest was left.
    pub fn interrupted(bits: u64) -> Option<Event> {
        (bits & VALID != 0).then_some(Event(bits & !0xffff_f000_u64 | VALID))
    }

    /// For EVENTINJ.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// The vector.
    pub fn vector(self) -> u8 {
        self.0 as u8
    }

    /// What it is. Vectors past 31 are interrupts, even where an emulator calls them exceptions.
    pub fn kind(self) -> Kind {
        match (self.0 >> KIND_SHIFT) & 7 {
            2 => Kind::Nmi,
            3 if self.vector() < 32 => Kind::Exception,
            4 => Kind::Software,
            _ => Kind::External,
        }
    }

    /// Made by an instruction (INT n, INT3, INTO): rip still points at it, so it happens again by itself.
    pub fn repeats_itself(self) -> bool {
        self.kind() == Kind::Software || self.kind() == Kind::Exception && matches!(self.vector(), 3 | 4)
    }

    /// What comes of a second exception while this one is being delivered (APM volume 2, 8.2.9).
    pub fn combine(self, second: Event) -> Combined {
        if self.kind() != Kind::Exception {
            return Combined::Event(second);
        }
        let worse = severity(second);
        match (severity(self), worse) {
            (Severity::DoubleFault, Severity::Contributory | Severity::PageFault) => Combined::TripleFault,
            (Severity::Contributory, Severity::Contributory)
            | (Severity::PageFault, Severity::Contributory | Severity::PageFault) => {
                Combined::Event(Event::DOUBLE_FAULT)
            }
            _ => Combined::Event(second),
        }
    }
}

enum Severity {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

fn severity(event: Event) -> Severity {
    match event.vector() {
        8 => Severity::DoubleFault,
        0 | 10..=13 => Severity::Contributory,
        14 => Severity::PageFault,
        _ => Severity::Benign,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(vector: u8, error_code: Option<u32>) -> Event {
        Event::exception(Exception { vector, error_code })
    }

    #[test]
    fn hardware_form() {
        assert_eq!(event(6, None).bits(), 0x8000_0306);
        assert_eq!(event(13, Some(0x18)).bits(), 0x18_8000_0b0d);
        assert_eq!(Event::NMI.bits(), 0x8000_0202);
        assert_eq!(Event::interrupted(0x0000_0306), None);
        assert_eq!(Event::interrupted(0x7_8000_0b0e), Some(event(14, Some(7))));
    }

    #[test]
    fn vectors_past_exceptions_are_interrupts_whatever_their_type() {
        assert_eq!(
            Event::interrupted(0x8000_03f3).map(Event::kind),
            Some(Kind::External)
        );
        assert_eq!(
            Event::interrupted(0x8000_0080).map(Event::kind),
            Some(Kind::External)
        );
        assert!(Event::interrupted(0x8000_0480).is_some_and(Event::repeats_itself));
        assert!(Event::interrupted(0x8000_0303).is_some_and(Event::repeats_itself));
    }

    #[test]
    fn double_and_triple_faults() {
        let (general, page, debug) = (event(13, Some(0)), event(14, Some(2)), event(1, None));
        assert_eq!(general.combine(general), Combined::Event(Event::DOUBLE_FAULT));
        assert_eq!(general.combine(page), Combined::Event(page));
        assert_eq!(page.combine(general), Combined::Event(Event::DOUBLE_FAULT));
        assert_eq!(page.combine(page), Combined::Event(Event::DOUBLE_FAULT));
        assert_eq!(debug.combine(page), Combined::Event(page));
        assert_eq!(Event::DOUBLE_FAULT.combine(page), Combined::TripleFault);
        assert_eq!(Event::NMI.combine(page), Combined::Event(page));
    }
}

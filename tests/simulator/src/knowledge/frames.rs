//! What a domain believes to lie at its guest frames.

use crate::numbers::Numbers;

/// Frames that are kept in mind; all that attackers do on purpose happens below this one.
pub const WINDOW: usize = 512;
/// Frames that are tried before a search begins.
const TRIES: usize = 6;

/// Kinds of [`Use`].
const USES: usize = 8;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// Nothing.
    Hole,
    /// Memory of its own, with nothing in it that matters.
    Memory,
    /// A vCPU's place for requests.
    Scratch,
    /// Memory that the core writes to: event words, queues, registered areas.
    Area,
    /// Another's memory, by a grant.
    Grant,
    /// Another's memory or grant table, by the toolstack's ways.
    Foreign,
    /// The shared page.
    Shared,
    /// A frame of its grant table.
    Table,
}

/// What lies at each frame.
#[derive(Clone, Debug)]
pub struct Frames {
    uses: [Use; WINDOW],
    /// How many frames are each.
    counts: [u16; USES],
    pages: u64,
}

impl Frames {
    /// Memory at the first `pages`, nothing elsewhere. A domain without any believes in one page, as it must put its
    /// requests somewhere, and meets faults.
    pub fn new(pages: u64) -> Self {
        let pages = pages.clamp(1, WINDOW as u64 / 2);
        let uses: [Use; WINDOW] = core::array::from_fn(|frame| {
            if (frame as u64) < pages {
                Use::Memory
            } else {
                Use::Hole
            }
        });
        let mut counts = [0; USES];
        uses.iter().for_each(|&what| counts[what as usize] += 1);
        Frames { uses, counts, pages }
    }

    /// Frames that were memory at first.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// What a frame is; none past the window.
    pub fn get(&self, frame: u64) -> Option<Use> {
        self.uses.get(usize::try_from(frame).ok()?).copied()
    }

    /// Note what a frame is.
    pub fn set(&mut self, frame: u64, what: Use) {
        let index = usize::try_from(frame).ok();
        if let Some(place) = index.and_then(|index| self.uses.get_mut(index)) {
            self.counts[*place as usize] -= 1;
            self.counts[what as usize] += 1;
            *place = what;
        }
    }

    /// How many frames are this.
    pub fn count(&self, what: Use) -> usize {
        usize::from(self.counts[what as usize])
    }

    /// A hole where memory was at first, if there is one.
    pub fn lost(&self) -> Option<u64> {
        let home = self.uses.iter().take(self.pages as usize);
        home.into_iter()
            .position(|&what| what == Use::Hole)
            .map(|frame| frame as u64)
    }

    /// A frame that is this, if there is one.
    pub fn pick(&self, what: Use, numbers: &mut Numbers) -> Option<u64> {
        if self.count(what) == 0 {
            return None;
        }
        // Memory lies low and everything else high, mostly.
        let (from, to) = match what {
            Use::Memory | Use::Scratch | Use::Area => (0, self.pages),
            _ => (self.pages, WINDOW as u64),
        };
        let start = numbers.within(from, to - 1) as usize;
        let likely = (0..TRIES).map(|step| (start + step * 7) % WINDOW);
        let all = (0..WINDOW).map(|step| (start + step) % WINDOW);
        likely
            .chain(all)
            .find(|&frame| self.uses[frame] == what)
            .map(|frame| frame as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_is_found() {
        let mut frames = Frames::new(16);
        let mut numbers = Numbers::new(1);
        assert!(
            frames
                .pick(Use::Memory, &mut numbers)
                .is_some_and(|frame| frame < 16)
        );
        assert!(
            frames
                .pick(Use::Hole, &mut numbers)
                .is_some_and(|frame| frame >= 16)
        );
        assert_eq!(frames.pick(Use::Grant, &mut numbers), None);
        frames.set(3, Use::Grant);
        assert_eq!(frames.pick(Use::Grant, &mut numbers), Some(3));
        frames.set(u64::MAX, Use::Grant);
        assert_eq!(frames.get(WINDOW as u64), None);
        assert_eq!((frames.count(Use::Memory), frames.count(Use::Grant)), (15, 1));
    }
}

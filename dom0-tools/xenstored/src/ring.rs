//! The daemon's end of a byte ring in a shared page.
//!
//! The other side may write anything at any time. This side therefore keeps its own index to itself and believes
//! only in the other side's index, and in that only as far as it makes sense.

use control::SharedMemory;
use std::ops::Deref;
use std::sync::atomic::Ordering;

/// A page that another domain can change at any time.
pub trait SharedPage {
    /// Reads an index; what the other side wrote before it is visible afterwards.
    fn load(&self, offset: usize) -> u32;
    /// Writes an index; the other side sees everything written before.
    fn store(&self, offset: usize, value: u32);
    /// Copies bytes out.
    fn read(&self, offset: usize, target: &mut [u8]);
    /// Copies bytes in.
    fn write(&self, offset: usize, source: &[u8]);
    /// Makes what was stored visible before what is loaded next.
    fn fence(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
    }
}

impl<Mapping: Deref<Target = SharedMemory>> SharedPage for Mapping {
    fn load(&self, offset: usize) -> u32 {
        self.load_u32(offset, Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        self.store_u32(offset, value, Ordering::Release);
    }

    fn read(&self, offset: usize, target: &mut [u8]) {
        self.read_bytes(offset, target);
    }

    fn write(&self, offset: usize, source: &[u8]) {
        self.write_bytes(offset, source);
    }
}

/// The other side's index cannot be: its ring would hold more than it has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("impossible ring index {theirs:#x} with {ours:#x} here and {size} bytes of ring")]
pub struct ImpossibleIndex {
    /// The index that the other side wrote.
    pub theirs: u32,
    /// The index of this side.
    pub ours: u32,
    /// The size of the ring.
    pub size: u32,
}

/// Where in the page a ring of bytes and its indices lie.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The first byte of the ring.
    pub data: usize,
    /// Its size, a power of two.
    pub size: u32,
    /// The consumer's index.
    pub consumer: usize,
    /// The producer's index.
    pub producer: usize,
}

/// The end of a ring that takes bytes out.
#[derive(Debug)]
pub struct Consumer {
    layout: Layout,
    taken: u32,
}

impl Consumer {
    /// Continues where the page says the consumer stopped.
    pub fn attach(page: &impl SharedPage, layout: Layout) -> Self {
        Consumer {
            layout,
            taken: page.load(layout.consumer),
        }
    }

    /// Takes out what is there, as much as fits. Returns how much.
    pub fn take(&mut self, page: &impl SharedPage, target: &mut [u8]) -> Result<usize, ImpossibleIndex> {
        let available = self.available(page)?;
        let length = target.len().min(available);
        let (first, second) = target[..length].split_at_mut(length.min(self.until_wrap()));
        page.read(self.layout.data + self.position(), first);
        page.read(self.layout.data, second);
        if length > 0 {
            self.taken = self.taken.wrapping_add(length as u32);
            // The bytes must be out before the other side may reuse their place.
            page.fence();
            page.store(self.layout.consumer, self.taken);
        }
        Ok(length)
    }

    /// How many bytes wait.
    pub fn available(&self, page: &impl SharedPage) -> Result<usize, ImpossibleIndex> {
        let produced = page.load(self.layout.producer);
        let available = produced.wrapping_sub(self.taken);
        if available > self.layout.size {
            return Err(ImpossibleIndex {
                theirs: produced,
                ours: self.taken,
                size: self.layout.size,
            });
        }
        Ok(available as usize)
    }

    fn position(&self) -> usize {
        (self.taken & (self.layout.size - 1)) as usize
    }

    fn until_wrap(&self) -> usize {
        self.layout.size as usize - self.position()
    }
}

/// The end of a ring that puts bytes in.
#[derive(Debug)]
pub struct Producer {
    layout: Layout,
    put: u32,
}

impl Producer {
    /// Continues where the page says the producer stopped.
    pub fn attach(page: &impl SharedPage, layout: Layout) -> Self {
        Producer {
            layout,
            put: page.load(layout.producer),
        }
    }

    /// Puts in what fits. Returns how much.
    pub fn put(&mut self, page: &impl SharedPage, source: &[u8]) -> Result<usize, ImpossibleIndex> {
        let length = source.len().min(self.room(page)?);
        let position = (self.put & (self.layout.size - 1)) as usize;
        let until_wrap = self.layout.size as usize - position;
        let (first, second) = source[..length].split_at(length.min(until_wrap));
        // Nothing may be overwritten before the other side's index, which frees the place, was read.
        page.fence();
        page.write(self.layout.data + position, first);
        page.write(self.layout.data, second);
        if length > 0 {
            self.put = self.put.wrapping_add(length as u32);
            page.store(self.layout.producer, self.put);
        }
        Ok(length)
    }

    /// How many bytes fit.
    pub fn room(&self, page: &impl SharedPage) -> Result<usize, ImpossibleIndex> {
        let consumed = page.load(self.layout.consumer);
        let waiting = self.put.wrapping_sub(consumed);
        if waiting > self.layout.size {
            return Err(ImpossibleIndex {
                theirs: consumed,
                ours: self.put,
                size: self.layout.size,
            });
        }
        Ok((self.layout.size - waiting) as usize)
    }
}

/// A page for tests, shared within the process.
#[derive(Clone, Debug)]
pub struct TestPage(std::rc::Rc<std::cell::RefCell<Vec<u8>>>);

impl Default for TestPage {
    fn default() -> Self {
        TestPage(std::rc::Rc::new(std::cell::RefCell::new(vec![
            0;
            control::PAGE_SIZE
        ])))
    }
}

impl SharedPage for TestPage {
    fn load(&self, offset: usize) -> u32 {
        let mut word = [0; 4];
        self.read(offset, &mut word);
        u32::from_ne_bytes(word)
    }

    fn store(&self, offset: usize, value: u32) {
        self.write(offset, &value.to_ne_bytes());
    }

    fn read(&self, offset: usize, target: &mut [u8]) {
        target.copy_from_slice(&self.0.borrow()[offset..offset + target.len()]);
    }

    fn write(&self, offset: usize, source: &[u8]) {
        self.0.borrow_mut()[offset..offset + source.len()].copy_from_slice(source);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LAYOUT: Layout = Layout {
        data: 0,
        size: 64,
        consumer: 1000,
        producer: 1004,
    };

    #[test]
    fn bytes_pass_in_order_around_the_end() {
        let page = TestPage::default();
        page.store(LAYOUT.consumer, u32::MAX - 30);
        page.store(LAYOUT.producer, u32::MAX - 30);
        let mut producer = Producer::attach(&page, LAYOUT);
        let mut consumer = Consumer::attach(&page, LAYOUT);
        let mut sent = 0_u8;
        for round in 0..100 {
            let bytes: Vec<u8> = (0..round % 64).map(|index| sent.wrapping_add(index)).collect();
            assert_eq!(producer.put(&page, &bytes), Ok(bytes.len()));
            let mut back = [0; 80];
            assert_eq!(consumer.take(&page, &mut back), Ok(bytes.len()));
            assert_eq!(back[..bytes.len()], bytes);
            sent = sent.wrapping_add(round % 64);
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let page = TestPage::default();
        let mut producer = Producer::attach(&page, LAYOUT);
        assert_eq!(producer.put(&page, &[7; 100]), Ok(64));
        assert_eq!(producer.put(&page, &[7; 1]), Ok(0));
    }

    #[test]
    fn an_impossible_index_is_noticed() {
        let page = TestPage::default();
        let mut consumer = Consumer::attach(&page, LAYOUT);
        let mut producer = Producer::attach(&page, LAYOUT);
        page.store(LAYOUT.producer, 65);
        assert!(consumer.take(&page, &mut [0; 10]).is_err());
        page.store(LAYOUT.consumer, 1);
        assert!(producer.put(&page, b"x").is_err());
    }

    #[test]
    fn what_is_written_over_our_own_index_changes_nothing() {
        let page = TestPage::default();
        let mut consumer = Consumer::attach(&page, LAYOUT);
        page.write(0, b"abcd");
        page.store(LAYOUT.producer, 4);
        page.store(LAYOUT.consumer, 0xdead_beef);
        let mut bytes = [0; 10];
        assert_eq!(consumer.take(&page, &mut bytes), Ok(4));
        assert_eq!(&bytes[..4], b"abcd");
        assert_eq!(page.load(LAYOUT.consumer), 4);
    }

    proptest! {
        #[test]
        fn no_index_leads_outside_the_ring(start: u32, theirs: u32, length in 0_usize..200) {
            let page = TestPage::default();
            page.store(LAYOUT.consumer, start);
            page.store(LAYOUT.producer, theirs);
            let mut consumer = Consumer::attach(&page, LAYOUT);
            let taken = consumer.take(&page, &mut vec![0; length]);
            prop_assert_eq!(taken.is_ok(), theirs.wrapping_sub(start) <= 64);
            let mut producer = Producer::attach(&page, LAYOUT);
            if let Ok(put) = producer.put(&page, &vec![0; length]) {
                prop_assert!(put <= 64);
            }
        }
    }
}

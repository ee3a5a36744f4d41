//! The ring of requests and responses, as block and network devices use it, with a hostile other end.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering;

use hypercall_abi::io::ring::{HEADER_SIZE, slots};
use hypercall_abi::io::{block, net};
use pv_drivers::ring::{BackRing, FrontRing, Memory, Message};

use crate::input::Input;

const PAGE: usize = 4096;
const REQUEST_PRODUCER: usize = 0;
const RESPONSE_PRODUCER: usize = 8;

/// A shared page that notices each access outside of it or across its words.
#[derive(Clone)]
struct Page(Rc<RefCell<Vec<u32>>>);

impl Page {
    fn new() -> Self {
        Page(Rc::new(RefCell::new(vec![0; PAGE / 4])))
    }

    fn index(offset: usize) -> usize {
        assert!(
            offset.is_multiple_of(4) && offset < PAGE,
            "an access outside of the ring: {offset}"
        );
        offset / 4
    }
}

impl Memory for Page {
    fn length(&self) -> usize {
        PAGE
    }

    fn load(&self, offset: usize, _: Ordering) -> u32 {
        self.0.borrow()[Self::index(offset)]
    }

    fn store(&self, offset: usize, value: u32, _: Ordering) {
        self.0.borrow_mut()[Self::index(offset)] = value;
    }

    fn load_byte(&self, _: usize) -> u8 {
        unreachable!("this ring has words only")
    }

    fn store_byte(&self, _: usize, _: u8) {
        unreachable!("this ring has words only")
    }
}

/// The first byte chooses the device and who is hostile.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => back::<block::Request, block::Response>(&mut input),
        1 => back::<net::TransmitRequest, net::TransmitResponse>(&mut input),
        2 => front::<block::Request, block::Response>(&mut input),
        _ => front::<net::ReceiveRequest, net::ReceiveResponse>(&mut input),
    }
}

/// What the other end writes: anywhere in the header near where the ring stands, or anything anywhere.
fn hostile_write(page: &Page, input: &mut Input<'_>) {
    let place = input.byte();
    if place < 0x80 {
        let offset = 4 * usize::from(place % 4);
        let ours = page.load(offset, Ordering::Relaxed);
        page.store(
            offset,
            ours.wrapping_add_signed(i32::from(input.byte() as i8)),
            Ordering::Relaxed,
        );
    } else {
        let offset = (input.number(2) as usize % PAGE) & !3;
        page.store(offset, input.number(4) as u32, Ordering::Relaxed);
    }
}

/// We are the backend. The guest's words decide what we read; never how much we have in hand.
fn back<Request: Message, Response: Message>(input: &mut Input<'_>) {
    let page = Page::new();
    for offset in [REQUEST_PRODUCER, RESPONSE_PRODUCER] {
        page.store(offset, input.number(4) as u32, Ordering::Relaxed);
    }
    let Ok(mut ring) = BackRing::<Request, Response, _>::attach(page.clone()) else {
        return;
    };
    let size = size_of::<Request>().max(size_of::<Response>());
    let capacity = ring.capacity();
    assert_eq!(capacity, slots(PAGE, size));
    let (mut popped, mut pushed, mut broken) = (0u32, 0u32, false);
    while !input.is_empty() {
        match input.byte() % 6 {
            0 | 1 => hostile_write(&page, input),
            2 => match ring.pop() {
                Ok(request) => {
                    assert!(!broken, "a broken ring stays broken");
                    popped += u32::from(request.is_some());
                }
                Err(_) => broken = true,
            },
            3 => {
                let outcome = ring.push(&Response::new_zeroed());
                assert_eq!(outcome.is_ok(), popped > pushed, "answers only to what was asked");
                pushed += u32::from(outcome.is_ok());
            }
            4 => {
                let _ = ring.publish();
            }
            _ => match ring.announce() {
                Ok(_) => assert!(!broken),
                Err(_) => broken = true,
            },
        }
        assert_eq!(ring.unanswered(), popped - pushed);
        assert!(ring.unanswered() <= capacity, "more in hand than there are slots");
    }
}

/// We are the frontend: the backend may not answer more than it was asked, nor make us overwrite what it may still read.
fn front<Request: Message, Response: Message>(input: &mut Input<'_>) {
    let page = Page::new();
    let mut ring = FrontRing::<Request, Response, _>::initialise(page.clone()).expect("a page holds a ring");
    let capacity = ring.capacity();
    let (mut pushed, mut published, mut popped, mut broken) = (0u32, 0u32, 0u32, false);
    while !input.is_empty() {
        match input.byte() % 6 {
            0 | 1 => hostile_write(&page, input),
            2 => match ring.pop() {
                Ok(response) => {
                    assert!(!broken, "a broken ring stays broken");
                    popped += u32::from(response.is_some());
                }
                Err(_) => broken = true,
            },
            3 => {
                let outcome = ring.push(&Request::new_zeroed());
                assert_eq!(outcome.is_ok(), pushed - popped < capacity);
                pushed += u32::from(outcome.is_ok());
            }
            4 => {
                let _ = ring.publish();
                published = pushed;
                assert_eq!(page.load(REQUEST_PRODUCER, Ordering::Relaxed), published);
            }
            _ => match ring.announce() {
                Ok(_) => assert!(!broken),
                Err(_) => broken = true,
            },
        }
        assert!(popped <= published, "an answer to what was never asked");
        assert_eq!(ring.free(), capacity - (pushed - popped));
    }
}

const _: () = assert!(HEADER_SIZE < PAGE);

/// An honest round of each kind, and a leap of each index.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let honest_back = [&[0; 9][..], &[0, 0, 2, 2, 3, 4, 2, 5, 3, 4, 5]].concat();
    let wrapping = [
        &[1, 0xfe, 0xff, 0xff, 0xff, 0xfe, 0xff, 0xff, 0xff][..],
        &[0, 0, 5, 2, 2, 2, 2, 2, 3, 3, 4],
    ]
    .concat();
    let leap = [&[0; 9][..], &[0, 0, 100, 2, 2, 5]].concat();
    let anywhere = [
        &[1, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &[1, 0x80, 0, 0, 3, 0, 0, 0, 2, 2, 3, 4],
    ]
    .concat();
    vec![
        ("back_honest", honest_back),
        ("back_wrapping", wrapping),
        ("back_leap", leap),
        ("back_anywhere", anywhere),
        ("front_honest", vec![2, 3, 3, 4, 0, 2, 1, 2, 5, 3, 4, 5]),
        ("front_leap", vec![3, 3, 4, 0, 2, 9, 2, 2, 3]),
    ]
}

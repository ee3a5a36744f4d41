//! Both ends of the rings against each other, and each against a hostile other end that writes the shared words directly.

use std::mem::offset_of;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;

use hypercall_abi::io::console::ConsoleInterface;
use hypercall_abi::io::ring::RingHeader;
use hypercall_abi::io::{block, net};
use pv_drivers::ring::{
    BackRing, ByteConsumer, ByteProducer, CONSOLE_INPUT, CONSOLE_OUTPUT, Fault, FrontRing, Full, Memory,
    STORE_REQUEST, SharedMemory,
};

/// A page that both ends map; leaked, so that it stays mapped.
fn page() -> &'static SharedMemory {
    let words: &'static [AtomicU32] = (0..1024).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().leak();
    let start = NonNull::from(words).cast();
    // SAFETY: leaked, aligned for words, and only ever seen as atomics.
    Box::leak(Box::new(unsafe { SharedMemory::new(start, 4096) }))
}

type Front<'a> = FrontRing<block::Request, block::Response, &'a SharedMemory>;
type Back<'a> = BackRing<block::Request, block::Response, &'a SharedMemory>;

fn request(id: u64) -> block::Request {
    block::Request {
        operation: block::op::WRITE,
        id,
        sector_number: id * 8,
        ..Default::default()
    }
}

fn response(id: u64) -> block::Response {
    block::Response {
        id,
        operation: block::op::WRITE,
        ..Default::default()
    }
}

const REQUEST_PRODUCER: usize = offset_of!(RingHeader, request_producer);
const RESPONSE_PRODUCER: usize = offset_of!(RingHeader, response_producer);

#[test]
fn requests_and_responses_arrive_in_order_for_several_rounds() {
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    assert_eq!((front.capacity(), back.capacity()), (32, 32));
    let (mut asked, mut answered) = (0, 0);
    // Interpreted, some rounds are enough to come around the ring.
    let rounds = if cfg!(miri) { 3 } else { 100 };
    for _ in 0..rounds {
        while front.push(&request(asked)).is_ok() {
            asked += 1;
        }
        let _ = front.publish();
        while let Some(request) = back.pop().unwrap() {
            assert_eq!(request.sector_number, request.id * 8);
            back.push(&response(request.id)).unwrap();
        }
        let _ = back.publish();
        while let Some(response) = front.pop().unwrap() {
            assert_eq!(response.id, answered);
            answered += 1;
        }
    }
    assert_eq!((asked, answered), (32 * rounds, 32 * rounds));
}

#[test]
fn indices_wrap_past_32_bits() {
    let page = page();
    // A ring that has been in use for a long time: the backend takes up at the response producer.
    let start = u32::MAX - 2;
    for word in 0..4 {
        page.store(word * 4, start, Ordering::Relaxed);
    }
    let mut back = Back::attach(page).unwrap();
    page.store(REQUEST_PRODUCER, start.wrapping_add(32), Ordering::Relaxed);
    for _ in 0..32 {
        assert!(back.pop().unwrap().is_some());
        back.push(&response(0)).unwrap();
    }
    assert_eq!(back.pop().unwrap(), None);
    let _ = back.publish();
    assert_eq!(page.load(RESPONSE_PRODUCER, Ordering::Relaxed), 29);
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    front.push(&request(1)).unwrap();
    assert_eq!(back.pop().unwrap(), None);
    assert!(front.publish());
    assert_eq!(back.pop().unwrap().unwrap().id, 1);
}

#[test]
fn a_busy_end_is_not_notified_and_a_sleeping_one_is() {
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    front.push(&request(1)).unwrap();
    assert!(front.publish(), "the first request wakes the backend");
    front.push(&request(2)).unwrap();
    assert!(!front.publish(), "it did not ask for the second");
    assert!(back.announce().unwrap(), "it may not sleep yet");
    while back.pop().unwrap().is_some() {}
    assert!(!back.announce().unwrap());
    front.push(&request(3)).unwrap();
    front.push(&request(4)).unwrap();
    assert!(front.publish(), "it asked for the third, which a batch includes");
}

#[test]
fn a_full_ring_takes_no_more() {
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    for id in 0..32 {
        front.push(&request(id)).unwrap();
    }
    assert_eq!(front.push(&request(32)), Err(Full));
    assert_eq!(front.free(), 0);
}

#[test]
fn a_backend_cannot_answer_what_it_was_not_asked() {
    let page = page();
    let _front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    assert_eq!(back.push(&response(0)), Err(Full));
}

#[test]
fn a_frontend_that_claims_too_many_requests_is_at_fault() {
    let page = page();
    let _front = Front::initialise(page).unwrap();
    for claim in [33, 1000, 0x8000_0000, u32::MAX] {
        page.store(REQUEST_PRODUCER, 0, Ordering::Relaxed);
        let mut back = Back::attach(page).unwrap();
        page.store(REQUEST_PRODUCER, claim, Ordering::Relaxed);
        let fault = Fault::ImpossibleIndex {
            theirs: claim,
            ours: 0,
        };
        assert_eq!(back.pop(), Err(fault));
        page.store(REQUEST_PRODUCER, 1, Ordering::Relaxed);
        assert_eq!(back.pop(), Err(fault), "once at fault, always");
        page.store(REQUEST_PRODUCER, claim, Ordering::Relaxed);
        assert_eq!(Back::attach(page).err(), Some(fault));
    }
}

#[test]
fn a_frontend_that_takes_requests_back_is_at_fault() {
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    front.push(&request(0)).unwrap();
    let _ = front.publish();
    back.pop().unwrap().unwrap();
    page.store(REQUEST_PRODUCER, 0, Ordering::Relaxed);
    assert_eq!(back.pop(), Err(Fault::ImpossibleIndex { theirs: 0, ours: 1 }));
}

#[test]
fn a_frontend_cannot_have_more_unanswered_than_slots() {
    let page = page();
    let _front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    page.store(REQUEST_PRODUCER, 32, Ordering::Relaxed);
    for _ in 0..32 {
        back.pop().unwrap().unwrap();
    }
    page.store(REQUEST_PRODUCER, 33, Ordering::Relaxed);
    assert!(back.pop().is_err(), "its slot still waits for a response");
}

#[test]
fn a_backend_that_answers_too_much_is_at_fault() {
    let page = page();
    for claim in [2, 33, u32::MAX] {
        let mut front = Front::initialise(page).unwrap();
        front.push(&request(0)).unwrap();
        let _ = front.publish();
        // Written and not published: the backend cannot know of it.
        front.push(&request(1)).unwrap();
        page.store(RESPONSE_PRODUCER, claim, Ordering::Relaxed);
        assert_eq!(
            front.pop(),
            Err(Fault::ImpossibleIndex {
                theirs: claim,
                ours: 0
            })
        );
    }
}

#[test]
fn garbage_in_every_word_of_the_page_harms_nobody() {
    // A fixed linear congruential sequence: the same garbage each time.
    let mut seed = 1_u32;
    for _ in 0..if cfg!(miri) { 10 } else { 2000 } {
        let page = page_of_garbage(&mut seed);
        if let Ok(mut back) = Back::attach(page) {
            let mut popped = 0;
            while let Ok(Some(_)) = back.pop() {
                popped += 1;
            }
            assert!(popped <= 32);
            let _ = back.announce();
        }
        for ring in [CONSOLE_INPUT, CONSOLE_OUTPUT, STORE_REQUEST] {
            let mut buffer = [0; 4096];
            if let Ok(mut consumer) = ByteConsumer::attach(ring, page) {
                assert!(consumer.read(&mut buffer).unwrap() <= 2048);
            }
            if let Ok(mut producer) = ByteProducer::attach(ring, page) {
                assert!(producer.write(&buffer).unwrap() <= 2048);
            }
        }
    }
}

fn page_of_garbage(seed: &mut u32) -> &'static SharedMemory {
    thread_local! { static PAGE: &'static SharedMemory = page(); }
    let page = PAGE.with(|page| *page);
    for word in 0..1024 {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Small numbers are the more dangerous garbage.
        let value = if *seed & 0x8000 == 0 { *seed >> 26 } else { *seed };
        page.store(word * 4, value, Ordering::Relaxed);
    }
    page
}

#[test]
fn memory_that_is_too_small_is_refused() {
    let words: &'static [AtomicU32] = (0..16).map(|_| AtomicU32::new(0)).collect::<Vec<_>>().leak();
    // SAFETY: as in `page`.
    let memory = unsafe { SharedMemory::new(NonNull::from(words).cast(), 64) };
    assert_eq!(
        Front::initialise(Box::leak(Box::new(memory))).err(),
        Some(Fault::TooSmall)
    );
    // SAFETY: as in `page`.
    let memory = unsafe { SharedMemory::new(NonNull::from(words).cast(), 64) };
    assert_eq!(
        ByteProducer::attach(CONSOLE_INPUT, memory).err(),
        Some(Fault::TooSmall)
    );
}

#[test]
fn accesses_outside_of_the_memory_do_nothing() {
    let page = page();
    page.store(4096, 7, Ordering::Relaxed);
    page.store(usize::MAX - 3, 7, Ordering::Relaxed);
    page.store(2, 7, Ordering::Relaxed);
    page.store_byte(4096, 7);
    assert_eq!(
        (page.load(4096, Ordering::Relaxed), page.load_byte(usize::MAX)),
        (0, 0)
    );
    assert_eq!(page.load(0, Ordering::Relaxed), 0);
}

#[test]
fn network_slots_are_as_large_as_the_larger_message() {
    let page = page();
    let mut front = FrontRing::<net::TransmitRequest, net::TransmitResponse, _>::initialise(page).unwrap();
    assert_eq!(front.capacity(), 256);
    for id in 0..256 {
        front
            .push(&net::TransmitRequest {
                id,
                size: 1500,
                ..Default::default()
            })
            .unwrap();
    }
    let _ = front.publish();
    let mut back = BackRing::<net::TransmitRequest, net::TransmitResponse, _>::attach(page).unwrap();
    for id in 0..256 {
        assert_eq!(back.pop().unwrap().unwrap().id, id);
    }
}

#[test]
fn bytes_arrive_in_order_and_no_more_than_fit() {
    let page = page();
    let mut producer = ByteProducer::attach(CONSOLE_OUTPUT, page).unwrap();
    let mut consumer = ByteConsumer::attach(CONSOLE_OUTPUT, page).unwrap();
    let text: Vec<u8> = (0..5000_u32).map(|number| number as u8).collect();
    assert_eq!(producer.write(&text).unwrap(), 2048);
    assert_eq!(producer.write(b"x").unwrap(), 0);
    let mut read = Vec::new();
    let mut written = 2048;
    let mut buffer = [0; 300];
    while read.len() < text.len() {
        let length = consumer.read(&mut buffer).unwrap();
        read.extend_from_slice(&buffer[..length]);
        written += producer.write(&text[written..]).unwrap();
    }
    assert_eq!(read, text);
    assert_eq!(consumer.read(&mut buffer).unwrap(), 0);
}

#[test]
fn impossible_byte_indices_are_a_fault() {
    let page = page();
    let producer_word = offset_of!(ConsoleInterface, output_producer);
    let consumer_word = offset_of!(ConsoleInterface, output_consumer);
    let mut consumer = ByteConsumer::attach(CONSOLE_OUTPUT, page).unwrap();
    page.store(producer_word, 2049, Ordering::Relaxed);
    assert_eq!(
        consumer.read(&mut [0; 8]),
        Err(Fault::ImpossibleIndex {
            theirs: 2049,
            ours: 0
        })
    );
    page.store(producer_word, 0, Ordering::Relaxed);
    let mut producer = ByteProducer::attach(CONSOLE_OUTPUT, page).unwrap();
    page.store(consumer_word, 1, Ordering::Relaxed);
    assert_eq!(
        producer.write(b"x"),
        Err(Fault::ImpossibleIndex { theirs: 1, ours: 0 })
    );
}

#[test]
fn two_threads_lose_neither_messages_nor_wake_ups() {
    const ROUNDS: u64 = if cfg!(miri) { 100 } else { 20_000 };
    let page = page();
    let mut front = Front::initialise(page).unwrap();
    let mut back = Back::attach(page).unwrap();
    let (wake_back, back_events) = mpsc::channel();
    let (wake_front, front_events) = mpsc::channel();
    let backend = thread::spawn(move || {
        let mut served = 0;
        while served < ROUNDS {
            while let Some(request) = back.pop().unwrap() {
                back.push(&response(request.id)).unwrap();
                served += 1;
            }
            if back.publish() {
                wake_front.send(()).unwrap();
            }
            if served < ROUNDS && !back.announce().unwrap() {
                back_events.recv().expect("a notification");
            }
        }
    });
    let (mut asked, mut answered) = (0, 0);
    while answered < ROUNDS {
        while asked < ROUNDS && front.push(&request(asked)).is_ok() {
            asked += 1;
        }
        if front.publish() {
            // The backend may have served everything and gone.
            let _ = wake_back.send(());
        }
        while let Some(response) = front.pop().unwrap() {
            assert_eq!(response.id, answered);
            answered += 1;
        }
        if answered < ROUNDS && front.free() == 0 && !front.announce().unwrap() {
            front_events.recv().expect("a notification");
        }
    }
    backend.join().unwrap();
}

#[test]
fn copies_are_those_of_bytes_wherever_they_begin_and_end() {
    let page = page();
    let lengths = if cfg!(miri) { 0..18 } else { 0..70 };
    for length in lengths {
        for offset in (0..9).chain(4080..4100) {
            let bytes: Vec<u8> = (0..length).map(|index| (index + offset + 1) as u8).collect();
            page.copy_in(offset, &bytes);
            let mut out = vec![0xee; length];
            page.copy_out(offset, &mut out);
            // What lies outside reads as zero, and was not written anywhere.
            let expected: Vec<u8> = (offset..)
                .zip(&bytes)
                .map(|(at, byte)| if at < 4096 { *byte } else { 0 })
                .collect();
            assert_eq!(out, expected, "{length} bytes at {offset}");
            let single: Vec<u8> = (offset..offset + length).map(|at| page.load_byte(at)).collect();
            assert_eq!(single, expected);
        }
    }
}

#[test]
fn bits_are_taken_and_words_exchanged_at_once() {
    let page = page();
    page.store(8, 0b1110, Ordering::Relaxed);
    assert_eq!(page.clear_bits(8, 0b0110), 0b1110);
    assert_eq!(page.compare_exchange(8, 5, 7), Err(0b1000));
    assert_eq!(page.compare_exchange(8, 0b1000, 7), Ok(()));
    assert_eq!(page.load(8, Ordering::Relaxed), 7);
    // Outside there is nothing to take or to exchange.
    assert_eq!(
        (page.clear_bits(4096, 1), page.compare_exchange(4096, 0, 1)),
        (0, Err(0))
    );
}

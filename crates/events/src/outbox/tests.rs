//! What is sent arrives, in order and whole, whichever way it goes.

#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::io::{ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;

use super::*;
use crate::{Socket, run, yield_now};

const BOTH_WAYS: [Sending; 2] = [Sending::Gathered, Sending::AtOnce];

fn pair() -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (Socket::new(ours.into()).unwrap(), theirs)
}

/// What has come, without waiting for more.
fn so_far(peer: &mut UnixStream) -> Vec<u8> {
    peer.set_nonblocking(true).unwrap();
    let mut told = vec![0; 1 << 20];
    let count = match peer.read(&mut told) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        count => count.unwrap(),
    };
    peer.set_nonblocking(false).unwrap();
    told.truncate(count);
    told
}

async fn write_all(socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let count = poll_fn(|cx| socket.poll_write(cx, bytes)).await.unwrap();
        bytes = &bytes[count..];
    }
}

#[test]
fn what_a_turn_says_goes_together_at_its_end() {
    run(Sending::Gathered, async {
        let gathers = sends_gathered();
        let mut pairs: Vec<_> = (0..LETTERS - 1).map(|_| pair()).collect();
        for round in 0..3_u8 {
            for (ours, theirs) in &mut pairs {
                assert_eq!(ours.try_write(&[round; 7]).unwrap(), 7);
                let early: &[u8] = if gathers { &[] } else { &[round; 7] };
                assert_eq!(so_far(theirs), early);
            }
            yield_now().await;
            for (_, theirs) in &mut pairs {
                let late: &[u8] = if gathers { &[round; 7] } else { &[] };
                assert_eq!(so_far(theirs), late);
            }
        }
    })
    .unwrap();
}

#[test]
fn some_let_others_go_first() {
    run(Sending::Gathered, async {
        if !sends_gathered() {
            return;
        }
        let mut pairs: Vec<_> = (0..6).map(|_| pair()).collect();
        for (ours, _) in pairs.iter().take(2).chain(&pairs[4..5]) {
            ours.let_others_go_first();
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        for (number, (_, theirs)) in (0..).zip(&pairs) {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&epoll, theirs, data, epoll::EventFlags::IN).unwrap();
        }
        for (ours, _) in &pairs {
            assert_eq!(ours.try_write(b"hello").unwrap(), 5);
        }
        yield_now().await;
        // They are told of in the order in which they got something to read.
        let mut events = Vec::with_capacity(pairs.len());
        epoll::wait(&epoll, spare_capacity(&mut events), None).unwrap();
        let order: Vec<_> = events.iter().map(|event| event.data.u64()).collect();
        let (first, last) = order.split_at(3);
        assert_eq!(first, [2, 3, 5]);
        assert_eq!(last.iter().sum::<u64>(), 5, "{last:?} are 0, 1 and 4");
        for (_, theirs) in &mut pairs {
            assert_eq!(so_far(theirs), b"hello");
        }
    })
    .unwrap();
}

#[test]
fn what_one_socket_is_told_in_a_row_is_one_letter_unless_it_gets_long() {
    // Its messages keep their bounds.
    let kind = socket2::Type::SEQPACKET;
    let (ours, theirs) = socket2::Socket::pair(socket2::Domain::UNIX, kind, None).unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    run(Sending::Gathered, async move {
        if !sends_gathered() {
            return;
        }
        let (ours, (other, mut others)) = (Socket::new(ours.into()).unwrap(), pair());
        let say = |socket: &Socket, byte, len| {
            assert_eq!(socket.try_write(&vec![byte; len]).unwrap(), len);
        };
        say(&ours, b'a', 3);
        say(&ours, b'b', LETTER_MAX - 3);
        say(&ours, b'c', 1);
        say(&other, b'x', 1);
        say(&ours, b'd', 2);
        yield_now().await;
        let mut told = Vec::new();
        let mut message = vec![0; 2 * LETTER_MAX];
        while let Ok(count) = (&theirs).read(&mut message) {
            told.push((message[0], message[count - 1], count));
        }
        let first = (b'a', b'b', LETTER_MAX);
        assert_eq!(told, [first, (b'c', b'c', 1), (b'd', b'd', 2)]);
        assert_eq!(so_far(&mut others), b"x");
    })
    .unwrap();
}

#[test]
fn what_is_small_does_not_wait_for_what_is_large() {
    for sending in BOTH_WAYS {
        run(sending, async {
            let ((small, mut hears), (large, _deaf)) = (pair(), pair());
            small.try_write(b"quick").unwrap();
            large.try_write(&[7; LETTER_MAX + 1]).unwrap();
            assert_eq!(so_far(&mut hears), b"quick");
        })
        .unwrap();
    }
}

#[test]
fn more_than_is_gathered_at_once_goes_all_the_same() {
    for sending in BOTH_WAYS {
        run(sending, async {
            let mut pairs: Vec<_> = (0..LETTERS * 3 + 1).map(|_| pair()).collect();
            let words: Vec<u8> = (0..LETTER_MAX).map(|at| (at % 251) as u8).collect();
            for (ours, _) in &pairs {
                assert_eq!(ours.try_write(&words).unwrap(), words.len());
            }
            yield_now().await;
            for (_, theirs) in &mut pairs {
                assert_eq!(so_far(theirs), words);
            }
        })
        .unwrap();
    }
}

#[test]
fn one_socket_is_told_everything_in_order_small_and_large() {
    for sending in BOTH_WAYS {
        run(sending, async {
            let (ours, mut theirs) = pair();
            let reader = thread::spawn(move || {
                let mut told = Vec::new();
                theirs.read_to_end(&mut told).map(|_| told)
            });
            let mut said = Vec::new();
            for (number, len) in [3, 5, 300_000, 1, 4096, 4097, 2, 70_000, 9]
                .iter()
                .enumerate()
            {
                let piece = vec![number as u8; *len];
                write_all(&ours, &piece).await;
                said.extend_from_slice(&piece);
            }
            ours.shutdown().await.unwrap();
            assert!(reader.join().unwrap().unwrap() == said);
        })
        .unwrap();
    }
}

#[test]
fn last_words_are_sent_before_the_socket_closes() {
    for sending in BOTH_WAYS {
        run(sending, async {
            let (ours, mut theirs) = pair();
            ours.try_write(b"farewell").unwrap();
            drop(ours);
            let mut told = String::new();
            theirs.read_to_string(&mut told).unwrap();
            assert_eq!(told, "farewell");

            let (ours, mut theirs) = pair();
            ours.try_write(b"go on elsewhere").unwrap();
            let elsewhere = ours.into_fd().unwrap();
            assert_eq!(so_far(&mut theirs), b"go on elsewhere");
            drop(elsewhere);
        })
        .unwrap();
    }
}

/// Fills the socket behind the back of whoever holds it, and returns how much that took.
fn fill(ours: &Socket) -> usize {
    let copy = ours.copy().unwrap();
    let mut filled = 0;
    while let Ok(count) = send(&copy, &[1; 256], SendFlags::DONTWAIT) {
        filled += count;
    }
    filled
}

#[test]
fn what_had_no_room_goes_once_there_is_some_and_nothing_overtakes_it() {
    run(Sending::Gathered, async {
        if !sends_gathered() {
            // Sent at once it has no room, and `event_loop` shows what happens then.
            return;
        }
        let (ours, mut theirs) = pair();
        let filled = fill(&ours);
        let (late, later) = (vec![2; 4096], vec![3; 4096]);
        assert_eq!(ours.try_write(&late).unwrap(), late.len());
        yield_now().await;
        assert!(!ours.is_flushed());
        // Somebody else would not know of the rest.
        assert_eq!(ours.copy().unwrap_err().kind(), ErrorKind::WouldBlock);
        let (elsewhere, _deaf) = pair();
        fill(&elsewhere);
        elsewhere.try_write(&late).unwrap();
        let refused = elsewhere.into_fd().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        let refused = ours.try_write(&later).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);

        let reader = thread::spawn(move || {
            let mut told = Vec::new();
            theirs.read_to_end(&mut told).map(|_| told)
        });
        poll_fn(|cx| ours.poll_flush(cx)).await.unwrap();
        write_all(&ours, &later).await;
        drop(ours);
        let told = reader.join().unwrap().unwrap();
        let said = [vec![1; filled], late, later].concat();
        assert!(told == said, "{} of {}", told.len(), said.len());
    })
    .unwrap();
}

#[test]
fn who_waits_for_an_answer_hears_that_the_question_could_not_be_sent() {
    for sending in BOTH_WAYS {
        run(sending, async {
            let (ours, theirs) = pair();
            let copy = ours.copy().unwrap();
            // It can't write any more, and the other side neither speaks nor ends.
            UnixStream::from(copy).shutdown(Shutdown::Write).unwrap();
            let mut room = [0; 8];
            let asked = ours.try_write(b"question");
            assert_eq!(asked.is_ok(), sends_gathered(), "{asked:?}");
            if asked.is_ok() {
                let answer = poll_fn(|cx| ours.poll_recv(cx, &mut room)).await;
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::BrokenPipe);
            }
            let again = ours.try_write(b"question").unwrap_err();
            assert_eq!(again.kind(), ErrorKind::BrokenPipe);
            if sends_gathered() {
                let flushed = poll_fn(|cx| ours.poll_flush(cx)).await;
                assert_eq!(flushed.unwrap_err().kind(), ErrorKind::BrokenPipe);
            }
            drop(theirs);
        })
        .unwrap();
    }
}

#[test]
fn a_ring_that_refuses_is_not_asked_again_and_nothing_is_lost() {
    let Ok(broken) = IoUring::builder().setup_r_disabled().build(LETTERS as u32) else {
        return;
    };
    run(Sending::Gathered, async {
        EventLoop::here().outbox.borrow_mut().ring = Some(broken);
        let mut pairs: Vec<_> = (0..5).map(|_| pair()).collect();
        for _ in 0..2 {
            for (ours, _) in &pairs {
                ours.try_write(b"all the same").unwrap();
            }
            yield_now().await;
            for (_, theirs) in &mut pairs {
                assert_eq!(so_far(theirs), b"all the same");
            }
            assert!(!sends_gathered());
        }
    })
    .unwrap();
}

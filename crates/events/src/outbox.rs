//! What a thread sends, gathered for a turn, so that the kernel is called once for all of it.
//!
//! A send wakes whoever waits for it, and on a busy machine that one runs at once, on our way back from
//! the call: so many sends, so many changes of task. By io_uring there is one way back for all. Where
//! the kernel does not allow it, as in many containers, each send is a call of its own.

use std::io;
use std::rc::Rc;

use io_uring::{IoUring, Probe, opcode, types};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

use crate::event_loop::EventLoop;
use crate::source::{POSTED, Source, YIELDING};

/// Sends that are gathered, at most, and bytes of all and of each: what is larger goes at once.
const LETTERS: usize = 64;
const ROOM: usize = 64 * 1024;
const LETTER_MAX: usize = 4096;

/// Calls without any outcome before io_uring is given up.
const ATTEMPTS: usize = 100;

/// How a thread sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// By io_uring, all of a turn at once, if the kernel allows that.
    Gathered,
    /// Each by a call of its own.
    AtOnce,
}

/// Whether this thread's event loop gathers what is sent.
pub fn sends_gathered() -> bool {
    EventLoop::here().outbox.borrow().ring.is_some()
}

/// What is to be sent at the end of the turn, or earlier if it gets too much.
pub(crate) struct Outbox {
    /// `None` where io_uring is not to be used, or not to be had.
    ring: Option<IoUring>,
    /// Of all letters, one behind the other.
    words: Vec<u8>,
    letters: Vec<Letter>,
}

/// Bytes for one socket, which nothing else is sent to before.
struct Letter {
    /// Keeps the socket open.
    source: Rc<Source>,
    /// Where its words begin and end among all.
    start: u32,
    end: u32,
    /// What came of it: a count of bytes, or below zero an error's number.
    outcome: i32,
}

/// Nothing came of it yet.
const PENDING: i32 = i32::MIN;

impl Letter {
    /// Its words, among all.
    fn words<'a>(&self, all: &'a [u8]) -> &'a [u8] {
        let words = all.get(self.start as usize..self.end as usize);
        words.unwrap_or_default()
    }
}

impl Outbox {
    pub(crate) fn new(sending: Sending) -> Self {
        let ring = match sending {
            Sending::Gathered => ring().ok(),
            Sending::AtOnce => None,
        };
        let (letters, room) = if ring.is_some() {
            (LETTERS, ROOM)
        } else {
            (0, 0)
        };
        Self {
            ring,
            words: Vec::with_capacity(room),
            letters: Vec::with_capacity(letters),
        }
    }

    /// Sends all letters, and notes in each what came of it. Whoever has no room now is not waited for.
    fn deliver(&mut self) {
        if let [letter] = &mut self.letters[..] {
            // Alone it goes cheaper without a ring.
            letter.outcome = send_now(&letter.source, &self.words);
            return;
        }
        self.put_in_order();
        let Some(ring) = &mut self.ring else {
            return;
        };
        let mut queue = ring.submission();
        for (number, letter) in (0..).zip(&self.letters) {
            let words = letter.words(&self.words);
            let socket = types::Fd(letter.source.raw_fd());
            let entry = opcode::Send::new(socket, words.as_ptr(), len_of(words))
                .flags(FLAGS.bits().cast_signed())
                .build()
                .user_data(number);
            #[expect(unsafe_code, reason = "the kernel is given an address")]
            // SAFETY: the kernel reads the words until it tells of the outcome. Until then they are
            // neither changed nor dropped: that is waited for below, or they are leaked. The letter
            // keeps the socket open.
            let pushed = unsafe { queue.push(&entry) };
            debug_assert!(pushed.is_ok(), "as many places as letters");
        }
        drop(queue);

        let mut missing = self.letters.len();
        let mut attempts = 0;
        while missing > 0 && attempts < ATTEMPTS {
            let before = missing;
            // If it fails, a signal came or memory is short: once more, and then by other means.
            let _ = ring.submit_and_wait(missing);
            for told in ring.completion() {
                let number = usize::try_from(told.user_data()).unwrap_or(usize::MAX);
                if let Some(letter) = self.letters.get_mut(number) {
                    letter.outcome = told.result();
                    missing -= 1;
                }
            }
            if missing == before {
                attempts += 1;
            }
        }
        if missing > 0 {
            self.give_up();
        }
    }

    /// Puts those behind the others that are to go last.
    fn put_in_order(&mut self) {
        let mut first = 0;
        for place in 0..self.letters.len() {
            let letter = self.letters.get(place);
            if letter.is_some_and(|letter| !letter.source.is(YIELDING)) {
                self.letters.swap(first, place);
                first += 1;
            }
        }
    }

    /// Sends at once what io_uring has not even looked at, and never asks it again.
    #[cold]
    fn give_up(&mut self) {
        let Some(mut ring) = self.ring.take() else {
            return;
        };
        let untouched = ring.submission().len();
        drop(ring);
        let first = self.letters.len().saturating_sub(untouched);
        for letter in self.letters.iter_mut().skip(first) {
            letter.outcome = send_now(&letter.source, letter.words(&self.words));
        }
        if self.letters.iter().any(|letter| letter.outcome == PENDING) {
            // Nobody knows what becomes of those: their connections are over, and their words stay.
            let copy = self.words.clone();
            std::mem::forget(std::mem::replace(&mut self.words, copy));
        }
    }

    /// Keeps the room, unless new letters came meanwhile.
    fn take_back(&mut self, mut words: Vec<u8>, letters: Vec<Letter>) {
        if self.letters.is_empty() {
            words.clear();
            (self.words, self.letters) = (words, letters);
        }
    }
}

/// How long they are: never more than there is room for.
fn len_of(words: &[u8]) -> u32 {
    u32::try_from(words.len()).unwrap_or(u32::MAX)
}

/// Who has no room is not waited for, and nobody is killed for writing to someone who is gone.
const FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// Sends as io_uring would, and tells of it in the same way.
fn send_now(source: &Source, words: &[u8]) -> i32 {
    let sent = source.with_socket(|socket| send(socket, words, FLAGS));
    match sent.unwrap_or(Err(Errno::NOTCONN)) {
        Ok(count) => i32::try_from(count).unwrap_or(i32::MAX),
        Err(error) => -error.raw_os_error(),
    }
}

/// A ring, if the kernel has one for us that can send.
fn ring() -> io::Result<IoUring> {
    let entries = u32::try_from(LETTERS).unwrap_or_default();
    let ring = IoUring::builder()
        .setup_submit_all()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
        // Before Linux 6.1.
        .or_else(|_| IoUring::new(entries))?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    match probe.is_supported(opcode::Send::CODE) {
        true => Ok(ring),
        false => Err(io::ErrorKind::Unsupported.into()),
    }
}

impl EventLoop {
    /// Takes bytes to be sent at the end of the turn; false if they had better be sent at once.
    #[inline]
    pub(crate) fn post(&self, source: &Rc<Source>, bytes: &[u8]) -> bool {
        if bytes.len() > LETTER_MAX || bytes.is_empty() {
            return false;
        }
        let mut outbox = self.outbox.borrow_mut();
        if outbox.ring.is_none() {
            return false;
        }
        if outbox.letters.len() == LETTERS || outbox.words.len() > ROOM - LETTER_MAX {
            drop(outbox);
            self.send_gathered();
            return self.post(source, bytes);
        }
        let outbox = &mut *outbox;
        let start = len_of(&outbox.words);
        outbox.words.extend_from_slice(bytes);
        outbox.letters.push(Letter {
            source: source.clone(),
            start,
            end: len_of(&outbox.words),
            outcome: PENDING,
        });
        source.set(POSTED);
        true
    }

    /// Adds bytes to the last letter, if that is for this source; false if it is not, or would get too
    /// long.
    pub(crate) fn post_more(&self, source: &Source, bytes: &[u8]) -> bool {
        let outbox = &mut *self.outbox.borrow_mut();
        match outbox.letters.last_mut() {
            Some(letter)
                if std::ptr::eq(&*letter.source, source)
                    && letter.words(&outbox.words).len() + bytes.len() <= LETTER_MAX =>
            {
                outbox.words.extend_from_slice(bytes);
                letter.end = len_of(&outbox.words);
                true
            }
            _ => false,
        }
    }

    /// Sends what was gathered.
    pub(crate) fn send_gathered(&self) {
        let mut outbox = self.outbox.borrow_mut();
        if outbox.letters.is_empty() {
            return;
        }
        outbox.deliver();
        let mut letters = std::mem::take(&mut outbox.letters);
        let words = std::mem::take(&mut outbox.words);
        // Whoever is told of something, or dropped, may have something to send.
        drop(outbox);
        for letter in &letters {
            letter.source.clear(POSTED);
            let words = letter.words(&words);
            if u32::try_from(letter.outcome) != Ok(len_of(words)) {
                self.look_after(letter, words);
            }
        }
        letters.clear();
        self.outbox.borrow_mut().take_back(words, letters);
    }

    /// Not all of a letter went.
    #[cold]
    fn look_after(&self, letter: &Letter, words: &[u8]) {
        let source = &letter.source;
        let sent = match usize::try_from(letter.outcome) {
            Ok(count) => count,
            Err(_) if letter.outcome == PENDING => return source.fail(Errno::IO),
            Err(_) if -letter.outcome == Errno::AGAIN.raw_os_error() => 0,
            Err(_) => return source.fail(Errno::from_raw_os_error(-letter.outcome)),
        };
        source.keep(words.get(sent..).unwrap_or_default());
        let asked = source.with_socket(|socket| self.ask_for_room(source, socket));
        if let Err(error) = asked.unwrap_or(Err(Errno::NOTCONN)) {
            source.fail(error);
        }
    }
}

#[cfg(test)]
mod tests;

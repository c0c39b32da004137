//! Which sockets are ready, and who waits for them.
//!
//! The kernel tells once of each change, so readiness is remembered until a call finds it gone. Who
//! waits stays noted after that: mostly the same task waits for the same socket next time.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use rustix::event::epoll::{self, EventFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use slab::Slab;

use crate::event_loop::EventLoop;

/// The bits of `Source::ready`: something to read, room to write, and nothing more to come.
pub(crate) const READABLE: u8 = 1;
pub(crate) const WRITABLE: u8 = 2;
pub(crate) const ENDED: u8 = 4;
/// Something was gathered for it; of what was gathered a rest had no room; or it could not be sent.
pub(crate) const POSTED: u8 = 8;
pub(crate) const LATE: u8 = 16;
pub(crate) const FAILED: u8 = 32;
/// What is gathered for it goes behind what is for others.
pub(crate) const YIELDING: u8 = 64;

/// What is asked of the kernel at first. Room is asked for by whoever finds none.
const READING: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);
const BOTH: EventFlags = READING.union(EventFlags::OUT);

/// What is asked of the kernel where one look takes one thing of many: to tell again, as long as there
/// are more.
const TELL_AGAIN: EventFlags = EventFlags::IN;

/// All of a thread, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    places: Slab<Rc<Source>>,
    /// How many there were, so that no number comes twice.
    count: u32,
}

impl Sources {
    fn add(&mut self, ready: u8) -> Rc<Source> {
        self.count = self.count.wrapping_add(1);
        let entry = self.places.vacant_entry();
        // The lower half is the place.
        let place = entry.key() as u64 & u64::from(u32::MAX);
        let source = Rc::new(Source {
            id: u64::from(self.count) << 32 | place,
            ready: Cell::new(ready),
            asks_for_room: Cell::new(false),
            reader: RefCell::default(),
            writer: RefCell::default(),
            late: RefCell::default(),
            socket: RefCell::default(),
        });
        entry.insert(source.clone());
        source
    }

    /// The kernel tells something of a source; it may be gone.
    #[inline]
    pub(crate) fn note(&self, id: u64, flags: EventFlags) {
        match self.places.get(place_of(id)) {
            Some(source) if source.id == id => source.note(flags),
            _ => {}
        }
    }

    /// Takes out all who wait.
    pub(crate) fn take_wakers(&self) -> Vec<Waker> {
        let sources = self.places.iter();
        let both = |(_, source): (usize, &Rc<Source>)| [source.reader.take(), source.writer.take()];
        sources.flat_map(both).flatten().collect()
    }
}

/// The place of a source among the others.
#[inline]
fn place_of(id: u64) -> usize {
    (id & u64::from(u32::MAX)) as usize
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Source {
    id: u64,
    ready: Cell<u8>,
    asks_for_room: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    writer: RefCell<Option<Waker>>,
    late: RefCell<Option<Box<Late>>>,
    /// The socket, if it is one: open as long as something may be sent.
    socket: RefCell<Option<Rc<OwnedFd>>>,
}

/// What became of something that was gathered, if it was not sent.
#[derive(Debug)]
enum Late {
    /// These bytes wait for room.
    Rest(Vec<u8>),
    /// None of them went, nor will others.
    Failed(Errno),
}

impl Source {
    fn note(&self, flags: EventFlags) {
        let mut ready = self.ready.get();
        let (over, ended) = (
            EventFlags::HUP | EventFlags::ERR,
            EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR,
        );
        if flags.intersects(ended) {
            ready |= READABLE | ENDED;
        }
        if flags.intersects(EventFlags::IN) {
            ready |= READABLE;
        }
        let has_room = flags.intersects(EventFlags::OUT | over);
        if has_room && ready & LATE == 0 {
            ready |= WRITABLE;
        }
        self.ready.set(ready);
        if has_room && ready & LATE != 0 {
            self.catch_up();
        }
        self.wake();
    }

    /// Wakes whoever waits for what is there.
    fn wake(&self) {
        if self.is(READABLE)
            && let Some(reader) = &*self.reader.borrow()
        {
            reader.wake_by_ref();
        }
        // Who waits for room is waited for no more: a writer is rare.
        if self.is(WRITABLE)
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }

    /// Keeps what had no room, until there is some.
    pub(crate) fn keep(&self, rest: &[u8]) {
        let late = Late::Rest(rest.to_vec());
        self.late.replace(Some(Box::new(late)));
        self.clear(WRITABLE);
        self.set(LATE);
    }

    /// Sends what had no room, as far as there is some now.
    fn catch_up(&self) {
        let mut late = self.late.borrow_mut();
        let socket = self.socket.borrow().clone();
        let (Some(Late::Rest(rest)), Some(socket)) = (late.as_deref_mut(), socket) else {
            return;
        };
        let outcome = loop {
            match send(&socket, rest, SendFlags::NOSIGNAL) {
                Ok(count) => {
                    rest.drain(..count);
                    if rest.is_empty() {
                        break Ok(());
                    }
                }
                Err(Errno::INTR) => {}
                // The kernel tells of more.
                Err(Errno::AGAIN) => return,
                Err(error) => break Err(error),
            }
        };
        *late = None;
        drop(late);
        self.clear(LATE);
        match outcome {
            Ok(()) => self.set(WRITABLE),
            Err(error) => self.fail(error),
        }
    }

    /// What was gathered can't be sent: whoever reads or writes next is told.
    pub(crate) fn fail(&self, error: Errno) {
        self.late.replace(Some(Box::new(Late::Failed(error))));
        self.clear(LATE);
        self.set(READABLE | WRITABLE | FAILED);
        self.wake();
    }

    /// Why it failed.
    #[cold]
    pub(crate) fn failure(&self) -> io::Error {
        match self.late.borrow().as_deref() {
            Some(Late::Failed(error)) => (*error).into(),
            _ => io::ErrorKind::BrokenPipe.into(),
        }
    }

    /// The socket's number; none of a process's is below zero.
    #[inline]
    pub(crate) fn raw_fd(&self) -> RawFd {
        self.with_socket(AsRawFd::as_raw_fd).unwrap_or(-1)
    }

    /// Does something with the socket, unless it was let go.
    #[inline]
    pub(crate) fn with_socket<R>(&self, act: impl FnOnce(&Rc<OwnedFd>) -> R) -> Option<R> {
        self.socket.borrow().as_ref().map(act)
    }

    #[inline]
    pub(crate) fn is(&self, what: u8) -> bool {
        self.ready.get() & what != 0
    }

    #[inline]
    pub(crate) fn set(&self, what: u8) {
        self.ready.set(self.ready.get() | what);
    }

    #[inline]
    pub(crate) fn clear(&self, what: u8) {
        self.ready.set(self.ready.get() & !what);
    }
}

/// What the thread's event loop watches, for as long as this lives.
pub struct Watch<T: AsFd> {
    pub(crate) source: Rc<Source>,
    pub(crate) home: Rc<EventLoop>,
    /// `None` once it was let go.
    watched: Option<T>,
    /// Whether closing it ends the kernel's watch, because nobody else has it open.
    pub(crate) is_ours_alone: Cell<bool>,
}

impl Watch<Rc<OwnedFd>> {
    /// Lets the event loop send by it.
    pub(crate) fn may_send(&self) {
        self.source.socket.replace(self.watched.clone());
    }
}

impl<T: AsFd> Watch<T> {
    /// Watches something that does not block.
    pub(crate) fn new(watched: T) -> io::Result<Self> {
        // There is room until a call finds none.
        Self::begin(watched, WRITABLE, READING)
    }

    /// Watches something that does not block and has one thing after the other, for
    /// [`Self::take_one`].
    pub fn for_many(watched: T) -> io::Result<Self> {
        Self::begin(watched, 0, TELL_AGAIN)
    }

    /// Watches a socket that is being connected.
    pub(crate) fn connecting(watched: T) -> io::Result<Self> {
        Self::begin(watched, 0, BOTH)
    }

    fn begin(watched: T, ready: u8, flags: EventFlags) -> io::Result<Self> {
        let home = EventLoop::here();
        let source = home.sources.borrow_mut().add(ready);
        source.asks_for_room.set(flags == BOTH);
        let data = epoll::EventData::new_u64(source.id);
        // Made first: whatever goes wrong, the place is given back.
        let watch = Self {
            source,
            home,
            watched: Some(watched),
            is_ours_alone: Cell::new(false),
        };
        epoll::add(&watch.home.epoll, watch.get()?, data, flags)?;
        Ok(watch)
    }

    /// What is watched.
    pub(crate) fn get(&self) -> io::Result<&T> {
        self.watched.as_ref().ok_or_else(let_go)
    }

    /// Sends what was gathered for it, and all else that was.
    #[inline]
    pub(crate) fn send_posted(&self) {
        if self.source.is(POSTED) {
            self.home.send_gathered();
        }
    }

    /// Lets it go, unwatched.
    pub(crate) fn into_inner(mut self) -> io::Result<T> {
        self.send_posted();
        self.is_ours_alone.set(false);
        self.unwatch();
        self.source.socket.take();
        self.watched.take().ok_or_else(let_go)
    }

    /// Ready when there may be something to read, the end included; the task is woken then.
    #[inline]
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.source.is(READABLE) {
            return Poll::Ready(());
        }
        let mut reader = self.source.reader.borrow_mut();
        match &*reader {
            Some(waker) if waker.will_wake(cx.waker()) => Poll::Pending,
            _ => {
                let before = reader.replace(cx.waker().clone());
                drop(reader);
                // A task may end with its last waker.
                drop(before);
                Poll::Pending
            }
        }
    }

    /// There is nothing to read: says so, and the kernel tells of more.
    pub(crate) fn nothing_to_read(&self) {
        self.source.clear(READABLE | ENDED);
    }

    /// Waits until `take` does not say any more that it would block.
    pub async fn take_one<R>(&self, take: impl Fn(&T) -> io::Result<R>) -> io::Result<R> {
        poll_fn(|cx| {
            loop {
                ready!(self.poll_readable(cx));
                // The kernel tells of the next one: nobody has to find out that there is none.
                self.nothing_to_read();
                match take(self.get()?) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    result => return Poll::Ready(result),
                }
            }
        })
        .await
    }

    /// Has the kernel tell of nothing, or again.
    pub fn pause(&self, pause: bool) -> io::Result<()> {
        let flags = match pause {
            true => EventFlags::empty(),
            false => TELL_AGAIN,
        };
        let data = epoll::EventData::new_u64(self.source.id);
        Ok(epoll::modify(&self.home.epoll, self.get()?, data, flags)?)
    }

    /// Ready when there may be room to write; the task is woken then.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.source.is(WRITABLE) {
            return Poll::Ready(Ok(()));
        }
        let before = self.source.writer.replace(Some(cx.waker().clone()));
        drop(before);
        if !self.source.asks_for_room.get() {
            self.home.ask_for_room(&self.source, self.get()?)?;
        }
        Poll::Pending
    }

    fn unwatch(&self) {
        if let Some(watched) = &self.watched
            && !self.is_ours_alone.get()
        {
            // It is open, and watched unless that went wrong at the beginning.
            let _ = epoll::delete(&self.home.epoll, watched);
        }
    }
}

impl EventLoop {
    /// The kernel is to tell of room, now if there is some.
    pub(crate) fn ask_for_room(&self, source: &Source, watched: impl AsFd) -> Result<(), Errno> {
        source.asks_for_room.set(true);
        let data = epoll::EventData::new_u64(source.id);
        epoll::modify(&self.epoll, watched, data, BOTH)
    }
}

impl<T: AsFd> Drop for Watch<T> {
    fn drop(&mut self) {
        self.send_posted();
        self.unwatch();
        let place = place_of(self.source.id);
        let source = self.home.sources.borrow_mut().places.try_remove(place);
        // Who waits may end with it, and others with them.
        drop(source);
    }
}

impl<T: AsFd + fmt::Debug> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.watched).finish()
    }
}

fn let_go() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

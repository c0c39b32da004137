//! Tasks and sockets of loops that run on threads of their own, or as tokio's guests.

#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockAddr;

use super::PATIENT_CREDIT;
use crate::time::{sleep, timeout};
use crate::{Sending, Socket, attach, run, spawn, spawn_patient, yield_now};

fn pair() -> (UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (ours, theirs)
}

fn socket(ours: UnixStream) -> Socket {
    Socket::new(ours.into()).unwrap()
}

async fn read(socket: &Socket, room: usize) -> Vec<u8> {
    let mut buffer = vec![0; room];
    let count = poll_fn(|cx| socket.poll_recv(cx, &mut buffer)).await;
    buffer.truncate(count.unwrap());
    buffer
}

#[test]
fn a_socket_is_read_as_bytes_come_and_to_its_end() {
    let (ours, mut theirs) = pair();
    run(Sending::Gathered, async move {
        let socket = socket(ours);
        assert!(!socket.may_be_readable());
        let writer = thread::spawn(move || {
            theirs.write_all(b"one").unwrap();
            theirs
        });
        assert_eq!(read(&socket, 8).await, b"one");
        assert!(!socket.may_be_readable());
        let mut theirs = writer.join().unwrap();

        // The last words and the end come as one event.
        theirs.write_all(b"two").unwrap();
        drop(theirs);
        assert_eq!(read(&socket, 8).await, b"two");
        assert_eq!(read(&socket, 8).await, b"");
        assert_eq!(read(&socket, 8).await, b"");
    })
    .unwrap();
}

#[test]
fn what_has_no_room_waits_until_the_other_side_reads() {
    let (ours, mut theirs) = pair();
    let sent = run(Sending::Gathered, async move {
        let socket = socket(ours);
        let piece = vec![7; 1 << 16];
        let mut sent = 0;
        loop {
            match socket.try_write(&piece) {
                Ok(count) => sent += count,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        let reader = thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        for _ in 0..20 {
            sent += poll_fn(|cx| socket.poll_write(cx, &piece)).await.unwrap();
        }
        socket.shutdown().await.unwrap();
        (sent, reader.join().unwrap())
    });
    let (sent, received) = sent.unwrap();
    assert_eq!(sent, received);
}

#[test]
fn connecting_leads_to_a_socket_or_says_why_not() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    run(Sending::Gathered, async move {
        let socket = Socket::connect(&SockAddr::from(address)).await.unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(socket.try_write(b"hello").unwrap(), 5);
        // It may go at the end of the turn.
        yield_now().await;
        let mut heard = [0; 5];
        peer.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
        drop(listener);
        let refused = Socket::connect(&SockAddr::from(address)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    })
    .unwrap();
}

#[test]
fn a_socket_that_was_taken_out_is_another_loops_to_watch() {
    let (ours, mut theirs) = pair();
    let fd = run(Sending::Gathered, async move {
        let socket = socket(ours);
        theirs.write_all(b"early").unwrap();
        (socket.into_fd().unwrap(), theirs)
    });
    let (fd, theirs) = fd.unwrap();
    let heard = run(Sending::Gathered, async move {
        read(&Socket::new(fd).unwrap(), 8).await
    });
    assert_eq!(heard.unwrap(), b"early");
    drop(theirs);
}

#[test]
fn a_copy_of_a_closed_socket_wakes_nobody() {
    let (ours, mut theirs) = pair();
    run(Sending::Gathered, async move {
        let first = socket(ours);
        let copy = first.copy().unwrap();
        drop(first);
        // It has the place that the first one had.
        let (other, _other_end) = pair();
        let other = socket(other);
        theirs.write_all(b"for the copy").unwrap();
        let quiet = timeout(
            Duration::from_millis(50),
            poll_fn(|cx| other.poll_readable(cx)),
        );
        assert!(quiet.await.is_err());
        drop(copy);
    })
    .unwrap();
}

#[test]
fn whoever_reads_again_and_again_lets_others_have_their_turn() {
    let (ours, mut theirs) = pair();
    run(Sending::Gathered, async move {
        let socket = socket(ours);
        theirs.write_all(&[1; 1000]).unwrap();
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        spawn(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        for _ in 0..1000 {
            let mut byte = [0];
            poll_fn(|cx| socket.poll_read(cx, &mut byte)).await.unwrap();
        }
        assert!(turns.get() > 0);
    })
    .unwrap();
}

#[test]
fn a_task_that_panics_takes_no_other_along() {
    let done = run(Sending::Gathered, async {
        spawn(async { panic!("as it should") });
        yield_now().await;
        yield_now().await;
        7
    });
    assert_eq!(done.unwrap(), 7);
    run(Sending::Gathered, async { panic!("as it should") }).unwrap_err();
}

#[test]
fn other_threads_wake_tasks_whether_the_loop_sleeps_or_not() {
    run(Sending::Gathered, async {
        for round in 0..200 {
            let shared = Arc::new(Mutex::new((false, None::<Waker>)));
            let theirs = shared.clone();
            let waking = thread::spawn(move || {
                if round % 2 == 0 {
                    thread::yield_now();
                }
                let mut shared = theirs.lock().unwrap();
                shared.0 = true;
                shared.1.take().inspect(Waker::wake_by_ref)
            });
            poll_fn(|cx| {
                let mut shared = shared.lock().unwrap();
                shared.1 = Some(cx.waker().clone());
                if shared.0 {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
            // Dropped here, or there: its last waker may outlive a task.
            drop(waking.join().unwrap());
        }
    })
    .unwrap();
}

/// Works for so long; returns how long that was in the end.
fn work(time: Duration) -> Duration {
    let began = Instant::now();
    while began.elapsed() < time {}
    began.elapsed()
}

#[test]
fn patient_tasks_have_a_quarter_of_the_time_where_others_always_have_work() {
    const STEP: Duration = Duration::from_micros(200);
    const STEPS: u32 = 300;
    let (took, theirs) = run(Sending::Gathered, async {
        let over = Rc::new(Cell::new(false));
        let told = over.clone();
        spawn(async move {
            while !told.get() {
                work(STEP);
                yield_now().await;
            }
        });
        let began = Instant::now();
        let theirs = Rc::new(Cell::new(Duration::ZERO));
        let left = Rc::new(Cell::new(3));
        for _ in 0..left.get() {
            let (left, theirs) = (left.clone(), theirs.clone());
            spawn_patient(async move {
                for _ in 0..STEPS / 3 {
                    theirs.set(theirs.get() + work(STEP));
                    yield_now().await;
                }
                left.set(left.get() - 1);
            });
        }
        while left.get() > 0 {
            yield_now().await;
        }
        // The next one comes when they have waited for what they had.
        let (tell, told) = tokio::sync::oneshot::channel();
        spawn_patient(async move {
            let _ = tell.send(began.elapsed());
        });
        let took = told.await.unwrap();
        over.set(true);
        (took, theirs.get())
    })
    .unwrap();
    // And what they had not made use of.
    assert!(
        theirs <= took * 3 / 10 + PATIENT_CREDIT,
        "{theirs:?} of {took:?}"
    );
}

#[test]
fn what_others_say_does_not_wait_for_patient_steps_that_take_long() {
    run(Sending::Gathered, async {
        let (ours, mut theirs) = pair();
        theirs.set_nonblocking(true).unwrap();
        let socket = socket(ours);
        let (ask, mut asked) = tokio::sync::mpsc::unbounded_channel();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        spawn_patient(async move {
            while asked.recv().await.is_some() {
                let heard = theirs.read(&mut [0; 8]).ok();
                work(Duration::from_millis(1));
                tell.send(heard).unwrap();
            }
        });
        ask.send(()).unwrap();
        assert_eq!(told.recv().await, Some(None));
        for _ in 0..3 {
            // In the same turn as the next step.
            assert_eq!(socket.try_write(b"now").unwrap(), 3);
            ask.send(()).unwrap();
            assert_eq!(told.recv().await, Some(Some(3)));
        }
    })
    .unwrap();
}

#[test]
fn patient_tasks_have_all_the_time_where_nobody_else_has_work() {
    const STEP: Duration = Duration::from_millis(1);
    let (took, theirs) = run(Sending::Gathered, async {
        let began = Instant::now();
        let theirs = Rc::new(Cell::new(Duration::ZERO));
        for _ in 0..200 {
            let (tell, told) = tokio::sync::oneshot::channel();
            let theirs = theirs.clone();
            spawn_patient(async move {
                theirs.set(theirs.get() + work(STEP));
                let _ = tell.send(());
            });
            told.await.unwrap();
        }
        (began.elapsed(), theirs.get())
    })
    .unwrap();
    assert!(theirs > took / 2, "{theirs:?} of {took:?}");
}

#[test]
fn what_is_left_at_the_end_is_dropped() {
    struct Told(mpsc::Sender<&'static str>, &'static str);
    impl Drop for Told {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    let (tell, told) = mpsc::channel();
    run(Sending::Gathered, async move {
        let kept = Told(tell.clone(), "asleep");
        spawn(async move {
            let _kept = kept;
            sleep(Duration::from_secs(3600)).await;
        });
        let (ours, theirs) = pair();
        let kept = Told(tell, "reading");
        spawn(async move {
            let _kept = (kept, theirs);
            read(&socket(ours), 1).await;
        });
        yield_now().await;
    })
    .unwrap();
    let mut told: Vec<_> = told.iter().collect();
    told.sort_unstable();
    assert_eq!(told, ["asleep", "reading"]);
}

#[test]
fn a_guest_of_tokio_has_tasks_timers_and_sockets() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let local = tokio::task::LocalSet::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut peer, _) = listener.accept().unwrap();
        let mut heard = [0; 4];
        for _ in 0..300 {
            peer.read_exact(&mut heard).unwrap();
            peer.write_all(&heard).unwrap();
        }
    });
    local.block_on(&runtime.unwrap(), async {
        attach().unwrap();
        // In a task of tokio's, as in one of ours.
        let socket = Socket::connect(&SockAddr::from(address)).await.unwrap();
        let mut buffer = [0; 4];
        for _ in 0..150 {
            socket.try_write(b"ping").unwrap();
            poll_fn(|cx| socket.poll_read(cx, &mut buffer))
                .await
                .unwrap();
        }
        sleep(Duration::from_millis(5)).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        spawn(async move {
            sleep(Duration::from_millis(5)).await;
            for _ in 0..150 {
                socket.try_write(b"pong").unwrap();
                poll_fn(|cx| socket.poll_read(cx, &mut buffer))
                    .await
                    .unwrap();
            }
            tell.send(buffer).unwrap();
        });
        assert_eq!(&told.await.unwrap(), b"pong");
    });
    echo.join().unwrap();
}

#[test]
fn a_connection_that_breaks_is_an_error_once_and_then_its_end() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    run(Sending::Gathered, async move {
        let socket = Socket::connect(&SockAddr::from(address)).await.unwrap();
        let (peer, _) = listener.accept().unwrap();
        reset(peer);
        let mut buffer = [0; 4];
        let broken = poll_fn(|cx| socket.poll_recv(cx, &mut buffer)).await;
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(read(&socket, 4).await, b"");
    })
    .unwrap();
}

/// Closes it without a farewell.
fn reset(peer: TcpStream) {
    let peer = socket2::Socket::from(peer);
    peer.set_linger(Some(Duration::ZERO)).unwrap();
}

//! The way between the two processes of a take-over: frames and sockets, in order, both ways.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use net::passing::{receive, send_all};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::record::Frame;

/// Read at once.
const PIECE: usize = 64 * 1024;
/// Sockets that may be here before their frames are: one comes with the front of each frame.
const SOCKETS_MAX: usize = 1024;

/// Where frames for the other process are posted, from whichever thread.
#[derive(Debug, Clone)]
pub(super) struct Post(mpsc::UnboundedSender<Letter>);

/// A frame on its way.
#[derive(Debug)]
struct Letter {
    words: Zeroizing<Vec<u8>>,
    socket: Option<OwnedFd>,
    /// Told when the kernel has all of it.
    sent: Option<oneshot::Sender<()>>,
}

impl Post {
    /// Posts a frame; false if that is of no use any more, or it is too long.
    pub(super) fn send(&self, frame: &Frame, socket: Option<OwnedFd>) -> bool {
        self.send_off(frame, socket, None)
    }

    /// The same, and waits until the kernel has it.
    pub(super) async fn send_and_wait(&self, frame: &Frame) -> bool {
        let (sent, done) = oneshot::channel();
        self.send_off(frame, None, Some(sent)) && done.await.is_ok()
    }

    fn send_off(
        &self,
        frame: &Frame,
        socket: Option<OwnedFd>,
        sent: Option<oneshot::Sender<()>>,
    ) -> bool {
        debug_assert_eq!(frame.brings_socket(), socket.is_some());
        let Some(words) = frame.encode() else {
            return false;
        };
        let letter = Letter {
            words,
            socket,
            sent,
        };
        self.0.send(letter).is_ok()
    }

    /// Waits until the kernel has all that was posted.
    pub(super) async fn flush(&self) {
        let (sent, done) = oneshot::channel();
        let letter = Letter {
            words: Zeroizing::default(),
            socket: None,
            sent: Some(sent),
        };
        if self.0.send(letter).is_ok() {
            let _ = done.await;
        }
    }
}

/// Both ends of a way, on this thread's event loop. What was read already comes first.
pub(super) fn open(stream: UnixStream, heard: Vec<u8>, sockets: Vec<OwnedFd>) -> (Post, Reader) {
    let stream = Arc::new(stream);
    let (post, letters) = mpsc::unbounded_channel();
    tokio::task::spawn_local(carry(stream.clone(), letters));
    let reader = Reader {
        stream,
        heard,
        sockets: sockets.into(),
        piece: vec![0; PIECE].into(),
    };
    (Post(post), reader)
}

async fn carry(stream: Arc<UnixStream>, mut letters: mpsc::UnboundedReceiver<Letter>) {
    while let Some(letter) = letters.recv().await {
        let socket = letter.socket.as_ref().map(AsFd::as_fd);
        if let Err(error) = send_all(&stream, &letter.words, socket).await {
            return tracing::debug!("take-over: {error}");
        }
        if let Some(sent) = letter.sent {
            let _ = sent.send(());
        }
    }
}

/// Reads what the other process says.
#[derive(Debug)]
pub(super) struct Reader {
    stream: Arc<UnixStream>,
    heard: Vec<u8>,
    sockets: VecDeque<OwnedFd>,
    piece: Box<[u8]>,
}

impl Reader {
    /// The next frame, and the socket that comes with it if it brings one.
    pub(super) async fn next(&mut self) -> io::Result<(Frame, Option<OwnedFd>)> {
        loop {
            if let Some((frame, len)) = Frame::decode(&self.heard).map_err(io::Error::other)? {
                self.heard.drain(..len);
                let socket = match frame.brings_socket() {
                    true => Some(self.sockets.pop_front().ok_or_else(without_socket)?),
                    false => None,
                };
                return Ok((frame, socket));
            }
            let mut arrived = Vec::new();
            let count = receive(&self.stream, &mut self.piece, &mut arrived).await?;
            self.sockets.extend(arrived);
            if self.sockets.len() > SOCKETS_MAX {
                return Err(io::Error::other("sockets without frames"));
            }
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.heard.extend_from_slice(&self.piece[..count]);
        }
    }
}

fn without_socket() -> io::Error {
    io::Error::other("a frame came without its socket")
}

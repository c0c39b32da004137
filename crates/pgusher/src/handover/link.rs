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
/// Sockets that may be here before their frames are: one or two come with the front of a frame.
const SOCKETS_MAX: usize = 1024;

/// Where frames for the other process are posted, from whichever thread.
#[derive(Debug, Clone)]
pub(super) struct Post(mpsc::UnboundedSender<Letter>);

/// A frame on its way.
#[derive(Debug)]
struct Letter {
    words: Zeroizing<Vec<u8>>,
    sockets: Vec<OwnedFd>,
    /// Told when the kernel has all of it.
    sent: Option<oneshot::Sender<()>>,
}

impl Post {
    /// Posts a frame; false if that is of no use any more, or it is too long.
    pub(super) fn send(&self, frame: &Frame) -> bool {
        self.send_with(frame, Vec::new())
    }

    /// The same with the sockets that belong to it.
    pub(super) fn send_with(&self, frame: &Frame, sockets: Vec<OwnedFd>) -> bool {
        self.send_off(frame, sockets, None)
    }

    /// The same, and waits until the kernel has it.
    pub(super) async fn send_and_wait(&self, frame: &Frame) -> bool {
        let (sent, done) = oneshot::channel();
        self.send_off(frame, Vec::new(), Some(sent)) && done.await.is_ok()
    }

    fn send_off(
        &self,
        frame: &Frame,
        sockets: Vec<OwnedFd>,
        sent: Option<oneshot::Sender<()>>,
    ) -> bool {
        debug_assert_eq!(frame.sockets(), sockets.len());
        let Some(words) = frame.encode() else {
            return false;
        };
        let letter = Letter {
            words,
            sockets,
            sent,
        };
        self.0.send(letter).is_ok()
    }

    /// Waits until the kernel has all that was posted.
    pub(super) async fn flush(&self) {
        let (sent, done) = oneshot::channel();
        let letter = Letter {
            words: Zeroizing::default(),
            sockets: Vec::new(),
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
        let sockets: Vec<_> = letter.sockets.iter().map(AsFd::as_fd).collect();
        if let Err(error) = send_all(&stream, &letter.words, &sockets).await {
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
    /// The next frame, and the sockets that come with it.
    pub(super) async fn next(&mut self) -> io::Result<(Frame, Vec<OwnedFd>)> {
        loop {
            if let Some((frame, len)) = Frame::decode(&self.heard).map_err(io::Error::other)? {
                self.heard.drain(..len);
                let count = frame.sockets();
                if count > self.sockets.len() {
                    return Err(io::Error::other("a frame came without its sockets"));
                }
                return Ok((frame, self.sockets.drain(..count).collect()));
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

//! Descriptors on their way from one process to another, over a unix socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors in one message.
pub const PASSED_MAX: usize = 64;

/// Sends words and descriptors as one message. The words are few: they fit into an empty socket.
pub async fn send(stream: &UnixStream, words: &[u8], passed: &[BorrowedFd<'_>]) -> io::Result<()> {
    if passed.len() > PASSED_MAX {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let raw: Vec<RawFd> = passed.iter().map(|fd| fd.as_raw_fd()).collect();
    if send_some(stream, words, &raw).await? < words.len() {
        return Err(io::ErrorKind::WriteZero.into());
    }
    Ok(())
}

/// Sends words of any length, and descriptors that go with the first of them. Given up halfway,
/// nobody knows how far it came.
pub async fn send_all(
    stream: &UnixStream,
    mut words: &[u8],
    passed: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut raw: Vec<RawFd> = passed.iter().map(|fd| fd.as_raw_fd()).collect();
    while !words.is_empty() {
        let sent = send_some(stream, words, &raw).await?;
        raw.clear();
        words = words.get(sent..).unwrap_or_default();
    }
    Ok(())
}

async fn send_some(stream: &UnixStream, words: &[u8], raw: &[RawFd]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(raw)];
    let rights = if raw.is_empty() { &[] } else { &rights[..] };
    let send = || {
        let words = [IoSlice::new(words)];
        let flags = MsgFlags::MSG_NOSIGNAL;
        Ok(sendmsg::<()>(
            stream.as_raw_fd(),
            &words,
            rights,
            flags,
            None,
        )?)
    };
    stream.async_io(Interest::WRITABLE, send).await
}

/// Reads what has come into `words`, and appends descriptors that came with it; 0 is the end.
pub async fn receive(
    stream: &UnixStream,
    words: &mut [u8],
    passed: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let receive = || {
        let mut space = cmsg_space!([RawFd; PASSED_MAX]);
        let mut words = [IoSliceMut::new(&mut *words)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(stream.as_raw_fd(), &mut words, Some(&mut space), flags)?;
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = part {
                // Sound: the kernel has just made them for us, and nobody else knows of them.
                #[allow(unsafe_code)]
                passed.extend(
                    raw.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        Ok(message.bytes)
    };
    stream.async_io(Interest::READABLE, receive).await
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn a_descriptor_arrives_with_the_words_that_it_was_sent_with() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut end, passed) = std::os::unix::net::UnixStream::pair().unwrap();
        let fd = OwnedFd::from(passed);
        send(&here, b"here it is", &[std::os::fd::AsFd::as_fd(&fd)])
            .await
            .unwrap();
        drop(fd);

        let (mut words, mut arrived) = ([0; 64], Vec::new());
        let len = receive(&there, &mut words, &mut arrived).await.unwrap();
        assert_eq!(&words[..len], b"here it is");
        let mut arrived = std::os::unix::net::UnixStream::from(arrived.remove(0));
        arrived.write_all(b"x").unwrap();
        let mut byte = [0];
        end.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");

        send(&here, b"alone", &[]).await.unwrap();
        let mut none = Vec::new();
        assert_eq!(receive(&there, &mut words, &mut none).await.unwrap(), 5);
        assert!(none.is_empty());
        let long = vec![7; 1 << 20];
        let one = [std::os::fd::AsFd::as_fd(&arrived)];
        let (sent, read) = tokio::join!(send_all(&here, &long, &one), async {
            let (mut read, mut fds) = (0, Vec::new());
            while read < long.len() {
                read += receive(&there, &mut words, &mut fds).await.unwrap();
            }
            assert_eq!(fds.len(), 1, "it comes once, with the first of the words");
            read
        });
        sent.unwrap();
        assert_eq!(read, long.len());
        drop(here);
        assert_eq!(receive(&there, &mut words, &mut none).await.unwrap(), 0);
    }
}

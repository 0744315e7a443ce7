//! The socket between a host and the process of its guest: messages in JSON, each behind its length, and
//! files.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// How long a message may be: an order holds the arguments and the environment of a program.
const LONGEST: usize = 16 << 20;
/// How many files go with an order: the standard streams, and the gauge.
pub(super) const FILES: usize = 4;

/// One end.
pub(super) struct Link {
    stream: UnixStream,
    /// What was read and not yet asked for.
    read: BytesMut,
}

impl Link {
    /// Takes over a socket. Must be called in an event loop.
    pub(super) fn new(stream: std::os::unix::net::UnixStream) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        Ok(Link { stream: UnixStream::from_std(stream)?, read: BytesMut::new() })
    }

    pub(super) async fn send(&mut self, message: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let length = u32::try_from(text.len()).map_err(io::Error::other)?;
        self.stream.write_all(&length.to_be_bytes()).await?;
        self.stream.write_all(&text).await
    }

    /// The next message; none when the other end is gone. Nothing is lost if this is dropped.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        loop {
            if let Some((length, rest)) = self.read.split_first_chunk() {
                let length = u32::from_be_bytes(*length) as usize;
                if length > LONGEST {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if rest.len() >= length {
                    let message = serde_json::from_slice(&rest[..length]).map_err(io::Error::from);
                    self.read.advance(size_of::<u32>() + length);
                    return message.map(Some);
                }
            }
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // It has not heard all that was said.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends files, with a byte that carries them. The other end waits for them.
    pub(super) async fn send_files(&self, files: [BorrowedFd<'_>; FILES]) -> io::Result<()> {
        let send = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            let word = [IoSlice::new(b"f")];
            rustix::net::sendmsg(&self.stream, &word, &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.stream.async_io(Interest::WRITABLE, send).await
    }

    /// Receives files. No message is on its way before them.
    pub(super) async fn receive_files(&self) -> io::Result<[OwnedFd; FILES]> {
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut word = [0];
            let mut words = [IoSliceMut::new(&mut word)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            rustix::net::recvmsg(self.stream.as_fd(), &mut words, &mut control, flags)?;
            let files = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            let files: Vec<OwnedFd> = files.flatten().collect();
            files.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
        };
        self.stream.async_io(Interest::READABLE, receive).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Link, Link) {
        let (here, there) = std::os::unix::net::UnixStream::pair().unwrap();
        (Link::new(here).unwrap(), Link::new(there).unwrap())
    }

    #[tokio::test]
    async fn messages_and_files_arrive_in_their_order() {
        let (mut here, mut there) = pair();
        let file = tempfile::tempfile().unwrap();
        here.send_files([file.as_fd(); FILES]).await.unwrap();
        here.send(&"one").await.unwrap();
        here.send(&vec![2; 10]).await.unwrap();
        let files = there.receive_files().await.unwrap();
        let same = |fd: &OwnedFd| rustix::fs::fstat(fd).unwrap().st_ino;
        assert_eq!(same(&files[3]), rustix::fs::fstat(&file).unwrap().st_ino);
        assert_eq!(there.next::<String>().await.unwrap().as_deref(), Some("one"));
        assert_eq!(there.next::<Vec<u8>>().await.unwrap(), Some(vec![2; 10]));
        drop(here);
        assert_eq!(there.next::<String>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn what_is_too_long_or_no_message_is_refused() {
        let (mut here, mut there) = pair();
        here.stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
        assert!(there.next::<String>().await.is_err());
        let (mut here, mut there) = pair();
        here.send(&1).await.unwrap();
        assert!(there.next::<String>().await.is_err());
    }
}

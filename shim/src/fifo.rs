//! The fifos that containerd named for output, and whether their readers have all that was written.
//!
//! A client opens its ends in threads of its own, about when it asks for the container: `ctr` gives that up
//! as soon as it hears of the end, and CRI waits for ever for a writer that came and went before. So nothing
//! is written before there is a reader, and no end is told before the reader has it all.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// How long to wait before looking again: a reader that is woken needs much less.
const GLANCE: Duration = Duration::from_millis(1);
/// How long a reader may take to come, and to read what is left at the end. There may be none.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// The writing end of a fifo, beside whoever writes to it. It keeps what is in the fifo.
#[derive(Debug)]
pub(crate) struct Fifo(OwnedFd);

impl Fifo {
    /// Opens a fifo once there is a reader. None if nobody comes, and for another kind of file. Whoever
    /// has it open for both ways is taken for a reader.
    pub(crate) async fn with_reader(path: &str) -> io::Result<Option<Fifo>> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let start = Instant::now();
        let end = loop {
            match rustix::fs::open(path, flags, Mode::empty()) {
                Ok(end) => break end,
                // fifo(7): nobody has it open for reading.
                Err(Errno::NXIO) if start.elapsed() < PATIENCE => tokio::time::sleep(GLANCE).await,
                Err(Errno::NXIO) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&end)?.st_mode);
        Ok((kind == FileType::Fifo).then_some(Fifo(end)))
    }

    /// Waits until all is read, for as long as there is a reader that may. Whoever wrote has let go.
    pub(crate) async fn until_read(self) {
        self.until_read_or(Instant::now() + PATIENCE).await;
    }

    /// The same with a deadline, which several may share.
    pub(crate) async fn until_read_or(self, deadline: Instant) {
        let is_unread = || rustix::io::ioctl_fionread(&self.0).is_ok_and(|bytes| bytes > 0);
        while self.has_reader() && is_unread() && Instant::now() < deadline {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// poll(2): the writing end of a pipe is in error when nobody has the other.
    fn has_reader(&self) -> bool {
        let mut end = [PollFd::new(&self.0, PollFlags::OUT)];
        let polled = rustix::event::poll(&mut end, Some(&Timespec::default()));
        polled.is_ok() && !end[0].revents().contains(PollFlags::ERR)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_waited_for_as_long_as_somebody_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        let path = path.to_str().unwrap();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, FileType::Fifo, mode, 0).unwrap();
        assert!(Fifo::with_reader("/dev/null").await.unwrap().is_none(), "it is no fifo");
        let mut opening = Box::pin(Fifo::with_reader(path));
        let early = std::future::poll_fn(|cx| std::task::Poll::Ready(opening.as_mut().poll(cx)));
        assert!(early.await.is_pending(), "there is no reader");
        let open = || std::fs::File::options().read(true).write(true).open(path).unwrap();
        let mut writer = open();
        let fifo = opening.await.unwrap().expect("a fifo");
        let mut reader = std::fs::File::open(path).unwrap();
        writer.write_all(b"words").unwrap();
        drop(writer);
        let waiting = tokio::spawn(fifo.until_read());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "nobody has read it");
        reader.read_exact(&mut [0; 5]).unwrap();
        waiting.await.unwrap();
        // Nobody ever will.
        let mut writer = open();
        writer.write_all(b"words").unwrap();
        let fifo = Fifo::with_reader(path).await.unwrap().expect("a fifo");
        drop((writer, reader));
        let start = Instant::now();
        fifo.until_read().await;
        assert!(start.elapsed() < PATIENCE);
    }
}

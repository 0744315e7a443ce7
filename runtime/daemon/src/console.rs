//! A container's standard streams: what it prints goes to its log and to whoever listens; what is
//! typed to it comes from whoever is attached.
//!
//! A listener that is slow slows the container down, as a full pipe does; one that is gone is forgotten.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use mote_engine::{Feed, Input, Output, Room, Sink, Stdio, Terminal};
use mote_lifecycle::{
    Line, Lines, LogDriver, LogReader, LogWriter, Record, Stdin, Stream, Talks, Time, remove_log,
};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::journal::Journal;

/// How many pieces of output may wait for a listener.
const AHEAD: usize = 64;
/// How many pieces may wait for whoever follows a log.
const READ_AHEAD: usize = 512;
/// How many bytes of input may wait for a guest.
const TYPED_AHEAD: usize = 64 << 10;

/// A piece of what a container printed.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) stream: Stream,
    pub(crate) bytes: Bytes,
}

/// The standard streams of one container, over all its runs.
pub(crate) struct Console {
    state: Mutex<State>,
    log_path: PathBuf,
    /// Told when there is something to write that does not fill a batch.
    flusher: mpsc::UnboundedSender<Weak<Console>>,
}

struct State {
    lines: Lines,
    keeper: Keeper,
    /// Whether the flusher knows.
    dirty: bool,
    /// How many lines were lost since the last that was kept.
    lost: u64,
    /// Whether a run is under way, so that more may come.
    open: bool,
    listeners: Vec<mpsc::Sender<Chunk>>,
    readers: Vec<mpsc::Sender<Vec<Line>>>,
    /// Our end of the input. Whoever types may wait for the guest, and holds nobody else up.
    typed: Option<Arc<tokio::sync::Mutex<DuplexStream>>>,
    /// The guest's end of it, until it takes it.
    feed: Option<DuplexStream>,
}

/// What keeps the lines.
enum Keeper {
    File(LogWriter),
    Journal(Journal),
    Nobody,
}

impl Console {
    /// The console of a container whose log is at `log_path`.
    pub(crate) fn open(
        record: &Record,
        log_path: PathBuf,
        flusher: mpsc::UnboundedSender<Weak<Console>>,
    ) -> io::Result<Arc<Console>> {
        let log = record.setup.log;
        let keeper = match log.driver {
            LogDriver::JsonFile => Keeper::File(LogWriter::open(&log_path, log.rotation)?),
            LogDriver::Journald => Keeper::Journal(Journal::open(record)?),
            LogDriver::None => Keeper::Nobody,
        };
        Ok(Console::with(keeper, log_path, flusher))
    }

    /// A console that keeps nothing, for a container whose log cannot be written.
    pub(crate) fn silent(
        log_path: PathBuf,
        flusher: mpsc::UnboundedSender<Weak<Console>>,
    ) -> Arc<Console> {
        Console::with(Keeper::Nobody, log_path, flusher)
    }

    fn with(
        keeper: Keeper,
        log_path: PathBuf,
        flusher: mpsc::UnboundedSender<Weak<Console>>,
    ) -> Arc<Console> {
        let state = State {
            lines: Lines::default(),
            keeper,
            dirty: false,
            lost: 0,
            open: false,
            listeners: Vec::new(),
            readers: Vec::new(),
            typed: None,
            feed: None,
        };
        Arc::new(Console { state: Mutex::new(state), log_path, flusher })
    }

    /// Where the log is, if it is in a file.
    pub(crate) fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// The streams for a run.
    pub(crate) fn stdio(self: &Arc<Console>, record: &Record) -> Stdio {
        self.state().open = true;
        let input = match record.setup.stdin {
            Stdin::Closed => Input::Empty,
            Stdin::Open | Stdin::Once => {
                let mut state = self.state();
                state.typed();
                let feed = state.feed.take();
                feed.map_or(Input::Empty, |feed| Input::Feed(Feed::new(feed)))
            }
        };
        let sink = |stream| Output::Sink(Arc::new(Port { console: Arc::clone(self), stream }));
        Stdio {
            input,
            output: sink(Stream::Stdout),
            error: sink(Stream::Stderr),
            terminal: match record.setup.terminal {
                Talks::Streams => Terminal::No,
                Talks::Terminal => Terminal::AsIs,
            },
        }
    }

    /// Types something to the guest; waits while it has not read what came before, also before it
    /// begins.
    pub(crate) async fn write_input(&self, bytes: &[u8]) -> io::Result<()> {
        let typed = self.state().typed();
        typed.lock().await.write_all(bytes).await
    }

    /// Ends the guest's input, once it has room for what was typed before.
    pub(crate) async fn close_input(&self) {
        let typed = self.state().typed();
        // A guest that has ended reads no more.
        let _ = typed.lock().await.shutdown().await;
    }

    /// Prints lines that are not the guest's own: what a function returned, or why a run ended.
    pub(crate) fn say(self: &Arc<Console>, stream: Stream, lines: &[String]) {
        for line in lines {
            self.print(stream, format!("{line}\n").as_bytes());
        }
    }

    /// Shows whoever listens what was typed; no log has it.
    pub(crate) fn echo(&self, bytes: &[u8]) {
        let chunk = Chunk { stream: Stream::Stdout, bytes: Bytes::copy_from_slice(bytes) };
        // For whom there is no room, it is lost.
        self.state().listeners.iter().for_each(|listener| drop(listener.try_send(chunk.clone())));
    }

    /// Listens to what is printed from now until the run ends.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Chunk> {
        self.state().listen()
    }

    /// The log so far, and what is printed from then until the run ends. Blocks.
    pub(crate) fn listen_after(&self) -> io::Result<(LogReader, mpsc::Receiver<Chunk>)> {
        let mut state = self.state();
        Ok((state.log(&self.log_path)?, state.listen()))
    }

    /// The log so far, and the lines from then until the run ends. A reader that falls too far behind
    /// is let go: to read a log never slows a guest down. Blocks.
    pub(crate) fn follow(&self) -> io::Result<(LogReader, mpsc::Receiver<Vec<Line>>)> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let mut state = self.state();
        let log = state.log(&self.log_path)?;
        if state.open {
            state.readers.push(sender);
        }
        Ok((log, receiver))
    }

    /// The log so far. Blocks.
    pub(crate) fn history(&self) -> io::Result<LogReader> {
        self.state().log(&self.log_path)
    }

    /// Removes the log: nothing is written any more, by whomever.
    pub(crate) fn remove(&self) {
        let mut state = self.state();
        state.keeper = Keeper::Nobody;
        remove_log(&self.log_path);
    }

    /// Writes what has not been written yet.
    pub(crate) fn flush(&self) {
        let mut state = self.state();
        state.dirty = false;
        if let Err(error) = state.flush()
            && state.lost == 0
        {
            state.lost += 1;
            tracing::warn!(log = %self.log_path.display(), %error, "a log cannot be written");
        }
    }

    /// A run has ended: writes all there is, and lets everybody go who listens.
    pub(crate) fn finish(&self) {
        {
            let mut state = self.state();
            let mut last = Vec::new();
            state.lines.finish(Time::now(), |line| last.push(line));
            state.keep(last);
            state.open = false;
            state.listeners.clear();
            state.readers.clear();
            (state.typed, state.feed) = (None, None);
        }
        self.flush();
    }

    fn print(self: &Arc<Console>, stream: Stream, bytes: &[u8]) {
        let mut state = self.state();
        let chunk = Chunk { stream, bytes: Bytes::copy_from_slice(bytes) };
        // There was room; who is gone, or gets output of two runs at once, is let go.
        state.listeners.retain(|listener| listener.try_send(chunk.clone()).is_ok());
        let mut whole = Vec::new();
        state.lines.print(stream, bytes, Time::now(), |line| whole.push(line));
        let idle = whole.is_empty() || std::mem::replace(&mut state.dirty, true);
        state.keep(whole);
        if !idle {
            // A flusher that is gone has flushed everything before.
            let _ = self.flusher.send(Arc::downgrade(self));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody for whom there is no room now.
    fn full(&self) -> Option<mpsc::Sender<Chunk>> {
        let state = self.state();
        state.listeners.iter().find(|one| one.capacity() == 0 && !one.is_closed()).cloned()
    }
}

impl State {
    /// Our end of the input of this run or the next: somebody may type before it begins.
    fn typed(&mut self) -> Arc<tokio::sync::Mutex<DuplexStream>> {
        if self.typed.is_none() {
            let (ours, theirs) = tokio::io::duplex(TYPED_AHEAD);
            self.feed = Some(theirs);
            self.typed = Some(Arc::new(tokio::sync::Mutex::new(ours)));
        }
        Arc::clone(self.typed.as_ref().expect("it was just made"))
    }

    fn listen(&mut self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        self.listeners.push(sender);
        receiver
    }

    fn log(&mut self, path: &Path) -> io::Result<LogReader> {
        // What cannot be written now is lost; what was written before can be read.
        let _ = self.flush();
        LogReader::open(path)
    }

    fn keep(&mut self, lines: Vec<Line>) {
        if lines.is_empty() {
            return;
        }
        for line in &lines {
            let kept = match &mut self.keeper {
                Keeper::File(log) => log.append(line),
                Keeper::Journal(journal) => journal.send(line),
                Keeper::Nobody => Ok(()),
            };
            // Said once: what fails for one line fails for the next, and guests print many.
            match kept {
                Ok(()) if self.lost > 0 => {
                    tracing::warn!(lines = std::mem::take(&mut self.lost), "a log was not kept");
                }
                Ok(()) => {}
                Err(error) => {
                    if self.lost == 0 {
                        tracing::warn!(%error, "lines of a log are lost");
                    }
                    self.lost += 1;
                }
            }
        }
        self.readers.retain(|reader| reader.try_send(lines.clone()).is_ok());
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.keeper {
            Keeper::File(log) => log.flush(),
            Keeper::Journal(_) | Keeper::Nobody => Ok(()),
        }
    }
}

/// One of the two streams that a guest prints to.
struct Port {
    console: Arc<Console>,
    stream: Stream,
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} of a container", self.stream)
    }
}

impl Sink for Port {
    fn take(&self, bytes: &[u8]) {
        self.console.print(self.stream, bytes);
    }

    fn has_room(&self) -> bool {
        self.console.full().is_none()
    }

    fn room(self: Arc<Self>) -> Room {
        Box::pin(async move {
            while let Some(full) = self.console.full() {
                // One that is gone leaves room too.
                drop(full.reserve().await);
            }
        })
    }
}

/// Writes what consoles have gathered, a moment after they say so: what is printed in between goes
/// to the disk at once.
pub(crate) async fn flush_forever(
    mut dirty: mpsc::UnboundedReceiver<Weak<Console>>,
    pause: std::time::Duration,
) {
    while let Some(first) = dirty.recv().await {
        tokio::time::sleep(pause).await;
        let mut consoles = vec![first];
        while let Ok(next) = dirty.try_recv() {
            consoles.push(next);
        }
        let flush = move || {
            consoles.iter().filter_map(Weak::upgrade).for_each(|console| console.flush());
        };
        // Only a panic of a flush could fail it, and there is none.
        let _ = tokio::task::spawn_blocking(flush).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_lifecycle::{Image, Made, RestartPolicy, Setup};
    use mote_spec::{Asks, Bytes as Size, Ceiling, ContainerId, Request, decide};

    fn console(folder: &Path) -> (Arc<Console>, Record) {
        let ceiling = Ceiling::of_machine(Size::mib(64));
        let made = Made {
            id: ContainerId::new([7; 32]),
            name: "web".parse().unwrap(),
            image: Image {
                name: "web:1".into(),
                digest: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
                manifest: None,
                files: None,
            },
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            policy: decide(Request::default(), &Asks::default(), &ceiling).unwrap(),
            restart: RestartPolicy::No,
            setup: Setup { stdin: Stdin::Once, ..Setup::default() },
        };
        let record = Record::new(made, Time::now());
        let (flusher, _) = mpsc::unbounded_channel();
        (Console::open(&record, folder.join("web.log"), flusher).unwrap(), record)
    }

    #[tokio::test]
    async fn more_typing_than_waits_does_not_hold_the_start_up() {
        let folder = tempfile::tempdir().unwrap();
        let (console, record) = console(folder.path());
        let typing = {
            let console = Arc::clone(&console);
            tokio::spawn(async move { console.write_input(&[b'x'; 2 * TYPED_AHEAD]).await })
        };
        // It has filled the pipe, and waits for the guest.
        tokio::task::yield_now().await;
        assert!(matches!(console.stdio(&record).input, Input::Feed(_)));
        console.finish();
        assert!(typing.await.unwrap().is_err(), "nobody reads it any more");
    }

    #[tokio::test]
    async fn a_listener_that_is_slow_is_waited_for_and_one_that_is_gone_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (console, _) = console(folder.path());
        let port = Arc::new(Port { console: Arc::clone(&console), stream: Stream::Stdout });
        let mut listener = console.listen();
        for _ in 0..AHEAD {
            assert!(port.has_room());
            port.take(b"a piece\n");
        }
        assert!(!port.has_room());
        let room = tokio::spawn(Arc::clone(&port).room());
        assert_eq!(&listener.recv().await.unwrap().bytes[..], b"a piece\n");
        room.await.unwrap();
        port.take(b"another\n");
        assert!(!port.has_room());
        drop(listener);
        assert!(port.has_room());
    }

    #[tokio::test]
    async fn whoever_reads_a_log_slows_nobody_down() {
        let folder = tempfile::tempdir().unwrap();
        let (console, record) = console(folder.path());
        drop(console.stdio(&record));
        let port = Port { console: Arc::clone(&console), stream: Stream::Stdout };
        let (_, mut lines) = console.follow().unwrap();
        for _ in 0..2 * READ_AHEAD {
            assert!(port.has_room());
            port.take(b"a line\n");
        }
        // It fell behind, and is let go with what it had.
        let mut read = 0;
        while lines.recv().await.is_some() {
            read += 1;
        }
        assert_eq!(read, READ_AHEAD);
        console.finish();
        let (_, mut lines) = console.follow().unwrap();
        assert!(lines.recv().await.is_none(), "nothing more comes of a run that has ended");
    }

    #[tokio::test]
    async fn a_removed_log_is_not_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (console, _) = console(folder.path());
        console.print(Stream::Stdout, b"a line\n");
        console.flush();
        assert!(console.log_path().exists());
        console.print(Stream::Stdout, b"another\n");
        console.remove();
        console.flush();
        assert!(!console.log_path().exists());
    }
}

//! Containers of terminals, which live as long as their process does: a record in the volatile state
//! folder, which the process holds the lock of, and a socket that takes commands.
//!
//! ```text
//! FOLDER/SHORT_ID.json   the record, locked by the host for as long as it lives
//! FOLDER/SHORT_ID.sock   one request and one answer in each connection, a line of JSON each
//! ```
//!
//! On the way of every start: a file, a lock, a socket, and no more.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use mote_engine::Gauge;
use mote_spec::{Ceiling, ExitStatus, LimitWants};
use serde::{Deserialize, Serialize};

use crate::command::Change;
use crate::container::Container;
use crate::keep::{Keep, RecordsError};
use crate::record::Record;

/// How long a request or an answer may be.
const LONGEST_LINE: u64 = 64 << 10;
/// How long a container may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked of a running container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    Stop,
    Kill,
    Pause,
    Unpause,
    /// Other limits of memory, CPU and network.
    Update(LimitWants),
    Usage,
}

/// What it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Done,
    Usage(Usage),
    /// Why not, for a person.
    Refused(String),
}

/// What a container uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub memory: u64,
    pub memory_peak: u64,
    pub cpu_nanos: u64,
    pub stored: u64,
    pub received: u64,
    pub sent: u64,
}

impl From<&Gauge> for Usage {
    fn from(gauge: &Gauge) -> Usage {
        Usage {
            memory: gauge.memory.load(Ordering::Relaxed),
            memory_peak: gauge.memory_peak.load(Ordering::Relaxed),
            cpu_nanos: gauge.cpu_nanos.load(Ordering::Relaxed),
            stored: gauge.stored.load(Ordering::Relaxed),
            received: gauge.received.load(Ordering::Relaxed),
            sent: gauge.sent.load(Ordering::Relaxed),
        }
    }
}

/// Why the containers of terminals cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    #[error("cannot use {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error("no running container is called {0}")]
    None(String),
    #[error("{0} could be several containers; write more of its id")]
    Several(String),
    #[error("the container does not answer")]
    Silent { source: io::Error },
    #[error("the container answers with something else")]
    Answer { source: serde_json::Error },
}

/// The containers of this machine's terminals.
#[derive(Debug, Clone)]
pub struct Live {
    folder: PathBuf,
}

/// The place of one container; its files go when it is dropped.
pub struct Place {
    base: PathBuf,
    /// The record's file, locked.
    file: File,
}

/// How often a record is read that is being written just then.
const ATTEMPTS: usize = 10;

impl Live {
    /// Uses a folder that only this user may write to.
    pub fn new(folder: PathBuf) -> Live {
        Live { folder }
    }

    /// Takes a place for a container that is about to run.
    pub fn enter(&self, record: &Record) -> Result<Place, LiveError> {
        let base = self.base(record);
        let failed = |source| LiveError::Folder { path: self.folder.clone(), source };
        // It has its name only once it is locked: until then it would look abandoned.
        let draft = base.with_extension("new");
        let options = || File::options().write(true).create_new(true).mode(0o600).open(&draft);
        let file = options().map_err(failed)?;
        let place = Place { base, file };
        place.file.lock().map_err(failed)?;
        place.write(record).map_err(failed)?;
        fs::rename(&draft, place.base.with_extension("json")).map_err(failed)?;
        Ok(place)
    }

    /// The records of all that run, the oldest first; what a killed process left is cleared away.
    pub fn list(&self) -> Result<Vec<Record>, LiveError> {
        let failed = |source| LiveError::Folder { path: self.folder.clone(), source };
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut records = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            match path.extension().and_then(|end| end.to_str()) {
                Some("json") => {}
                Some("new") => {
                    clear_draft(&path);
                    continue;
                }
                _ => continue,
            }
            let base = path.with_extension("");
            if is_abandoned(&path) {
                clear(&base);
                continue;
            }
            // One that ends just now has no record any more.
            records.extend((0..ATTEMPTS).find_map(|_| read(&path)));
        }
        records.sort_by_key(|record| record.created);
        Ok(records)
    }

    /// Finds one by its name, its id, or the start of its id.
    pub fn find(&self, text: &str) -> Result<Record, LiveError> {
        let all = self.list()?;
        let exact = |record: &Record| record.name.as_str() == text || record.id.as_str() == text;
        let (mut found, others): (Vec<Record>, Vec<Record>) = all.into_iter().partition(exact);
        if found.is_empty() {
            found.extend(others.into_iter().filter(|one| one.id.as_str().starts_with(text)));
        }
        match found.len() {
            1 if !text.is_empty() => Ok(found.remove(0)),
            0 | 1 => Err(LiveError::None(text.to_owned())),
            _ => Err(LiveError::Several(text.to_owned())),
        }
    }

    fn base(&self, record: &Record) -> PathBuf {
        self.folder.join(record.id.short())
    }

    /// Asks something of a container.
    pub fn ask(&self, record: &Record, ask: &Ask) -> Result<Answer, LiveError> {
        let silent = |source| LiveError::Silent { source };
        let short = ShortPath::of(&self.base(record).with_extension("sock")).map_err(silent)?;
        let mut stream = UnixStream::connect(&short.path).map_err(silent)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(silent)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(silent)?;
        let request = serde_json::to_string(ask).expect("a request is always JSON");
        stream.write_all(format!("{request}\n").as_bytes()).map_err(silent)?;
        let mut line = String::new();
        BufReader::new(stream.take(LONGEST_LINE)).read_line(&mut line).map_err(silent)?;
        serde_json::from_str(&line).map_err(|source| LiveError::Answer { source })
    }
}

/// A path to the same file that a socket's address has room for (unix(7): 108 bytes).
struct ShortPath {
    path: PathBuf,
    _folder: File,
}

impl ShortPath {
    fn of(path: &Path) -> io::Result<ShortPath> {
        let folder = File::open(path.parent().unwrap_or(Path::new("/")))?;
        let name = path.file_name().unwrap_or_default();
        let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name);
        Ok(ShortPath { path, _folder: folder })
    }
}

/// Whether the process that made a record is gone: its lock is free.
fn is_abandoned(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| file.try_lock_shared().is_ok())
}

/// Removes what was killed before it had a name; one that is being made is a moment old.
fn clear_draft(path: &Path) {
    let touched = fs::metadata(path).and_then(|found| found.modified());
    let age = touched.ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
    if age > Duration::from_secs(60) && is_abandoned(path) {
        let _ = fs::remove_file(path);
    }
}

fn read(path: &Path) -> Option<Record> {
    serde_json::from_str(&fs::read_to_string(path).ok()?).ok()
}

/// Removes a container's files. What cannot be removed is, the next time.
fn clear(base: &Path) {
    for end in ["sock", "json"] {
        let _ = fs::remove_file(base.with_extension(end));
    }
}

impl Place {
    /// The files of the place, for whoever has to leave it in a hurry.
    pub fn files(&self) -> Vec<PathBuf> {
        ["sock", "json"].map(|end| self.base.with_extension(end)).to_vec()
    }

    /// Replaces the record in its file, which stays the one that is locked.
    fn write(&self, record: &Record) -> io::Result<()> {
        let text = serde_json::to_vec(record).expect("a record is always JSON");
        self.file.write_all_at(&text, 0)?;
        self.file.set_len(text.len() as u64)
    }

    /// Takes requests for a container on a thread of its own, so that they are heard also while the
    /// guest holds its thread. Then `force` ends the process for a stop or a kill.
    ///
    /// # Errors
    /// Fails if the socket cannot be made.
    pub fn serve(
        &self,
        container: Container,
        ceiling: Ceiling,
        force: impl Fn(ExitStatus) + Send + Sync + 'static,
    ) -> Result<Served, LiveError> {
        let path = self.base.with_extension("sock");
        let failed = |source| LiveError::Folder { path: path.clone(), source };
        let short = ShortPath::of(&path).map_err(failed)?;
        let listener = UnixListener::bind(&short.path).map_err(failed)?;
        drop(short);
        let busy = Arc::new(Busy::default());
        let desk = Arc::new(Desk { container, ceiling, force: Box::new(force) });
        let served = Served { busy: Arc::clone(&busy) };
        let thread = std::thread::Builder::new().name("mote-control".into()).stack_size(STACK);
        thread.spawn(move || accept_forever(&listener, &desk, &busy)).map_err(failed)?;
        Ok(served)
    }
}

/// The stack of a thread that serves a request.
const STACK: usize = 256 << 10;
/// How many requests are served at once.
const MOST_AT_ONCE: usize = 16;
/// How long a client may take to say what it wants.
const HEARING: Duration = Duration::from_secs(1);
/// How long a container may take to do it, before it counts as held up.
const DOING: Duration = Duration::from_millis(500);

/// What answers requests.
struct Desk {
    container: Container,
    ceiling: Ceiling,
    force: Box<dyn Fn(ExitStatus) + Send + Sync>,
}

/// How many requests are being served.
#[derive(Default)]
struct Busy {
    count: Mutex<usize>,
    idle: Condvar,
}

/// The requests of a container. At its drop those that were heard get their answers: one may be what
/// ended it.
pub struct Served {
    busy: Arc<Busy>,
}

impl Drop for Served {
    fn drop(&mut self) {
        let count = self.busy.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.busy.idle.wait_timeout_while(count, DOING, |count| *count > 0);
        drop(waited);
    }
}

impl Busy {
    fn change(&self, by: isize) -> usize {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = count.saturating_add_signed(by);
        self.idle.notify_all();
        *count
    }
}

/// Serves until the process ends.
fn accept_forever(listener: &UnixListener, desk: &Arc<Desk>, busy: &Arc<Busy>) {
    loop {
        let Ok((stream, _)) = listener.accept() else {
            // No descriptor is left, say: later there may be one.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        if Arc::strong_count(desk) > MOST_AT_ONCE {
            continue;
        }
        let (desk, busy) = (Arc::clone(desk), Arc::clone(busy));
        let thread = std::thread::Builder::new().stack_size(STACK);
        // A client that is not served sees its connection closed, and says so.
        let _ = thread.spawn(move || serve(stream, &desk, &busy));
    }
}

fn serve(mut stream: UnixStream, desk: &Desk, busy: &Busy) -> io::Result<()> {
    stream.set_read_timeout(Some(HEARING))?;
    stream.set_write_timeout(Some(HEARING))?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST_LINE)).read_line(&mut line)?;
    busy.change(1);
    let answered = match serde_json::from_str::<Ask>(&line) {
        Ok(ask) => answer(&mut stream, ask, desk),
        Err(error) => {
            say(&mut stream, &Answer::Refused(format!("the request cannot be understood: {error}")))
        }
    };
    busy.change(-1);
    answered
}

fn say(stream: &mut UnixStream, answer: &Answer) -> io::Result<()> {
    let text = serde_json::to_string(answer).expect("an answer is always JSON");
    stream.write_all(format!("{text}\n").as_bytes())
}

fn answer(stream: &mut UnixStream, ask: Ask, desk: &Desk) -> io::Result<()> {
    let ends = match ask {
        Ask::Stop => Some(ExitStatus::Stopped),
        Ask::Kill => Some(ExitStatus::Killed),
        Ask::Pause | Ask::Unpause | Ask::Update(_) | Ask::Usage => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let done = async { tokio::time::timeout(DOING, carry_out(ask, desk)).await };
    match (runtime.block_on(done), ends) {
        (Ok(answer), _) => say(stream, &answer),
        (Err(_), Some(how)) => {
            let said = say(stream, &Answer::Done);
            (desk.force)(how);
            said
        }
        (Err(_), None) => say(
            stream,
            &Answer::Refused(
                "it is held up in a file operation or by a full pipe; try again later".to_owned(),
            ),
        ),
    }
}

async fn carry_out(ask: Ask, desk: &Desk) -> Answer {
    let Desk { container, ceiling, force: _ } = desk;
    let done = match ask {
        Ask::Stop => container.stop().await,
        Ask::Kill => container.kill().await,
        Ask::Pause => container.pause().await,
        Ask::Unpause => container.unpause().await,
        Ask::Usage => return Answer::Usage(Usage::from(&*container.gauge())),
        Ask::Update(wants) => match container.record().policy.updated(wants, ceiling) {
            Ok(policy) => {
                let policy = Some(policy);
                container.update(Change { policy, ..Change::default() }).await
            }
            Err(over) => return Answer::Refused(over.to_string()),
        },
    };
    match done {
        Ok(()) => Answer::Done,
        Err(error) => Answer::Refused(error.to_string()),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        clear(&self.base);
    }
}

impl Keep for Place {
    async fn update(&self, _from: &Record, record: &Record) -> Result<(), RecordsError> {
        // An end takes the record along.
        if !record.status().is_live() {
            return Ok(());
        }
        self.write(record).map_err(|error| RecordsError::Database {
            path: self.base.clone(),
            why: error.to_string(),
        })
    }

    async fn delete(&self, _from: &Record, _record: &Record) -> Result<(), RecordsError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::tests::record;

    #[test]
    fn what_runs_is_listed_and_what_was_killed_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let live = Live::new(folder.path().to_owned());
        assert_eq!(live.list().unwrap(), []);
        let (a, b) = (record("alpha"), record("beta"));
        let (first, second) = (live.enter(&a).unwrap(), live.enter(&b).unwrap());
        assert_eq!(live.list().unwrap().len(), 2);
        for text in ["alpha", a.id.as_str(), a.id.short()] {
            assert_eq!(live.find(text).unwrap().id, a.id, "{text}");
        }
        assert!(matches!(live.find("gamma"), Err(LiveError::None(_))));
        drop(first);
        assert_eq!(live.list().unwrap(), std::slice::from_ref(&b));
        // Killed: its files stay, and its lock is free.
        let Place { base, file } = &second;
        file.unlock().unwrap();
        assert!(base.with_extension("json").exists());
        assert_eq!(live.list().unwrap(), []);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

//! Keeps the records of a host in SQLite, shared by every mote process.
//!
//! Written on change only, and synced before a change is acknowledged. Changes that come at once are
//! committed at once, so that one sync serves them all. A change is refused if the record was changed
//! by somebody else since it was read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use mote_spec::ContainerId;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::keep::{Keep, RecordsError};
use crate::record::Record;

/// How many changes are committed at once at most.
const MOST_AT_ONCE: usize = 256;
/// How long another process may hold the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// The records of a host.
pub struct Records {
    path: PathBuf,
    changes: mpsc::Sender<Change>,
    reader: Mutex<Connection>,
}

impl Keep for Records {
    async fn update(&self, _from: &Record, to: &Record) -> Result<(), RecordsError> {
        Records::update(self, to).await
    }

    async fn delete(&self, _from: &Record, to: &Record) -> Result<(), RecordsError> {
        Records::delete(self, to).await
    }
}

enum Write {
    Insert(Box<Record>),
    Update(Box<Record>),
    Delete(ContainerId, u64),
    /// Whatever it says.
    Discard(String),
}

struct Change {
    write: Write,
    done: oneshot::Sender<Result<(), RecordsError>>,
}

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS containers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT";

impl Records {
    /// Opens the records below a folder, and makes them if they are not there.
    pub fn open(folder: &Path) -> Result<Records, RecordsError> {
        let path = folder.join("containers.db");
        let failed = |error: std::io::Error| RecordsError::Folder {
            path: path.clone(),
            why: error.to_string(),
        };
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        // Others may look into the folder; SQLite's own files get the modes of this one.
        let options = || File::options().create(true).append(true).mode(0o600).open(&path);
        options().map_err(failed)?;
        let writer = connect(&path)?;
        let reader = connect(&path)?;
        let (changes, queue) = mpsc::channel();
        let (writer_path, name) = (path.clone(), "mote-records".to_owned());
        let thread = std::thread::Builder::new().name(name);
        thread.spawn(move || write_forever(writer, &queue, &writer_path)).map_err(failed)?;
        Ok(Records { path, changes, reader: Mutex::new(reader) })
    }

    /// Adds a record.
    ///
    /// # Errors
    /// Fails if another container has its name.
    pub async fn insert(&self, record: &Record) -> Result<(), RecordsError> {
        self.change(Write::Insert(Box::new(record.clone()))).await
    }

    /// Saves a changed record over the one that it was made of.
    pub async fn update(&self, record: &Record) -> Result<(), RecordsError> {
        self.change(Write::Update(Box::new(record.clone()))).await
    }

    /// Removes a record; `record` is the changed one that says so.
    pub async fn delete(&self, record: &Record) -> Result<(), RecordsError> {
        self.change(Write::Delete(record.id.clone(), record.generation())).await
    }

    async fn change(&self, write: Write) -> Result<(), RecordsError> {
        let (done, result) = oneshot::channel();
        let gone = || RecordsError::Database {
            path: self.path.clone(),
            why: "the thread that writes them has ended".to_owned(),
        };
        self.changes.send(Change { write, done }).map_err(|_| gone())?;
        result.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Removes a record that cannot be read.
    pub async fn discard(&self, id: &str) -> Result<(), RecordsError> {
        self.change(Write::Discard(id.to_owned())).await
    }

    /// All records, the oldest first, and by id why some cannot be read: one that is damaged does not
    /// take the others along.
    pub fn list(&self) -> Result<(Vec<Record>, BTreeMap<String, String>), RecordsError> {
        let (mut records, mut damaged) = (Vec::new(), BTreeMap::new());
        for (id, text) in self.rows("SELECT id, record FROM containers ORDER BY rowid", [])? {
            match serde_json::from_str(&text) {
                Ok(record) => records.push(record),
                Err(error) => drop(damaged.insert(id, error.to_string())),
            }
        }
        Ok((records, damaged))
    }

    /// Finds a record by its name, its id, or the start of its id.
    pub fn find(&self, text: &str) -> Result<Record, RecordsError> {
        let mut found =
            self.read("SELECT id, record FROM containers WHERE name = ?1 OR id = ?1", [text])?;
        let is_prefix = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if found.is_empty() && is_prefix {
            let query = "SELECT id, record FROM containers WHERE substr(id, 1, length(?1)) = ?1";
            found = self.read(query, [text.to_ascii_lowercase().as_str()])?;
        }
        match found.len() {
            0 => Err(RecordsError::None(text.to_owned())),
            1 => Ok(found.remove(0)),
            _ => Err(RecordsError::Several(text.to_owned())),
        }
    }

    fn read<P: rusqlite::Params>(
        &self,
        query: &str,
        params: P,
    ) -> Result<Vec<Record>, RecordsError> {
        self.rows(query, params)?.into_iter().map(parse).collect()
    }

    fn rows<P: rusqlite::Params>(
        &self,
        query: &str,
        params: P,
    ) -> Result<Vec<(String, String)>, RecordsError> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = || -> rusqlite::Result<Vec<(String, String)>> {
            let mut query = reader.prepare_cached(query)?;
            query.query_map(params, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        };
        rows().map_err(|error| database(&self.path, &error))
    }
}

fn parse((id, text): (String, String)) -> Result<Record, RecordsError> {
    serde_json::from_str(&text)
        .map_err(|error| RecordsError::Damaged { id, why: error.to_string() })
}

fn connect(path: &Path) -> Result<Connection, RecordsError> {
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A commit is on the disk when it returns.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute(SCHEMA, [])?;
        Ok(connection)
    };
    open().map_err(|error| database(path, &error))
}

fn database(path: &Path, error: &rusqlite::Error) -> RecordsError {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return RecordsError::Full { path: path.to_owned() };
    }
    RecordsError::Database { path: path.to_owned(), why: error.to_string() }
}

/// Writes changes as they come, as many as wait in one transaction.
fn write_forever(mut connection: Connection, queue: &mpsc::Receiver<Change>, path: &Path) {
    let mut reserve = Reserve::beside(path);
    while let Ok(first) = queue.recv() {
        let mut batch = vec![first];
        batch.extend(queue.try_iter().take(MOST_AT_ONCE - 1));
        let mut results = commit(&mut connection, &batch, path);
        if results.iter().any(is_full) && reserve.give_up() {
            results = commit(&mut connection, &batch, path);
        } else if results.iter().all(|result| !is_full(result)) {
            reserve.take();
        }
        for (change, result) in batch.into_iter().zip(results) {
            // Whoever asked may have lost interest; the change stands all the same.
            let _ = change.done.send(result);
        }
    }
}

fn is_full(result: &Result<(), RecordsError>) -> bool {
    matches!(result, Err(RecordsError::Full { .. }))
}

/// Space that is kept for the records, so that what fills the disk can still be stopped and removed.
struct Reserve {
    path: PathBuf,
    /// When it was last tried to have it.
    tried: Option<Instant>,
    held: bool,
}

/// How much that is: many times what a transaction writes.
const RESERVED: u64 = 1 << 20;
/// How long until it is tried again to have it.
const TAKE_AGAIN: Duration = Duration::from_secs(10);

impl Reserve {
    fn beside(records: &Path) -> Reserve {
        let path = records.with_extension("reserve");
        let held = path.metadata().is_ok_and(|found| found.len() == RESERVED);
        Reserve { path, tried: None, held }
    }

    /// Sets the space aside, if there is that much.
    fn take(&mut self) {
        if self.held || self.tried.is_some_and(|tried| tried.elapsed() < TAKE_AGAIN) {
            return;
        }
        self.tried = Some(Instant::now());
        let options =
            || File::options().create(true).write(true).truncate(true).mode(0o600).open(&self.path);
        // Written and not only named, and of what no file system packs, so that it is there.
        let taken = options().and_then(|mut file| {
            let mut random = File::open("/dev/urandom")?.take(RESERVED);
            std::io::copy(&mut random, &mut file)
        });
        self.held = taken.is_ok();
        if !self.held {
            self.give_up();
        }
    }

    /// Gives the space back. False if there was none.
    fn give_up(&mut self) -> bool {
        let held = std::mem::take(&mut self.held);
        std::fs::remove_file(&self.path).is_ok() && held
    }
}

/// Commits a batch. A change that is refused does not keep the others from being made; a disk that
/// fails keeps them all.
fn commit(
    connection: &mut Connection,
    batch: &[Change],
    path: &Path,
) -> Vec<Result<(), RecordsError>> {
    let mut write_all = || -> rusqlite::Result<Vec<Result<(), RecordsError>>> {
        let behavior = rusqlite::TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(behavior)?;
        let mut results = Vec::with_capacity(batch.len());
        for change in batch {
            results.push(write(&transaction, &change.write)?);
        }
        transaction.commit()?;
        Ok(results)
    };
    match write_all() {
        Ok(results) => results,
        Err(error) => batch.iter().map(|_| Err(database(path, &error))).collect(),
    }
}

/// Makes one change; the inner error is a refusal, and the outer one the database's.
fn write(connection: &Connection, write: &Write) -> rusqlite::Result<Result<(), RecordsError>> {
    let text = |record: &Record| serde_json::to_string(record).expect("a record is always JSON");
    match write {
        Write::Insert(record) => {
            if is_taken(connection, record)? {
                return Ok(Err(RecordsError::NameTaken(record.name.clone())));
            }
            let mut known = connection.prepare_cached("SELECT 1 FROM containers WHERE id = ?1")?;
            if known.exists([record.id.as_str()])? {
                return Ok(Err(RecordsError::Exists(record.id.clone())));
            }
            let mut insert = connection.prepare_cached(
                "INSERT INTO containers (id, name, generation, record) VALUES (?1, ?2, ?3, ?4)",
            )?;
            insert.execute(params![
                record.id.as_str(),
                record.name.as_str(),
                record.generation() as i64,
                text(record)
            ])?;
            Ok(Ok(()))
        }
        Write::Update(record) => {
            if is_taken(connection, record)? {
                return Ok(Err(RecordsError::NameTaken(record.name.clone())));
            }
            let mut update = connection.prepare_cached(
                "UPDATE containers SET name = ?2, generation = ?3, record = ?4
                 WHERE id = ?1 AND generation = ?3 - 1",
            )?;
            let changed = update.execute(params![
                record.id.as_str(),
                record.name.as_str(),
                record.generation() as i64,
                text(record)
            ])?;
            Ok(fresh(changed, &record.id))
        }
        Write::Delete(id, generation) => {
            let mut delete = connection
                .prepare_cached("DELETE FROM containers WHERE id = ?1 AND generation = ?2 - 1")?;
            let changed = delete.execute(params![id.as_str(), *generation as i64])?;
            Ok(fresh(changed, id))
        }
        Write::Discard(id) => {
            connection.prepare_cached("DELETE FROM containers WHERE id = ?1")?.execute([id])?;
            Ok(Ok(()))
        }
    }
}

fn fresh(changed: usize, id: &ContainerId) -> Result<(), RecordsError> {
    if changed == 1 { Ok(()) } else { Err(RecordsError::Stale(id.clone())) }
}

fn is_taken(connection: &Connection, record: &Record) -> rusqlite::Result<bool> {
    let mut query =
        connection.prepare_cached("SELECT 1 FROM containers WHERE name = ?1 AND id <> ?2")?;
    let found = query.query_row([record.name.as_str(), record.id.as_str()], |_| Ok(()));
    Ok(found.optional()?.is_some())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::{Image, Made};
    use crate::restart::RestartPolicy;
    use crate::status::{Event, Status};
    use crate::time::Time;
    use mote_spec::{Asks, Bytes, Ceiling, Request, decide};

    pub(crate) fn record(name: &str) -> Record {
        let mut random = [0; 32];
        random[..name.len().min(32)].copy_from_slice(&name.as_bytes()[..name.len().min(32)]);
        let ceiling = Ceiling::of_machine(Bytes::mib(512));
        let made = Made {
            id: ContainerId::new(random),
            name: name.parse().unwrap(),
            image: Image {
                name: "hello:1".into(),
                digest: format!("sha256:{}", "ab".repeat(32)).parse().unwrap(),
                manifest: None,
                files: None,
            },
            args: vec!["hello".into()],
            env: Vec::new(),
            cwd: None,
            policy: decide(Request::default(), &Asks::default(), &ceiling).unwrap(),
            restart: RestartPolicy::No,
            setup: Default::default(),
        };
        Record::new(made, Time::now())
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_read_by_the_next_process() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let made = record("web");
        records.insert(&made).await.unwrap();
        let running = made.after(Event::Start, Time::now()).unwrap();
        records.update(&running).await.unwrap();
        let other = Records::open(folder.path()).unwrap();
        assert_eq!(other.list().unwrap().0, std::slice::from_ref(&running));
        for text in ["web", running.id.as_str(), running.id.short()] {
            assert_eq!(other.find(text).unwrap().status(), Status::Running, "{text}");
        }
        assert!(matches!(other.find("nope"), Err(RecordsError::None(_))));
    }

    #[tokio::test]
    async fn of_two_changes_of_the_same_record_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (Records::open(folder.path()).unwrap(), Records::open(folder.path()).unwrap());
        let made = record("web");
        a.insert(&made).await.unwrap();
        let started = made.after(Event::Start, Time::now()).unwrap();
        let removed = made.after(Event::Remove, Time::now()).unwrap();
        a.update(&started).await.unwrap();
        assert!(matches!(b.update(&started).await, Err(RecordsError::Stale(_))));
        assert!(matches!(b.delete(&removed).await, Err(RecordsError::Stale(_))));
    }

    #[tokio::test]
    async fn a_damaged_record_does_not_hide_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        records.insert(&record("good")).await.unwrap();
        records.insert(&record("bad")).await.unwrap();
        assert!(matches!(records.insert(&record("good")).await, Err(RecordsError::Exists(_))));
        let database = Connection::open(folder.path().join("containers.db")).unwrap();
        database.execute("UPDATE containers SET record = '{' WHERE name = 'bad'", []).unwrap();
        let (whole, damaged) = records.list().unwrap();
        assert_eq!(whole.len(), 1);
        assert_eq!(damaged.len(), 1);
    }

    #[tokio::test]
    async fn a_name_is_one_containers_and_free_when_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let (first, mut second) = (record("web"), record("other"));
        second.name = first.name.clone();
        records.insert(&first).await.unwrap();
        assert!(matches!(records.insert(&second).await, Err(RecordsError::NameTaken(_))));
        records.delete(&first.after(Event::Remove, Time::now()).unwrap()).await.unwrap();
        records.insert(&second).await.unwrap();
    }

    #[tokio::test]
    async fn changes_that_come_together_are_all_made_or_refused_on_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let records = Records::open(folder.path()).unwrap();
        let many: Vec<Record> = (0..500).map(|number| record(&format!("c{number}"))).collect();
        let inserts = many.iter().map(|record| records.insert(record));
        let mut twice = record("again");
        twice.name = many[0].name.clone();
        let (results, refused) =
            tokio::join!(futures_all(inserts), async { records.insert(&twice).await });
        assert!(results.iter().all(Result::is_ok));
        assert!(matches!(refused, Err(RecordsError::NameTaken(_))));
        assert_eq!(records.list().unwrap().0.len(), 500);
    }

    /// Polls all at once, so that they wait together.
    async fn futures_all<F: Future>(all: impl Iterator<Item = F>) -> Vec<F::Output> {
        let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
        std::future::poll_fn(move |cx| {
            for (one, output) in all.iter_mut().filter(|(_, output)| output.is_none()) {
                if let std::task::Poll::Ready(value) = one.as_mut().poll(cx) {
                    *output = Some(value);
                }
            }
            match all.iter().all(|(_, output)| output.is_some()) {
                true => std::task::Poll::Ready(
                    all.drain(..).map(|(_, output)| output.expect("it is there")).collect(),
                ),
                false => std::task::Poll::Pending,
            }
        })
        .await
    }
}

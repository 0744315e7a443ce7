//! Keeps what containers print, in docker's `json-file` form, within bounds.
//!
//! ```text
//! {"log":"a line\n","stream":"stdout","time":"2026-11-25T02:10:00.123Z"}
//! ```
//!
//! What is printed is gathered in memory and written in batches, since every write wears flash and
//! costs a page; a file that is full is rotated, and the oldest goes. A line that is longer than
//! docker's longest comes in parts, of which only the last has its line break.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::time::Time;

/// The longest part of a line (docker's own bound).
const LONGEST_PART: usize = 16 << 10;
/// So much is gathered before it is written without being asked.
const BATCH: usize = 32 << 10;

/// Which stream a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    pub log: String,
    pub stream: Stream,
    pub time: Time,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// A file that has so many bytes is rotated.
    pub size: u64,
    /// How many files there are at most, the current one included; one at least.
    pub files: u32,
}

impl Default for Rotation {
    /// Ten MiB in two files.
    fn default() -> Rotation {
        Rotation { size: 5 << 20, files: 2 }
    }
}

/// Cuts what a container prints into lines.
#[derive(Debug, Default)]
pub struct Lines {
    /// The line that each stream has begun.
    begun: [Vec<u8>; 2],
}

impl Lines {
    /// Takes what was printed, and hands on the lines that are whole, or too long to wait for.
    pub fn print(&mut self, stream: Stream, bytes: &[u8], time: Time, mut each: impl FnMut(Line)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let begun = &mut self.begun[stream as usize];
            let room = LONGEST_PART - begun.len();
            let end = rest.iter().take(room).position(|byte| *byte == b'\n').map(|at| at + 1);
            let (part, after) = rest.split_at(end.unwrap_or(room.min(rest.len())));
            begun.extend_from_slice(part);
            rest = after;
            if end.is_some() || begun.len() == LONGEST_PART {
                each(line(stream, &std::mem::take(begun), time));
            }
        }
    }

    /// Hands on what is left: the container has ended.
    pub fn finish(&mut self, time: Time, mut each: impl FnMut(Line)) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let begun = std::mem::take(&mut self.begun[stream as usize]);
            if !begun.is_empty() {
                each(line(stream, &begun, time));
            }
        }
    }
}

fn line(stream: Stream, bytes: &[u8], time: Time) -> Line {
    Line { log: String::from_utf8_lossy(bytes).into_owned(), stream, time }
}

/// Writes the log of one container. Holds no file open: most containers print seldom.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    rotation: Rotation,
    size: u64,
    batch: Vec<u8>,
}

impl LogWriter {
    /// Goes on with the log at a path, or begins one.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<LogWriter> {
        let (mut size, mut last) = (0, [b'\n']);
        match File::open(path) {
            Ok(file) => {
                size = file.metadata()?.len();
                if size > 0 {
                    file.read_exact_at(&mut last, size - 1)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        // What a power cut left half written is a line of its own.
        let batch = if last == [b'\n'] { Vec::new() } else { vec![b'\n'] };
        Ok(LogWriter { path: path.to_owned(), rotation, size, batch })
    }

    /// Takes a line. It is on the disk after `flush`.
    ///
    /// # Errors
    /// Fails if a batch that is full cannot be written; what it held is lost then, and the container
    /// goes on.
    pub fn append(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.batch, line).expect("a line is always JSON");
        self.batch.push(b'\n');
        if self.batch.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    /// Writes what was gathered.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // What cannot be written is lost: it must not gather in memory.
        let batch = std::mem::take(&mut self.batch);
        if self.size > 0 && self.size + batch.len() as u64 > self.rotation.size {
            self.rotate()?;
        }
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        file.write_all(&batch)?;
        self.size += batch.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        for number in (1..self.rotation.files).rev() {
            let from = numbered(&self.path, number - 1);
            match fs::rename(&from, numbered(&self.path, number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        // With one file only, it is begun anew.
        File::options().create(true).write(true).truncate(true).open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// The path of a log that was rotated so often; the current one is number 0.
fn numbered(path: &Path, number: u32) -> PathBuf {
    match number {
        0 => path.to_owned(),
        number => path.with_added_extension(number.to_string()),
    }
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    pub since: Option<Time>,
    pub until: Option<Time>,
    /// Only so many of the last.
    pub tail: Option<usize>,
}

/// A log as it was at one moment: what is written later is not read.
pub struct LogReader {
    /// Its files, the oldest first, and how long each was.
    files: Vec<(File, u64)>,
}

impl LogReader {
    /// Opens the files of a log, which may have none yet.
    pub fn open(path: &Path) -> io::Result<LogReader> {
        let mut files = Vec::new();
        for number in 0.. {
            match File::open(numbered(path, number)) {
                Ok(file) => {
                    let length = file.metadata()?.len();
                    files.push((file, length));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            }
        }
        files.reverse();
        Ok(LogReader { files })
    }

    /// Reads the lines that are wanted, the oldest first. One that a power cut left half written is
    /// left out. For the last so many it reads twice: a log may be larger than memory.
    pub fn read(self, wish: Wish) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
        let mut unwanted = 0;
        if let Some(tail) = wish.tail {
            let mut all = 0usize;
            for (file, length) in &self.files {
                for line in lines(file, *length, wish) {
                    line?;
                    all += 1;
                }
            }
            for (mut file, _) in self.files.iter().map(|(file, length)| (file, length)) {
                file.rewind()?;
            }
            unwanted = all.saturating_sub(tail);
        }
        let files = self.files.into_iter();
        Ok(files.flat_map(move |(file, length)| lines(file, length, wish)).skip(unwanted))
    }
}

/// The lines of one file of a log that are of the time that is wanted.
fn lines(file: impl Read, length: u64, wish: Wish) -> impl Iterator<Item = io::Result<Line>> {
    let texts = BufReader::new(file.take(length)).split(b'\n');
    texts.filter_map(move |text| match text {
        Ok(text) => serde_json::from_slice(&text).ok().filter(|line| wish.wants(line)).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

impl Wish {
    /// Whether a line is of the time that is wanted.
    pub fn wants(&self, line: &Line) -> bool {
        self.since.is_none_or(|since| line.time >= since)
            && self.until.is_none_or(|until| line.time <= until)
    }
}

/// Removes a log, however often it was rotated.
pub fn remove_log(path: &Path) {
    for number in 0.. {
        // What cannot be removed is nobody's any more.
        if fs::remove_file(numbered(path, number)).is_err() {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::at_millis(1_700_000_000_123);

    /// A log and what cuts its lines, as a container has them.
    struct Printer {
        lines: Lines,
        log: LogWriter,
    }

    impl Printer {
        fn open(path: &Path, rotation: Rotation) -> Printer {
            let log = LogWriter::open(path, rotation).unwrap();
            Printer { lines: Lines::default(), log }
        }

        fn print(&mut self, stream: Stream, bytes: &[u8]) {
            let log = &mut self.log;
            self.lines.print(stream, bytes, NOW, |line| log.append(&line).unwrap());
        }

        fn finish(mut self) {
            let log = &mut self.log;
            self.lines.finish(NOW, |line| log.append(&line).unwrap());
            self.log.flush().unwrap();
        }
    }

    fn texts(path: &Path, wish: Wish) -> Vec<String> {
        LogReader::open(path).unwrap().read(wish).unwrap().map(|line| line.unwrap().log).collect()
    }

    #[test]
    fn lines_are_kept_as_docker_keeps_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = Printer::open(&path, Rotation::default());
        log.print(Stream::Stdout, b"one\ntw");
        log.print(Stream::Stderr, b"bad\n");
        log.print(Stream::Stdout, b"o\nunfinished");
        assert!(!path.exists(), "nothing is written before its time");
        log.log.flush().unwrap();
        let first = r#"{"log":"one\n","stream":"stdout","time":"2023-11-14T22:13:20.123Z"}"#;
        assert_eq!(fs::read_to_string(&path).unwrap().lines().next(), Some(first));
        log.finish();
        assert_eq!(texts(&path, Wish::default()), ["one\n", "bad\n", "two\n", "unfinished"]);
        assert_eq!(
            texts(&path, Wish { tail: Some(2), ..Wish::default() }),
            ["two\n", "unfinished"]
        );
        let later = Wish { since: Some(Time::at_millis(1_800_000_000_000)), ..Wish::default() };
        assert!(texts(&path, later).is_empty());
    }

    #[test]
    fn a_log_never_takes_more_than_its_rotation_allows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let rotation = Rotation { size: 40_000, files: 3 };
        let mut log = Printer::open(&path, rotation);
        for number in 0..20_000 {
            log.print(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
        log.finish();
        let sizes = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len());
        let sizes: Vec<u64> = sizes.collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|size| *size <= 40_000), "{sizes:?}");
        let kept = texts(&path, Wish::default());
        assert_eq!(kept.last().map(String::as_str), Some("line 19999\n"));
        let numbers: Vec<u32> = kept.iter().map(|line| line.trim()[5..].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "none is missing between");
    }

    #[test]
    fn a_line_without_end_comes_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = Printer::open(&path, Rotation::default());
        log.print(Stream::Stdout, &vec![b'x'; 2 * LONGEST_PART + 5]);
        assert!(
            log.lines.begun.iter().all(|begun| begun.len() < LONGEST_PART),
            "memory is bounded"
        );
        log.finish();
        let lengths: Vec<usize> = texts(&path, Wish::default()).iter().map(String::len).collect();
        assert_eq!(lengths, [LONGEST_PART, LONGEST_PART, 5]);
    }

    #[test]
    fn what_a_power_cut_left_half_written_is_left_out_and_the_log_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut log = Printer::open(&path, Rotation::default());
        log.print(Stream::Stdout, b"whole\n");
        log.log.flush().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"log\":\"hal");
        fs::write(&path, bytes).unwrap();
        let mut log = Printer::open(&path, Rotation::default());
        log.print(Stream::Stdout, b"after\n");
        log.finish();
        assert_eq!(texts(&path, Wish::default()), ["whole\n", "after\n"]);
    }
}

//! Sends what a container prints to the journal of systemd, in its native protocol.
//!
//! ```text
//! MESSAGE=a line\nPRIORITY=6\nCONTAINER_NAME=web\n…          one datagram for each line
//! ```

use std::io;
use std::os::unix::net::UnixDatagram;

use mote_lifecycle::{Line, Record, Stream};

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// The journal, for one container.
pub(crate) struct Journal {
    socket: UnixDatagram,
    /// The fields that every line has.
    fields: String,
}

impl Journal {
    /// # Errors
    /// Fails if there is no journal on this machine.
    pub(crate) fn open(record: &Record) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET).map_err(|error| {
            io::Error::new(error.kind(), format!("there is no journal at {SOCKET}: {error}"))
        })?;
        // None of these can hold a line break.
        let fields = format!(
            "SYSLOG_IDENTIFIER={}\nCONTAINER_NAME={}\nCONTAINER_ID={}\nCONTAINER_ID_FULL={}\n",
            record.name,
            record.name,
            record.id.short(),
            record.id
        );
        Ok(Journal { socket, fields })
    }

    /// Sends a line; one that the journal has no room for is an error, and not waited for.
    pub(crate) fn send(&self, line: &Line) -> io::Result<()> {
        self.socket.send(&datagram(&self.fields, line)).map(drop)
    }
}

/// A line as the journal reads it: a field of many lines has its length in front.
fn datagram(fields: &str, line: &Line) -> Vec<u8> {
    let priority = match line.stream {
        Stream::Stdout => 6,
        Stream::Stderr => 3,
    };
    let text = line.log.strip_suffix('\n').unwrap_or(&line.log);
    let mut bytes = format!("{fields}PRIORITY={priority}\nMESSAGE\n").into_bytes();
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use mote_lifecycle::Time;

    #[test]
    fn a_line_is_written_as_the_journal_reads_it() {
        let time = Time::at_millis(0);
        let line = Line { log: "oh\n".into(), stream: Stream::Stderr, time };
        let expected = b"A=b\nPRIORITY=3\nMESSAGE\n\x02\0\0\0\0\0\0\0oh\n";
        assert_eq!(datagram("A=b\n", &line), expected);
    }
}

//! `GET /containers/ID/logs`, and the framing of output that all streams share.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};
use mote_lifecycle::{Line, LogDriver, LogReader, Stream, Talks, Time, Wish};

use super::answer::{self, Pieces, Pipe, Reply};
use super::{Call, Query};
use crate::error::DaemonError;

/// A piece of output as a client gets it: behind docker's header of eight bytes where the streams
/// are apart (docker's API reference, "Attach to a container").
pub(crate) fn frame(talks: Talks, stream: Stream, bytes: &[u8]) -> Bytes {
    match talks {
        Talks::Terminal => Bytes::copy_from_slice(bytes),
        Talks::Streams => {
            let mut framed = BytesMut::with_capacity(8 + bytes.len());
            framed.put_u8(match stream {
                Stream::Stdout => 1,
                Stream::Stderr => 2,
            });
            framed.put_bytes(0, 3);
            framed.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
            framed.put_slice(bytes);
            framed.freeze()
        }
    }
}

/// The type of such a stream.
pub(crate) fn media_type(talks: Talks) -> &'static str {
    match talks {
        Talks::Terminal => "application/vnd.docker.raw-stream",
        Talks::Streams => "application/vnd.docker.multiplexed-stream",
    }
}

/// A moment of a query: seconds since 1970, perhaps with a fraction, RFC 3339, or a span before now.
pub(crate) fn moment(query: &Query, key: &str, now: Time) -> Result<Option<Time>, DaemonError> {
    let Some(text) = query.text(key).filter(|text| *text != "0") else { return Ok(None) };
    let bad = || {
        DaemonError::BadRequest(format!(
            "{key} is `{text}`, which is no moment: write a time such as 2026-11-25T10:00:00Z, a day, or a span before now such as 10m"
        ))
    };
    if let Ok(seconds) = text.parse::<f64>() {
        return match seconds.is_finite() && seconds >= 0.0 {
            true => Ok(Some(Time::at_millis((seconds * 1000.0) as u64))),
            false => Err(bad()),
        };
    }
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(Some(now.before(span)));
    }
    // A day alone begins at midnight.
    let whole = if text.len() == 10 { format!("{text}T00:00:00") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).map_err(|_| bad())?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| bad())?;
    Ok(Some(Time::at_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))))
}

/// What of a log is shown, and how.
#[derive(Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) talks: Talks,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) times: bool,
}

impl Shown {
    /// A line as its client gets it, if it is of a stream that is wanted.
    pub(crate) fn framed(self, line: &Line) -> Option<Bytes> {
        let wanted = match line.stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        let text = match self.times {
            true => format!("{} {}", line.time, line.log),
            false => line.log.clone(),
        };
        wanted.then(|| frame(self.talks, line.stream, text.as_bytes()))
    }

    /// Writes what a log has of it. Blocks.
    pub(crate) fn write(self, log: LogReader, wish: Wish, to: &mut Pipe) -> Result<(), String> {
        let written = log.read(wish).and_then(|mut lines| {
            lines.try_for_each(|line| match self.framed(&line?) {
                Some(framed) => to.write_all(&framed),
                None => Ok(()),
            })
        });
        written.map_err(|error| format!("a log cannot be read: {error}"))
    }
}

/// The log so far, and with `follow` what comes.
pub(crate) async fn stream(call: &Call, id: &str) -> Reply {
    let entry = call.daemon.find(id)?;
    let (query, record) = (&call.query, entry.record());
    match record.setup.log.driver {
        LogDriver::JsonFile => {}
        LogDriver::Journald => {
            return Err(super::unsupported(&format!(
                "the journal has this log: journalctl CONTAINER_ID={}",
                record.id.short()
            )));
        }
        LogDriver::None => {
            return Err(super::unsupported(
                "configured logging driver does not support reading: nothing of this container's output is kept; make it with --log-driver json-file",
            ));
        }
    }
    let shown = Shown {
        talks: record.setup.terminal,
        stdout: query.flag("stdout"),
        stderr: query.flag("stderr"),
        times: query.flag("timestamps"),
    };
    if !shown.stdout && !shown.stderr {
        return Err(DaemonError::BadRequest(
            "Bad parameters: you must choose at least one stream".to_owned(),
        ));
    }
    let now = Time::now();
    let wish = Wish {
        since: moment(query, "since", now)?,
        until: moment(query, "until", now)?,
        tail: match query.text("tail") {
            None | Some("all") => None,
            // As docker has it, what is no number is all.
            Some(text) => text.parse().ok(),
        },
    };
    let follow = query.flag("follow") && wish.until.is_none_or(|until| until > now);
    let opened = tokio::task::spawn_blocking(move || match follow {
        true => entry.console.follow().map(|(log, coming)| (log, Some(coming))),
        false => entry.console.history().map(|log| (log, None)),
    });
    let opened = opened.await.map_err(|_| DaemonError::Failed("reading the log failed".into()))?;
    let (log, coming) =
        opened.map_err(|error| DaemonError::Failed(format!("the log cannot be read: {error}")))?;
    Ok(answer::stream(media_type(shown.talks), move |mut writer| async move {
        let mut past = Pieces::of(move |pipe| shown.write(log, wish, pipe));
        while let Some(piece) = past.next().await {
            if !writer.send(piece).await {
                return;
            }
        }
        if let Err(why) = past.end().await {
            return writer.abort(why);
        }
        let Some(mut coming) = coming else { return };
        while let Some(lines) = coming.recv().await {
            for line in &lines {
                if wish.until.is_some_and(|until| line.time > until) {
                    return;
                }
                let Some(framed) = shown.framed(line).filter(|_| wish.wants(line)) else {
                    continue;
                };
                if !writer.send(framed).await {
                    return;
                }
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_framed_as_docker_reads_it() {
        let framed = frame(Talks::Streams, Stream::Stderr, b"oh\n");
        assert_eq!(&framed[..], b"\x02\0\0\0\0\0\0\x03oh\n");
        assert_eq!(&frame(Talks::Terminal, Stream::Stdout, b"oh\n")[..], b"oh\n");
    }

    #[test]
    fn moments_are_read_in_every_form_that_clients_write() {
        let now = Time::at_millis(10_000_000);
        let at = |text: &str| {
            let query = Query([("since".to_owned(), text.to_owned())].into());
            moment(&query, "since", now)
        };
        assert_eq!(at("5").unwrap(), Some(Time::at_millis(5_000)));
        assert_eq!(at("5.25").unwrap(), Some(Time::at_millis(5_250)));
        assert_eq!(at("10s").unwrap(), Some(Time::at_millis(9_990_000)));
        assert_eq!(at("1970-01-01T00:00:01Z").unwrap(), Some(Time::at_millis(1_000)));
        assert_eq!(at("1970-01-02").unwrap(), Some(Time::at_millis(86_400_000)));
        assert_eq!(at("0").unwrap(), None);
        assert!(at("tomorrow").is_err());
        assert!(at("-1").is_err());
    }
}

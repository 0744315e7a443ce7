//! Prints: tables, JSON, templates, and messages. A broken pipe ends the command quietly.

use std::io::{self, IsTerminal, Write};

use mote_spec::foreign;
use serde_json::Value;

use crate::error::CliError;
use crate::template::{Template, text};

/// How a listing is printed
#[derive(clap::Args, Debug)]
pub(crate) struct ListArgs {
    /// Print as `json`, or by a template of the fields that `json` shows, such as '{{.FIELD}}'
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Print only the first field of each entry
    #[arg(short, long)]
    quiet: bool,
    /// Leave out the head of the table
    #[arg(long)]
    noheading: bool,
}

impl ListArgs {
    /// Whether what is printed is for a program to read.
    pub(crate) fn is_for_programs(&self) -> bool {
        self.format.is_some() || self.quiet
    }
}

/// One column of a table: its head, and the field of the rows that it shows.
pub(crate) type Column = (&'static str, &'static str);

/// Prints rows: the columns are for people, every field for programs. The first column is what
/// `--quiet` prints, unless `id` names another field.
pub(crate) fn list(
    args: &ListArgs,
    columns: &[Column],
    id: &str,
    rows: &[Value],
) -> Result<(), CliError> {
    match args.format.as_deref() {
        Some("json") => return json(&Value::Array(rows.to_vec())),
        Some("table") | None => {}
        Some(text) => {
            let (head, text) = match text.strip_prefix("table ") {
                Some(rest) => (true, rest),
                None => (false, text),
            };
            let template: Template = text.parse()?;
            if head {
                line(&template.heading());
            }
            for row in rows {
                line(&template.fill(row)?);
            }
            return Ok(());
        }
    }
    if args.quiet {
        let lines: String = rows.iter().map(|row| cell(&row[id]) + "\n").collect();
        raw(lines.as_bytes());
        return Ok(());
    }
    let heads: Vec<String> = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let cells =
        |row: &Value| columns.iter().map(|(_, field)| cell(&row[*field])).collect::<Vec<_>>();
    let mut table: Vec<Vec<String>> = rows.iter().map(cells).collect();
    if !args.noheading {
        table.insert(0, heads);
    }
    print_table(&table);
    Ok(())
}

/// Prints documents, each by a template if one is given.
pub(crate) fn documents(format: Option<&str>, documents: &[Value]) -> Result<(), CliError> {
    match format {
        None | Some("json") => json(&Value::Array(documents.to_vec())),
        Some(text) => {
            let template: Template = text.parse()?;
            for document in documents {
                line(&template.fill(document)?);
            }
            Ok(())
        }
    }
}

pub(crate) fn json(value: &Value) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(value).expect("a JSON value is always JSON");
    raw(format!("{}\n", foreign::shown_json(&json)).as_bytes());
    Ok(())
}

/// A field in a table.
fn cell(value: &Value) -> String {
    foreign::shown_in_a_line(&text(value))
}

fn print_table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut table = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        table.push_str(cells.collect::<String>().trim_end());
        table.push('\n');
    }
    raw(table.as_bytes());
}

/// Prints text, and ends its line, to standard output.
pub(crate) fn line(text: &str) {
    raw(format!("{}\n", foreign::shown(text)).as_bytes());
}

/// Prints bytes to standard output as they are.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = io::stdout();
    if let Err(error) = out.write_all(bytes).and_then(|()| out.flush()) {
        quit(&error);
    }
}

/// Ends the command when it cannot say what it was asked: quietly, if whoever read it has gone.
#[expect(clippy::exit, reason = "the process has nothing left to do")]
fn quit(why: &io::Error) -> ! {
    if why.kind() == io::ErrorKind::BrokenPipe {
        std::process::exit(0)
    }
    error(&format!("cannot write to standard output: {why}"));
    std::process::exit(125)
}

/// Whether a person looks at what is printed to standard output.
pub(crate) fn drawn_on() -> bool {
    io::stdout().is_terminal()
}

/// Clears the terminal, for what is drawn again and again.
pub(crate) fn clear() {
    // ECMA-48: the cursor to the first place, and all behind it erased.
    raw(b"\x1b[H\x1b[J");
}

/// A number of things, in words.
pub(crate) fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// How much one message may say, in characters. What it quotes may be a stranger's, and of any length.
const LONGEST: usize = 4_000;

/// A message as it may be printed to a terminal: what it quotes may be a stranger's.
fn shown(text: &str) -> String {
    let beginning: String = text.chars().take(LONGEST).collect();
    let mut shown = foreign::shown(&beginning);
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Prints a message about the work to standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", shown(text));
}

/// Asks something; the answer comes behind it on the same line.
pub(crate) fn prompt(text: &str) {
    let _ = write!(io::stderr(), "{}", shown(text));
}

/// Prints an error.
pub(crate) fn error(text: &str) {
    note(&format!("mote: {text}"));
}

/// Whether a person watches what is printed to standard error.
pub(crate) fn watched() -> bool {
    io::stderr().is_terminal()
}

/// Bytes as people read them, in powers of 1000 as docker and podman print sizes.
pub(crate) fn human_bytes(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => {
            let value = bytes as f64 / *size as f64;
            if value < 10.0 { format!("{value:.2} {unit}") } else { format!("{value:.1} {unit}") }
        }
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_a_table_is_one_line() {
        assert_eq!(cell(&Value::from("a\x1b[2J\nb\u{202e}")), "a\u{fffd}[2J b\u{fffd}");
    }

    #[test]
    fn what_is_said_of_strangers_is_text_and_has_an_end() {
        assert_eq!(shown("a\x1b[2J\nb\r"), "a\u{fffd}[2J\nb\u{fffd}");
        assert_eq!(shown(&"x".repeat(9_000)).chars().count(), LONGEST + 1);
    }
}

//! What a terminal's line discipline does between a person and a guest (termios(3): `ICANON`, `ICRNL`,
//! `ISIG`, `ECHO`, `ONLCR`): a client such as docker's puts its own terminal into raw mode, and there
//! is no kernel's terminal behind it.
//!
//! Pure. `attach` asks what keys mean, and does it.

/// What came of keys that were typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Typed {
    /// The guest reads this.
    Input(Vec<u8>),
    /// The person sees this, as output.
    Echo(Vec<u8>),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D on an empty line: the input ends.
    End,
    /// Ctrl-P Ctrl-Q: the person goes, and the guest stays.
    Detach,
}

const INTERRUPT: u8 = 0x03;
const END: u8 = 0x04;
const BACKSPACE: u8 = 0x08;
const ESCAPE: u8 = 0x10;
const DETACH: u8 = 0x11;
const DELETE: u8 = 0x7f;

/// The longest line (the kernel's own bound, termios(3)).
const LONGEST: usize = 4095;

/// A line that is being typed.
#[derive(Debug, Default)]
pub(crate) struct Discipline {
    line: Vec<u8>,
    escaped: bool,
}

impl Discipline {
    /// Takes keys, and says what they mean, in order.
    pub(crate) fn take(&mut self, keys: &[u8]) -> Vec<Typed> {
        let (mut typed, mut echo) = (Vec::new(), Vec::new());
        for key in keys {
            let escaped = std::mem::replace(&mut self.escaped, *key == ESCAPE);
            match *key {
                DETACH if escaped => typed.push(Typed::Detach),
                ESCAPE => {}
                INTERRUPT => {
                    self.line.clear();
                    echo.extend_from_slice(b"^C\n");
                    typed.push(Typed::Interrupt);
                }
                END if self.line.is_empty() => typed.push(Typed::End),
                END => typed.push(Typed::Input(std::mem::take(&mut self.line))),
                BACKSPACE | DELETE if self.erase() => echo.extend_from_slice(b"\x08 \x08"),
                BACKSPACE | DELETE => {}
                b'\r' | b'\n' => {
                    self.line.push(b'\n');
                    echo.push(b'\n');
                    typed.push(Typed::Input(std::mem::take(&mut self.line)));
                }
                key if self.line.len() < LONGEST => {
                    self.line.push(key);
                    echo.push(key);
                }
                _ => {}
            }
        }
        if !echo.is_empty() {
            typed.insert(0, Typed::Echo(echo));
        }
        typed
    }

    /// Takes the last character back, which may have several bytes.
    fn erase(&mut self) -> bool {
        let continues = |byte: &u8| byte & 0xc0 == 0x80;
        while self.line.last().is_some_and(continues) {
            self.line.pop();
        }
        self.line.pop().is_some()
    }
}

/// Output as a terminal in raw mode needs it: a line's end also returns to its beginning.
pub(crate) fn output(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(text: &[u8]) -> Typed {
        Typed::Input(text.to_vec())
    }

    fn echo(text: &[u8]) -> Typed {
        Typed::Echo(text.to_vec())
    }

    #[test]
    fn a_line_is_read_when_it_is_whole_and_seen_as_it_is_typed() {
        let mut line = Discipline::default();
        assert_eq!(line.take(b"ab"), [echo(b"ab")]);
        assert_eq!(line.take(b"\x7fc\r"), [echo(b"\x08 \x08c\n"), input(b"ac\n")]);
        assert_eq!(line.take("ä\x7f\r".as_bytes()).last(), Some(&input(b"\n")));
        assert_eq!(line.take(b"\x7f"), [], "there is nothing to take back");
    }

    #[test]
    fn keys_that_are_no_input_do_what_they_do_everywhere() {
        let mut line = Discipline::default();
        assert_eq!(line.take(b"x\x03"), [echo(b"x^C\n"), Typed::Interrupt]);
        assert_eq!(line.take(b"\x04"), [Typed::End], "the line was thrown away");
        assert_eq!(line.take(b"y\x04"), [echo(b"y"), input(b"y")]);
        assert_eq!(line.take(b"\x10"), []);
        assert_eq!(line.take(b"\x11"), [Typed::Detach], "also in two pieces");
    }

    #[test]
    fn a_line_is_bounded_and_output_returns() {
        let mut line = Discipline::default();
        line.take(&[b'x'; 10_000]);
        let Some(Typed::Input(read)) = line.take(b"\r").pop() else { panic!("a line") };
        assert_eq!(read.len(), LONGEST + 1);
        assert_eq!(output(b"a\nb"), b"a\r\nb");
    }
}

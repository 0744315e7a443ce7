//! Takes a container's output apart that comes in docker's frames.

use std::io::{self, Write};

use crate::output;

/// How output comes: as it is, or in docker's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed {
    No,
    Yes,
}

/// Output that comes in docker's frames: eight bytes of head, then what it says.
pub(crate) struct Frames {
    framed: Framed,
    waiting: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(framed: Framed) -> Frames {
        Frames { framed, waiting: Vec::new() }
    }

    /// Prints what is whole, each frame to the stream that it is of.
    pub(crate) fn pass_on(&mut self, bytes: &[u8]) {
        if self.framed == Framed::No {
            output::raw(bytes);
            return;
        }
        self.waiting.extend_from_slice(bytes);
        let mut rest = self.waiting.as_slice();
        while let Some((head, after)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some((content, after)) = after.split_at_checked(length) else { break };
            match head[0] {
                // What cannot be printed there cannot be reported there either.
                2 => drop(io::stderr().write_all(content)),
                _ => output::raw(content),
            }
            rest = after;
        }
        let left = rest.len();
        let whole = self.waiting.len() - left;
        self.waiting.drain(..whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_put_together_wherever_they_were_cut() {
        let mut frames = Frames::new(Framed::Yes);
        let whole = b"\x02\0\0\0\0\0\0\x01x\x02\0\0\0\0\0\0\x02yz";
        for piece in whole.chunks(3) {
            frames.pass_on(piece);
        }
        assert!(frames.waiting.is_empty());
        frames.pass_on(&whole[..5]);
        assert_eq!(frames.waiting.len(), 5);
    }
}

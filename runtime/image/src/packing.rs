//! Unpacks what layers are packed with: gzip and zstd, each of several members or frames, without C.

use std::fs::File;
use std::io::{self, Read};

use crate::media::Packing;

/// The window that a zstd frame may ask for.
const ZSTD_WINDOW: u64 = 128 << 20;

/// The bytes of a layer, unpacked while they are read.
pub(crate) fn unpacked(file: File, packing: Packing) -> io::Result<Box<dyn Read>> {
    Ok(match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd_reader(file)?),
    })
}

fn zstd_reader(file: File) -> io::Result<impl Read> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    ZstdFrames::new(io::BufReader::with_capacity(64 << 10, file), decoder)
}

/// Reads frames one after another, as zstd files may have several (zstd:chunked does).
struct ZstdFrames<R: io::BufRead> {
    source: Option<R>,
    decoder: ruzstd::decoding::FrameDecoder,
    in_frame: bool,
}

impl<R: io::BufRead> ZstdFrames<R> {
    fn new(source: R, decoder: ruzstd::decoding::FrameDecoder) -> io::Result<Self> {
        Ok(ZstdFrames { source: Some(source), decoder, in_frame: false })
    }

    /// Starts the next frame; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
        let Some(source) = self.source.as_mut() else { return Ok(false) };
        loop {
            if source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut *source) {
                Ok(()) => {
                    self.in_frame = true;
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let mut skipped = source.take(u64::from(length));
                    io::copy(&mut skipped, &mut io::sink())?;
                }
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
                }
            }
        }
    }
}

impl<R: io::BufRead> Read for ZstdFrames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy;
        loop {
            if !self.in_frame && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() < buffer.len().min(64 << 10)
                && !self.decoder.is_finished()
            {
                let source = self.source.as_mut().expect("a frame is only read from a source");
                let step = BlockDecodingStrategy::UptoBytes(64 << 10);
                self.decoder.decode_blocks(source, step).map_err(|error| {
                    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
                })?;
            }
            match self.decoder.read(buffer)? {
                0 if self.decoder.is_finished() => self.in_frame = false,
                count => return Ok(count),
            }
        }
    }
}

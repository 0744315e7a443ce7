//! Hashes of content: what a blob is called by.

use std::io::{self, Read};

use mote_spec::{Algorithm, Digest};
use sha2::Digest as _;

/// A running hash of either algorithm.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Hasher {
        match algorithm {
            Algorithm::Sha256 => Hasher::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => Hasher::Sha512(sha2::Sha512::new()),
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Digest {
        let digest = match self {
            Hasher::Sha256(hasher) => Digest::from_hash(Algorithm::Sha256, &hasher.finalize()),
            Hasher::Sha512(hasher) => Digest::from_hash(Algorithm::Sha512, &hasher.finalize()),
        };
        digest.expect("a hash has the length of its algorithm")
    }
}

/// Hashes bytes.
pub fn hash(algorithm: Algorithm, bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// The digest that mote gives to what it makes itself.
pub fn sha256(bytes: &[u8]) -> Digest {
    hash(Algorithm::Sha256, bytes)
}

/// Hashes all that a reader gives.
pub(crate) fn hash_reader(algorithm: Algorithm, mut from: impl Read) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), total)),
            count => {
                hasher.update(&buffer[..count]);
                total += count as u64;
            }
        }
    }
}

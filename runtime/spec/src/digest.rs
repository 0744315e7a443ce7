//! A content digest: what a blob must hash to (OCI image-spec, "Descriptors", "Digests").

use std::fmt;
use std::str::FromStr;

use crate::text::serde_as_text;

/// The hash functions that mote accepts; the two that the OCI image specification registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Sha256,
    Sha512,
}

impl Algorithm {
    /// The name in a digest and in an image layout's `blobs` folder.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest of this algorithm has.
    pub fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

/// A digest such as `sha256:9f86d0…`, in its one canonical spelling.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: String,
}

impl Digest {
    /// Writes raw hash output as a digest; `None` if it has the wrong length.
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Option<Digest> {
        if hash.len() * 2 != algorithm.hex_len() {
            return None;
        }
        let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        Some(Digest { algorithm, hex })
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hexadecimal part; safe as a file name.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits, as listings show them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    #[error("a digest is written ALGORITHM:HEX, and `{0}` has no colon")]
    NoColon(String),
    #[error("digest algorithm `{0}` is not accepted (sha256 and sha512 are)")]
    Algorithm(String),
    #[error("a {algorithm} digest has {expected} lower-case hexadecimal digits")]
    Hex { algorithm: &'static str, expected: usize },
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Digest, DigestError> {
        let (name, hex) = text.split_once(':').ok_or_else(|| DigestError::NoColon(text.into()))?;
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            other => return Err(DigestError::Algorithm(other.into())),
        };
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(lower_hex) {
            return Err(DigestError::Hex {
                algorithm: algorithm.name(),
                expected: algorithm.hex_len(),
            });
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Digest);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_registered_algorithms_in_canonical_spelling_are_digests() {
        let hex = "ab".repeat(32);
        assert!(format!("sha256:{hex}").parse::<Digest>().is_ok());
        for bad in [
            hex.clone(),
            format!("md5:{hex}"),
            format!("SHA256:{hex}"),
            format!("sha256:{}", hex.to_uppercase()),
            format!("sha256:{}", &hex[1..]),
            format!("sha512:{hex}"),
            format!("sha256:../../{}", &hex[6..]),
            "sha256:".into(),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_itself(hash in prop::collection::vec(any::<u8>(), 32)) {
            let digest = Digest::from_hash(Algorithm::Sha256, &hash).unwrap();
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        }
    }
}

//! What a container is called: an id that is unique, and a name that a person chose.

use std::fmt;
use std::str::FromStr;

use crate::text::serde_as_text;

/// 64 lower-case hexadecimal digits, as docker's and podman's ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

impl ContainerId {
    /// Makes an id of 32 bytes, which the caller draws at random.
    pub fn new(random: [u8; 32]) -> ContainerId {
        ContainerId(random.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits, as listings show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, as docker and podman allow, of at most 128.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerName(String);

impl ContainerName {
    /// The name as text; safe as a file name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is not an id or a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("`{0}` is not a container id (64 lower-case hexadecimal digits)")]
    Id(String),
    #[error(
        "`{0}` is not a container name: it starts with a letter or digit, goes on with letters, \
         digits, `_`, `.` or `-`, and has at most 128 of them"
    )]
    Name(String),
}

impl FromStr for ContainerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(lower_hex) {
            return Ok(ContainerId(text.into()));
        }
        Err(IdError::Id(text.into()))
    }
}

impl FromStr for ContainerName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
        if starts_well && text.len() <= 128 && text.bytes().all(rest) {
            return Ok(ContainerName(text.into()));
        }
        Err(IdError::Name(text.into()))
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(ContainerId, ContainerName);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_cannot_be_a_path_or_a_flag() {
        for bad in ["", ".", "..", "a/b", "-x", "_a", "a b", "ä", &"a".repeat(129)] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
        assert!("web-1.blue_2".parse::<ContainerName>().is_ok());
    }

    proptest! {
        #[test]
        fn ids_and_names_print_as_they_parse(
            bytes in any::<[u8; 32]>(), name in "[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}"
        ) {
            let id = ContainerId::new(bytes);
            prop_assert_eq!(id.to_string().parse::<ContainerId>().unwrap(), id);
            prop_assert_eq!(name.parse::<ContainerName>().unwrap().to_string(), name);
        }
    }
}

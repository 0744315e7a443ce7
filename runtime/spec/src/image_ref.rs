//! A reference to an image in a registry, such as `ghcr.io/acme/hello:1`.
//!
//! The grammar is that of `github.com/distribution/reference`; what is left out is filled in as
//! docker does (`docker.io`, `library/`, `latest`), so that two spellings of one image are equal.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::text::serde_as_text;

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A complete reference: registry, repository, and a tag, a digest, or both.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// The registry's host, with its port where one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry, such as `library/hello`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; absent only where a digest alone was given.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest; where there is one it decides, and the tag is only a remark.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, at exactly this digest and no tag.
    pub fn pinned(&self, digest: Digest) -> ImageRef {
        ImageRef { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// What a registry's API puts behind `/manifests/`: the digest if there is one, else the tag.
    pub fn manifest_key(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => DEFAULT_TAG.to_owned(),
        }
    }

    /// The short spelling that docker shows: `hello:1` for `docker.io/library/hello:1`.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let short = full.strip_prefix("docker.io/").unwrap_or(&full);
        short.strip_prefix("library/").unwrap_or(short).to_owned()
    }
}

/// Why a text is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    #[error("an image reference cannot be empty")]
    Empty,
    #[error("`{0}` is not a registry host: letters, digits, `.` and `-`, and a port")]
    Registry(String),
    #[error(
        "`{0}` is not a repository name: lower-case letters and digits, parted by `.`, `_`, `__`, `-` or `/`"
    )]
    Repository(String),
    #[error("a repository name has at most {LONGEST_NAME} characters")]
    TooLong,
    #[error("`{0}` is not a tag: letters, digits, `_`, `.` and `-`, at most {LONGEST_TAG}")]
    Tag(String),
    #[error("the digest behind `@` is not valid")]
    Digest(#[source] DigestError),
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<ImageRef, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(ReferenceError::Digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        let (registry, repository) = split_registry(name);
        check_registry(&registry)?;
        check_repository(&repository)?;
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(checked_tag(tag)?),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(ImageRef { registry, repository, tag, digest })
    }
}

/// Parts the tag from the name: a colon after the last slash.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let after_slash = text.rfind('/').map_or(0, |at| at + 1);
    match text[after_slash..].rfind(':') {
        Some(colon) => (&text[..after_slash + colon], Some(&text[after_slash + colon + 1..])),
        None => (text, None),
    }
}

/// Parts the registry from the repository, and fills in what docker fills in.
fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = match registry {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_REGISTRY.to_owned(),
        // A host's case means nothing; one spelling makes equal references equal. Where only the
        // case shows that it is a host, it has to stay.
        other if other.contains(['.', ':']) => other.to_ascii_lowercase(),
        other => other.to_owned(),
    };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry, format!("library/{repository}"));
    }
    (registry, repository.to_owned())
}

/// Whether the first part of a name is a host rather than the start of a repository.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':'])
        || first == "localhost"
        || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn check_registry(registry: &str) -> Result<(), ReferenceError> {
    let bad = || ReferenceError::Registry(registry.to_owned());
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(bad)?;
            address.parse::<std::net::Ipv6Addr>().map_err(|_| bad())?;
            (
                "v6",
                if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(bad)?) },
            )
        }
        None => match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        },
    };
    if let Some(port) = port {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        if !digits || port.parse::<u16>().is_err() {
            return Err(bad());
        }
    }
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if host.split('.').all(label) { Ok(()) } else { Err(bad()) }
}

fn check_repository(repository: &str) -> Result<(), ReferenceError> {
    if repository.split('/').all(is_path_component) {
        return Ok(());
    }
    Err(ReferenceError::Repository(repository.to_owned()))
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends_in_words =
        bytes.first().copied().is_some_and(word) && bytes.last().copied().is_some_and(word);
    let separators_are_legal = part
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'));
    ends_in_words && separators_are_legal
}

fn checked_tag(tag: &str) -> Result<String, ReferenceError> {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let starts_well = tag.bytes().next().is_some_and(word);
    let goes_on_well = tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-');
    if starts_well && goes_on_well && tag.len() <= LONGEST_TAG {
        return Ok(tag.to_owned());
    }
    Err(ReferenceError::Tag(tag.to_owned()))
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

serde_as_text!(ImageRef);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn full(text: &str) -> String {
        text.parse::<ImageRef>().unwrap().to_string()
    }

    #[test]
    fn what_is_left_out_is_filled_in_as_docker_does() {
        assert_eq!(full("hello"), "docker.io/library/hello:latest");
        assert_eq!(full("acme/hello:1"), "docker.io/acme/hello:1");
        assert_eq!(full("docker.io/hello"), "docker.io/library/hello:latest");
        assert_eq!(full("index.docker.io/hello:2"), "docker.io/library/hello:2");
        assert_eq!(full("localhost/hello"), "localhost/hello:latest");
        assert_eq!(full("127.0.0.1:5000/a/b-c__d.e:v1"), "127.0.0.1:5000/a/b-c__d.e:v1");
        assert_eq!(full("[::1]:5000/a:1"), "[::1]:5000/a:1");
        assert_eq!(full("GHCR.io/acme/hello"), "ghcr.io/acme/hello:latest");
        assert_eq!(
            full("HOST/hello"),
            "HOST/hello:latest",
            "only the case shows that it is a host"
        );
    }

    #[test]
    fn a_digest_stands_alone_or_beside_a_tag() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(full(&format!("r.io/a@{digest}")), format!("r.io/a@{digest}"));
        let both: ImageRef = format!("r.io/a:1@{digest}").parse().unwrap();
        assert_eq!(both.manifest_key(), digest, "the digest decides");
        assert_eq!(both.tag(), Some("1"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        let long = format!("r.io/{}", "a".repeat(256));
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "r.io/A",
            "a:",
            "a:-x",
            "a:b:c",
            "a@",
            "a@sha256:00",
            "r.io:/a",
            "r.io:99999/a",
            "-r.io/a",
            "r..io/a",
            "a._b",
            "a___b",
            "a-",
            "[::1/a",
            "[zz]/a",
            "a b",
            "../a",
            "r.io/../a",
            "a:../b",
            "https://r.io/a",
            &long,
        ] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_short_spelling_names_the_same_image() {
        for text in ["hello:1", "acme/hello:1", "r.io/a/b:2"] {
            let image: ImageRef = text.parse().unwrap();
            assert_eq!(image.familiar(), text);
            assert_eq!(image.familiar().parse::<ImageRef>().unwrap(), image);
        }
    }

    proptest! {
        #[test]
        fn what_prints_parses_to_itself(
            host in prop::option::of("[a-z0-9]{1,8}\\.[a-z]{2,3}(:[1-9][0-9]{0,3})?"),
            path in "[a-z0-9]{1,6}([_-][a-z0-9]{1,4}){0,2}(/[a-z0-9]{1,6}){0,3}",
            tag in prop::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"),
            hash in prop::option::of(any::<[u8; 32]>()),
        ) {
            let mut text = host.map(|host| format!("{host}/")).unwrap_or_default() + &path;
            if let Some(tag) = tag { text += &format!(":{tag}"); }
            if let Some(hash) = hash {
                text += &format!("@{}", Digest::from_hash(crate::Algorithm::Sha256, &hash).unwrap());
            }
            let image: ImageRef = text.parse().unwrap();
            prop_assert_eq!(image.to_string().parse::<ImageRef>().unwrap(), image);
        }

        #[test]
        fn any_text_is_a_reference_or_an_error(text in "\\PC{0,40}") {
            if let Ok(image) = text.parse::<ImageRef>() {
                prop_assert_eq!(image.to_string().parse::<ImageRef>().unwrap(), image);
            }
        }
    }
}

//! Where an image comes from, as a person types it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use mote_spec::{ImageRef, ReferenceError};

/// What `run` and `pull` take: a registry's image, a local archive or layout, or a plain file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Registry(ImageRef),
    /// `oci:DIR[:TAG]`
    OciDir {
        path: PathBuf,
        tag: Option<String>,
    },
    /// `oci-archive:FILE`
    OciArchive(PathBuf),
    /// `docker-archive:FILE`
    DockerArchive(PathBuf),
    /// `./app.wasm`, `./app.wat`
    File(PathBuf),
}

impl FromStr for Source {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Source, ReferenceError> {
        if let Some(rest) = text.strip_prefix("oci:") {
            return Ok(oci_dir(rest));
        }
        if let Some(path) = text.strip_prefix("oci-archive:") {
            return Ok(Source::OciArchive(path.into()));
        }
        if let Some(path) = text.strip_prefix("docker-archive:") {
            return Ok(Source::DockerArchive(path.into()));
        }
        let is_path = text.starts_with(['.', '/']);
        if is_path || text.ends_with(".wasm") || text.ends_with(".wat") {
            return Ok(Source::File(text.into()));
        }
        let text = text.strip_prefix("docker://").unwrap_or(text);
        text.parse().map(Source::Registry)
    }
}

/// As skopeo reads it: the path ends at the first colon.
fn oci_dir(text: &str) -> Source {
    match text.split_once(':') {
        Some((path, tag)) => Source::OciDir { path: path.into(), tag: Some(tag.to_owned()) },
        None => Source::OciDir { path: text.into(), tag: None },
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Registry(image) => f.write_str(&image.familiar()),
            Source::OciDir { path, tag: Some(tag) } => write!(f, "oci:{}:{tag}", path.display()),
            Source::OciDir { path, tag: None } => write!(f, "oci:{}", path.display()),
            Source::OciArchive(path) => write!(f, "oci-archive:{}", path.display()),
            Source::DockerArchive(path) => write!(f, "docker-archive:{}", path.display()),
            Source::File(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_archives_and_references_are_told_apart() {
        let read = |text: &str| text.parse::<Source>().unwrap();
        assert!(matches!(read("hello:1"), Source::Registry(_)));
        assert!(matches!(read("docker://r.io/hello"), Source::Registry(_)));
        assert_eq!(read("./app"), Source::File("./app".into()));
        assert_eq!(read("app.wasm"), Source::File("app.wasm".into()));
        assert_eq!(
            read("oci:/a:r.io/x:1"),
            Source::OciDir { path: "/a".into(), tag: Some("r.io/x:1".into()) }
        );
        assert_eq!(read("oci-archive:a.tar"), Source::OciArchive("a.tar".into()));
        for text in ["hello:1", "oci:/a:b", "oci-archive:a.tar", "docker-archive:b.tar", "./x.wat"]
        {
            assert_eq!(read(&read(text).to_string()), read(text));
        }
    }
}

//! Manifests, indexes and image configurations as they come from outside.
//!
//! Read leniently where producers differ (a Wasm configuration has no `rootfs`, an old one no
//! `mediaType`), and strictly where safety hangs on it: digests, sizes, counts.

use std::collections::BTreeMap;

use mote_spec::Digest;
use serde::{Deserialize, Serialize};

use crate::media;

/// The largest manifest or configuration that is read (distribution-spec, "Pushing Manifests").
pub const LARGEST_MANIFEST: u64 = 4 << 20;
/// How many layers or children one manifest may list.
const MOST_ENTRIES: usize = 512;

/// What points at a blob or a manifest (image-spec, "Content Descriptors").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// A descriptor of a blob, with nothing said about it.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size,
            platform: None,
            artifact_type: None,
            annotations: BTreeMap::new(),
        }
    }

    /// The file name that `oras push` remembers.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get("org.opencontainers.image.title").map(String::as_str)
    }
}

/// For which machine a manifest is (image-spec, "Image Index").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An image manifest (image-spec, "Image Manifest"), or Docker's of schema 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// A list of manifests (image-spec, "Image Index"), or Docker's manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    pub schema_version: u32,
    #[serde(default)]
    pub media_type: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub manifests: Vec<Descriptor>,
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// What a manifest's bytes turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    Manifest(Manifest),
    Index(Index),
}

/// The parts of an image configuration that mote reads; a Wasm artifact's has only the first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    pub architecture: String,
    pub os: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(deserialize_with = "null_is_empty")]
    pub config: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs: Option<Rootfs>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<History>,
    /// The CNCF Wasm configuration's list of layers.
    #[serde(rename = "layerDigests", skip_serializing_if = "Option::is_none")]
    pub layer_digests: Option<Vec<Digest>>,
}

/// How the image wants to be started (image-spec, "Image Configuration", `config`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Process {
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    #[serde(deserialize_with = "null_is_empty", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The layers of the root file system, unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    #[serde(rename = "type")]
    pub kind: String,
    pub diff_ids: Vec<Digest>,
}

/// One line of how an image came to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// Why bytes are no manifest that mote reads.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("it is not the JSON of a manifest")]
    Json(#[source] serde_json::Error),
    #[error("its schema version is {0}; only version 2 is read")]
    Schema(u32),
    #[error("it lists {0} entries; at most {MOST_ENTRIES} are read")]
    TooMany(usize),
    #[error("it is a manifest and an index at once")]
    Ambiguous,
    #[error("its server calls it {0}, and that is not what it is")]
    Mislabelled(String),
    #[error("it is of type `{0}`, which is neither a manifest nor an index")]
    Type(String),
}

impl Document {
    /// Parses a manifest or index, telling them apart by what is in them, as the specification
    /// advises (`mediaType` may be absent).
    pub fn parse(bytes: &[u8]) -> Result<Document, ManifestError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: u32,
            #[serde(default)]
            media_type: String,
            manifests: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
        }
        let probe: Probe = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if probe.schema_version != 2 {
            return Err(ManifestError::Schema(probe.schema_version));
        }
        // Two clients would take two different images for this one (CVE-2021-41190).
        if probe.manifests.is_some() && (probe.config.is_some() || probe.layers.is_some()) {
            return Err(ManifestError::Ambiguous);
        }
        match probe.media_type.as_str() {
            "" | media::OCI_INDEX | media::DOCKER_INDEX if probe.manifests.is_some() => {
                Index::parse(bytes).map(Document::Index)
            }
            "" | media::OCI_MANIFEST | media::DOCKER_MANIFEST => {
                Manifest::parse(bytes).map(Document::Manifest)
            }
            other => Err(ManifestError::Type(other.to_owned())),
        }
    }
}

impl Document {
    /// Checks that the type which a server names for it does not say something else.
    ///
    /// # Errors
    /// Fails if a manifest is called an index, or the other way round.
    pub fn check_type(&self, named: &str) -> Result<(), ManifestError> {
        let is_wrong = match self {
            Document::Manifest(_) => matches!(named, media::OCI_INDEX | media::DOCKER_INDEX),
            Document::Index(_) => matches!(named, media::OCI_MANIFEST | media::DOCKER_MANIFEST),
        };
        match is_wrong {
            true => Err(ManifestError::Mislabelled(named.to_owned())),
            false => Ok(()),
        }
    }
}

impl Manifest {
    /// Parses and bounds an image manifest.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, ManifestError> {
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        match manifest.layers.len() {
            count if count > MOST_ENTRIES => Err(ManifestError::TooMany(count)),
            _ => Ok(manifest),
        }
    }

    /// The configuration and the layers: every blob that belongs to the image.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

impl ImageConfig {
    /// Parses a configuration. An artifact's may be empty, or no JSON at all (`oras push` lets
    /// anything be one), and then says nothing.
    pub fn parse(bytes: &[u8]) -> Result<ImageConfig, serde_json::Error> {
        match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') => serde_json::from_slice(bytes),
            _ => Ok(ImageConfig::default()),
        }
    }
}

impl Index {
    /// Parses and bounds an index.
    pub fn parse(bytes: &[u8]) -> Result<Index, ManifestError> {
        let index: Index = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        match index.manifests.len() {
            count if count > MOST_ENTRIES => Err(ManifestError::TooMany(count)),
            _ => Ok(index),
        }
    }
}

/// Go writes empty lists and maps as `null`.
fn null_is_empty<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex() -> String {
        format!("sha256:{}", "0a".repeat(32))
    }

    #[test]
    fn an_index_is_told_from_a_manifest_without_a_media_type() {
        let index =
            format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{}","size":1}}]}}"#, hex());
        assert!(matches!(Document::parse(index.as_bytes()), Ok(Document::Index(_))));
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":1}},"layers":[]}}"#,
            hex()
        );
        assert!(matches!(Document::parse(manifest.as_bytes()), Ok(Document::Manifest(_))));
    }

    #[test]
    fn a_document_that_is_two_things_at_once_is_refused() {
        let config = format!(r#""config":{{"digest":"{}","size":1}}"#, hex());
        let manifests = format!(r#""manifests":[{{"digest":"{}","size":1}}]"#, hex());
        for kind in ["", media::OCI_INDEX, media::OCI_MANIFEST] {
            for other in [config.as_str(), r#""layers":[]"#] {
                let text =
                    format!(r#"{{"schemaVersion":2,"mediaType":"{kind}",{manifests},{other}}}"#);
                let refused = Document::parse(text.as_bytes());
                assert!(matches!(refused, Err(ManifestError::Ambiguous)), "{text}: {refused:?}");
            }
        }
        let index = format!(r#"{{"schemaVersion":2,{manifests}}}"#);
        let index = Document::parse(index.as_bytes()).unwrap();
        assert!(index.check_type(media::OCI_MANIFEST).is_err());
        assert!(index.check_type(media::OCI_INDEX).is_ok() && index.check_type("").is_ok());
    }

    #[test]
    fn what_is_hostile_is_refused() {
        let many = format!(r#"{{"digest":"{}","size":1}},"#, hex()).repeat(600);
        let many = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, many.trim_end_matches(','));
        for bad in [
            "",
            "[]",
            r#"{"schemaVersion":1}"#,
            r#"{"schemaVersion":2,"config":{"digest":"sha256:../../etc","size":1}}"#,
            r#"{"schemaVersion":2,"mediaType":"text/html"}"#,
            &format!(r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":-1}}}}"#, hex()),
            &many,
        ] {
            assert!(Document::parse(bad.as_bytes()).is_err(), "{bad:.80}");
        }
    }

    #[test]
    fn a_configuration_of_any_producer_is_read() {
        for text in [
            "{}",
            r#"{"architecture":"wasm","os":"wasip1","layerDigests":[]}"#,
            r#"{"config":null,"history":null}"#,
            r#"{"config":{"Entrypoint":["/app.wasm"],"Cmd":null,"Labels":null,"Env":["A=1"]}}"#,
        ] {
            assert!(serde_json::from_str::<ImageConfig>(text).is_ok(), "{text}");
        }
    }
}

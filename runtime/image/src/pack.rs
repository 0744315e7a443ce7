//! Makes an image of a Wasm binary: the CNCF layout (tag-runtime, "Wasm OCI Artifact layout").

use std::collections::BTreeMap;

use mote_spec::ImageRef;
use serde::Serialize;

use crate::error::StoreError;
use crate::manifest::{Descriptor, Manifest};
use crate::media;
use crate::store::{Store, Stored};

/// What the configuration says about a binary; the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    pub kind: Kind,
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    pub annotations: BTreeMap<String, String>,
}

/// What kind of binary it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Module,
    Component { imports: Vec<String>, exports: Vec<String> },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'a mote_spec::Digest; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<Interfaces<'a>>,
}

#[derive(Serialize)]
struct Interfaces<'a> {
    exports: &'a [String],
    imports: &'a [String],
}

/// Packs a binary and names the image.
pub fn pack(
    store: &Store,
    name: &ImageRef,
    wasm: &[u8],
    about: &Description,
) -> Result<Stored, StoreError> {
    let lease = store.lease()?;
    let layer = store.put(media::WASM_LAYER, wasm)?;
    let (os, component) = match &about.kind {
        Kind::Module => ("wasip1", None),
        Kind::Component { imports, exports } => ("wasip2", Some(Interfaces { exports, imports })),
    };
    let config = WasmConfig {
        created: &about.created,
        architecture: "wasm",
        os,
        layer_digests: [&layer.digest],
        component,
    };
    let config = serde_json::to_vec(&config).expect("a configuration is always JSON");
    let config = store.put(media::WASM_CONFIG, &config)?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: media::OCI_MANIFEST.to_owned(),
        artifact_type: None,
        config,
        layers: vec![layer],
        annotations: about.annotations.clone(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is always JSON");
    let manifest: Descriptor = store.put(media::OCI_MANIFEST, &bytes)?;
    store.name(&lease, name, &manifest, &manifest.digest)?;
    Ok(Stored { name: Some(name.clone()), resolved: manifest.digest.clone(), manifest })
}

//! Decides where in an image the program is, whichever tool packed it.
//!
//! Pure: reads the manifest and the configuration, and names the layer or the layers to open.

use mote_spec::Digest;

use crate::manifest::{Descriptor, ImageConfig, Manifest};
use crate::media::{self, Packing};

/// Where an image keeps its program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// The layer is the Wasm binary.
    Layer(Descriptor),
    /// The program is a file in a root file system made of these layers, lowest first.
    Rootfs(Vec<RootfsLayer>),
}

/// One layer of a root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsLayer {
    pub blob: Descriptor,
    pub packing: Packing,
    /// What the unpacked tar must hash to, where the configuration says.
    pub diff_id: Option<Digest>,
}

/// Why an image holds no program that mote can run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("it is a wasmCloud provider archive, which holds native programs; mote runs Wasm")]
    WasmCloud,
    #[error(
        "it is a Spin application of {0} components; mote runs images of one module or component"
    )]
    Spin(usize),
    #[error("it has {0} Wasm layers; mote runs images of exactly one")]
    SeveralModules(usize),
    #[error("its configuration lists other layers than its manifest")]
    LayerDigests,
    #[error("it has no layers")]
    Empty,
    #[error("none of its layers holds Wasm or a file system (they are of type {0})")]
    NoWasm(String),
    #[error("its configuration names {diff_ids} unpacked layers, and its manifest has {layers}")]
    DiffIds { diff_ids: usize, layers: usize },
}

const SPIN_LOCK: &str = "application/vnd.fermyon.spin.application.v1+config";

/// Finds the program's place.
pub fn payload(manifest: &Manifest, config: &ImageConfig) -> Result<Payload, LayoutError> {
    if is_wasmcloud(manifest) {
        return Err(LayoutError::WasmCloud);
    }
    let raw: Vec<&Descriptor> =
        manifest.layers.iter().filter(|layer| media::is_raw_wasm(&layer.media_type)).collect();
    if manifest.layers.iter().any(|layer| layer.media_type == SPIN_LOCK) && raw.len() != 1 {
        return Err(LayoutError::Spin(raw.len()));
    }
    if manifest.config.media_type == media::WASM_CONFIG {
        return wasm_artifact(manifest, config);
    }
    match raw.as_slice() {
        [only] => return Ok(Payload::Layer((*only).clone())),
        [] => {}
        several => return Err(LayoutError::SeveralModules(several.len())),
    }
    // Before the tars: `oras push` of a file without a type calls it one.
    if let Some(file) = titled(manifest)? {
        return Ok(Payload::Layer(file.clone()));
    }
    if let Some(layers) = rootfs(manifest, config)? {
        return Ok(Payload::Rootfs(layers));
    }
    untyped(manifest)
}

/// The CNCF layout: exactly one layer of Wasm, which the configuration lists. Beside it there may be others, such as
/// a policy, an interface in WIT or a README.
fn wasm_artifact(manifest: &Manifest, config: &ImageConfig) -> Result<Payload, LayoutError> {
    let is_wasm = |layer: &&Descriptor| media::is_raw_wasm(&layer.media_type);
    let modules: Vec<&Descriptor> = manifest.layers.iter().filter(is_wasm).collect();
    let only = match (modules.as_slice(), manifest.layers.as_slice()) {
        ([only], _) => *only,
        ([], [only]) => only,
        ([], []) => return Err(LayoutError::Empty),
        ([], layers) => return Err(LayoutError::NoWasm(types(layers))),
        (several, _) => return Err(LayoutError::SeveralModules(several.len())),
    };
    match config.layer_digests.as_deref() {
        None | Some([]) => Ok(Payload::Layer(only.clone())),
        Some(listed) if listed.contains(&only.digest) => Ok(Payload::Layer(only.clone())),
        Some(_) => Err(LayoutError::LayerDigests),
    }
}

fn rootfs(
    manifest: &Manifest,
    config: &ImageConfig,
) -> Result<Option<Vec<RootfsLayer>>, LayoutError> {
    let packed: Option<Vec<Packing>> =
        manifest.layers.iter().map(|layer| media::tar_packing(&layer.media_type)).collect();
    let Some(packed) = packed.filter(|packed| !packed.is_empty()) else { return Ok(None) };
    let diff_ids =
        config.rootfs.as_ref().map(|rootfs| rootfs.diff_ids.as_slice()).unwrap_or_default();
    if !diff_ids.is_empty() && diff_ids.len() != packed.len() {
        return Err(LayoutError::DiffIds { diff_ids: diff_ids.len(), layers: packed.len() });
    }
    let layer = |(at, (blob, packing)): (usize, (&Descriptor, Packing))| RootfsLayer {
        blob: blob.clone(),
        packing,
        diff_id: diff_ids.get(at).cloned(),
    };
    Ok(Some(manifest.layers.iter().zip(packed).enumerate().map(layer).collect()))
}

/// `oras push IMAGE app.wasm`: a file of any type, whose title says what it is.
fn titled(manifest: &Manifest) -> Result<Option<&Descriptor>, LayoutError> {
    let is_wasm = |layer: &&Descriptor| layer.title().is_some_and(|title| title.ends_with(".wasm"));
    let titled: Vec<&Descriptor> = manifest.layers.iter().filter(is_wasm).collect();
    match titled.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => Err(LayoutError::SeveralModules(several.len())),
    }
}

/// One layer that says nothing about itself.
fn untyped(manifest: &Manifest) -> Result<Payload, LayoutError> {
    match manifest.layers.as_slice() {
        [] => Err(LayoutError::Empty),
        [only] if only.media_type == "application/octet-stream" => Ok(Payload::Layer(only.clone())),
        layers => Err(LayoutError::NoWasm(types(layers))),
    }
}

fn is_wasmcloud(manifest: &Manifest) -> bool {
    let types = manifest.layers.iter().map(|layer| layer.media_type.as_str());
    std::iter::once(manifest.config.media_type.as_str())
        .chain(types)
        .any(|kind| kind.starts_with("application/vnd.wasmcloud.provider."))
}

fn types(layers: &[Descriptor]) -> String {
    let mut types: Vec<&str> = layers.iter().map(|layer| layer.media_type.as_str()).collect();
    types.sort_unstable();
    types.dedup();
    types.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(media_type: &str, mark: u8) -> Descriptor {
        let digest = format!("sha256:{}", format!("{mark:02x}").repeat(32)).parse().unwrap();
        Descriptor::new(media_type, digest, 1)
    }

    fn titled(media_type: &str, title: &str, mark: u8) -> Descriptor {
        let mut blob = blob(media_type, mark);
        blob.annotations.insert("org.opencontainers.image.title".into(), title.into());
        blob
    }

    fn image(config: &str, layers: Vec<Descriptor>) -> Manifest {
        Manifest {
            schema_version: 2,
            media_type: String::new(),
            artifact_type: None,
            config: blob(config, 255),
            layers,
            annotations: Default::default(),
        }
    }

    #[test]
    fn every_layout_in_the_wild_is_understood() {
        let raw = |config: &str, layer: &str| {
            let manifest = image(config, vec![blob(layer, 1)]);
            matches!(payload(&manifest, &ImageConfig::default()), Ok(Payload::Layer(_)))
        };
        assert!(raw(media::WASM_CONFIG, media::WASM_LAYER));
        assert!(raw(
            media::OCI_CONFIG,
            "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm"
        ));
        assert!(raw(
            "application/vnd.wasm.config.v1+json",
            "application/vnd.wasm.content.layer.v1+wasm"
        ));
        assert!(raw(
            "application/vnd.module.wasm.config.v1+json",
            "application/vnd.module.wasm.content.layer.v1+wasm"
        ));
        assert!(raw(media::OCI_EMPTY, media::WASM_LAYER));
        assert!(raw(media::OCI_EMPTY, "application/octet-stream"));
        let oras = image(
            media::OCI_EMPTY,
            vec![titled("text/plain", "README", 1), titled("x/y", "app.wasm", 2)],
        );
        assert_eq!(
            payload(&oras, &ImageConfig::default()),
            Ok(Payload::Layer(oras.layers[1].clone()))
        );
        let untyped = image(
            media::OCI_EMPTY,
            vec![
                titled(media::OCI_LAYER_TAR, "app.wasm", 1),
                titled(media::OCI_LAYER_TAR, "README.md", 2),
            ],
        );
        assert_eq!(
            payload(&untyped, &ImageConfig::default()),
            Ok(Payload::Layer(untyped.layers[0].clone()))
        );
        let tars = image(
            media::OCI_CONFIG,
            vec![
                blob("application/vnd.oci.image.layer.v1.tar+gzip", 1),
                blob("application/vnd.docker.image.rootfs.diff.tar.gzip", 2),
                blob("application/vnd.oci.image.layer.v1.tar+zstd", 3),
                blob(media::OCI_LAYER_TAR, 4),
            ],
        );
        assert!(
            matches!(payload(&tars, &ImageConfig::default()), Ok(Payload::Rootfs(layers)) if layers.len() == 4)
        );
    }

    #[test]
    fn what_is_not_one_program_is_refused_by_name() {
        let refused = |manifest: Manifest| payload(&manifest, &ImageConfig::default()).unwrap_err();
        assert_eq!(refused(image(media::OCI_CONFIG, vec![])), LayoutError::Empty);
        let two = vec![blob(media::WASM_LAYER, 1), blob(media::WASM_LAYER, 2)];
        assert_eq!(refused(image(media::WASM_CONFIG, two.clone())), LayoutError::SeveralModules(2));
        let spin = [two, vec![blob(SPIN_LOCK, 3)]].concat();
        assert_eq!(refused(image(media::OCI_CONFIG, spin)), LayoutError::Spin(2));
        let provider = vec![blob("application/vnd.wasmcloud.provider.archive.layer.v1+par", 1)];
        assert_eq!(refused(image(media::OCI_EMPTY, provider)), LayoutError::WasmCloud);
        let html = vec![blob("text/html", 1)];
        assert_eq!(
            refused(image(media::OCI_CONFIG, html)),
            LayoutError::NoWasm("text/html".into())
        );
    }

    #[test]
    fn an_artifact_may_have_layers_beside_its_module() {
        let layers = vec![blob("application/vnd.acme.policy", 1), blob(media::WASM_LAYER, 2)];
        let manifest = image(media::WASM_CONFIG, layers);
        let found = payload(&manifest, &ImageConfig::default());
        assert_eq!(found, Ok(Payload::Layer(manifest.layers[1].clone())));
        let digests = manifest.layers.iter().map(|layer| layer.digest.clone()).collect();
        let config = ImageConfig { layer_digests: Some(digests), ..ImageConfig::default() };
        assert!(payload(&manifest, &config).is_ok());
        let other = vec![blob("text/html", 1), blob("text/css", 2)];
        let none = payload(&image(media::WASM_CONFIG, other), &ImageConfig::default());
        assert_eq!(none, Err(LayoutError::NoWasm("text/css, text/html".into())));
    }

    #[test]
    fn a_configuration_that_contradicts_its_manifest_is_refused() {
        let manifest = image(media::WASM_CONFIG, vec![blob(media::WASM_LAYER, 1)]);
        let other = blob("", 2).digest;
        let config = ImageConfig { layer_digests: Some(vec![other]), ..ImageConfig::default() };
        assert_eq!(payload(&manifest, &config), Err(LayoutError::LayerDigests));
    }
}

//! Decides which child of an index runs here: Wasm before the host's own platform.
//!
//! Pure. A platform is somebody's claim; what the image really holds is checked when it is opened.

use crate::manifest::{Descriptor, Index, Platform};

/// Why no child of an index can be chosen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    #[error("it has no Wasm image; it is built for {}", list(.0))]
    NoWasm(Vec<String>),
    #[error("it has no image for {wanted}; it is built for {}", list(.has))]
    NotFor { wanted: String, has: Vec<String> },
    #[error("it lists no image at all")]
    Empty,
}

fn list(platforms: &[String]) -> String {
    platforms.join(", ")
}

/// Chooses a child: the named platform if there is one, else the best for Wasm.
pub fn choose<'a>(
    index: &'a Index,
    platform: Option<&Platform>,
) -> Result<&'a Descriptor, SelectError> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|child| is_image(child)).collect();
    let has = || images.iter().map(|child| platform_name(child)).collect::<Vec<String>>();
    if images.is_empty() {
        return Err(SelectError::Empty);
    }
    if let Some(wanted) = platform {
        let matches =
            |child: &&Descriptor| child.platform.as_ref().is_some_and(|has| fits(has, wanted));
        let found = images.iter().copied().find(matches);
        return found.ok_or_else(|| SelectError::NotFor { wanted: wanted.to_string(), has: has() });
    }
    if let Some(best) = images
        .iter()
        .copied()
        .filter_map(|child| Some((rank(child)?, child)))
        .min_by_key(|(rank, _)| *rank)
    {
        return Ok(best.1);
    }
    match images.as_slice() {
        // A single child with a native platform may still hold Wasm (crun's and WasmEdge's images).
        [only] => Ok(only),
        _ => Err(SelectError::NoWasm(has())),
    }
}

/// Drops what only describes other children: buildx attestations and the like.
fn is_image(child: &Descriptor) -> bool {
    let unknown =
        |platform: &Platform| platform.os == "unknown" || platform.architecture == "unknown";
    !child.annotations.contains_key("vnd.docker.reference.type")
        && !child.platform.as_ref().is_some_and(unknown)
}

/// The preference among Wasm children, best first; `None` for a child that claims no Wasm.
fn rank(child: &Descriptor) -> Option<u8> {
    let claims_wasm = child.artifact_type.as_deref().is_some_and(|kind| kind.contains("wasm"));
    let Some(platform) = &child.platform else { return claims_wasm.then_some(4) };
    let architecture = platform.architecture.to_ascii_lowercase();
    if !matches!(architecture.as_str(), "wasm" | "wasm32") {
        return claims_wasm.then_some(4);
    }
    match platform.os.to_ascii_lowercase().as_str() {
        "wasip2" => Some(0),
        "wasip3" => Some(1),
        "wasip1" => Some(2),
        "wasi" => Some(3),
        // Wasm for a browser has nothing to run here.
        "js" => None,
        _ => Some(5),
    }
}

fn fits(has: &Platform, wanted: &Platform) -> bool {
    has.os.eq_ignore_ascii_case(&wanted.os)
        && has.architecture.eq_ignore_ascii_case(&wanted.architecture)
        && (wanted.variant.is_none() || wanted.variant == has.variant)
}

fn platform_name(child: &Descriptor) -> String {
    child.platform.as_ref().map_or_else(|| "no named platform".to_owned(), Platform::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media;

    fn child(platform: &str, mark: u8) -> Descriptor {
        let digest = format!("sha256:{}", format!("{mark:02x}").repeat(32)).parse().unwrap();
        let mut child = Descriptor::new(media::OCI_MANIFEST, digest, 1);
        if let Some((os, architecture)) = platform.split_once('/') {
            child.platform =
                Some(Platform { os: os.into(), architecture: architecture.into(), variant: None });
        }
        child
    }

    fn index(platforms: &[&str]) -> Index {
        let manifests =
            platforms.iter().zip(0..).map(|(platform, mark)| child(platform, mark)).collect();
        Index {
            schema_version: 2,
            media_type: String::new(),
            manifests,
            annotations: Default::default(),
        }
    }

    #[test]
    fn wasm_comes_before_the_hosts_platform_and_newer_before_older() {
        let table: [(&[&str], Option<usize>); 9] = [
            (&["linux/amd64", "wasi/wasm"], Some(1)),
            (&["wasi/wasm", "wasip1/wasm", "wasip2/wasm"], Some(2)),
            (&["Wasip1/wasm", "linux/arm64"], Some(0)),
            (&["wasi/wasm32", "unknown/unknown"], Some(0)),
            (&["linux/amd64"], Some(0)),
            (&["linux/amd64", "linux/arm64"], None),
            (&["js/wasm", "linux/amd64"], None),
            (&["unknown/unknown"], None),
            (&[], None),
        ];
        for (platforms, expected) in table {
            let index = index(platforms);
            let chosen = choose(&index, None).ok();
            assert_eq!(chosen, expected.map(|at| &index.manifests[at]), "{platforms:?}");
        }
    }

    #[test]
    fn a_platform_that_was_asked_for_is_the_only_one_taken() {
        let index = index(&["wasip2/wasm", "wasip1/wasm"]);
        let wanted = Platform { os: "wasip1".into(), architecture: "wasm".into(), variant: None };
        assert_eq!(choose(&index, Some(&wanted)), Ok(&index.manifests[1]));
        let other = Platform { os: "linux".into(), ..wanted };
        let refused = choose(&index, Some(&other)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it has no image for linux/wasm; it is built for wasip2/wasm, wasip1/wasm"
        );
    }

    #[test]
    fn attestations_are_no_images() {
        let mut index = index(&["linux/amd64", "wasi/wasm"]);
        index.manifests[1]
            .annotations
            .insert("vnd.docker.reference.type".into(), "attestation-manifest".into());
        assert_eq!(choose(&index, None), Ok(&index.manifests[0]));
    }
}

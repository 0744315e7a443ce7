//! The media types that mean Wasm in the wild. Hints only: magic bytes have the last word.

pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_EMPTY: &str = "application/vnd.oci.empty.v1+json";
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The CNCF Wasm artifact (tag-runtime, "Wasm OCI Artifact layout").
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const WASM_LAYER: &str = "application/wasm";

/// Every type that is accepted for a manifest, in the form of an `Accept` header.
pub const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.docker.distribution.manifest.v2+json";

/// Layers that are a Wasm binary themselves, by producer: the CNCF layout, runwasi, wasm-to-oci and
/// Krustlet, solo.io and Istio.
const RAW_WASM_LAYERS: [&str; 4] = [
    WASM_LAYER,
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

/// Whether a layer of this type holds the Wasm binary as it is.
pub fn is_raw_wasm(media_type: &str) -> bool {
    RAW_WASM_LAYERS.contains(&media_type)
}

/// Whether a manifest of this type lists other manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_INDEX)
}

/// How a root file system layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

/// The packing of a root file system layer of this type; `None` if it is no such layer.
pub fn tar_packing(media_type: &str) -> Option<Packing> {
    match media_type {
        OCI_LAYER_TAR
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar" => Some(Packing::Plain),
        "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(Packing::Gzip),
        "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Packing::Zstd),
        _ => None,
    }
}

/// What the first bytes of a program say that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Magic {
    CoreModule,
    Component,
    /// A native program or library, with its processor where it is a known one.
    Elf(&'static str),
    /// WebAssembly text.
    Text,
    Unknown,
}

impl Magic {
    /// Looks at the first bytes; twenty are enough.
    pub fn of(bytes: &[u8]) -> Magic {
        match bytes {
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Magic::CoreModule,
            [0, b'a', b's', b'm', _, _, _, _, ..] => Magic::Component,
            [0x7f, b'E', b'L', b'F', ..] => Magic::Elf(elf_machine(bytes)),
            _ if looks_like_text(bytes) => Magic::Text,
            _ => Magic::Unknown,
        }
    }
}

/// ELF header, `e_machine`, for the processors that images are commonly built for.
fn elf_machine(bytes: &[u8]) -> &'static str {
    let little = bytes.get(5) == Some(&1);
    let machine = bytes.get(18..20).map(|pair| match little {
        true => u16::from_le_bytes([pair[0], pair[1]]),
        false => u16::from_be_bytes([pair[0], pair[1]]),
    });
    match machine {
        Some(3) => "linux/386",
        Some(21) => "linux/ppc64le",
        Some(22) => "linux/s390x",
        Some(40) => "linux/arm",
        Some(62) => "linux/amd64",
        Some(183) => "linux/arm64",
        Some(243) => "linux/riscv64",
        _ => "another processor",
    }
}

fn looks_like_text(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    first == Some(&b'(') || bytes.starts_with(b";;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_modules_from_components_and_programs() {
        assert_eq!(Magic::of(b"\0asm\x01\0\0\0"), Magic::CoreModule);
        assert_eq!(Magic::of(b"\0asm\x0d\0\x01\0"), Magic::Component);
        assert_eq!(Magic::of(b"\n (module)"), Magic::Text);
        assert_eq!(Magic::of(b"\0asm"), Magic::Unknown);
        assert_eq!(Magic::of(b""), Magic::Unknown);
        let mut elf = [0u8; 20];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 183;
        assert_eq!(Magic::of(&elf), Magic::Elf("linux/arm64"));
    }
}

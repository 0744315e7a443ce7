//! Images made by hand, for what no tool would make.

use std::process::{Command, Stdio};

/// A blob with its media type.
#[derive(Clone)]
pub struct Blob {
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A manifest's parts.
#[derive(Clone)]
pub struct Image {
    pub config: Blob,
    pub layers: Vec<Blob>,
}

impl Blob {
    pub fn new(media_type: &str, bytes: impl Into<Vec<u8>>) -> Blob {
        Blob { media_type: media_type.into(), bytes: bytes.into() }
    }

    pub fn digest(&self) -> String {
        sha256(&self.bytes)
    }

    fn descriptor(&self) -> serde_json::Value {
        serde_json::json!({"mediaType": self.media_type, "digest": self.digest(), "size": self.bytes.len()})
    }
}

impl Image {
    /// The CNCF layout of one module.
    pub fn wasm(wasm: Vec<u8>) -> Image {
        let config = Blob::new(
            "application/vnd.wasm.config.v0+json",
            r#"{"architecture":"wasm","os":"wasip1"}"#,
        );
        Image { config, layers: vec![Blob::new("application/wasm", wasm)] }
    }

    pub fn manifest(&self) -> Vec<u8> {
        let layers: Vec<_> = self.layers.iter().map(Blob::descriptor).collect();
        serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": self.config.descriptor(),
            "layers": layers,
        }))
        .expect("JSON")
    }

    /// An archive in OCI image-layout form that holds it under a name.
    pub fn archive(&self, name: &str) -> Vec<u8> {
        let manifest = self.manifest();
        let index = serde_json::json!({
            "schemaVersion": 2,
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": sha256(&manifest),
                "size": manifest.len(),
                "platform": { "os": "linux", "architecture": "amd64" },
                "annotations": { "io.containerd.image.name": name },
            }],
        });
        let path = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
        let blobs = self.layers.iter().chain([&self.config]);
        let mut files = vec![
            ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
            ("index.json".to_owned(), index.to_string().into_bytes()),
            (path(&sha256(&manifest)), manifest),
        ];
        files.extend(blobs.map(|blob| (path(&blob.digest()), blob.bytes.clone())));
        let files: Vec<(&str, &[u8])> =
            files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        tar(&files)
    }

    pub fn blob(&self, digest: &str) -> Option<&Blob> {
        self.layers.iter().chain([&self.config]).find(|blob| blob.digest() == digest)
    }
}

/// The digest of bytes, by the machine's own tool.
pub fn sha256(bytes: &[u8]) -> String {
    use std::io::Write;
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum");
    child.stdin.take().expect("a pipe").write_all(bytes).expect("written");
    let output = child.wait_with_output().expect("it ends");
    format!("sha256:{}", &String::from_utf8_lossy(&output.stdout)[..64])
}

/// A tar archive of files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        builder.append_data(&mut header, name, *bytes).expect("appended");
    }
    builder.into_inner().expect("an archive")
}

//! Reads an image's manifest and configuration from the store.

use crate::error::OpenError;
use crate::manifest::{Descriptor, ImageConfig, Manifest};
use crate::store::Store;

/// Reads and parses an image's manifest and configuration.
pub fn read(
    store: &Store,
    manifest: &Descriptor,
    name: &str,
) -> Result<(Manifest, ImageConfig), OpenError> {
    let bytes = store.read_small(&manifest.digest)?;
    let manifest = Manifest::parse(&bytes)
        .map_err(|source| OpenError::Manifest { name: name.to_owned(), source })?;
    let bytes = store.read_small(&manifest.config.digest)?;
    let config = ImageConfig::parse(&bytes)
        .map_err(|source| OpenError::Config { name: name.to_owned(), source })?;
    Ok((manifest, config))
}

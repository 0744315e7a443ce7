//! Any bytes are a manifest whose program can be sought, an index that can be searched, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_image::manifest::{Document, ImageConfig};
use mote_image::{layout, select};

fuzz_target!(|bytes: &[u8]| {
    match Document::parse(bytes) {
        Ok(Document::Manifest(manifest)) => {
            drop(layout::payload(&manifest, &ImageConfig::default()))
        }
        Ok(Document::Index(index)) => drop(select::choose(&index, None)),
        Err(_) => {}
    }
});

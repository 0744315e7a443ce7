//! Any bytes are a configuration, and its labels are asks, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_image::manifest::ImageConfig;
use mote_spec::Asks;

fuzz_target!(|bytes: &[u8]| {
    let Ok(config) = ImageConfig::parse(bytes) else { return };
    if let Ok(asks) = Asks::from_annotations(&config.config.labels) {
        assert_eq!(Asks::from_annotations(&asks.to_annotations()), Ok(asks));
    }
});

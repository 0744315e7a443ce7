//! Any text is a reference, a rule or a size that prints to itself, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What parses prints to what parses to the same.
fn round_trip<T>(text: &str)
where
    T: std::str::FromStr + std::fmt::Display + PartialEq,
{
    if let Ok(value) = text.parse::<T>() {
        let again = value.to_string().parse::<T>();
        assert!(again.is_ok_and(|again| again == value), "{text}");
    }
}

fuzz_target!(|text: &str| {
    round_trip::<mote_spec::ImageRef>(text);
    round_trip::<mote_spec::Digest>(text);
    round_trip::<mote_spec::NetRule>(text);
    round_trip::<mote_spec::HttpRule>(text);
    round_trip::<mote_spec::Publish>(text);
    round_trip::<mote_spec::Bytes>(text);
    round_trip::<mote_spec::Scratch>(text);
    round_trip::<mote_image::Source>(text);
    let _ = text.parse::<mote_spec::DirGrant>();
    let _ = text.parse::<mote_spec::Mount>();
});

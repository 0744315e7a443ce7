//! Any bytes are a seccomp profile that becomes filters, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mote_engine::SeccompProfile;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(profile) = SeccompProfile::from_json(bytes) {
        let again = serde_json::to_vec(&profile).expect("it is JSON");
        assert!(SeccompProfile::from_json(&again).is_ok(), "what was read is read again");
    }
});

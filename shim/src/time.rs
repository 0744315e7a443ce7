//! Moments as protobuf writes them.

use std::time::{SystemTime, UNIX_EPOCH};

use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use mote_lifecycle::Time;

/// This moment.
pub(crate) fn now() -> Timestamp {
    of(SystemTime::now())
}

/// A moment that may not have come.
pub(crate) fn at(time: Option<Time>) -> MessageField<Timestamp> {
    time.map(|time| of(time.system())).into()
}

pub(crate) fn of(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
        ..Timestamp::default()
    }
}

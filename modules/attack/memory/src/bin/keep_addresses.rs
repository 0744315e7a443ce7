//! Gives HTTP requests that it never sends the longest authorities that it may, until it may not.
//!
//! Stopped by: the length of an authority, handles.

use wasip2::http::types::{Fields, OutgoingRequest};

fn main() {
    let longest = "x".repeat(4 << 20);
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let request = OutgoingRequest::new(Fields::new());
        assert!(request.set_authority(Some(&longest)).is_err(), "no host has such a name");
        assert!(request.set_path_with_query(Some(&format!("/{longest}"))).is_err(), "no path");
        request.set_authority(Some(&longest[..1_000])).expect("an authority");
        kept.push(request);
    }
    println!("got through");
}

//! Writes bodies of HTTP requests that it never sends, until it may not.
//!
//! Stopped by: handles.

use wasip2::http::types::{Fields, OutgoingRequest};

fn main() {
    let chunk = vec![b'x'; 4 << 10];
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let request = OutgoingRequest::new(Fields::new());
        request.set_path_with_query(Some(&format!("/{}", "x".repeat(16_000)))).expect("a path");
        let body = request.body().expect("the first");
        let stream = body.write().expect("the first");
        while let Ok(room @ 1..) = stream.check_write() {
            let most = chunk.len().min(room as usize);
            stream.write(&chunk[..most]).expect("there is room");
        }
        kept.push((request, body, stream));
    }
    println!("got through");
}

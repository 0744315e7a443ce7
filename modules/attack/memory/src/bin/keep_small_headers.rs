//! Makes headers of HTTP messages, as many as there may be, until it may not.
//!
//! Stopped by: handles.

use wasip2::http::types::Fields;

fn main() {
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let fields = Fields::new();
        for number in 0..430 {
            fields.append(&format!("{number:x}"), b"").expect("there is room");
        }
        kept.push(fields);
    }
    println!("got through");
}

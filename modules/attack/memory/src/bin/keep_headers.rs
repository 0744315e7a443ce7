//! Makes headers of HTTP messages, as large as they may be, until it may not.
//!
//! Stopped by: handles.

use wasip2::http::types::Fields;

fn main() {
    let value = vec![b'x'; 1_000];
    let mut kept = Vec::new();
    for _ in 0..20_000 {
        let fields = Fields::new();
        for _ in 0..31 {
            fields.append("x", &value).expect("there is room");
        }
        kept.push(fields);
    }
    println!("got through");
}

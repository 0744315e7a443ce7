//! Gives HTTP requests that it never sends the longest authorities that it may, until it may not.
//!
//! Stopped by: the length of an authority, handles.

use wasip3::exports::cli::run::Guest;
use wasip3::http::types::{Fields, Request};
use wasip3::{cli, wit_future};

struct Attack;

cli::command::export!(Attack);

impl Guest for Attack {
    async fn run() -> Result<(), ()> {
        let longest = "x".repeat(200 << 10);
        let mut kept = Vec::new();
        for _ in 0..20_000 {
            let (_, trailers) = wit_future::new(|| Ok(None));
            let (request, sent) = Request::new(Fields::new(), None, trailers, None);
            assert!(request.set_authority(Some(&longest)).is_err(), "no host has such a name");
            assert!(request.set_path_with_query(Some(&format!("/{longest}"))).is_err(), "no path");
            request.set_authority(Some(&longest[..1_000])).expect("an authority");
            kept.push((request, sent));
        }
        println!("got through");
        Ok(())
    }
}

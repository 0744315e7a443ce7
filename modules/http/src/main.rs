//! Gets each address that it is given, and prints the status and the size of the answer, or why not.
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{ErrorCode, Fields, IncomingBody, OutgoingRequest, Scheme};
use wasip2::io::streams::StreamError;

fn get(address: &str) -> Result<(u16, usize), ErrorCode> {
    let (scheme, rest) = address.split_once("://").expect("an address");
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let future = handle(request, None)?;
    future.subscribe().block();
    let response = future.get().expect("ready").expect("the first")?;
    let body: IncomingBody = response.consume().expect("a body");
    let stream = body.stream().expect("a stream");
    let mut size = 0;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(bytes) => size += bytes.len(),
            Err(StreamError::Closed) => return Ok((response.status(), size)),
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
}

fn main() {
    for address in std::env::args().skip(1) {
        match get(&address) {
            Ok((status, size)) => println!("{address}: {status}, {size} bytes"),
            Err(error) => println!("{address}: {error:?}"),
        }
    }
}

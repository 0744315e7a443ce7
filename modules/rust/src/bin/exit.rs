//! Ends with the code that it is given.
fn main() {
    std::process::exit(std::env::args().nth(1).and_then(|code| code.parse().ok()).unwrap_or(0));
}

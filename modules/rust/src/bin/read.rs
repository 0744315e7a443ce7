//! Prints each file that it is given, or why it cannot.
fn main() {
    for path in std::env::args().skip(1) {
        match std::fs::read_to_string(&path) {
            Ok(text) => println!("{path}: {}", text.trim_end()),
            Err(error) => println!("{path}: {:?}", error.kind()),
        }
    }
}

//! Prints its arguments.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    println!("hello from {}", args.join(" "));
}

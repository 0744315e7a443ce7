//! Sets the length of a file: resize PATH BYTES.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&args[1]);
    match file.and_then(|file| file.set_len(args[2].parse().unwrap())) {
        Ok(()) => println!("resized"),
        Err(error) => println!("{:?}", error.kind()),
    }
}

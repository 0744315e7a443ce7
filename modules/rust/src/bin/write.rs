//! Writes so many bytes to a file in small pieces, and says how far it came: write PATH BYTES [append].
use std::io::Write;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let wanted: u64 = args[2].parse().expect("a number of bytes");
    let mut options = std::fs::OpenOptions::new();
    if args.get(3).is_some_and(|mode| mode == "append") {
        options.append(true)
    } else {
        options.write(true)
    };
    let mut file = match options.create(true).open(&args[1]) {
        Ok(file) => file,
        Err(error) => return println!("cannot open: {:?}", error.kind()),
    };
    let piece = [b'x'; 1000];
    let mut written = 0;
    while written < wanted {
        let size = (wanted - written).min(piece.len() as u64) as usize;
        match file.write(&piece[..size]) {
            Ok(count) => written += count as u64,
            Err(error) => return println!("wrote {written}, then {:?}", error.kind()),
        }
    }
    println!("wrote {written}");
}

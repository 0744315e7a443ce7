//! Writes and deletes files again and again, as logs are rotated: rotate DIR ROUNDS BYTES.
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (rounds, bytes): (u32, usize) = (args[2].parse().unwrap(), args[3].parse().unwrap());
    for round in 0..rounds {
        let path = format!("{}/{round}", args[1]);
        if let Err(error) = std::fs::write(&path, vec![b'x'; bytes]) {
            return println!("round {round}: {:?}", error.kind());
        }
        std::fs::remove_file(&path).expect("the file was just written");
    }
    println!("{rounds} rounds");
}

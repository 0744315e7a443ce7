//! Allocates and uses memory without end.
fn main() {
    println!("eating");
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(std::hint::black_box(vec![0xaa; 1 << 20]));
    }
}

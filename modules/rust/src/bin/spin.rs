//! Computes without end.
fn main() {
    println!("spinning");
    let mut x = 88_172_645_463_325_252u64;
    while std::hint::black_box(x) != 0 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
}

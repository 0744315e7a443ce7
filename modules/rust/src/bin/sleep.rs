//! Sleeps for so many seconds.
fn main() {
    println!("sleeping");
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3600.0);
    std::thread::sleep(std::time::Duration::from_secs_f64(seconds));
    println!("awake");
}

//! Makes names in a directory until it is refused: fill DIR file|folder|link|symlink.
use std::fs;
use std::path::Path;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let dir = Path::new(&args[1]);
    fs::write(dir.join("first"), "").expect("a first file");
    for number in 1.. {
        let path = dir.join(number.to_string());
        let made = match args[2].as_str() {
            "file" => fs::File::create_new(&path).map(drop),
            "folder" => fs::create_dir(&path),
            "link" => fs::hard_link(dir.join("first"), &path),
            #[allow(deprecated)]
            "symlink" => fs::soft_link("first", &path),
            other => panic!("cannot make a {other}"),
        };
        if let Err(error) = made {
            let again = fs::OpenOptions::new().create(true).append(true).open(dir.join("first"));
            return println!(
                "{number} names, then {:?}; the first opens: {}",
                error.kind(),
                again.is_ok()
            );
        }
        if number == 100_000 {
            return println!("no end");
        }
    }
}

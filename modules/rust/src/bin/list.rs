//! Says how many names there are in a folder, and how many are of folders and of links.

fn main() {
    let folder = std::env::args().nth(1).expect("a folder");
    let (mut names, mut folders, mut links) = (0, 0, 0);
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let kind = entry.expect("an entry").file_type().expect("a kind");
        names += 1;
        folders += u32::from(kind.is_dir());
        links += u32::from(kind.is_symlink());
    }
    println!("{names} names, {folders} folders, {links} links");
}

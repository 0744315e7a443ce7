//! Tries every trick of path and symbolic link to read /etc/passwd from below a directory: climb DIR.
use std::fs;
use std::path::Path;

fn main() {
    let root = std::env::args().nth(1).expect("a directory");
    let at = |name: &str| format!("{root}/{name}");
    let mut tricks: Vec<String> = vec![
        "/etc/passwd".into(),
        at("../etc/passwd"),
        at("../../../../../../etc/passwd"),
        at("a/../../etc/passwd"),
        at("./.././../etc/passwd"),
        at("..//..//etc//passwd"),
        at("up/etc/passwd"),
        at("absolute"),
        at("absolute/"),
        at("proc/self/root/etc/passwd"),
        "/proc/self/root/etc/passwd".into(),
        "/dev/fd/3/../../etc/passwd".into(),
        "..".into(),
        "../etc/passwd".into(),
        "etc/passwd".into(),
    ];
    // What the host put there, and what a guest can make itself.
    for (link, target) in [
        ("mine", "../../../../etc/passwd"),
        ("mine-abs", "/etc/passwd"),
        ("chain", "mine"),
        ("dir", "../.."),
    ] {
        #[allow(deprecated)]
        let made = symlink(Path::new(target), Path::new(&at(link)));
        if made {
            tricks.push(at(link));
        }
    }
    tricks.push(at("dir/etc/passwd"));
    if fs::rename(at("absolute"), at("moved")).is_ok() {
        tricks.push(at("moved"));
    }
    if fs::hard_link(at("mine"), at("hard")).is_ok() {
        tricks.push(at("hard"));
    }
    for path in &tricks {
        if let Ok(text) = fs::read_to_string(path) {
            if text.contains("root:") {
                println!("escaped by {path}");
                std::process::exit(1);
            }
        }
    }
    println!("tried {} ways, none led out", tricks.len());
}

#[cfg(target_os = "wasi")]
fn symlink(target: &Path, link: &Path) -> bool {
    unsafe extern "C" {
        fn symlink(target: *const std::ffi::c_char, link: *const std::ffi::c_char) -> i32;
    }
    let text =
        |path: &Path| std::ffi::CString::new(path.to_str().expect("text")).expect("no zero bytes");
    let (target, link) = (text(target), text(link));
    // SAFETY: both are strings that end in a zero byte and outlive the call.
    unsafe { symlink(target.as_ptr(), link.as_ptr()) == 0 }
}

#[cfg(not(target_os = "wasi"))]
fn symlink(_: &Path, _: &Path) -> bool {
    false
}

//! What a guest can do that has broken out of its sandbox: any system call, as native code could make it.
//!
//! The two functions are there only in mote's own tests. Each attack is one program, which says in its first
//! lines what it tries and which layer stops it, and prints how it went: `escaped` or `refused`, and why.

use std::ffi::CString;

#[link(wasm_import_module = "mote_escape")]
unsafe extern "C" {
    fn syscall(name: *const u8, length: usize, arguments: *const [i64; 6]) -> i64;
    fn address(of: *const u8) -> i64;
}

/// What a call answered: a number, or that of an error (errno(3)).
pub type Answer = Result<i64, i64>;

/// Makes a system call by its name.
pub fn call<const N: usize>(name: &str, arguments: [i64; N]) -> Answer {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&arguments);
    // SAFETY: the name and the arguments are in this memory.
    match unsafe { syscall(name.as_ptr(), name.len(), &all) } {
        error if error < 0 => Err(-error),
        done => Ok(done),
    }
}

/// Where a value of the guest's is in its host's process. It stays there: nothing of it is ever freed.
pub fn at<T: 'static>(value: T) -> i64 {
    let kept: &'static T = Box::leak(Box::new(value));
    // SAFETY: it only tells an address.
    unsafe { address(std::ptr::from_ref(kept).cast()) }
}

/// The address of a text, with a zero behind it.
pub fn text(text: &str) -> i64 {
    let kept = CString::new(text).expect("no zero").into_raw();
    // SAFETY: as above.
    unsafe { address(kept.cast()) }
}

/// The address of bytes.
pub fn bytes(bytes: Vec<u8>) -> i64 {
    let kept = bytes.leak();
    // SAFETY: as above.
    unsafe { address(kept.as_ptr()) }
}

/// The program's argument.
pub fn argument(number: usize) -> String {
    std::env::args().nth(number).unwrap_or_default()
}

/// The same as a number.
pub fn number(number: usize) -> i64 {
    argument(number).parse().expect("a number")
}

/// "The working folder" of calls that take a path (`AT_FDCWD`).
pub const HERE: i64 = -100;
pub const READ: i64 = 0;
pub const WRITE: i64 = 1;
pub const READ_WRITE: i64 = 2;
pub const CREATE: i64 = 0o100;
pub const DIRECTORY: i64 = 0o200000;

/// Opens a path.
pub fn open(path: &str, flags: i64) -> Answer {
    call("openat", [HERE, text(path), flags, 0o644])
}

/// Opens a path and prints the first bytes of what is there.
pub fn read(path: &str) -> Answer {
    let file = open(path, READ)?;
    let buffer: &'static mut [u8] = Vec::leak(vec![0; 256]);
    // SAFETY: it only tells an address.
    let place = unsafe { address(buffer.as_ptr()) };
    let got = call("read", [file, place, 256])?;
    println!("{}", String::from_utf8_lossy(&buffer[..got as usize]));
    Ok(got)
}

/// Writes to a path.
pub fn write(path: &str, what: &str) -> Answer {
    let file = open(path, WRITE)?;
    call("write", [file, text(what), what.len() as i64])
}

/// What a call that makes a process answered; the new one ends at once.
pub fn child(answer: Answer) -> Answer {
    if answer == Ok(0) {
        let _ = call("exit_group", [0]);
    }
    answer
}

/// An IPv4 address as the kernel takes it (ip(7)).
pub fn inet(host: [u8; 4], port: i64) -> i64 {
    let mut raw = vec![2, 0, (port >> 8) as u8, port as u8];
    raw.extend(host);
    raw.extend([0; 8]);
    bytes(raw)
}

/// Prints how it went.
pub fn report(answer: Answer) {
    match answer {
        Ok(done) => println!("escaped: {done}"),
        Err(1) => println!("refused: EPERM"),
        Err(13) => println!("refused: EACCES"),
        Err(18) => println!("refused: EXDEV"),
        Err(97) => println!("refused: EAFNOSUPPORT"),
        // The way is open; only these arguments led nowhere.
        Err(error) => println!("answered: {error}"),
    }
}

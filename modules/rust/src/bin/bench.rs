//! Does some work for benchmarks, and prints how many microseconds that took.

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

fn main() {
    let work = std::env::args().nth(1).unwrap_or_default();
    let start = Instant::now();
    match work.as_str() {
        "sieve" => drop(black_box(sieve(20_000_000))),
        "matrix" => drop(black_box(matrix(320))),
        "json" => drop(black_box(json(60))),
        "sha256" => drop(black_box(sha256(48 << 20))),
        "write-through" => write("/data/big", 64 << 10, 512),
        "write-small" => write("/data/small", 128, 40_000),
        "walk" => drop(black_box((0..6).map(|_| walk("/data/tree")).sum::<u64>())),
        // Of 64 bytes each, as what sensors say is; and of what a stream carries.
        "echo" => echo(64, 10_000),
        "echo-long" => echo(64 << 10, 2_000),
        "nothing" => {}
        other => panic!("no work is called {other}"),
    }
    println!("{}", start.elapsed().as_micros());
}

/// Has so many bytes sent back by whoever listens at the address of the second argument, again and again.
fn echo(size: usize, times: usize) {
    let address = std::env::args().nth(2).expect("an address");
    let mut stream = TcpStream::connect(address).expect("connected");
    let (sent, mut back) = (vec![7; size], vec![0; size]);
    for _ in 0..times {
        stream.write_all(&sent).expect("sent");
        stream.read_exact(&mut back).expect("sent back");
    }
    assert_eq!(sent, back);
}

/// How many primes are below a number.
fn sieve(most: usize) -> usize {
    let mut composite = vec![false; most];
    let mut count = 0;
    for number in 2..most {
        if !composite[number] {
            count += 1;
            (number * number..most).step_by(number).for_each(|multiple| composite[multiple] = true);
        }
    }
    count
}

fn matrix(size: usize) -> f64 {
    let of = |seed: usize| -> Vec<f64> {
        (0..size * size).map(|place| ((place * seed) % 97) as f64).collect()
    };
    let (a, b) = (of(3), of(7));
    let mut product = vec![0.0; size * size];
    for row in 0..size {
        for inner in 0..size {
            let factor = a[row * size + inner];
            for column in 0..size {
                product[row * size + column] += factor * b[inner * size + column];
            }
        }
    }
    product.iter().sum()
}

/// Parses a document of numbers, texts and lists, again and again, and adds the numbers up.
fn json(times: usize) -> f64 {
    let item = r#"{"id": 12345, "name": "a sensor \"seven\"", "values": [1.5, 2.25, -3e2, true, null]}"#;
    let document = format!("[{}]", vec![item; 4_000].join(", "));
    (0..times).map(|_| Parser { text: document.as_bytes(), at: 0 }.value()).sum()
}

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> u8 {
        while self.text[self.at].is_ascii_whitespace() {
            self.at += 1;
        }
        self.text[self.at]
    }

    fn value(&mut self) -> f64 {
        match self.next() {
            b'{' => self.items(b'}'),
            b'[' => self.items(b']'),
            b'"' => self.text(),
            b't' => self.word(4),
            b'f' => self.word(5),
            b'n' => self.word(4),
            _ => self.number(),
        }
    }

    fn items(&mut self, end: u8) -> f64 {
        let mut sum = 0.0;
        self.at += 1;
        loop {
            match self.next() {
                b',' | b':' => self.at += 1,
                byte if byte == end => {
                    self.at += 1;
                    return sum;
                }
                _ => sum += self.value(),
            }
        }
    }

    fn text(&mut self) -> f64 {
        self.at += 1;
        while self.text[self.at] != b'"' {
            self.at += if self.text[self.at] == b'\\' { 2 } else { 1 };
        }
        self.at += 1;
        0.0
    }

    fn word(&mut self, length: usize) -> f64 {
        self.at += length;
        0.0
    }

    fn number(&mut self) -> f64 {
        let start = self.at;
        while matches!(self.text[self.at], b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E') {
            self.at += 1;
        }
        let digits = std::str::from_utf8(&self.text[start..self.at]).expect("digits");
        digits.parse().expect("a number")
    }
}

/// SHA-256 (FIPS 180-4) of so many zeros.
fn sha256(length: usize) -> [u32; 8] {
    let constants: Vec<u32> = primes(64).map(|prime| fraction((prime as f64).cbrt())).collect();
    let mut state = [0; 8];
    primes(8).zip(&mut state).for_each(|(prime, word)| *word = fraction((prime as f64).sqrt()));
    let block = [0u8; 64];
    for _ in 0..length / 64 {
        compress(&mut state, &block, &constants);
    }
    state
}

fn primes(count: usize) -> impl Iterator<Item = u32> {
    (2..).filter(|number| (2..*number).all(|divisor| number % divisor != 0)).take(count)
}

fn fraction(root: f64) -> u32 {
    (root.fract() * 4_294_967_296.0) as u32
}

fn compress(state: &mut [u32; 8], block: &[u8; 64], constants: &[u32]) {
    let mut words = [0u32; 64];
    for (word, bytes) in words.iter_mut().zip(block.chunks(4)) {
        *word = u32::from_be_bytes(bytes.try_into().expect("four"));
    }
    for at in 16..64 {
        let (x, y) = (words[at - 15], words[at - 2]);
        let s0 = x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3);
        let s1 = y.rotate_right(17) ^ y.rotate_right(19) ^ (y >> 10);
        words[at] =
            words[at - 16].wrapping_add(s0).wrapping_add(words[at - 7]).wrapping_add(s1);
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
    for at in 0..64 {
        let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let one = h
            .wrapping_add(s1)
            .wrapping_add((e & f) ^ (!e & g))
            .wrapping_add(constants[at])
            .wrapping_add(words[at]);
        let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let two = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
        (h, g, f, e) = (g, f, e, d.wrapping_add(one));
        (d, c, b, a) = (c, b, a, one.wrapping_add(two));
    }
    for (word, more) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *word = word.wrapping_add(more);
    }
}

fn write(path: &str, size: usize, times: usize) {
    let mut file = fs::File::create(path).expect("made");
    let bytes = vec![7; size];
    for _ in 0..times {
        file.write_all(&bytes).expect("written");
    }
}

/// How many bytes are below a folder.
fn walk(folder: &str) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| {
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            match entry.metadata().expect("it is there") {
                found if found.is_dir() => walk(&path),
                found => found.len(),
            }
        })
        .sum()
}

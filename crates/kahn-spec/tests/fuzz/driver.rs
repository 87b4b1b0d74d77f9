//! Runs a fuzz target: first on the inputs of a corpus, then on mutations of them until the time is
//! up. The same seed produces the same inputs.
//!
//! - `KAHN_FUZZ_SECONDS`: the duration, by default 2.
//! - `KAHN_FUZZ_SEED`: the seed, by default 0.
//! - `KAHN_FUZZ_INPUT`: a file with a single input to run.
//!
//! The current input is always stored in a file, so that it can be repeated however the process
//! ended. It is also printed if the target panics.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;

/// Maximum length of an input.
const BYTES_MAX: usize = 16 << 10;
/// Maximum time for one input; a longer run counts as a hang.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes that are likely to trigger parser bugs.
const ODD: [u8; 12] = [0, 1, 0x7f, 0x80, 0xff, b'\n', b'"', b'\'', b'{', b'[', b'$', b'\\'];

/// Runs `target`, which is called `name`, on mutations of `corpus`.
pub(crate) fn drive(name: &str, corpus: &[Vec<u8>], target: impl Fn(&[u8])) {
    if let Some(path) = std::env::var_os("KAHN_FUZZ_INPUT") {
        target(&std::fs::read(path).unwrap());
        return;
    }
    let span = Duration::from_secs(number("KAHN_FUZZ_SECONDS").unwrap_or(2));
    let seed = number("KAHN_FUZZ_SEED").unwrap_or(0);
    let mut rng = Rng::with_seed(seed);
    let mut input = Input::new(name);
    let started = now();
    let mut n_tried = 0;
    let mut last = started;
    while n_tried < corpus.len() || last.duration_since(started) < span {
        input.set(match corpus.get(n_tried) {
            Some(whole) => whole.clone(),
            None => mutated(&mut rng, corpus),
        });
        target(&input.bytes);
        n_tried += 1;
        let after = now();
        assert!(after.duration_since(last) < TIME_MAX, "one input took {:?}", after - last);
        last = after;
    }
    input.forget();
    println!("{name}: {n_tried} inputs in {:?}, seed {seed}", last.duration_since(started));
}

#[expect(clippy::disallowed_methods, reason = "a fuzzer stops after a given time")]
fn now() -> Instant {
    Instant::now()
}

/// Returns a number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var_os(variable)?.into_string().unwrap();
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

/// The current input, also stored in a file.
struct Input {
    bytes: Vec<u8>,
    path: PathBuf,
    file: File,
}

impl Input {
    fn new(name: &str) -> Self {
        let file_name = format!("fuzz-{}-{}", name.replace(' ', "-"), std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(file_name);
        let file = File::create(&path).unwrap();
        Self { bytes: Vec::new(), path, file }
    }

    fn set(&mut self, bytes: Vec<u8>) {
        if bytes.len() < self.bytes.len() {
            self.file.set_len(u64::try_from(bytes.len()).unwrap()).unwrap();
        }
        self.file.write_all_at(&bytes, 0).unwrap();
        self.bytes = bytes;
    }

    fn forget(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (bytes, path) = (self.bytes.escape_ascii(), self.path.display());
            eprintln!("failing input: b\"{bytes}\"\ntry it again: KAHN_FUZZ_INPUT={path}");
        }
    }
}

/// Returns an input of the corpus with one to eight mutations.
fn mutated(rng: &mut Rng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pick(rng, corpus).to_vec();
    for _ in 0..1 << rng.u32(0..4) {
        mutate(rng, &mut bytes, corpus);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn pick<'a>(rng: &mut Rng, corpus: &'a [Vec<u8>]) -> &'a [u8] {
    &corpus[rng.usize(..corpus.len())]
}

/// Returns a range within `len`, rarely a long one.
fn range(rng: &mut Rng, len: usize) -> std::ops::Range<usize> {
    let start = rng.usize(..=len);
    let most = if rng.u8(..8) == 0 { len } else { 16 };
    start..(start + rng.usize(..=most)).min(len)
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..10) {
        // Splices are most effective: they combine valid fragments.
        0..=2 => {
            let other = pick(rng, corpus);
            let piece = other[range(rng, other.len())].to_vec();
            bytes.splice(at..at, piece);
        }
        3 => {
            let own = range(rng, bytes.len());
            let piece = bytes[own].to_vec();
            let times = if rng.u8(..8) == 0 { rng.usize(1..64) } else { 1 };
            bytes.splice(at..at, piece.repeat(times));
        }
        4 => drop(bytes.drain(range(rng, bytes.len()))),
        5 if rng.u8(..4) == 0 => bytes.truncate(at),
        6 => bytes.insert(at, ODD[rng.usize(..ODD.len())]),
        7 => bytes.splice(at..at, std::iter::repeat_with(|| rng.u8(..)).take(4)).for_each(drop),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = match rng.u8(..4) {
                    0 => byte.wrapping_add(1),
                    1 => byte.wrapping_sub(1),
                    2 => *byte ^ (1 << rng.u8(..8)),
                    _ => rng.u8(..),
                };
            }
        }
    }
}

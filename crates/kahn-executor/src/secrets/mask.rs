//! Masks secrets in text, given at once or in pieces.
//!
//! A byte is masked if it is part of any occurrence of any form of a secret. A run of masked bytes
//! is replaced by one mask. The result depends only on the text and not on how it is split into
//! pieces. Only bytes that may be the beginning of a secret are held back.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use kahn_model::{Cause, CauseKind, Failure, Outputs};
use zeroize::Zeroize as _;

use super::forms;

/// The replacement for a secret.
const SHOWN: &[u8] = b"***";

const ROOT: u32 = 0;
const NONE: u32 = u32::MAX;

/// The forms of a set of secrets. Clones share them.
#[derive(Clone)]
pub struct Mask(Arc<Automaton>);

impl Mask {
    /// Creates a mask for all forms of these secrets.
    pub fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut automaton = Automaton::new();
        for secret in secrets {
            forms::of(secret, &mut |form| automaton.add(form));
        }
        automaton.connect();
        Self(Arc::new(automaton))
    }

    /// Masks a text.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut stream = self.stream();
        let mut bytes = stream.push(text.as_bytes());
        bytes.extend(stream.finish());
        // A form may start or end within a character.
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns whether a text contains a secret.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut state = ROOT;
        text.bytes().any(|byte| {
            state = self.0.next(state, byte);
            self.0.nodes[index(state)].n_matched > 0
        })
    }

    /// Returns a stream that masks a text given in pieces.
    #[must_use]
    pub fn stream(&self) -> MaskStream {
        MaskStream {
            automaton: Arc::clone(&self.0),
            state: ROOT,
            held: Vec::new(),
            is_secret: Vec::new(),
            is_within: false,
        }
    }

    /// Masks a failure.
    pub(super) fn failure(&self, failure: &Failure) -> Failure {
        let message = self.text(&failure.message);
        Failure::new(failure.cause, &message).raised(&self.text(&failure.exception))
    }

    /// Returns the outputs if they contain no secret, and otherwise a failure.
    pub(super) fn checked(&self, outputs: Outputs) -> Result<Outputs, Failure> {
        let mut all = outputs.0.iter();
        let found = all.find(|(name, value)| self.is_in(name) || self.is_in(value.as_json()));
        let Some((name, _)) = found else { return Ok(outputs) };
        let message = format!(
            "output `{}` holds a secret; outputs are kept with the run, so give the secret to the \
             task that needs it by name",
            self.text(name)
        );
        Err(Failure::new(Cause::of(CauseKind::Policy), &message))
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mask")
    }
}

/// Masks a text that is given in pieces.
pub struct MaskStream {
    automaton: Arc<Automaton>,
    state: u32,
    /// Bytes that may be the beginning of a secret. Between calls, no longer than that.
    held: Vec<u8>,
    /// For each held byte, whether it is part of a secret.
    is_secret: Vec<bool>,
    /// Whether the last output was a mask.
    is_within: bool,
}

impl MaskStream {
    /// Takes a piece, and returns the masked text that is decided by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let start = self.held.len();
        self.held.extend_from_slice(bytes);
        self.is_secret.resize(self.held.len(), false);
        for (at, byte) in (start..).zip(bytes) {
            self.state = self.automaton.next(self.state, *byte);
            let n_matched = index(self.automaton.nodes[index(self.state)].n_matched);
            if n_matched > 0 {
                self.is_secret[at + 1 - n_matched..=at].fill(true);
            }
        }
        let n_open = index(self.automaton.nodes[index(self.state)].depth);
        self.release(self.held.len() - n_open)
    }

    /// Returns the rest of the masked text.
    pub fn finish(&mut self) -> Vec<u8> {
        self.state = ROOT;
        self.release(self.held.len())
    }

    fn release(&mut self, n: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(n);
        let mut at = 0;
        while at < n {
            let is_secret = self.is_secret[at];
            let rest = &self.is_secret[at..n];
            let end = at + rest.iter().position(|one| *one != is_secret).unwrap_or(rest.len());
            if !is_secret {
                out.extend_from_slice(&self.held[at..end]);
            } else if !self.is_within {
                out.extend_from_slice(SHOWN);
            }
            self.is_within = is_secret;
            at = end;
        }
        self.held.drain(..n);
        self.is_secret.drain(..n);
        out
    }
}

impl Drop for MaskStream {
    fn drop(&mut self) {
        self.held.zeroize();
    }
}

impl fmt::Debug for MaskStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MaskStream")
    }
}

/// Finds all forms at once with the Aho-Corasick algorithm. A node represents the longest suffix of
/// the input that is a prefix of a form.
struct Automaton {
    nodes: Vec<Node>,
    /// The transitions of the root, by byte.
    first: [u32; 256],
}

#[derive(Clone, Copy)]
struct Node {
    byte: u8,
    /// The length of the represented suffix.
    depth: u32,
    /// The length of the longest form that ends here, or 0.
    n_matched: u32,
    child: u32,
    sibling: u32,
    /// The node of the longest shorter suffix that is a prefix of a form.
    fallback: u32,
}

impl Automaton {
    fn new() -> Self {
        let root =
            Node { byte: 0, depth: 0, n_matched: 0, child: NONE, sibling: NONE, fallback: ROOT };
        Self { nodes: vec![root], first: [ROOT; 256] }
    }

    fn add(&mut self, form: &[u8]) {
        let mut at = ROOT;
        for byte in form {
            at = self.child(at, *byte).unwrap_or_else(|| self.grow(at, *byte));
        }
        let node = &mut self.nodes[index(at)];
        node.n_matched = node.depth;
    }

    fn grow(&mut self, parent: u32, byte: u8) -> u32 {
        let ix = u32::try_from(self.nodes.len()).expect("invariant: secrets have limits");
        let Node { depth, child, .. } = self.nodes[index(parent)];
        let (depth, sibling) = (depth + 1, child);
        self.nodes.push(Node { byte, depth, n_matched: 0, child: NONE, sibling, fallback: ROOT });
        self.nodes[index(parent)].child = ix;
        if parent == ROOT {
            self.first[usize::from(byte)] = ix;
        }
        ix
    }

    fn child(&self, parent: u32, byte: u8) -> Option<u32> {
        if parent == ROOT {
            return Some(self.first[usize::from(byte)]).filter(|child| *child != ROOT);
        }
        let mut at = self.nodes[index(parent)].child;
        while at != NONE && self.nodes[index(at)].byte != byte {
            at = self.nodes[index(at)].sibling;
        }
        Some(at).filter(|child| *child != NONE)
    }

    /// Computes the fallbacks in breadth-first order.
    fn connect(&mut self) {
        let mut open = VecDeque::from([ROOT]);
        while let Some(parent) = open.pop_front() {
            let mut at = self.nodes[index(parent)].child;
            while at != NONE {
                let Node { byte, sibling, n_matched, .. } = self.nodes[index(at)];
                if parent != ROOT {
                    let fallback = self.next(self.nodes[index(parent)].fallback, byte);
                    self.nodes[index(at)].fallback = fallback;
                    if n_matched == 0 {
                        self.nodes[index(at)].n_matched = self.nodes[index(fallback)].n_matched;
                    }
                }
                open.push_back(at);
                at = sibling;
            }
        }
    }

    fn next(&self, mut state: u32, byte: u8) -> u32 {
        loop {
            if let Some(child) = self.child(state, byte) {
                return child;
            }
            if state == ROOT {
                return ROOT;
            }
            state = self.nodes[index(state)].fallback;
        }
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.byte.zeroize();
        }
        self.first.zeroize();
    }
}

fn index(n: u32) -> usize {
    usize::try_from(n).expect("invariant: 32 bits fit")
}

#[cfg(test)]
mod tests;

//! The blocks of a disk, in memory. Only what was written takes room, and a copy
//! from disk to disk shares it until one side is written.

use std::collections::BTreeMap;
use std::sync::Arc;

const CHUNK: u64 = 64 << 10;

/// Bytes by offset; what is not there reads as zero.
#[derive(Clone, Default)]
pub(crate) struct Chunks(BTreeMap<u64, Arc<[u8]>>);

/// The pieces of `len` bytes from `at` that lie in one chunk each: chunk, offset
/// in it, length, offset in the whole.
fn pieces(at: u64, len: u64) -> impl Iterator<Item = (u64, usize, usize, u64)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let here = at.saturating_add(done);
        let inner = here % CHUNK;
        let n = (CHUNK - inner).min(len - done);
        let piece = (here / CHUNK, inner as usize, n as usize, done);
        done += n;
        Some(piece)
    })
}

impl Chunks {
    pub(crate) fn read(&self, at: u64, into: &mut [u8]) {
        for (chunk, inner, n, done) in pieces(at, into.len() as u64) {
            let out = &mut into[done as usize..done as usize + n];
            match self.0.get(&chunk) {
                Some(bytes) => out.copy_from_slice(&bytes[inner..inner + n]),
                None => out.fill(0),
            }
        }
    }

    fn chunk(&mut self, chunk: u64) -> &mut [u8] {
        let bytes = self
            .0
            .entry(chunk)
            .or_insert_with(|| vec![0; CHUNK as usize].into());
        Arc::make_mut(bytes)
    }

    pub(crate) fn write(&mut self, at: u64, from: &[u8]) {
        for (chunk, inner, n, done) in pieces(at, from.len() as u64) {
            self.chunk(chunk)[inner..inner + n]
                .copy_from_slice(&from[done as usize..done as usize + n]);
        }
    }

    pub(crate) fn zero(&mut self, at: u64, len: u64) {
        for (chunk, inner, n, _) in pieces(at, len) {
            if n as u64 == CHUNK {
                self.0.remove(&chunk);
            } else if self.0.contains_key(&chunk) {
                self.chunk(chunk)[inner..inner + n].fill(0);
            }
        }
    }

    /// What `len` bytes from `at` hold now, at the same offsets.
    pub(crate) fn snapshot(&self, at: u64, len: u64) -> Chunks {
        if len == 0 {
            return Chunks::default();
        }
        let (first, last) = (at / CHUNK, at.saturating_add(len - 1) / CHUNK);
        Chunks(
            self.0
                .range(first..=last)
                .map(|(n, bytes)| (*n, bytes.clone()))
                .collect(),
        )
    }

    /// Takes in what a snapshot of the same bytes at the same moment holds.
    pub(crate) fn merge(&mut self, other: Chunks) {
        self.0.extend(other.0);
    }

    /// Copies `len` bytes at `from` of another to `at`.
    pub(crate) fn paste(&mut self, at: u64, other: &Chunks, from: u64, len: u64) {
        let mut buffer = Vec::new();
        for (chunk, inner, n, done) in pieces(at, len) {
            let source = from + done;
            if n as u64 == CHUNK && source.is_multiple_of(CHUNK) {
                match other.0.get(&(source / CHUNK)) {
                    Some(bytes) => self.0.insert(chunk, bytes.clone()),
                    None => self.0.remove(&chunk),
                };
                continue;
            }
            buffer.resize(n, 0);
            other.read(source, &mut buffer);
            self.chunk(chunk)[inner..inner + n].copy_from_slice(&buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_across_chunks() {
        let mut disk = Chunks::default();
        let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 251) as u8).collect();
        disk.write(CHUNK - 77, &bytes);
        let mut back = vec![9; bytes.len() + 20];
        disk.read(CHUNK - 87, &mut back);
        assert_eq!(&back[..10], &[0; 10]);
        assert_eq!(&back[10..bytes.len() + 10], &bytes[..]);
        assert_eq!(&back[bytes.len() + 10..], &[0; 10]);
    }

    #[test]
    fn a_copy_is_shared_and_then_parts() {
        let (mut a, mut b) = (Chunks::default(), Chunks::default());
        a.write(0, &vec![7; 3 * CHUNK as usize]);
        b.paste(CHUNK + 512, &a, 512, 2 * CHUNK);
        a.write(1024, &[1; 4]);
        let mut back = [0; 8];
        b.read(CHUNK + 1024, &mut back);
        assert_eq!(back, [7; 8]);
        b.read(CHUNK + 508, &mut back);
        assert_eq!(back, [0, 0, 0, 0, 7, 7, 7, 7]);
        b.read(3 * CHUNK + 508, &mut back);
        assert_eq!(back, [7, 7, 7, 7, 0, 0, 0, 0]);
        b.zero(CHUNK + 514, 3);
        b.read(CHUNK + 512, &mut back);
        assert_eq!(back, [7, 7, 0, 0, 0, 7, 7, 7]);
        a.read(512, &mut back);
        assert_eq!(back, [7; 8]);
    }

    #[test]
    fn a_snapshot_keeps_the_old_bytes() {
        let mut a = Chunks::default();
        a.write(4096, &[5; 512]);
        let then = a.snapshot(4096, 512);
        a.write(4096, &[6; 512]);
        let mut back = [0; 512];
        then.read(4096, &mut back);
        assert_eq!(back, [5; 512]);
    }
}

//! Whether the kernel moves the bytes of two files by itself (copy_file_range),
//! or they are read and written: one copy of each byte against two, but on some
//! kernels page by page. Which is cheaper is measured.

use super::cpu_ns;
use once_cell::sync::OnceCell;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Commands by which both ways are tried in turn.
const TRIALS: u32 = 4;
/// Commands by which the worse way is tried once more.
const LATER: [u32; 2] = [8, 64];
/// Commands after which they are tried again.
const AGAIN: u32 = 256;

/// What is known of one pair's commands of one kind. Shared by its threads; a
/// figure that two of them write at once is one of the two.
#[derive(Debug, Default)]
pub struct Mover {
    /// Picoseconds of the processor for a byte, read and written or moved; 0 while
    /// not known.
    costs: [AtomicU64; 2],
    commands: AtomicU32,
    /// Where the pair's files lie: asked once, as its descriptors do not change.
    within: OnceCell<Within>,
}

/// One command's way, and when its thread began with it.
pub struct Move<'a> {
    measured: Option<(&'a Mover, u64)>,
    /// The kernel is to move the bytes.
    pub by_kernel: bool,
}

impl Mover {
    /// The way of the pair's next command; `src` and `dst` are the same each time.
    pub fn begin(&self, src: RawFd, dst: RawFd) -> Move<'_> {
        let within = *self.within.get_or_init(|| within(src, dst));
        let measured = within == Within::Journal;
        Move {
            by_kernel: within == Within::Memory || measured && self.next(),
            measured: measured.then(|| (self, cpu_ns())),
        }
    }

    fn next(&self) -> bool {
        let turn = self.commands.fetch_add(1, Ordering::Relaxed) % AGAIN;
        if turn < TRIALS {
            return turn.is_multiple_of(2);
        }
        let [written, moved] = [0, 1].map(|way: usize| self.costs[way].load(Ordering::Relaxed));
        // Measured beside all that else runs: what is close goes by the kernel,
        // which touches each byte once.
        let by_kernel = written == 0 || moved - moved / 16 < written;
        // Where there is little between them the first trials may have erred: they
        // were of commands that were still small.
        let (less, more) = (written.min(moved), written.max(moved));
        let is_close = more < less.saturating_add(less / 2);
        by_kernel ^ (LATER.contains(&turn) && is_close)
    }

    fn learn(&self, by_kernel: bool, bytes: u64, ns: u64) {
        let Some(cost) = ns.saturating_mul(1000).checked_div(bytes) else {
            return;
        };
        let known = &self.costs[usize::from(by_kernel)];
        let before = known.load(Ordering::Relaxed);
        // What else runs only ever adds to it: the least counts, and fades.
        let cost = match before {
            0 => cost,
            before => cost.min(before.saturating_add(before / 16 + 1)),
        };
        known.store(cost.max(1), Ordering::Relaxed);
    }
}

impl Move<'_> {
    /// The command ended well, with so many bytes moved.
    pub fn ended(self, bytes: u64) {
        if let Some((mover, since)) = self.measured {
            mover.learn(self.by_kernel, bytes, cpu_ns().saturating_sub(since));
        }
    }
}

/// What holds both files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Within {
    /// tmpfs: the kernel lends the source's pages to the write, a fifth less work.
    Memory,
    /// ext4: the same, but each kernel writes them as it can.
    Journal,
    /// Two file systems, one that would share blocks, or one that is not known.
    Neither,
}

fn within(src: RawFd, dst: RawFd) -> Within {
    let of = |fd| {
        // SAFETY: all-zero structs are valid, and the calls only write to them; a
        // bad fd is an error.
        unsafe {
            let mut system: libc::statfs64 = std::mem::zeroed();
            let mut stat: libc::stat64 = std::mem::zeroed();
            let asked = libc::fstatfs64(fd, &raw mut system) | libc::fstat64(fd, &raw mut stat);
            let is_file = stat.st_mode & libc::S_IFMT == libc::S_IFREG;
            let kind = match system.f_type as u32 {
                0x0102_1994 => Within::Memory,
                0xef53 => Within::Journal,
                _ => return None,
            };
            (asked == 0 && is_file).then_some((kind, stat.st_dev))
        }
    };
    match (of(src), of(dst)) {
        (Some(one), Some(other)) if one == other => one.0,
        _ => Within::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::AsRawFd;

    /// Nanoseconds for `mib` in commands that grow as a request's do, where a byte
    /// takes so many picoseconds read and written, and moved.
    fn simulate(mover: &Mover, mib: u64, written: u64, moved: u64) -> u64 {
        let (mut left, mut size, mut total) = (mib << 20, 1 << 20, 0);
        while left > 0 {
            let bytes = left.min(size);
            let by_kernel = mover.next();
            let ns = bytes * if by_kernel { moved } else { written } / 1000;
            mover.learn(by_kernel, bytes, ns);
            total += ns;
            left -= bytes;
            size = (size * 2).min(16 << 20);
        }
        total
    }

    #[test]
    fn the_cheaper_way_is_found_at_little_cost() {
        for (written, moved) in [(350, 290), (350, 900), (350, 345), (300, 100), (1, 1)] {
            for mib in [256, 1024, 100_000] {
                let took = simulate(&Mover::default(), mib, written, moved);
                let best = (mib << 20) * written.min(moved) / 1000;
                let regret = took as f64 / best as f64;
                assert!(regret <= 1.10, "{written} {moved} {mib}: {regret}");
            }
        }
    }

    #[test]
    fn a_change_is_noticed() {
        let mover = Mover::default();
        simulate(&mover, 16 * 1024, 100, 300);
        let took = simulate(&mover, 64 * 1024, 300, 100);
        let best = (64 << 30) * 100 / 1000;
        assert!(took < best * 5 / 4, "{took} of {best}");
    }

    #[test]
    fn only_where_no_block_is_shared() {
        let memory = || tempfile::tempfile_in("/dev/shm").expect("a file");
        let (src, dst, null) = (memory(), memory(), File::open("/dev/null").expect("null"));
        for (dst, by_kernel) in [
            (dst.as_raw_fd(), true),
            (null.as_raw_fd(), false),
            (-1, false),
        ] {
            let mover = Mover::default();
            for _ in 0..2 {
                assert_eq!(mover.begin(src.as_raw_fd(), dst).by_kernel, by_kernel);
            }
            assert_eq!(mover.commands.load(Ordering::Relaxed), 0);
        }
    }
}

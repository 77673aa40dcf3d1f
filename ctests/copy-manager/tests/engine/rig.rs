//! A copy manager with disks, and a nexus that has seen its unit attentions.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use copy_manager::{CopyManager, DiskOptions, ManualClock, Personality, Reply};

pub const MIB: u64 = 1 << 20;

pub struct Rig {
    pub manager: Arc<CopyManager>,
    pub clock: Arc<ManualClock>,
    pub nexus: usize,
}

/// Bytes from hexadecimal digits; blanks and line ends are for the eye.
pub fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    assert!(digits.len().is_multiple_of(2), "odd number of digits");
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Every 512 bytes say which disk and place they are of.
pub fn stamp(disk: u8, at: u64, bytes: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for n in 0..bytes / 512 {
        let mut block = vec![disk; 512];
        block[..8].copy_from_slice(&(at / 512 + n).to_be_bytes());
        out.extend(block);
    }
    out
}

/// A whole unit's own stamp.
fn whole(unit: usize) -> &'static [u8] {
    static WHOLE: [OnceLock<Vec<u8>>; 4] = [const { OnceLock::new() }; 4];
    WHOLE[unit].get_or_init(|| stamp(unit as u8, 0, 16 * MIB))
}

impl Rig {
    /// Units 0 and 1 of 512-byte blocks, 2 and 3 of 4096, 16 MiB each, stamped
    /// with their numbers.
    pub fn new(personality: Personality) -> Rig {
        let clock = Arc::new(ManualClock::default());
        let manager = CopyManager::with_clock(personality, clock.clone());
        for block in [512, 512, 4096, 4096] {
            let unit = manager.add_disk(DiskOptions::new(block, 16 * MIB));
            manager.poke(unit, 0, whole(unit));
        }
        let nexus = manager.nexus("tests");
        let rig = Rig {
            manager,
            clock,
            nexus,
        };
        for unit in 0..4 {
            rig.go(unit, "00 00 00 00 00 00", &[]);
        }
        rig.manager.clear_trace();
        rig
    }

    pub fn go(&self, unit: usize, cdb: &str, out: &[u8]) -> Reply {
        self.manager.execute(self.nexus, unit, &hex(cdb), out)
    }

    /// The answer's data; the command must end with GOOD.
    pub fn data(&self, unit: usize, cdb: &str, out: &[u8]) -> Vec<u8> {
        let reply = self.go(unit, cdb, out);
        assert!(reply.good(), "{cdb}: {reply:x?}");
        reply.data
    }

    /// Key, ASC, ASCQ of a command that must not end with GOOD.
    pub fn refused(&self, unit: usize, cdb: &str, out: &[u8]) -> (u8, u8, u8) {
        let reply = self.go(unit, cdb, out);
        assert_eq!(reply.status, 2, "{cdb}: {reply:x?}");
        reply.codes().unwrap()
    }

    pub fn peek(&self, unit: usize, at: u64, bytes: u64) -> Vec<u8> {
        let mut out = vec![0; bytes as usize];
        self.manager.peek(unit, at, &mut out);
        out
    }

    /// The unit holds its own stamp everywhere but in `at..at + bytes`.
    pub fn untouched_but(&self, unit: usize, at: u64, bytes: u64) {
        let own = whole(unit);
        let now = self.peek(unit, 0, 16 * MIB);
        let (a, b) = (at as usize, (at + bytes) as usize);
        assert!(own[..a] == now[..a], "unit {unit} changed before {at}");
        assert!(
            own[b..] == now[b..],
            "unit {unit} changed behind {}",
            at + bytes
        );
    }

    pub fn wait(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
    }
}

//! What a controller's status, or the kernel's refusal, means for a copy: one
//! table.

use xcopy_plugin_sdk::Failure;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;

const ENXIO: i32 = 6;
const ENOTTY: i32 = 25;
const ENOSYS: i32 = 38;

/// Do Not Retry, in the 15 bits of a status that the kernel hands on.
pub const DNR: u16 = 1 << 14;
/// Status code type and status code.
const CODE: u16 = 0x7ff;

/// What the core shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Give the command again, later; with DNR the same as `Next`.
    Retry,
    /// Give it again in smaller pieces.
    Split,
    /// Leave the rest to another method.
    Next,
    /// Fail: no other method would do better.
    Fatal,
}

/// What the plugin has to look at before it can say how a command ended. All of
/// it may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// Nothing.
    None,
    /// Limits were exceeded: read them again.
    Limits,
    /// The namespace may be gone, or have another size or format.
    Presence,
    /// The kernel has no device for the command: gone, or only away for a reset.
    Absence,
    /// The host behaviour may have been reset; else as `Presence`.
    Feature,
    /// The path was lost, and the command may go on behind it for a while.
    Quiesce,
}

/// Where an error arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Unknown,
    Read,
    Write,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// First and last status code of the row, with its type in bits 10:8.
    codes: (u16, u16),
    errno: i32,
    action: Action,
    reason: u16,
    care: Care,
    side: Side,
    /// Nothing was written.
    untouched: bool,
    /// The completion's DW0 is to be believed.
    counts: bool,
}

const fn row(codes: (u16, u16), errno: i32, action: Action, reason: u16) -> Row {
    Row {
        codes,
        errno,
        action,
        reason,
        care: Care::None,
        side: Side::Unknown,
        untouched: false,
        counts: true,
    }
}

impl Row {
    const fn care(mut self, care: Care) -> Row {
        self.care = care;
        self
    }

    const fn side(mut self, side: Side) -> Row {
        self.side = side;
        self
    }

    /// Refused before anything was done.
    const fn untouched(mut self) -> Row {
        self.untouched = true;
        self.counts = false;
        self
    }

    /// The completion was not made by the controller, or while it was losing the
    /// command: DW0 says nothing.
    const fn lost(mut self) -> Row {
        self.counts = false;
        self
    }
}

/// NVMe Base 2.0 figures 92 to 97, NVM Command Set 1.0 figures 17 and 18; 370h to
/// 371h are Linux's own.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    row((0x001, 0x001), ENOTSUP, Action::Next, XCOPY_REASON_NOT_SUPPORTED).untouched(),
    row((0x002, 0x002), ENOTSUP, Action::Next, XCOPY_REASON_NOT_SUPPORTED).care(Care::Feature),
    row((0x004, 0x004), EIO, Action::Retry, XCOPY_REASON_FAILED).lost(),
    row((0x005, 0x005), EIO, Action::Retry, XCOPY_REASON_FAILED).care(Care::Quiesce).lost(),
    row((0x006, 0x006), EIO, Action::Retry, XCOPY_REASON_FAILED).lost(),
    row((0x007, 0x008), EIO, Action::Retry, XCOPY_REASON_FAILED).care(Care::Quiesce).lost(),
    row((0x00b, 0x00b), ENOTSUP, Action::Next, XCOPY_REASON_CROSS_DEVICE).care(Care::Presence),
    row((0x01c, 0x01d), EBUSY, Action::Retry, XCOPY_REASON_RESOURCES),
    row((0x020, 0x020), EROFS, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Write),
    row((0x021, 0x022), EBUSY, Action::Retry, XCOPY_REASON_RESOURCES),
    row((0x080, 0x080), EINVAL, Action::Fatal, XCOPY_REASON_BOUNDS).care(Care::Presence),
    row((0x081, 0x081), ENOSPC, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Write),
    row((0x082, 0x082), EBUSY, Action::Retry, XCOPY_REASON_RESOURCES),
    row((0x083, 0x083), EBADE, Action::Fatal, XCOPY_REASON_RESERVED),
    row((0x084, 0x084), EBUSY, Action::Retry, XCOPY_REASON_RESOURCES).care(Care::Presence),
    row((0x10a, 0x10a), ENOTSUP, Action::Next, XCOPY_REASON_NOT_SUPPORTED).care(Care::Presence).untouched(),
    row((0x181, 0x181), EREMOTEIO, Action::Next, XCOPY_REASON_NOT_SUPPORTED),
    row((0x182, 0x182), EROFS, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Write),
    row((0x183, 0x183), E2BIG, Action::Split, XCOPY_REASON_LIMITS).care(Care::Limits),
    row((0x185, 0x185), ENOTSUP, Action::Next, XCOPY_REASON_BLOCK_SIZE).care(Care::Presence),
    row((0x186, 0x186), ENOTSUP, Action::Next, XCOPY_REASON_SLOWER),
    row((0x187, 0x187), ENOTSUP, Action::Next, XCOPY_REASON_OVERLAP),
    row((0x188, 0x188), ENOTSUP, Action::Next, XCOPY_REASON_CROSS_DEVICE),
    row((0x189, 0x189), EBUSY, Action::Retry, XCOPY_REASON_RESOURCES),
    row((0x1b8, 0x1bf), ENOTSUP, Action::Next, XCOPY_REASON_NOT_SUPPORTED).side(Side::Write),
    row((0x280, 0x280), EIO, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Write),
    row((0x281, 0x281), ENODATA, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Read),
    row((0x282, 0x284), EILSEQ, Action::Fatal, XCOPY_REASON_FAILED).side(Side::Read),
    row((0x286, 0x286), EACCES, Action::Fatal, XCOPY_REASON_PERMISSION),
    row((0x287, 0x287), ENODATA, Action::Next, XCOPY_REASON_FAILED).side(Side::Read),
    row((0x300, 0x3ff), EIO, Action::Retry, XCOPY_REASON_FAILED).care(Care::Quiesce).lost(),
];

/// Statuses that are in no row: the method failed, and the host may know more.
const OTHER: Row = row(
    (0, CODE),
    EREMOTEIO,
    Action::Next,
    XCOPY_REASON_NOT_SUPPORTED,
);

/// The row of a status.
fn row_of(status: u16) -> &'static Row {
    let code = status & CODE;
    TABLE
        .iter()
        .find(|row| (row.codes.0..=row.codes.1).contains(&code))
        .unwrap_or(&OTHER)
}

/// How a command failed, and what is to be looked at before that is said.
#[derive(Debug)]
pub struct Judged {
    /// The failure, if the look changes nothing.
    pub failure: Failure,
    /// What to look at.
    pub care: Care,
}

/// Judges a status other than 0, of a command with these ranges; `result` is the
/// completion's DW0: the first range that was not copied (NVM Command Set 1.0
/// 3.2.2.1).
pub fn judge(status: u16, result: u64, ranges: &[xcopy_range]) -> Judged {
    let row = row_of(status);
    let again = status & DNR == 0;
    let index = (result & 0xffff_ffff) as usize;
    let mut failure = Failure::new(row.errno)
        .reason(row.reason)
        .detail(detail(status, index));
    failure = match row.action {
        Action::Retry if again => failure.retry(),
        Action::Retry | Action::Next => failure.next_method(),
        Action::Split => failure.split(),
        Action::Fatal => failure.fatal(),
    };
    failure = match row.side {
        Side::Unknown => failure,
        Side::Read => failure.on_read(),
        Side::Write => failure.on_write(),
    };
    if row.untouched {
        failure = failure.untouched();
    } else if let Some(done) = ranges.get(..index).filter(|_| row.counts) {
        failure = failure.known(done.iter().map(|range| range.length).sum());
    }
    Judged {
        failure,
        care: row.care,
    }
}

/// A detail word: XCOPY_DETAIL_NVME with status and first failed range.
fn detail(status: u16, index: usize) -> u64 {
    XCOPY_DETAIL_NVME << XCOPY_DETAIL_DOMAIN_SHIFT
        | (index.min(0xffff) as u64) << 16
        | u64::from(status)
}

/// Judges the kernel's refusal of a command, a positive errno.
pub fn judge_errno(errno: i32) -> Judged {
    let failure = Failure::new(errno);
    let judged = |failure, care| Judged { failure, care };
    match errno {
        EPERM | EACCES => judged(
            failure
                .reason(XCOPY_REASON_PERMISSION)
                .next_method()
                .unsent(),
            Care::None,
        ),
        // Cancelled with its controller's reset: it may have been at work.
        EINTR => judged(failure.retry(), Care::Quiesce),
        EBUSY | ENOMEM => judged(
            failure.reason(XCOPY_REASON_RESOURCES).retry().untouched(),
            Care::None,
        ),
        // A multipath head answers EAGAIN while it has no path, and for ever once it
        // was taken out.
        EAGAIN | ENODEV | ENXIO => judged(
            failure.reason(XCOPY_REASON_RESOURCES).retry().untouched(),
            Care::Absence,
        ),
        ENOTSUP | ENOTTY | ENOSYS => judged(
            Failure::new(ENOTSUP)
                .reason(XCOPY_REASON_KERNEL)
                .next_method()
                .unsent(),
            Care::None,
        ),
        _ => judged(failure.next_method(), Care::None),
    }
}

/// Whether an errno says that the kernel has no such way for commands at all.
pub fn is_unknown_way(errno: i32) -> bool {
    matches!(errno, ENOTSUP | ENOTTY | ENOSYS)
}

/// Whether an errno says that the device is gone.
pub fn is_gone(errno: i32) -> bool {
    matches!(errno, ENODEV | ENXIO)
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

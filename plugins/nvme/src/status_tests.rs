//! The table by its consequences: each status to what the core is told.

use super::*;

const LENGTHS: [u64; 4] = [4096, 512, 8192, 1024];

fn ranges() -> Vec<xcopy_range> {
    let range = |length| xcopy_range {
        length,
        ..Default::default()
    };
    LENGTHS.map(range).to_vec()
}

/// errno, action and reason of a status with these flags.
fn told(status: u16) -> (i32, u16, u16) {
    let judged = judge(status, 0, &ranges());
    let said = judged.failure.said();
    (said.errno, said.action, said.reason)
}

const RETRY: u16 = XCOPY_ACTION_RETRY;
const SPLIT: u16 = XCOPY_ACTION_SPLIT;
const NEXT: u16 = XCOPY_ACTION_NEXT_METHOD;
const FATAL: u16 = XCOPY_ACTION_FATAL;

#[test]
fn each_status_has_its_action() {
    #[rustfmt::skip]
    let table = [
        (0x001, ENOTSUP, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x002, ENOTSUP, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x006, EIO, RETRY, XCOPY_REASON_FAILED),
        (0x007, EIO, RETRY, XCOPY_REASON_FAILED),
        (0x00b, ENOTSUP, NEXT, XCOPY_REASON_CROSS_DEVICE),
        (0x01d, EBUSY, RETRY, XCOPY_REASON_RESOURCES),
        (0x020, EROFS, FATAL, XCOPY_REASON_FAILED),
        (0x080, EINVAL, FATAL, XCOPY_REASON_BOUNDS),
        (0x081, ENOSPC, FATAL, XCOPY_REASON_FAILED),
        (0x082, EBUSY, RETRY, XCOPY_REASON_RESOURCES),
        (0x083, EBADE, FATAL, XCOPY_REASON_RESERVED),
        (0x10a, ENOTSUP, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x181, EREMOTEIO, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x182, EROFS, FATAL, XCOPY_REASON_FAILED),
        (0x183, E2BIG, SPLIT, XCOPY_REASON_LIMITS),
        (0x185, ENOTSUP, NEXT, XCOPY_REASON_BLOCK_SIZE),
        (0x186, ENOTSUP, NEXT, XCOPY_REASON_SLOWER),
        (0x187, ENOTSUP, NEXT, XCOPY_REASON_OVERLAP),
        (0x188, ENOTSUP, NEXT, XCOPY_REASON_CROSS_DEVICE),
        (0x189, EBUSY, RETRY, XCOPY_REASON_RESOURCES),
        (0x1b8, ENOTSUP, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x1bf, ENOTSUP, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x280, EIO, FATAL, XCOPY_REASON_FAILED),
        (0x281, ENODATA, FATAL, XCOPY_REASON_FAILED),
        (0x282, EILSEQ, FATAL, XCOPY_REASON_FAILED),
        (0x284, EILSEQ, FATAL, XCOPY_REASON_FAILED),
        (0x286, EACCES, FATAL, XCOPY_REASON_PERMISSION),
        (0x370, EIO, RETRY, XCOPY_REASON_FAILED),
        (0x371, EIO, RETRY, XCOPY_REASON_FAILED),
        // In no row.
        (0x0c0, EREMOTEIO, NEXT, XCOPY_REASON_NOT_SUPPORTED),
        (0x7ff, EREMOTEIO, NEXT, XCOPY_REASON_NOT_SUPPORTED),
    ];
    for (status, errno, action, reason) in table {
        assert_eq!(told(status), (errno, action, reason), "{status:#x}");
        // Do Not Retry leaves the method instead; More (bit 13) means nothing.
        let never = if action == RETRY { NEXT } else { action };
        let refused = status | DNR | 1 << 13;
        assert_eq!(told(refused), (errno, never, reason), "{refused:#x}");
    }
}

#[test]
fn what_is_looked_at_first() {
    let table = [
        (0x183, Care::Limits),
        (0x002, Care::Feature),
        (0x00b, Care::Presence),
        (0x080, Care::Presence),
        (0x371, Care::Quiesce),
        (0x007, Care::Quiesce),
        (0x189, Care::None),
        (0x281, Care::None),
    ];
    for (status, care) in table {
        assert_eq!(judge(status | DNR, 0, &[]).care, care, "{status:#x}");
    }
}

/// NVM Command Set 1.0 3.2.2.1: DW0 is the first range that was not copied.
#[test]
fn ranges_before_the_failed_one_count() {
    let known = |status, result| judge(status, result, &ranges()).failure.said().known;
    for status in [0x080 | DNR, 0x183 | DNR, 0x280, 0x281, 0x189] {
        assert_eq!(known(status, 0), 0);
        assert_eq!(known(status, 1), 4096);
        assert_eq!(known(status, 3), 4096 + 512 + 8192);
        // All of them cannot be: then nothing is believed.
        assert_eq!(known(status, 5), 0);
        assert_eq!(known(status, u64::from(u32::MAX)), 0);
        // Upper bits of the kernel's 64 are not DW0's.
        assert_eq!(known(status, 7 << 32 | 1), 4096);
    }
    // The controller did not write these completions, or not to the end.
    for status in [0x004, 0x006, 0x007, 0x008, 0x370, 0x371] {
        assert_eq!(known(status, 2), 0, "{status:#x}");
    }
}

#[test]
fn the_detail_word_has_status_and_range() {
    let said = judge(0x4183, 2, &ranges()).failure;
    let detail = said.said().detail;
    assert_eq!(detail >> 60, XCOPY_DETAIL_NVME);
    assert_eq!(detail & 0xffff, 0x4183);
    assert_eq!(detail >> 16 & 0xffff, 2);
    let far = judge(0x4080, 0x1_0000, &ranges()).failure;
    assert_eq!(far.said().detail >> 16 & 0xffff, 0xffff);
}

#[test]
fn untouched_is_said_of_what_was_refused_only() {
    let untouched = |failure: &Failure| failure.said().flags & XCOPY_RESULT_UNTOUCHED != 0;
    assert!(untouched(&judge(0x4001, 0, &ranges()).failure));
    assert!(untouched(&judge(0x410a, 0, &ranges()).failure));
    for status in [0x002, 0x007, 0x080, 0x183, 0x189, 0x280, 0x371] {
        assert!(!untouched(&judge(status, 0, &ranges()).failure));
    }
    for (errno, wanted) in [(EACCES, true), (EAGAIN, true), (EINTR, false), (EIO, false)] {
        assert_eq!(untouched(&judge_errno(errno).failure), wanted, "{errno}");
    }
}

#[test]
fn errnos_of_the_kernel() {
    let told = |errno| {
        let judged = judge_errno(errno);
        let said = judged.failure.said();
        (said.errno, said.action, said.reason, judged.care)
    };
    let permission = XCOPY_REASON_PERMISSION;
    assert_eq!(told(EACCES), (EACCES, NEXT, permission, Care::None));
    assert_eq!(told(EPERM), (EPERM, NEXT, permission, Care::None));
    let failed = XCOPY_REASON_FAILED;
    assert_eq!(told(EINTR), (EINTR, RETRY, failed, Care::Quiesce));
    assert_eq!(told(EAGAIN).1, RETRY);
    // Unless the look finds that it is gone.
    let away = (ENODEV, RETRY, XCOPY_REASON_RESOURCES, Care::Absence);
    assert_eq!(told(ENODEV), away);
    assert_eq!(told(ENXIO).3, Care::Absence);
    assert_eq!(told(ENOTTY).2, XCOPY_REASON_KERNEL);
    assert_eq!(told(EFAULT).1, NEXT);
}

//! What a request points to, and the files that it copies between.

use crate::input::Input;
use std::fs::File;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;
use std::ptr;
use std::sync::OnceLock;
use xcopy::abi::*;

/// Bytes of each file.
pub const FILE: u64 = 32 << 10;

/// What a request points to: boxes of exactly the sizes that were stated, so
/// that an access beyond is seen.
pub struct Extra {
    ext: Box<[u64]>,
    _ranges: Box<[xcopy_range]>,
    _report: Option<Box<[u64]>>,
    /// File that it writes, and the spans of it.
    pub writes: Option<(usize, Vec<(u64, u64)>)>,
    /// Ranges in files to be compared at the end: nothing else ran meanwhile.
    pub compare: Option<(usize, usize, Vec<xcopy_range>)>,
}

/// What is in a file at first.
pub fn pattern(file: usize) -> &'static [u8] {
    static FILES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let byte = |file: u64, at: u64| (at.wrapping_mul(31) ^ at >> 9 ^ file << 6 | 1) as u8;
    let files = FILES.get_or_init(|| {
        let content = |file| (0..FILE).map(|at| byte(file, at)).collect();
        (0..3).map(content).collect()
    });
    &files[file]
}

/// An offset or a length.
pub fn place(input: &mut Input) -> u64 {
    match input.u8() % 8 {
        0 => input.number(),
        1 => u64::from(input.u16()),
        _ => u64::from(input.u8()) * 512 % FILE,
    }
}

/// A file in memory with its pattern.
pub fn file(index: usize) -> File {
    // SAFETY: a NUL-terminated name; the answer is checked.
    let fd = unsafe { libc::memfd_create(c"fuzz".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0, "memfd_create");
    // SAFETY: just made, and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.write_all_at(pattern(index), 0)
        .expect("memory for a file");
    file
}

/// Perhaps an ext for a request, with a list or a report.
pub fn extra(input: &mut Input, request: &mut xcopy_request) -> Extra {
    let mut extra = Extra {
        ext: Box::default(),
        _ranges: Box::default(),
        _report: None,
        writes: None,
        compare: None,
    };
    if !input.one_in(3) {
        return extra;
    }
    let mut at = 0;
    let list: Vec<xcopy_range> = (0..input.below(24))
        .map(|_| {
            let range = xcopy_range {
                src_offset: place(input),
                dst_offset: if input.one_in(4) { place(input) } else { at },
                length: 512 * u64::from(input.u8() % 16) + u64::from(input.one_in(8)),
            };
            at = range.dst_offset.wrapping_add(range.length);
            range
        })
        .collect();
    let size = match input.u8() % 16 {
        0 => input.u16().into(),
        1 => 56,
        2 => 4096,
        _ => size_of::<xcopy_ext>(),
    };
    // Sizes that are refused before they are believed need no memory.
    let words = if size > 4096 {
        6
    } else {
        size.max(4).div_ceil(8)
    };
    extra._ranges = list.into_boxed_slice();
    if input.one_in(2) {
        let size = match input.u8() % 4 {
            0 => input.u16() as u32 % 4096,
            1 => size_of::<xcopy_report>() as u32 + 64,
            _ => size_of::<xcopy_report>() as u32,
        };
        let mut report = vec![0u64; size.max(4).div_ceil(8) as usize].into_boxed_slice();
        report[0] = size.into();
        extra._report = Some(report);
    }
    let whole = xcopy_ext {
        size: size as u32,
        reserved: u32::from(input.u8() == 1),
        ranges: match extra._ranges.len() {
            0 => ptr::null(),
            _ => extra._ranges.as_ptr(),
        },
        nranges: extra._ranges.len() as u64,
        report: extra
            ._report
            .as_mut()
            .map_or(ptr::null_mut(), |report| report.as_mut_ptr().cast()),
        token_lifetime_s: input.u8().into(),
        token_type: input.u8().into(),
    };
    let mut ext = vec![0u64; words].into_boxed_slice();
    let n = (words * 8).min(size_of::<xcopy_ext>());
    // SAFETY: n bytes are there on both sides.
    unsafe {
        ptr::copy_nonoverlapping((&raw const whole).cast::<u8>(), ext.as_mut_ptr().cast(), n);
    }
    if words > 6 && input.one_in(2) {
        ext[words - 1] = 1;
    }
    extra.ext = ext;
    request.ext = extra.ext.as_ptr().cast();
    if !extra._ranges.is_empty() && !input.one_in(8) {
        request.length = 0;
        (request.src_offset, request.dst_offset) = (request.src_offset % 4096, 0);
    }
    extra
}

impl Extra {
    /// Absolute ranges, as far as there are such.
    pub fn spans(&self, request: &xcopy_request) -> Vec<xcopy_range> {
        let one = xcopy_range {
            src_offset: 0,
            dst_offset: 0,
            length: request.length,
        };
        let list = if self._ranges.is_empty() {
            &[one][..]
        } else {
            &self._ranges
        };
        list.iter()
            .map(|range| xcopy_range {
                src_offset: request.src_offset.wrapping_add(range.src_offset),
                dst_offset: request.dst_offset.wrapping_add(range.dst_offset),
                length: range.length,
            })
            .collect()
    }

    pub fn total(&self, request: &xcopy_request) -> u64 {
        let lengths = self.spans(request);
        lengths
            .iter()
            .fold(0, |sum, range| sum.saturating_add(range.length))
    }
}

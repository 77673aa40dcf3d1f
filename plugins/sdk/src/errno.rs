//! The error numbers that the core understands, as Linux has them on all but a
//! few old architectures, so that a plugin needs no other crate for them.
#![allow(missing_docs)]

pub const EPERM: i32 = 1;
pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const E2BIG: i32 = 7;
pub const EAGAIN: i32 = 11;
pub const ENOMEM: i32 = 12;
pub const EACCES: i32 = 13;
pub const EFAULT: i32 = 14;
pub const EBUSY: i32 = 16;
pub const ENODEV: i32 = 19;
pub const EINVAL: i32 = 22;
pub const EFBIG: i32 = 27;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const EBADE: i32 = 52;
pub const ENODATA: i32 = 61;
pub const EILSEQ: i32 = 84;
pub const ENOTSUP: i32 = 95;
pub const ENOBUFS: i32 = 105;
pub const ETIMEDOUT: i32 = 110;
pub const ESTALE: i32 = 116;
pub const EREMOTEIO: i32 = 121;
pub const EDQUOT: i32 = 122;
pub const ECANCELED: i32 = 125;

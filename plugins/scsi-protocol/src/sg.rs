//! SG_IO on a descriptor of the device: a block node of a SCSI disk, or an sg node
//! (version 3 of the interface, <scsi/sg.h>).

use crate::transport::{Data, Outcome, Transport};
use crate::wire::sense::SENSE_MAX;
use std::ffi::{c_int, c_uchar, c_uint, c_ushort, c_void};
use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

const SG_IO: u32 = 0x2285;
const SG_GET_VERSION_NUM: u32 = 0x2282;
/// BLKSECTGET of <linux/fs.h>: an unsigned short on block nodes.
const BLKSECTGET: u32 = 0x1267;
const SG_DXFER_NONE: c_int = -1;
const SG_DXFER_TO_DEV: c_int = -2;
const SG_DXFER_FROM_DEV: c_int = -3;
const SG_FLAG_Q_AT_TAIL: c_uint = 0x10;

/// `sg_io_hdr` of <scsi/sg.h>.
#[repr(C)]
struct Header {
    interface_id: c_int,
    dxfer_direction: c_int,
    cmd_len: c_uchar,
    mx_sb_len: c_uchar,
    iovec_count: c_ushort,
    dxfer_len: c_uint,
    dxferp: *mut c_void,
    cmdp: *const c_uchar,
    sbp: *mut c_uchar,
    timeout: c_uint,
    flags: c_uint,
    pack_id: c_int,
    usr_ptr: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    msg_status: c_uchar,
    sb_len_wr: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    resid: c_int,
    duration: c_uint,
    info: c_uint,
}

/// SG_IO on a descriptor that somebody else keeps open.
pub struct SgIo {
    fd: RawFd,
    name: String,
    max_transfer: usize,
}

impl SgIo {
    /// On `fd`, which stays open and the owner's while this lives. An error,
    /// ENOTTY mostly, if what is behind it takes no SCSI commands.
    pub fn new(fd: RawFd, name: &str) -> io::Result<SgIo> {
        let mut version: c_int = 0;
        // SAFETY: the kernel writes one int behind the pointer.
        match unsafe { libc::ioctl(fd, SG_GET_VERSION_NUM as _, &raw mut version) } {
            0 if version >= 30_000 => {}
            0 => return Err(io::Error::from_raw_os_error(libc::ENOTTY)),
            _ => return Err(io::Error::last_os_error()),
        }
        Ok(SgIo {
            fd,
            name: name.to_owned(),
            max_transfer: max_transfer(fd),
        })
    }
}

/// Bytes of one SG_IO: what the block layer states, else what is certain.
fn max_transfer(fd: RawFd) -> usize {
    // A block node answers sectors in an unsigned short, an sg node bytes in an
    // int: what was put into the second half tells which.
    let mut answer = [0xffffu16; 2];
    // SAFETY: the kernel writes two or four bytes behind the pointer.
    if unsafe { libc::ioctl(fd, BLKSECTGET as _, answer.as_mut_ptr()) } != 0 {
        return 128 << 10;
    }
    let [first, second] = answer.map(u16::to_ne_bytes);
    let bytes = match answer[1] {
        0xffff => usize::from(answer[0]) * 512,
        _ => u32::from_ne_bytes([first[0], first[1], second[0], second[1]]) as usize,
    };
    bytes.clamp(4096, 1 << 20)
}

impl Transport for SgIo {
    fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome> {
        let (dxfer_direction, dxferp, len) = match data {
            Data::None => (SG_DXFER_NONE, ptr::null_mut(), 0),
            Data::In(room) => (SG_DXFER_FROM_DEV, room.as_mut_ptr().cast(), room.len()),
            // The kernel only reads it.
            Data::Out(data) => (
                SG_DXFER_TO_DEV,
                data.as_ptr().cast_mut().cast::<c_void>(),
                data.len(),
            ),
        };
        let too_long = || io::Error::from_raw_os_error(libc::EINVAL);
        let mut sense = [0u8; SENSE_MAX];
        let mut header = Header {
            interface_id: 'S' as c_int,
            dxfer_direction,
            cmd_len: c_uchar::try_from(cdb.len()).map_err(|_| too_long())?,
            mx_sb_len: SENSE_MAX as c_uchar,
            iovec_count: 0,
            dxfer_len: c_uint::try_from(len).map_err(|_| too_long())?,
            dxferp,
            cmdp: cdb.as_ptr(),
            sbp: sense.as_mut_ptr(),
            timeout: c_uint::try_from(timeout.as_millis()).unwrap_or(c_uint::MAX),
            // Not before what the kernel has queued already.
            flags: SG_FLAG_Q_AT_TAIL,
            pack_id: 0,
            usr_ptr: ptr::null_mut(),
            status: 0,
            masked_status: 0,
            msg_status: 0,
            sb_len_wr: 0,
            host_status: 0,
            driver_status: 0,
            resid: 0,
            duration: 0,
            info: 0,
        };
        // SAFETY: the header describes the caller's data, which is borrowed for
        // the call in the direction that it goes, the CDB and the sense buffer
        // with their lengths; SG_IO returns when the command has ended.
        if unsafe { libc::ioctl(self.fd, SG_IO as _, &raw mut header) } != 0 {
            return Err(io::Error::last_os_error());
        }
        let written = usize::from(header.sb_len_wr).min(SENSE_MAX);
        Ok(Outcome {
            status: header.status,
            host_status: header.host_status.into(),
            driver_status: header.driver_status.into(),
            sense: sense[..written].to_vec(),
            residual: u32::try_from(header.resid).unwrap_or(0),
        })
    }

    fn max_transfer(&self) -> usize {
        self.max_transfer
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What to do about an errno of SG_IO, in words.
pub fn explain(error: &io::Error, name: &str, opcode: u8) -> String {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => format!(
            "{name}: the kernel lets only CAP_SYS_RAWIO send SCSI command {opcode:02X}h: run as \
             root, grant the capability, or name the sg node opened for writing"
        ),
        Some(libc::ENOTTY | libc::EINVAL) => format!("{name} takes no SCSI commands"),
        Some(libc::ENODEV | libc::ENXIO) => format!("{name} is gone"),
        _ => format!("{name}: SCSI command {opcode:02X}h could not be sent: {error}"),
    }
}

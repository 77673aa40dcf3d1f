//! The caller's own connection as a transport.

use crate::native::*;
use crate::transport::{Data, Outcome, Transport};
use crate::wire::sense::SENSE_MAX;
use std::ffi::{CStr, c_int, c_void};
use std::io;
use std::mem::offset_of;
use std::ptr;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

type Execute = unsafe extern "C" fn(*mut c_void, *mut xcopy_scsi_command) -> c_int;

/// A connection that the caller handed in.
pub struct Connection {
    ctx: *mut c_void,
    execute: Execute,
    max_transfer: usize,
    /// Calls that are allowed now, if they are limited.
    free: Option<Mutex<u32>>,
    one_ended: Condvar,
    name: String,
}

// SAFETY: the caller vouches that `execute` takes `ctx` on any thread, at most
// `max_concurrent` at once, which `free` enforces.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl Connection {
    /// Around the struct that the caller handed in.
    ///
    /// # Errors
    /// EINVAL if it is too short, has no `execute`, or has reserved bits.
    ///
    /// # Safety
    /// `native` is NULL or points to an xcopy_scsi_transport that is as its
    /// documentation demands, until this is dropped.
    pub unsafe fn new(native: *const c_void) -> io::Result<Connection> {
        let invalid = |text: &str| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        let native = native.cast::<xcopy_scsi_transport>();
        if native.is_null() || !native.is_aligned() {
            return invalid("the native handle is no struct xcopy_scsi_transport");
        }
        // SAFETY: not NULL, and every version begins with its size.
        let size = unsafe { (*native).size } as usize;
        if size < offset_of!(xcopy_scsi_transport, name) || size > 4096 {
            return invalid("xcopy_scsi_transport.size is not its sizeof");
        }
        // SAFETY: the caller's struct is at least that long.
        let (ctx, execute, max_transfer, max_concurrent, reserved) = unsafe {
            let native = &raw const *native;
            (
                (*native).ctx,
                (*native).execute,
                (*native).max_transfer,
                (*native).max_concurrent,
                (*native).reserved,
            )
        };
        let named = size >= size_of::<xcopy_scsi_transport>();
        // SAFETY: the field is there.
        let name = match named.then(|| unsafe { (*native).name }) {
            None => ptr::null(),
            Some(name) => name,
        };
        let name = match name.is_null() {
            true => "the caller's connection".to_owned(),
            // SAFETY: NUL-terminated by the contract.
            false => unsafe { CStr::from_ptr(name) }
                .to_string_lossy()
                .into_owned(),
        };
        let Some(execute) = execute else {
            return invalid("xcopy_scsi_transport.execute is NULL");
        };
        if reserved != 0 {
            return invalid("xcopy_scsi_transport.reserved is not 0");
        }
        Ok(Connection {
            ctx,
            execute,
            max_transfer: match max_transfer {
                0 => 1 << 20,
                bytes => (bytes as usize).clamp(4096, 1 << 30),
            },
            free: (max_concurrent > 0).then(|| Mutex::new(max_concurrent)),
            one_ended: Condvar::new(),
            name,
        })
    }

    fn enter(&self) -> Option<Turn<'_>> {
        let mut free = self
            .free
            .as_ref()?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self
                .one_ended
                .wait(free)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Some(Turn(self))
    }
}

/// A call that is allowed.
struct Turn<'a>(&'a Connection);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(free) = &self.0.free {
            *free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.0.one_ended.notify_one();
        }
    }
}

impl Transport for Connection {
    fn execute(&self, cdb: &[u8], data: Data<'_>, timeout: Duration) -> io::Result<Outcome> {
        let (direction, at, len) = match data {
            Data::None => (XCOPY_SCSI_NO_DATA, ptr::null_mut(), 0),
            Data::In(room) => (
                XCOPY_SCSI_FROM_UNIT,
                room.as_mut_ptr().cast::<c_void>(),
                room.len(),
            ),
            Data::Out(data) => (
                XCOPY_SCSI_TO_UNIT,
                data.as_ptr().cast_mut().cast(),
                data.len(),
            ),
        };
        let mut sense = [0u8; SENSE_MAX];
        let mut command = xcopy_scsi_command {
            size: size_of::<xcopy_scsi_command>() as u32,
            direction,
            cdb: cdb.as_ptr(),
            cdb_len: cdb.len() as u32,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            data: at,
            data_len: u32::try_from(len).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            sense_room: SENSE_MAX as u32,
            sense: sense.as_mut_ptr(),
            sense_len: 0,
            residual: 0,
            status: 0,
            host_status: 0,
        };
        let answer = {
            let _turn = self.enter();
            // SAFETY: the caller's function with its first argument; command,
            // data and sense are valid during the call, and the data is
            // borrowed in the direction that it goes.
            unsafe { (self.execute)(self.ctx, &raw mut command) }
        };
        if answer != 0 {
            let errno = if (-4095..0).contains(&answer) {
                -answer
            } else {
                libc::EIO
            };
            return Err(io::Error::from_raw_os_error(errno));
        }
        let written = (command.sense_len as usize).min(SENSE_MAX);
        Ok(Outcome {
            // A status beyond eight bits is none: taken for a lost command.
            status: u8::try_from(command.status).unwrap_or(0),
            host_status: match u8::try_from(command.status) {
                Ok(_) => command.host_status,
                Err(_) => crate::judge::DID_ERROR,
            },
            driver_status: 0,
            sense: sense[..written].to_vec(),
            residual: command.residual.min(command.data_len),
        })
    }

    fn max_transfer(&self) -> usize {
        self.max_transfer
    }

    fn name(&self) -> &str {
        &self.name
    }
}

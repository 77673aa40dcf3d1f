//! A connection as `xcopy_scsi.h` has it: a unit of a [`CopyManager`] to be opened
//! as a native device of a SCSI plugin. The one file that knows that header.

use std::ffi::{CString, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use xcopy_scsi_protocol::native::{
    XCOPY_SCSI_FROM_UNIT, XCOPY_SCSI_TO_UNIT, xcopy_scsi_command, xcopy_scsi_transport,
};

use crate::manager::CopyManager;

/// One nexus's way to one unit. Must live until the device that was opened on it
/// was released; any thread may use it.
pub struct Connection {
    transport: Box<xcopy_scsi_transport>,
    /// What the pointers in `transport` are to.
    _context: Box<Context>,
    _name: CString,
}

struct Context {
    manager: Arc<CopyManager>,
    nexus: usize,
    unit: usize,
}

// SAFETY: the pointers are to memory that is owned here and not changed any
// more; the copy manager behind them takes any thread.
unsafe impl Send for Connection {}
// SAFETY: as above.
unsafe impl Sync for Connection {}

impl CopyManager {
    /// Connects a nexus with a unit.
    pub fn connect(self: &Arc<Self>, nexus: usize, unit: usize) -> Connection {
        let context = Box::new(Context {
            manager: self.clone(),
            nexus,
            unit,
        });
        let name = CString::new(format!("{}:{unit}", self.personality().name)).unwrap_or_default();
        let transport = Box::new(xcopy_scsi_transport {
            size: size_of::<xcopy_scsi_transport>() as u32,
            max_transfer: 8 << 20,
            max_concurrent: 0,
            reserved: 0,
            ctx: (&raw const *context).cast_mut().cast(),
            execute: Some(execute),
            name: name.as_ptr(),
        });
        Connection {
            transport,
            _context: context,
            _name: name,
        }
    }
}

impl Connection {
    /// The native handle: a pointer to a `struct xcopy_scsi_transport`.
    pub fn native(&self) -> *mut c_void {
        (&raw const *self.transport).cast_mut().cast()
    }
}

unsafe extern "C" fn execute(ctx: *mut c_void, command: *mut xcopy_scsi_command) -> c_int {
    const EFAULT: c_int = 14;
    // SAFETY: `ctx` is the Context of a Connection that lives, by its contract.
    let context = unsafe { &*ctx.cast::<Context>() };
    // SAFETY: the caller's command, valid and ours during the call.
    let command = unsafe { &mut *command };
    catch_unwind(AssertUnwindSafe(|| carry_out(context, command))).unwrap_or(-EFAULT)
}

fn carry_out(context: &Context, command: &mut xcopy_scsi_command) -> c_int {
    const EINVAL: c_int = 22;
    if command.cdb.is_null() || (command.data.is_null() && command.data_len != 0) {
        return -EINVAL;
    }
    // SAFETY: not NULL, and as long as the caller says.
    let cdb = unsafe { std::slice::from_raw_parts(command.cdb, command.cdb_len as usize) };
    let out = match command.direction {
        // SAFETY: the data goes to the unit: it is initialised and that long.
        XCOPY_SCSI_TO_UNIT if command.data_len != 0 => unsafe {
            std::slice::from_raw_parts(command.data.cast::<u8>(), command.data_len as usize)
        },
        _ => &[],
    };
    let reply = context
        .manager
        .execute(context.nexus, context.unit, cdb, out);
    command.residual = reply.untaken.min(command.data_len.into()) as u32;
    if command.direction == XCOPY_SCSI_FROM_UNIT {
        let n = reply.data.len().min(command.data_len as usize);
        if n != 0 {
            // SAFETY: there is room for `data_len` bytes, of which these are the first.
            unsafe {
                std::ptr::copy_nonoverlapping(reply.data.as_ptr(), command.data.cast(), n);
            }
        }
        command.residual = command.data_len - n as u32;
    }
    command.status = u32::from(reply.status);
    command.host_status = reply
        .transport
        .map_or(0, |error| u32::from(error.host_byte()));
    command.sense_len = 0;
    if !command.sense.is_null() {
        let n = reply.sense.len().min(command.sense_room as usize);
        // SAFETY: there is room for `sense_room` bytes.
        unsafe { std::ptr::copy_nonoverlapping(reply.sense.as_ptr(), command.sense, n) };
        command.sense_len = n as u32;
    }
    0
}

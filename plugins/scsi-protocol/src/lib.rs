//! What libxcopy's SCSI plugins share.
//!
//! | module | subject |
//! |---|---|
//! | wire | layouts: CDBs, INQUIRY, VPD pages, parameter lists, sense data; no I/O |
//! | transport | the trait by which commands reach a unit, and how they end |
//! | sg | SG_IO |
//! | native, connection | the caller's own connection (`xcopy_scsi.h`) |
//! | judge | the table of errors: what they mean and what to do |
//! | list_id | list identifiers |
//! | place | where a kernel device lies on its disk |
//! | lun | a logical unit: discovery, identity, description |
//! | io | READ, WRITE, WRITE SAME, SYNCHRONIZE CACHE |

mod connection;
mod io;
pub mod judge;
pub mod list_id;
pub mod lun;
pub mod native;
pub mod place;
pub mod sg;
pub mod transport;
pub mod wire;

pub use connection::Connection;
pub use judge::{Action, Judgement, Purpose};
pub use list_id::{ListIdLease, ListIdUser};
pub use lun::{Facts, Lun, Unit};
pub use native::{xcopy_scsi_command, xcopy_scsi_transport};
pub use place::Place;
pub use sg::SgIo;
pub use transport::{Data, Outcome, Transport};

use xcopy_plugin_sdk::abi::XCOPY_KIND_NATIVE;
use xcopy_plugin_sdk::{Description, Failure, Opened, errno};

/// Opens a device for a SCSI plugin: a SCSI disk of the kernel's, a partition of
/// one, an sg node, or a caller's `struct xcopy_scsi_transport`.
///
/// # Errors
/// Whatever is no SCSI disk, with the reason in words.
pub fn open(desc: &Description<'_>) -> Result<Opened<Lun>, Failure> {
    open_unasked(desc)?.try_map(Unit::into_lun)
}

/// The same, but the unit is asked who it is only when that matters
/// ([`Unit::lun`]), if the kernel describes the disk.
///
/// # Errors
/// As `open`, as far as the kernel knows.
pub fn open_unasked(desc: &Description<'_>) -> Result<Opened<Unit>, Failure> {
    if desc.kind() == XCOPY_KIND_NATIVE {
        return native(desc);
    }
    let place = place::of_kernel(desc)?;
    let name = desc.name().filter(|name| !name.is_empty());
    let name = name.unwrap_or("the disk");
    let Some(fd) = desc.fd() else {
        return Err(place::refused(&format!("{name} has no descriptor")));
    };
    let transport =
        SgIo::new(fd, name).map_err(|_| place::refused(&format!("{name} is not a SCSI disk")))?;
    let unit = Unit::new(Box::new(transport), place, Some(desc.events()));
    let block_size = match place.block_size {
        Some(kernels) => kernels,
        None => unit.lun()?.block_size(),
    };
    // The size is the kernel's to know.
    Ok(Opened::new(unit, block_size, 0))
}

fn native(desc: &Description<'_>) -> Result<Opened<Unit>, Failure> {
    if desc.native().is_null() {
        return Err(Failure::new(errno::EINVAL).because(
            "a native SCSI device is a struct xcopy_scsi_transport (xcopy_device_open_native)",
        ));
    }
    // SAFETY: the caller of xcopy_device_open_native gave it for this plugin,
    // whose native handles are these, until the device's release.
    let connection = unsafe { Connection::new(desc.native()) }
        .map_err(|error| Failure::new(errno::EINVAL).because(error.to_string()))?;
    let unit = Unit::new(Box::new(connection), Place::default(), Some(desc.events()));
    let lun = unit.lun()?;
    let (block_size, bytes) = (lun.block_size(), lun.bytes());
    let (identity, max_io) = (lun.identity(), lun.max_io() as u64);
    let name = lun.name().to_owned();
    let mut opened = Opened::new(unit, block_size, bytes);
    opened.name = name;
    opened.identity = identity;
    opened.max_io_bytes = max_io;
    Ok(opened)
}

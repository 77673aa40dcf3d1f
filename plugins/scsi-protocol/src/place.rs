//! Where a device of the kernel lies on its SCSI disk, and what is refused.

use std::path::Path;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Description, Failure, errno};

/// Bytes of a logical unit that a device is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// First byte on the unit.
    pub offset: u64,
    /// Bytes; None is to the end.
    pub bytes: Option<u64>,
    /// Bytes of a block as the kernel has it; None is not known.
    pub block_size: Option<u32>,
}

/// Refuses what is not a SCSI disk or a part of one, by its name and with the
/// reason, before any command is sent.
pub fn of_kernel(desc: &Description<'_>) -> Result<Place, Failure> {
    let name = desc.name().filter(|name| !name.is_empty());
    let name = name.unwrap_or("the device");
    match desc.kind() {
        XCOPY_KIND_DISK | XCOPY_KIND_PARTITION => {}
        XCOPY_KIND_CHAR => return Ok(Place::default()),
        XCOPY_KIND_STACKED => return Err(refused(&stacked(name, desc.node()))),
        _ => return Err(refused(&format!("{name} is not a SCSI disk"))),
    }
    let Some((_, _, offset)) = desc.disk() else {
        return Err(refused(&format!("the disk behind {name} is not known")));
    };
    Ok(Place {
        offset,
        bytes: Some(desc.size_bytes()),
        block_size: Some(desc.block_size()),
    })
}

/// A refusal of a device.
pub fn refused(text: &str) -> Failure {
    Failure::new(errno::ENOTSUP)
        .reason(XCOPY_REASON_WRONG_DEVICE)
        .because(text)
}

/// A device made of others: a SCSI command sent to it would meet the wrong blocks.
fn stacked(name: &str, (major, minor): (u32, u32)) -> String {
    stack_in(Path::new(&format!("/sys/dev/block/{major}:{minor}")), name)
}

fn stack_in(sys: &Path, name: &str) -> String {
    let read = |file: &str| {
        let text = std::fs::read_to_string(sys.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let below: Vec<String> = std::fs::read_dir(sys.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .take(4)
        .collect();
    let what = match (read("dm/name"), read("md/level")) {
        (Some(dm), _) => format!("{name} (device-mapper {dm})"),
        (_, Some(level)) => format!("{name} (md {level})"),
        _ => name.to_owned(),
    };
    match below.is_empty() {
        true => format!("{what} is made of other devices: its blocks lie elsewhere on the disks"),
        false => format!(
            "{what} is made of {}: its blocks lie elsewhere there; name the disk itself",
            below.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_is_named_with_what_it_is_made_of() {
        let sys = std::env::temp_dir().join(format!("xcopy-stack-{}", std::process::id()));
        std::fs::create_dir_all(sys.join("dm")).expect("a directory");
        std::fs::create_dir_all(sys.join("slaves/sda")).expect("a directory");
        std::fs::write(sys.join("dm/name"), "vg-root\n").expect("a file");
        let text = stack_in(&sys, "/dev/dm-0");
        std::fs::remove_dir_all(&sys).expect("removed");
        assert!(
            text.starts_with("/dev/dm-0 (device-mapper vg-root) is made of sda:"),
            "{text}"
        );
        let text = stack_in(Path::new("/nowhere"), "/dev/md0");
        assert!(
            text.starts_with("/dev/md0 is made of other devices"),
            "{text}"
        );
    }
}

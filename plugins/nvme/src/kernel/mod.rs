//! Linux: namespaces are found through sysfs, commands go by ioctl or io_uring.

mod node;
mod ring;
mod sysfs;

use crate::system::{Link, System};
use node::Node;
use ring::UringRing;
use std::ffi::CStr;
use sysfs::Sysfs;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;
use xcopy_plugin_sdk::{Description, Failure};

/// The kernel's NVMe driver.
pub struct Kernel;

impl System for Kernel {
    const NAME: &'static CStr = c"nvme";
    const FLAGS: u32 = XCOPY_PLUGIN_KERNEL;
    type Port = Node;
    type Ring = UringRing;

    fn connect(device: &Description<'_>) -> Result<Link<Node>, Failure> {
        let kind = device.kind();
        let known = [XCOPY_KIND_DISK, XCOPY_KIND_PARTITION, XCOPY_KIND_CHAR];
        let no = |text: &str| Failure::new(ENOTSUP).because(text);
        if kind == XCOPY_KIND_STACKED {
            return Err(no(
                "made of other devices, whose places on an NVMe namespace are not known",
            ));
        }
        let (true, Some(fd), Some((major, minor, offset))) =
            (known.contains(&kind), device.fd(), device.disk())
        else {
            return Err(no("not an NVMe namespace"));
        };
        let place = Sysfs::default()
            .namespace((major, minor))
            .ok_or_else(|| no("not an NVMe namespace"))?;
        let writes = device.open_flags() & XCOPY_OPEN_WRITE != 0;
        let node = Node::new(fd, kind == XCOPY_KIND_CHAR, writes, place.clone());
        let nsid = node.nsid().map_err(|errno| {
            Failure::new(errno).because("the kernel does not say which NVMe namespace it is")
        })?;
        Ok(Link {
            port: node,
            nsid,
            controller: place.controller,
            name: place.disk,
            offset,
            size: device.size_bytes(),
            block: device.block_size(),
            local: place.local,
            writable: writes,
        })
    }

    fn ring(entries: u32, pinned: bool) -> Result<UringRing, String> {
        UringRing::new(entries, pinned).map_err(|error| format!("no io_uring for NVMe: {error}"))
    }
}

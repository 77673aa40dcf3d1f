//! Backstores of TCMU, through configfs.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

const CORE: &str = "/sys/kernel/config/target/core";

/// configfs wants a value in one write.
fn store(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Makes `user_0/NAME`; the path of its UIO device.
pub fn create(name: &str, bytes: u64, block: u32) -> io::Result<String> {
    let dir = Path::new(CORE).join("user_0").join(name);
    fs::create_dir_all(&dir)?;
    let config = format!("copy-manager/{name}");
    // nl_reply_supported=-1: nobody answers over netlink.
    for option in [
        format!("dev_config={config}"),
        format!("dev_size={bytes}"),
        format!("hw_block_size={block}"),
        "hw_max_sectors=2048".to_owned(),
        "max_data_area_mb=64".to_owned(),
        "nl_reply_supported=-1".to_owned(),
    ] {
        store(&dir.join("control"), &option)?;
    }
    store(&dir.join("enable"), "1")?;
    for entry in fs::read_dir("/sys/class/uio")? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if text.starts_with("tcm-user/") && text.trim_end().ends_with(&format!("/{config}")) {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::NotFound,
        "no UIO device appeared",
    ))
}

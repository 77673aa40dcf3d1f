//! The smallest plugin: storage that is read and written by calls that return
//! when they are done. It has no method of its own; the host copies between its
//! devices and all others.

use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::FileExt;

use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{
    Blocking, Command, Description, Done, Failure, Host, Method, Opened, Operation, Outcome,
    Plugin, Verdict, errno,
};

struct Example;

/// A file that has no name any more.
struct Disk(File);

impl Plugin for Example {
    const NAME: &'static CStr = c"sdk_blocking";
    const VERSION: &'static CStr = c"0.1";
    const DESCRIPTION: &'static CStr = c"an example that reads and writes";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    const COMMANDS: u32 = XCOPY_CAN_READ | XCOPY_CAN_WRITE | XCOPY_CAN_FLUSH;
    const METHODS: &'static [Method] = &[];

    type Device = Disk;

    fn start(_host: Host) -> Result<Example, Failure> {
        Ok(Example)
    }

    fn open(&self, device: &Description<'_>) -> Result<Opened<Disk>, Failure> {
        let size = device.name().and_then(|name| name.parse::<u64>().ok());
        let size = size.filter(|size| size.is_multiple_of(512) && *size > 0);
        let Some(size) = size else {
            let text = "give a size in bytes, a multiple of 512";
            return Err(Failure::new(errno::EINVAL).because(text));
        };
        let file = unnamed()?;
        file.set_len(size)?;
        Ok(Opened::new(Disk(file), 512, size))
    }

    fn probe(&self, _: usize, _: Option<&Disk>, _: Option<&Disk>) -> Result<Verdict, Failure> {
        Ok(Verdict::refused(XCOPY_REASON_NOT_SUPPORTED, "no methods"))
    }
}

fn unnamed() -> std::io::Result<File> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("xcopy-sdk-{}-{n}", std::process::id()));
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl Blocking for Example {
    fn execute(&self, command: &mut Command<'_, Disk>) -> Outcome {
        match command.operation() {
            Operation::Read {
                src,
                offset,
                buffer,
            } => {
                let read = src.0.read_exact_at(buffer, offset);
                read.map_err(|error| Failure::from(error).on_read())?;
            }
            Operation::Write { dst, offset, data } => {
                let written = dst.0.write_all_at(data, offset);
                written.map_err(|error| Failure::from(error).on_write())?;
            }
            Operation::Flush { dst } => dst.0.sync_data()?,
            _ => return Err(command.unknown()),
        }
        Ok(Done::new())
    }
}

xcopy_plugin_sdk::export!(xcopy_plugin_sdk::init_blocking::<Example>);

//! The copy manager behind the kernel's SCSI stack: backstores of TCMU, whose
//! commands this process carries out.
//!
//!     copy-manager-tcmu [--personality NAME] [--control SOCKET] [--service-ms N]
//!                       NAME=SIZE[:BLOCK]...
//!     copy-manager-tcmu --tell SOCKET WORD...
//!
//! Makes a backstore `user_0/NAME` for each disk (sizes take K, M, G), prints
//! `ready` and serves until the last of them is removed. What exports them is the
//! caller's: ctests/guest/devices/copy_manager.sh links them into tcm_loop.
//! `--tell` changes a running one; control.rs lists the words.

mod backstore;
mod control;
mod ring;
mod serve;

use std::sync::Arc;
use std::time::Duration;

use copy_manager::{CopyManager, DiskOptions, Personality, ServiceTimes};

struct Disk {
    name: String,
    bytes: u64,
    block: u32,
}

struct Options {
    personality: Personality,
    control: Option<String>,
    service: Duration,
    disks: Vec<Disk>,
}

fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.strip_suffix(['K', 'M', 'G']) {
        None => (text, 0),
        Some(digits) if text.ends_with('K') => (digits, 10),
        Some(digits) if text.ends_with('M') => (digits, 20),
        Some(digits) => (digits, 30),
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

fn disk(text: &str) -> Option<Disk> {
    let (name, rest) = text.split_once('=')?;
    let (bytes, block) = rest.split_once(':').unwrap_or((rest, "512"));
    let block = block
        .parse()
        .ok()
        .filter(|block| matches!(block, 512 | 4096))?;
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric()) && !name.is_empty();
    plain.then(|| {
        Some(Disk {
            name: name.to_owned(),
            bytes: size(bytes)?,
            block,
        })
    })?
}

fn options(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        personality: Personality::ctl(),
        control: None,
        service: Duration::ZERO,
        disks: Vec::new(),
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            "--personality" => {
                let name = value()?;
                options.personality =
                    Personality::by_name(&name).ok_or(format!("no personality {name}"))?;
            }
            "--control" => options.control = Some(value()?),
            "--service-ms" => {
                let ms = value()?
                    .parse()
                    .map_err(|_| "--service-ms takes a number")?;
                options.service = Duration::from_millis(ms);
            }
            _ => options
                .disks
                .push(disk(&arg).ok_or(format!("{arg}: not NAME=SIZE[:BLOCK]"))?),
        }
    }
    if options.disks.is_empty() {
        return Err("no disk named".to_owned());
    }
    Ok(options)
}

fn run(options: Options) -> Result<(), String> {
    let manager = CopyManager::new(options.personality);
    manager.set_service(ServiceTimes {
        other: options.service,
        ..ServiceTimes::default()
    });
    let mut rings = Vec::new();
    for disk in &options.disks {
        let unit = manager.add_disk(DiskOptions::new(disk.block, disk.bytes));
        let device = backstore::create(&disk.name, disk.bytes, disk.block)
            .map_err(|error| format!("backstore {}: {error}", disk.name))?;
        let ring = ring::Ring::open(&device).map_err(|error| format!("{device}: {error}"))?;
        rings.push((unit, Arc::new(ring)));
    }
    // The kernel's tcm_loop is one initiator.
    let nexus = manager.nexus("kernel");
    let threads: Vec<_> = rings
        .into_iter()
        .map(|(unit, ring)| {
            let manager = manager.clone();
            std::thread::spawn(move || serve::serve(&manager, nexus, unit, &ring))
        })
        .collect();
    if let Some(path) = options.control {
        control::listen(&path, manager).map_err(|error| format!("{path}: {error}"))?;
    }
    println!("ready");
    threads.into_iter().for_each(|thread| drop(thread.join()));
    Ok(())
}

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let result = if args.next_if(|arg| arg == "--tell").is_some() {
        control::tell(
            &args.next().unwrap_or_default(),
            &args.collect::<Vec<_>>().join(" "),
        )
    } else {
        options(args).and_then(run)
    };
    if let Err(text) = result {
        eprintln!("copy-manager-tcmu: {text}");
        std::process::exit(1);
    }
}

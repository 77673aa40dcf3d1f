//! Two devices with known content, and commands on them that are compared byte
//! by byte. The source half of every copy is the lower one and the destination
//! half the upper one, so that both devices may be the same storage.

use std::time::Duration;

use xcopy::abi::*;

use super::disk::{Disk, Opened, Spec};
use super::fault::Fault;
use super::flight::{Ended, Order};
use super::judge::op_name;
use super::plugin::{Checked, Context, stop};
use super::runner::Runner;

/// Bytes of each device that are used, unless granularities ask for more.
const SPAN: u64 = 1 << 20;
/// Bytes that are used at most.
const SPAN_MAX: u64 = 64 << 20;
/// Bytes of one READ or WRITE of the checker's own.
const IO: u64 = 256 << 10;

/// Where the truth about the content comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eyes {
    /// The kernel reads it.
    Kernel,
    /// The plugin's own READ.
    Read,
    /// Nowhere: contents are not compared, for this reason.
    None(&'static str),
}

/// How a method did.
pub enum Did {
    /// All commands were right.
    Well(usize),
    /// It says that it cannot do this after all.
    Left(i32),
}

/// The devices under test.
pub struct Bench<'a> {
    /// The context that opened them.
    pub context: &'a Context<'a>,
    /// What carries commands out.
    pub runner: Runner<'a>,
    /// Where copies read.
    pub src: Disk,
    /// Where copies write.
    pub dst: Disk,
    /// Bytes of each that are used.
    pub span: u64,
    /// What all offsets and lengths are multiples of.
    pub grain: u64,
    /// Who looks.
    pub eyes: Eyes,
    /// What should be on the source and the destination.
    pub(super) images: [Vec<u8>; 2],
    /// Both are the same storage.
    pub(super) shared: bool,
}

fn lcm(a: u64, b: u64) -> u64 {
    let (mut x, mut y) = (a.max(1), b.max(1));
    let product = x.saturating_mul(y);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    product / x
}

/// Every 512 bytes say which device, which place and which generation they are.
pub fn stamped(device: u8, generation: u8, len: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len as usize);
    let mut block = 0u64;
    while (bytes.len() as u64) < len {
        let mut state = block.wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ u64::from(device) << 56
            ^ u64::from(generation) << 48
            | 1;
        bytes.extend_from_slice(&block.to_le_bytes());
        bytes.extend_from_slice(&[device, generation]);
        for _ in 0..502 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(state as u8);
        }
        block += 1;
    }
    bytes.truncate(len as usize);
    bytes
}

/// The stricter of a verdict's and the table's number of ranges.
pub fn ranges_of(limits: &xcopy_limits, context: &Context<'_>) -> u64 {
    u64::from(
        limits
            .max_ranges
            .max(1)
            .min(context.plugin.table.max_ranges),
    )
}

impl<'a> Bench<'a> {
    /// Opens both devices.
    pub fn open(
        context: &'a Context<'a>,
        mut runner: Runner<'a>,
        specs: (&Spec, &Spec),
    ) -> Checked<Result<Bench<'a>, (Runner<'a>, String)>> {
        let src = match runner.open(context, specs.0)? {
            Opened::Disk(disk) => disk,
            Opened::Refused(why) => return Ok(Err((runner, why))),
        };
        let dst = match runner.open(context, specs.1)? {
            Opened::Disk(disk) => disk,
            Opened::Refused(why) => {
                runner.close(context, src)?;
                return Ok(Err((runner, why)));
            }
        };
        let plugin = context.plugin;
        let eyes = if plugin.is_null() {
            Eyes::None("the method null moves nothing by definition")
        } else if src.file.is_some() {
            Eyes::Kernel
        } else if plugin.can(XCOPY_CAN_READ) {
            Eyes::Read
        } else {
            Eyes::None("the plugin offers no READ")
        };
        let grain = lcm(src.block.into(), dst.block.into());
        Ok(Ok(Bench {
            context,
            runner,
            src,
            dst,
            span: 0,
            grain,
            eyes,
            images: [Vec::new(), Vec::new()],
            shared: false,
        }))
    }

    /// Takes the granularities of a usable verdict in.
    pub fn respect(&mut self, limits: &xcopy_limits) {
        for grain in [
            limits.src_granularity,
            limits.dst_granularity,
            limits.length_granularity,
        ] {
            self.grain = lcm(self.grain, grain.into());
        }
    }

    /// Half of what is used: the lower half is read, the upper one written.
    pub fn half(&self) -> u64 {
        self.span / 2
    }

    /// Fixes what is used, and puts known content there; false if the devices
    /// are too small.
    pub fn fill(&mut self) -> Checked<bool> {
        let size = self.src.size.min(self.dst.size);
        let wanted = SPAN
            .max(self.grain.saturating_mul(64))
            .min(SPAN_MAX)
            .min(size);
        self.span = wanted / (2 * self.grain) * (2 * self.grain);
        if self.span == 0 {
            return Ok(false);
        }
        if self.stamp(1)? && self.eyes == Eyes::Read {
            // The destination was stamped last: if the source shows it, they
            // are one.
            self.shared = self.look(0, 0, self.span)? == self.images[1];
        } else if let (Some(a), Some(b)) = (&self.src.file, &self.dst.file) {
            use std::os::unix::fs::MetadataExt;
            let id = |file: &std::fs::File| file.metadata().map(|m| (m.dev(), m.ino(), m.rdev()));
            self.shared = matches!((id(a), id(b)), (Ok(a), Ok(b)) if a == b);
        }
        if self.shared {
            self.images[0] = self.images[1].clone();
        }
        self.compare("filling the devices", &[])?;
        Ok(true)
    }

    /// Writes stamps to both; false if nothing can be written, and what is there
    /// was read instead.
    pub(super) fn stamp(&mut self, generation: u8) -> Checked<bool> {
        for which in 0..2u8 {
            let bytes = stamped(which + 1, generation, self.span);
            let disk = if which == 0 { &self.src } else { &self.dst };
            match disk.write_by_kernel(0, &bytes) {
                Some(written) => written?,
                None if self.context.plugin.can(XCOPY_CAN_WRITE) => {
                    let handle = disk.handle;
                    let limit = self.io_bytes(disk);
                    let orders: Vec<Order> = pieces(0, self.span, limit)
                        .map(|(at, len)| Order {
                            op: XCOPY_CMD_WRITE,
                            method: XCOPY_METHOD_READ_WRITE,
                            dst: handle,
                            ranges: vec![range(0, at, len)],
                            data: bytes[at as usize..(at + len) as usize].to_vec(),
                            ..Order::default()
                        })
                        .collect();
                    self.all_well(&orders)?;
                }
                None => {
                    for which in 0..2 {
                        self.images[which] = self.look(which, 0, self.span)?;
                    }
                    return Ok(false);
                }
            }
            self.images[usize::from(which)] = bytes;
        }
        Ok(true)
    }

    pub(super) fn io_bytes(&self, disk: &Disk) -> u64 {
        let limit = match disk.props.max_io_bytes {
            0 => IO,
            limit => limit.min(IO),
        };
        let block = u64::from(disk.block);
        (limit / block * block).max(block)
    }

    /// What is on a device now.
    fn look(&mut self, which: usize, at: u64, len: u64) -> Checked<Vec<u8>> {
        let disk = if which == 0 { &self.src } else { &self.dst };
        match self.eyes {
            Eyes::None(_) => Ok(Vec::new()),
            Eyes::Kernel => match disk.kernel_bytes(at, len as usize) {
                Some(bytes) => Ok(bytes?),
                None => Ok(Vec::new()),
            },
            Eyes::Read => {
                let (handle, limit) = (disk.handle, self.io_bytes(disk));
                let orders: Vec<Order> = pieces(at, len, limit)
                    .map(|(at, len)| read(handle, at, len))
                    .collect();
                let ended = self.all_well(&orders)?;
                Ok(ended.into_iter().flat_map(|end| end.data).collect())
            }
        }
    }

    /// Carries commands out that have no reason to fail.
    pub fn all_well(&mut self, orders: &[Order]) -> Checked<Vec<Ended>> {
        let ended = self.runner.run(orders)?;
        for (order, end) in orders.iter().zip(&ended) {
            if end.status != 0 {
                let text = format!("{} answered {}", op_name(order.op), end.status);
                return stop(Fault::Fails, &text);
            }
        }
        Ok(ended)
    }

    /// Compares everything with what should be there. `written` are the ranges
    /// of the destination that the last commands wrote.
    pub fn compare(&mut self, what: &str, written: &[xcopy_range]) -> Checked<()> {
        if matches!(self.eyes, Eyes::None(_)) {
            return Ok(());
        }
        for which in [1, 0] {
            let there = self.look(which, 0, self.span)?;
            let expected = &self.images[which];
            let differs = there.iter().zip(expected).position(|(a, b)| a != b);
            let at = match differs {
                None if there.len() == expected.len() => continue,
                None => there.len().min(expected.len()),
                Some(at) => at,
            } as u64;
            let inside = written
                .iter()
                .any(|r| at >= r.dst_offset && at < r.dst_offset + r.length);
            let side = ["source", "destination"][which];
            let text = format!("after {what} byte {at} of the {side} is not what it should be");
            let fault = match (which, inside) {
                (1, true) => Fault::WrongData,
                (1, false) if written.is_empty() => Fault::WrongData,
                _ => Fault::WritesOutside,
            };
            return stop(fault, &text);
        }
        Ok(())
    }

    /// Notes what a command wrote.
    pub(super) fn note(&mut self, at: u64, bytes: &[u8]) {
        let place = at as usize..at as usize + bytes.len();
        self.images[1][place.clone()].copy_from_slice(bytes);
        if self.shared {
            self.images[0][place].copy_from_slice(bytes);
        }
    }

    pub(super) fn source(&self, at: u64, len: u64) -> Vec<u8> {
        self.images[0]
            .get(at as usize..(at + len) as usize)
            .map_or_else(Vec::new, <[u8]>::to_vec)
    }

    /// Gives everything back.
    pub fn close(mut self) -> Checked<()> {
        self.runner.linger(Duration::from_millis(20));
        self.runner.close(self.context, self.src)?;
        self.runner.close(self.context, self.dst)?;
        self.runner.finish();
        Ok(())
    }

    /// What was compared, in words.
    pub fn seen(&self) -> String {
        match self.eyes {
            Eyes::None(why) => format!("contents not compared: {why}"),
            _ => "contents compared".into(),
        }
    }
}

/// One range.
pub fn range(src_offset: u64, dst_offset: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset,
        dst_offset,
        length,
    }
}

/// A READ.
pub fn read(handle: usize, at: u64, len: u64) -> Order {
    Order {
        op: XCOPY_CMD_READ,
        method: XCOPY_METHOD_READ_WRITE,
        src: handle,
        ranges: vec![range(at, 0, len)],
        ..Order::default()
    }
}

fn pieces(at: u64, len: u64, limit: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..len.div_ceil(limit)).map(move |i| (at + i * limit, limit.min(len - i * limit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic() {
        assert_eq!(lcm(512, 4096), 4096);
        assert_eq!(lcm(0, 7), 7);
        assert_eq!(lcm(6, 4), 12);
        let all: Vec<_> = pieces(100, 25, 10).collect();
        assert_eq!(all, [(100, 10), (110, 10), (120, 5)]);
    }

    #[test]
    fn stamps_differ_everywhere() {
        let (a, b, c) = (
            stamped(1, 1, 2048),
            stamped(2, 1, 2048),
            stamped(1, 2, 2048),
        );
        for (x, y) in [(&a, &b), (&a, &c)] {
            for (x, y) in x.chunks(512).zip(y.chunks(512)) {
                assert_ne!(x, y);
            }
        }
        assert_ne!(a[..512], a[512..1024]);
    }
}

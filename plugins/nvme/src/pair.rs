//! What can be copied between two namespaces, in which descriptor format, and why
//! not.

use crate::namespace::{Facts, Namespace};
use crate::system::Port;
use crate::wire::{Command, Copy, Entry, Format, LbaFormat, PiType, Protection};
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;
use xcopy_plugin_sdk::{Failure, Verdict};

/// Bytes of one command at most, whatever the controller takes: it has to end long
/// before its timeout, which resets the controller.
const MAX_BYTES: u64 = 64 << 20;
/// Bytes of one command that are enough to hide its own cost.
const PREFERRED_BYTES: u64 = 16 << 20;
/// Commands at once: with the two above, what waits in the controller is done
/// long before the first of them could run into its timeout.
const CONCURRENT: u32 = 64;

/// How a Copy between two namespaces is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Descriptor format of an ordinary copy.
    pub format: Format,
    /// The format that can ask for a fast copy.
    pub naming: Format,
    /// Formats that the controller takes.
    pub offered: u16,
    /// All its copies are fast ones.
    pub all_fast: bool,
    /// Bytes of a block.
    pub block: u32,
    /// What is done with protection information.
    pub pi: PiType,
    /// Bits of the reference tags.
    pub reference_bits: u32,
}

/// Why there is no copy: an XCOPY_REASON_, and words.
pub type Refusal = (u16, String);

fn refuse<T>(reason: u16, text: impl Into<String>) -> Result<T, Refusal> {
    Err((reason, text.into()))
}

impl Plan {
    /// The way to copy between two namespaces, from what they say.
    pub fn new<P>(
        (src, source): (&Namespace<P>, &Facts),
        (dst, target): (&Namespace<P>, &Facts),
    ) -> Result<Plan, Refusal> {
        let controller = &target.controller;
        if !controller.copies {
            return refuse(
                XCOPY_REASON_NOT_SUPPORTED,
                "the controller does not offer Copy (ONCS bit 8)",
            );
        }
        if src.controller != dst.controller {
            return refuse(
                XCOPY_REASON_CROSS_DEVICE,
                "source and destination are on different controllers",
            );
        }
        // Private namespaces of a subsystem may share an identifier (NVMe Base 2.0
        // 3.2.1.5): a Copy would take the one for the other.
        if src.nsid == dst.nsid && src.name != dst.name {
            return refuse(
                XCOPY_REASON_CROSS_DEVICE,
                format!(
                    "source and destination are different namespaces with the identifier {}, \
                     private to different controllers",
                    dst.nsid
                ),
            );
        }
        if target.limits(source).is_none() {
            return refuse(
                XCOPY_REASON_LIMITS,
                format!(
                    "the namespace takes no Copy: its limits are MSSRL {} and MCL {}",
                    target.data.mssrl.min(source.data.mssrl),
                    target.data.mcl.min(source.data.mcl)
                ),
            );
        }
        let (format, other) = (target.data.format, source.data.format);
        if format != other {
            return refuse(
                XCOPY_REASON_BLOCK_SIZE,
                format!(
                    "the namespaces have different formats: {} and {}",
                    words(other),
                    words(format)
                ),
            );
        }
        if format.block != dst.block || format.block != src.block {
            return refuse(
                XCOPY_REASON_BLOCK_SIZE,
                format!(
                    "the namespace was formatted anew, with {}: open it again",
                    words(format)
                ),
            );
        }
        let reference_bits = reference_bits(format)?;
        let wide = format.tags.pif != 0;
        let plan = Plan {
            format: Format::new(src.nsid != dst.nsid, wide),
            naming: Format::new(true, wide),
            offered: controller.formats,
            all_fast: controller.all_fast,
            block: format.block,
            pi: format.pi,
            reference_bits,
        };
        if plan.offered & plan.format.bit() == 0 {
            let number = plan.format.number();
            return refuse(
                XCOPY_REASON_NOT_SUPPORTED,
                format!("the controller does not offer Copy format {number}h (OCFS bit {number})"),
            );
        }
        Ok(plan)
    }

    /// The format of a copy that has to be fast, or not; and whether each range
    /// asks for that.
    fn format_for(&self, fast: bool) -> Result<(Format, bool), Refusal> {
        if !fast || self.all_fast {
            return Ok((self.format, false));
        }
        if self.offered & self.naming.bit() != 0 {
            return Ok((self.naming, true));
        }
        refuse(
            XCOPY_REASON_SLOWER,
            "the controller does not say that its copies are fast, and cannot be asked \
             for fast ones only",
        )
    }

    fn protection(&self, sdlba: u64) -> Option<Protection> {
        let mask = u64::MAX >> (64 - self.reference_bits.clamp(1, 64));
        match self.pi {
            PiType::One | PiType::Two | PiType::Three => Some(Protection {
                reference: sdlba & mask,
            }),
            PiType::Off | PiType::Unknown(_) => None,
        }
    }
}

/// Bits of the reference tag of a format, or why it cannot be copied.
fn reference_bits(format: LbaFormat) -> Result<u32, Refusal> {
    match (format.pi, format.tags.pif, format.tags.storage_bits) {
        (PiType::Off, ..) => Ok(32),
        (PiType::Unknown(number), ..) => refuse(
            XCOPY_REASON_NOT_SUPPORTED,
            format!("protection information of type {number} is not known"),
        ),
        // NVM Command Set 1.0 5.2.1: 32 bits hold both tags beside a 16-bit guard,
        // 48 beside one of 64.
        (_, 0, 0) => Ok(32),
        (_, 2, 0) => Ok(48),
        (..) => refuse(
            XCOPY_REASON_NOT_SUPPORTED,
            "protection information with storage tags is not copied: a Copy would lose them",
        ),
    }
}

/// A format in words.
pub fn words(format: LbaFormat) -> String {
    let mut words = format!("blocks of {} bytes", format.block);
    if format.metadata > 0 {
        words += &format!(" and {} of metadata", format.metadata);
    }
    if format.pi != PiType::Off {
        words += &format!(", protection {:?}", format.pi);
    }
    words
}

/// A Copy that is ready to be sent.
#[derive(Debug)]
pub struct Built {
    /// Its dwords.
    pub command: Command,
    /// What has to be known of it at its end.
    pub sent: Sent,
}

/// How a command was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Its format, if that had to be switched on.
    pub naming: Option<Format>,
    /// [`Switches::epoch`](crate::behavior::Switches::epoch) then.
    pub epoch: u32,
}

/// What is in the way of a copy.
#[derive(Debug)]
pub enum Hindrance {
    /// The command fails.
    Failure(Failure),
    /// This descriptor format has to be switched on first.
    Feature(Format),
}

fn fails<T>(failure: Failure) -> Result<T, Hindrance> {
    Err(Hindrance::Failure(failure))
}

fn leave_for(errno: i32, (reason, text): Refusal) -> Hindrance {
    Hindrance::Failure(
        Failure::new(errno)
            .reason(reason)
            .because(text)
            .next_method()
            .unsent(),
    )
}

/// Makes the Copy for the core's ranges; its descriptors go to `buffer`.
pub fn build<P: Port>(
    src: &Namespace<P>,
    dst: &Namespace<P>,
    ranges: &[xcopy_range],
    flags: u32,
    buffer: &mut Vec<u8>,
) -> Result<Built, Hindrance> {
    let (source, target) = (src.facts(), dst.facts());
    let epoch = dst.switches.epoch();
    let leave = |refusal: Refusal| leave_for(ENOTSUP, refusal);
    let plan = Plan::new((src, &source), (dst, &target)).map_err(leave)?;
    let fast = flags & XCOPY_CMD_FAST_ONLY != 0;
    let (format, fast_only) = plan.format_for(fast).map_err(leave)?;
    if format.names_source() && dst.takes_turns() {
        return Err(leave((
            XCOPY_REASON_NOT_SUPPORTED,
            format!(
                "Copy format {}h is switched on for each controller by itself, and commands go to \
                 several by turns",
                format.number()
            ),
        )));
    }
    if format.names_source() && !dst.switches.is_on(format) {
        return Err(match dst.switches.refusal() {
            Some(errno) => leave_for(errno, (XCOPY_REASON_KERNEL, refusal_text(errno))),
            None => Hindrance::Feature(format),
        });
    }
    let Some((range_max, command_max, count_max)) = target.limits(&source) else {
        return fails(too_large());
    };
    if ranges.is_empty() || ranges.len() > count_max as usize {
        return fails(too_large());
    }
    let block = u64::from(plan.block);
    buffer.clear();
    let (mut first, mut end, mut total) = (0, 0, 0_u64);
    for (index, range) in ranges.iter().enumerate() {
        let slba = place(src.offset, range.src_offset, range.length, block, &source);
        let dlba = place(dst.offset, range.dst_offset, range.length, block, &target);
        let (Some(slba), Some(dlba)) = (slba, dlba) else {
            return fails(out_of_place());
        };
        let blocks = range.length / block;
        if blocks > u64::from(range_max) {
            return fails(too_large());
        }
        if index == 0 {
            first = dlba;
        } else if dlba != end {
            // The destination of a Copy is one piece.
            return fails(out_of_place());
        }
        end = dlba + blocks;
        total += blocks;
        let entry = Entry {
            nsid: src.nsid,
            slba,
            blocks: blocks as u32,
            fast_only,
        };
        format.put(&entry, buffer);
    }
    if total > u64::from(command_max) {
        return fails(too_large());
    }
    let mut command = Command::copy(&Copy {
        nsid: dst.nsid,
        sdlba: first,
        ranges: ranges.len(),
        format,
        durable: flags & XCOPY_CMD_DURABLE != 0,
        protection: plan.protection(first),
    });
    command.data_len = buffer.len() as u32;
    Ok(Built {
        command,
        sent: Sent {
            naming: format.names_source().then_some(format),
            epoch,
        },
    })
}

/// The first block of a range on its namespace; None if it does not lie on whole
/// blocks of it.
fn place(base: u64, offset: u64, length: u64, block: u64, facts: &Facts) -> Option<u64> {
    let start = base.checked_add(offset)?;
    let whole = length > 0 && start.is_multiple_of(block) && length.is_multiple_of(block);
    let end = (start / block).checked_add(length / block)?;
    (whole && end <= facts.data.blocks).then_some(start / block)
}

fn out_of_place() -> Failure {
    Failure::new(EINVAL)
        .reason(XCOPY_REASON_BOUNDS)
        .next_method()
        .unsent()
}

/// Limits are smaller than the core knows: they were read again since it asked.
fn too_large() -> Failure {
    Failure::new(E2BIG)
        .reason(XCOPY_REASON_LIMITS)
        .split()
        .unsent()
}

/// Says whether a pair can be copied by its controller. Blocks.
pub fn judge<P: Port>(src: &Namespace<P>, dst: &Namespace<P>) -> Result<Verdict, Failure> {
    for namespace in [src, dst] {
        if namespace.look_again() == crate::namespace::Presence::Gone {
            let text = "the namespace is gone";
            return Ok(Verdict::refused(XCOPY_REASON_REMOVED, text));
        }
    }
    let (source, target) = (src.facts(), dst.facts());
    let plan = match Plan::new((src, &source), (dst, &target)) {
        Ok(plan) => plan,
        Err((reason, text)) => return Ok(Verdict::refused(reason, &text)),
    };
    let paths = dst.paths();
    if plan.format.names_source()
        && let Some((reason, text)) = paths.refusal(&src.paths())
    {
        return Ok(Verdict::refused(reason, &text));
    }
    if !dst.writable {
        let text = format!(
            "Copy needs a node that is open for writing{}",
            dst.port.hindrance()
        );
        return Ok(Verdict::refused(XCOPY_REASON_PERMISSION, &text));
    }
    if let Some(refused) = refused_by_kernel(dst, &plan) {
        return Ok(refused);
    }
    let read = dst.switches.read(&dst.port);
    let verdict = Verdict::usable(limits(&source, &target, plan.block));
    if !plan.format.names_source() || dst.switches.is_on(plan.format) {
        return Ok(verdict);
    }
    if let Some(errno) = dst.switches.refusal().or(read.err()) {
        return Ok(Verdict::refused(XCOPY_REASON_KERNEL, &refusal_text(errno)));
    }
    Ok(verdict.with(XCOPY_VERDICT_NEEDS_FEATURE).because(
        XCOPY_REASON_FEATURE_OFF,
        &format!(
            "copies between namespaces (format {}h) are switched off: usable with \
             --set-host-behavior (XCOPY_REQ_SET_HOST_BEHAVIOR), where the kernel lets it",
            plan.format.number()
        ),
    ))
}

/// Why formats cannot be switched on.
pub fn refusal_text(errno: i32) -> String {
    match errno {
        EACCES | EPERM => {
            "this kernel refuses Set Features 16h (driver-managed), or this user may \
                           not: copies between namespaces stay switched off"
                .to_owned()
        }
        errno => format!(
            "Host Behavior Support (feature 16h) cannot be used: {}",
            std::io::Error::from_raw_os_error(errno)
        ),
    }
}

fn limits(source: &Facts, target: &Facts, block: u32) -> xcopy_limits {
    let (range, command, ranges) = target.limits(source).unwrap_or((1, 1, 1));
    let size = u64::from(block);
    let max_bytes = (u64::from(command) * size).min(MAX_BYTES / size * size);
    xcopy_limits {
        preferred_bytes: max_bytes.min(PREFERRED_BYTES / size * size).max(size),
        max_bytes: max_bytes.max(size),
        max_range_bytes: (u64::from(range) * size).min(max_bytes).max(size),
        src_granularity: block,
        dst_granularity: block,
        length_granularity: block,
        max_ranges: ranges,
        max_concurrent: CONCURRENT,
        contiguous_dst: 1,
    }
}

/// Where the kernel may refuse Copy to this process, whether it does.
fn refused_by_kernel<P: Port>(dst: &Namespace<P>, plan: &Plan) -> Option<Verdict> {
    let command = Command::copy(&Copy {
        nsid: dst.nsid,
        sdlba: 0,
        ranges: 1,
        format: plan.format,
        durable: false,
        protection: None,
    });
    match dst.port.would_send(command) {
        Err(EACCES | EPERM) => Some(Verdict::refused(
            XCOPY_REASON_PERMISSION,
            &format!(
                "the kernel refuses Copy to this user: it wants CAP_SYS_ADMIN, or Linux 6.2, a \
                 node open for writing and Copy in the effects log{}",
                dst.port.hindrance()
            ),
        )),
        _ => None,
    }
}

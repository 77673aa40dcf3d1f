//! Routes: which methods can copy between two devices, best first, and why the
//! others cannot. Made once for a pair, by asking every plugin; may block.

use super::clock::coarse_ns;
use super::context::Context;
use super::devices::{Attachment, Device, Origin, PluginHandle, text_of};
use super::reasons;
use crate::device::KernelDevice;
use crate::error::Result;
use crate::host::Buffers;
use crate::plugin::Plugin;
use std::sync::Arc;
use xcopy_abi::*;

/// One method's verdict on a pair.
#[derive(Clone)]
pub struct RouteMethod {
    /// XCOPY_METHOD_ or a given number.
    pub id: u16,
    /// XCOPY_METHOD_ flags of the plugin's table, as the verdict changed them.
    pub flags: u32,
    /// Higher is tried first.
    pub worth: u32,
    /// The plugin, or None for the core's own.
    pub plugin: Option<Arc<Plugin>>,
    /// Whether it can be used.
    pub usable: bool,
    /// XCOPY_REASON_ if not, or if only by name.
    pub reason: u16,
    /// The reason in words.
    pub text: String,
    /// Its limits.
    pub limits: xcopy_limits,
    /// Bytes per microsecond that the plugin estimates, 0 if it does not.
    pub bytes_per_us: u32,
    /// The plugin's handle of the source.
    pub src: PluginHandle,
    /// The plugin's handle of the destination.
    pub dst: PluginHandle,
}

impl RouteMethod {
    /// Whether bytes stay out of the host.
    pub fn offloads(&self) -> bool {
        self.flags & XCOPY_METHOD_OFFLOADS != 0
    }
}

/// How the host reaches one end of a pair.
#[derive(Clone)]
pub enum Endpoint {
    /// By system calls on the pool.
    Kernel {
        /// The device's fd.
        fd: i32,
        /// XCOPY_KIND_.
        kind: u32,
    },
    /// By a plugin's READ, WRITE, ZERO and FLUSH.
    Plugin {
        /// The plugin.
        plugin: Arc<Plugin>,
        /// Its handle of the device.
        handle: PluginHandle,
        /// What it says of the device.
        props: xcopy_device_props,
    },
    /// Not at all, with the reason.
    None(u16, String),
}

/// What is known of a pair. Immutable; a new one replaces it.
pub struct Route {
    /// Verdicts, best first, unusable ones after the usable.
    pub methods: Vec<RouteMethod>,
    /// The source's end, for the host.
    pub src: Endpoint,
    /// The destination's end, for the host.
    pub dst: Endpoint,
    /// Destination byte = source byte + this, if both are one storage.
    pub same_storage: Option<i128>,
    /// Generations of the devices it was made from.
    pub generations: (u32, u32),
    /// Coarse time after which its negative verdicts are asked again.
    pub recheck_ns: u64,
}

/// State of an optional device: see `Device::state`.
pub fn generation(device: Option<&Arc<Device>>) -> u32 {
    device.map_or(0, |d| d.state())
}

/// How far apart the two ends lie when they are one storage.
pub fn same_storage(src: Option<&Arc<Device>>, dst: Option<&Arc<Device>>) -> Option<i128> {
    let (src, dst) = (src?.identity(), dst?.identity());
    (src.storage == dst.storage).then(|| i128::from(src.offset) - i128::from(dst.offset))
}

/// Asks every plugin but the AFFINE ones, which answer on their queues.
pub fn probe(
    context: &Context,
    src: Option<&Arc<Device>>,
    dst: Option<&Arc<Device>>,
) -> Result<Route> {
    let generations = (generation(src), generation(dst));
    let now = coarse_ns();
    let mut recheck_ns = now.saturating_add(context.retry_after_ns());
    let mut methods = Vec::new();
    for plugin in context.registry.plugins() {
        if plugin.model() == XCOPY_MODEL_AFFINE || plugin.methods().is_empty() {
            continue;
        }
        if !concerns(&plugin, src, dst) || !judges(&plugin, src.is_some() && dst.is_some()) {
            continue;
        }
        judge(
            context,
            &plugin,
            src,
            dst,
            &mut methods,
            &mut recheck_ns,
            now,
        )?;
    }
    let source = endpoint(context, src)?;
    let destination = endpoint(context, dst)?;
    if src.is_some() && dst.is_some() {
        methods.push(host_method(&source, &destination, &context.buffers));
    }
    sort(&mut methods);
    Ok(Route {
        methods,
        src: source,
        dst: destination,
        same_storage: same_storage(src, dst),
        generations,
        recheck_ns,
    })
}

/// Best first; the unusable behind.
pub fn sort(methods: &mut [RouteMethod]) {
    methods.sort_by_key(|m| (!m.usable, std::cmp::Reverse(m.worth)));
}

/// Order of refusals by what they tell: that a method is for other devices tells
/// least, then the better method's tells most.
pub fn telling(method: &RouteMethod) -> (bool, std::cmp::Reverse<u32>) {
    let elsewhere = method.reason == XCOPY_REASON_WRONG_DEVICE;
    (elsewhere, std::cmp::Reverse(method.worth))
}

/// Whether a plugin could have anything to say on a pair: it opens both ends, or
/// one end is its own.
pub fn concerns(
    plugin: &Arc<Plugin>,
    src: Option<&Arc<Device>>,
    dst: Option<&Arc<Device>>,
) -> bool {
    [src, dst]
        .into_iter()
        .flatten()
        .all(|device| match device.native_plugin() {
            Some(native) => Arc::ptr_eq(&native, plugin),
            None => plugin.table().flags & XCOPY_PLUGIN_KERNEL != 0,
        })
}

/// Whether a plugin has methods to judge: for one device alone only tokens count.
pub fn judges(plugin: &Arc<Plugin>, pair: bool) -> bool {
    pair || plugin.table().commands & XCOPY_CAN_TOKEN != 0
}

fn judge(
    context: &Context,
    plugin: &Arc<Plugin>,
    src: Option<&Arc<Device>>,
    dst: Option<&Arc<Device>>,
    methods: &mut Vec<RouteMethod>,
    recheck_ns: &mut u64,
    now: u64,
) -> Result<()> {
    let mut refused = None;
    let mut handles = [PluginHandle(std::ptr::null_mut()); 2];
    for (handle, device) in handles.iter_mut().zip([src, dst]) {
        let Some(device) = device else { continue };
        match device.attach(plugin)?.handle {
            Ok(found) => *handle = found,
            Err(why) => {
                refused.get_or_insert(why);
            }
        }
    }
    if refused.is_none() && plugin.model() == XCOPY_MODEL_BLOCKING && !context.pool.exists() {
        refused = Some((
            XCOPY_REASON_NO_POOL,
            "create the context with pool_threads above 0".into(),
        ));
    }
    let mut verdicts = vec![xcopy_verdict::default(); plugin.methods().len()];
    if refused.is_none() {
        refused = ask(plugin, handles, &mut verdicts).err();
    }
    for (method, verdict) in plugin.methods().iter().zip(&verdicts) {
        let (usable, reason, text) = match &refused {
            Some((reason, text)) => (false, *reason, text.clone()),
            None => (verdict.usable == 1, verdict.reason, text_of(&verdict.text)),
        };
        if !usable && verdict.ttl_s != 0 {
            let until = now + u64::from(verdict.ttl_s) * 1_000_000_000;
            *recheck_ns = (*recheck_ns).min(until);
        }
        methods.push(RouteMethod {
            id: method.id,
            flags: pair_flags(method.flags, verdict),
            worth: method.worth,
            plugin: Some(plugin.clone()),
            usable,
            reason: pair_reason(method.flags, verdict, usable, reason),
            text,
            limits: verdict.limits,
            bytes_per_us: verdict.bytes_per_us,
            src: handles[0],
            dst: handles[1],
        });
    }
    Ok(())
}

/// A method's flags on one pair.
pub fn pair_flags(flags: u32, verdict: &xcopy_verdict) -> u32 {
    let said = |bit: u32| verdict.usable == 1 && verdict.flags & bit != 0;
    let mut flags = flags;
    if said(XCOPY_VERDICT_BY_NAME) {
        flags |= XCOPY_METHOD_BY_NAME;
    }
    if said(XCOPY_VERDICT_THROUGH_HOST) {
        flags &= !XCOPY_METHOD_OFFLOADS;
    }
    if said(XCOPY_VERDICT_FILLS_HOLES) {
        flags |= XCOPY_METHOD_FILLS_HOLES;
    }
    if said(XCOPY_VERDICT_NEEDS_FEATURE) {
        flags |= XCOPY_METHOD_NEEDS_FEATURE;
    }
    flags
}

/// Why a method is not used on a pair, or not by itself.
pub fn pair_reason(flags: u32, verdict: &xcopy_verdict, usable: bool, reason: u16) -> u16 {
    let reason = reasons::known(reason, XCOPY_REASON_NOT_SUPPORTED);
    let flags = pair_flags(flags, verdict);
    let said = |reason: u16, unsaid: u16| if reason == 0 { unsaid } else { reason };
    if !usable {
        reason.max(1)
    } else if flags & XCOPY_METHOD_BY_NAME != 0 {
        said(reason, XCOPY_REASON_BY_NAME_ONLY)
    } else if flags & XCOPY_METHOD_NEEDS_FEATURE != 0 {
        said(reason, XCOPY_REASON_FEATURE_OFF)
    } else {
        XCOPY_REASON_NONE
    }
}

fn ask(
    plugin: &Arc<Plugin>,
    handles: [PluginHandle; 2],
    verdicts: &mut [xcopy_verdict],
) -> std::result::Result<(), (u16, String)> {
    let Some(probe) = plugin.table().probe else {
        return Err((
            XCOPY_REASON_NOT_SUPPORTED,
            "the plugin judges no pairs".into(),
        ));
    };
    // SAFETY: the handles are the plugin's own, the verdicts are as many as its
    // methods and outlive the call.
    let status = unsafe {
        probe(
            plugin.state(),
            handles[0].0,
            handles[1].0,
            verdicts.as_mut_ptr(),
            size_of::<xcopy_verdict>(),
            verdicts.len() as u32,
        )
    };
    match status {
        0 => Ok(()),
        status => {
            let error = std::io::Error::from_raw_os_error(-status);
            Err((
                XCOPY_REASON_FAILED,
                format!("the plugin's probe failed: {error}"),
            ))
        }
    }
}

fn endpoint(context: &Context, device: Option<&Arc<Device>>) -> Result<Endpoint> {
    let Some(device) = device else {
        return Ok(Endpoint::None(
            XCOPY_REASON_WRONG_DEVICE,
            "there is no device".into(),
        ));
    };
    let Some(origin) = device.origin() else {
        return Err(crate::error::Error::new(
            libc::EBADF,
            "the device was closed",
        ));
    };
    match origin.as_ref() {
        Origin::Kernel(kernel) => Ok(if !context.pool.exists() {
            Endpoint::None(
                XCOPY_REASON_NO_POOL,
                "create the context with pool_threads above 0".into(),
            )
        } else if device.kind == XCOPY_KIND_CHAR {
            char_endpoint(context, device, kernel)?
        } else {
            // Opened here, where it may block, for those who ask later.
            kernel.direct_fd();
            Endpoint::Kernel {
                fd: kernel.fd(),
                kind: device.kind,
            }
        }),
        Origin::Native { plugin, .. } if plugin.model() == XCOPY_MODEL_AFFINE => {
            Ok(Endpoint::None(
                XCOPY_REASON_WRONG_DEVICE,
                "opened on its queue: prepare the pair".into(),
            ))
        }
        Origin::Native { plugin, .. }
            if plugin.model() == XCOPY_MODEL_BLOCKING && !context.pool.exists() =>
        {
            Ok(Endpoint::None(
                XCOPY_REASON_NO_POOL,
                "create the context with pool_threads above 0".into(),
            ))
        }
        Origin::Native { plugin, .. } => Ok(plugin_endpoint(device.attach(plugin)?)),
    }
}

/// A character node takes commands only: the host reads and writes by a plugin that
/// offers that, or by the disk behind the node. Where there is neither, a plugin may
/// still flush it.
fn char_endpoint(
    context: &Context,
    device: &Arc<Device>,
    kernel: &KernelDevice,
) -> Result<Endpoint> {
    const HOST: u32 = XCOPY_CAN_READ | XCOPY_CAN_WRITE;
    let mut flushes = None;
    for plugin in context.registry.plugins() {
        let (model, table) = (plugin.model(), plugin.table());
        if table.flags & XCOPY_PLUGIN_KERNEL == 0
            || table.commands & (HOST | XCOPY_CAN_FLUSH) == 0
            || model == XCOPY_MODEL_AFFINE
        {
            continue;
        }
        let attachment = device.attach(&plugin)?;
        if attachment.handle.is_err() {
            continue;
        }
        if table.commands & HOST != 0 {
            return Ok(plugin_endpoint(attachment));
        }
        flushes.get_or_insert(attachment);
    }
    if let Some(fd) = kernel.disk_fd() {
        kernel.direct_fd();
        let kind = XCOPY_KIND_DISK;
        return Ok(Endpoint::Kernel { fd, kind });
    }
    Ok(flushes.map_or_else(
        || Endpoint::None(XCOPY_REASON_WRONG_DEVICE, NO_DISK.into()),
        plugin_endpoint,
    ))
}

/// Why the host cannot copy a character node.
const NO_DISK: &str = "a character node takes commands, not reads and writes, and the disk behind \
                       it (/dev/nvmeXnY of /dev/ngXnY) cannot be opened: give this user that node";

/// The host's end at a plugin's device.
pub fn plugin_endpoint(attachment: Attachment) -> Endpoint {
    match attachment.handle {
        Err((reason, text)) => Endpoint::None(reason, text),
        Ok(handle) => Endpoint::Plugin {
            plugin: attachment.plugin,
            handle,
            props: attachment.props,
        },
    }
}

/// Bytes of one host command at most: more would make cancel and deadlines slow.
const HOST_MAX_BYTES: u64 = 16 << 20;
/// Bytes of one bridged command at most: one bounce buffer.
const BRIDGE_MAX_BYTES: u64 = 1 << 20;

/// The verdict on the core's own read_write.
pub fn host_method(src: &Endpoint, dst: &Endpoint, buffers: &Buffers) -> RouteMethod {
    let mut method = RouteMethod {
        id: XCOPY_METHOD_READ_WRITE,
        flags: 0,
        worth: crate::plugin::worth_of(XCOPY_METHOD_READ_WRITE),
        plugin: None,
        usable: true,
        reason: 0,
        text: String::new(),
        limits: xcopy_limits {
            max_bytes: HOST_MAX_BYTES,
            max_ranges: 1,
            ..Default::default()
        },
        bytes_per_us: 0,
        src: PluginHandle(std::ptr::null_mut()),
        dst: PluginHandle(std::ptr::null_mut()),
    };
    let limits = &mut method.limits;
    for (end, is_src) in [(src, true), (dst, false)] {
        match end {
            Endpoint::None(reason, text) => {
                method.usable = false;
                method.reason = *reason;
                method.text = text.clone();
            }
            Endpoint::Kernel { .. } => {}
            Endpoint::Plugin { plugin, .. } if !serves_host(plugin, is_src) => {
                method.usable = false;
                method.reason = XCOPY_REASON_NOT_SUPPORTED;
                method.text = match plugin.table().flags & XCOPY_PLUGIN_KERNEL {
                    0 => format!(
                        "plugin {} offers no {} to the host",
                        plugin.name(),
                        if is_src { "READ" } else { "WRITE" }
                    ),
                    _ => NO_DISK.into(),
                };
            }
            Endpoint::Plugin { props, .. } => {
                // A bridge's command is one buffer.
                limits.max_bytes = limits.max_bytes.min(buffers.max_size() as u64);
                let block = props.block_size.max(1);
                if is_src {
                    limits.src_granularity = block;
                } else {
                    limits.dst_granularity = block;
                }
                limits.length_granularity = limits.length_granularity.max(block);
                limits.max_bytes = limits.max_bytes.min(BRIDGE_MAX_BYTES);
                if props.max_io_bytes != 0 {
                    limits.max_bytes = limits.max_bytes.min(props.max_io_bytes);
                }
                if props.preferred_io_bytes != 0 {
                    limits.preferred_bytes = props.preferred_io_bytes.min(limits.max_bytes);
                }
            }
        }
    }
    method
}

fn serves_host(plugin: &Arc<Plugin>, is_src: bool) -> bool {
    let needed = if is_src {
        XCOPY_CAN_READ
    } else {
        XCOPY_CAN_WRITE
    };
    plugin.table().commands & needed != 0
}

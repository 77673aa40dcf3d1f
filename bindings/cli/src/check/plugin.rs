//! The plugin under check: its file, its table, and its contexts.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use xcopy::abi::*;

use super::fault::Fault;
use super::{arena, calls, host, wire};

/// Why a check cannot go on; what was wrong is told already, or is no fault of
/// the plugin's and in the text.
#[derive(Debug)]
pub enum Stop {
    /// A fault was told that leaves nothing to go on with.
    Fault,
    /// The machine refused something.
    Machine(String),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Stop::Machine(error.to_string())
    }
}

/// Result of a step.
pub type Checked<T> = Result<T, Stop>;

/// Tells a fault that ends the check.
pub fn stop<T>(fault: Fault, text: &str) -> Checked<T> {
    wire::fault(fault, text);
    Err(Stop::Fault)
}

/// One method, with the number that the core would give it.
#[derive(Clone, Debug)]
pub struct Method {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u16,
    /// Its place in the table.
    pub index: u32,
    /// XCOPY_METHOD_ flags.
    pub flags: u32,
}

const FIXED: [(&str, u16); 7] = [
    ("reflink", XCOPY_METHOD_REFLINK),
    ("nvme_copy", XCOPY_METHOD_NVME_COPY),
    ("scsi_xcopy", XCOPY_METHOD_SCSI_XCOPY),
    ("odx", XCOPY_METHOD_ODX),
    ("copy_file_range", XCOPY_METHOD_COPY_FILE_RANGE),
    ("sendfile", XCOPY_METHOD_SENDFILE),
    ("null", XCOPY_METHOD_NULL),
];

type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

/// A loaded plugin.
pub struct Plugin {
    /// A copy of its table, zero where it is shorter than ours.
    pub table: xcopy_plugin,
    /// Its name.
    pub name: String,
    /// Its methods.
    pub methods: Vec<Method>,
    /// Bytes by which what the plugin is lent is longer than today's structs.
    pub tail: usize,
    init: Init,
    host: *const xcopy_host,
}

// SAFETY: the pointers are to static memory of the plugin and to the host's
// table, which nobody changes.
unsafe impl Send for Plugin {}
// SAFETY: as above.
unsafe impl Sync for Plugin {}

/// # Safety
/// NUL-terminated, as the core found it to be.
unsafe fn text(at: *const std::ffi::c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: the caller's word.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

impl Plugin {
    /// Loads a file that the core accepts, and gets its table.
    pub fn load(path: &Path, tail: usize) -> Checked<Plugin> {
        let name = CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Stop::Machine("the path contains a NUL byte".into()))?;
        let flags = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE;
        let symbol = calls::slow(&"dlopen", || {
            // SAFETY: constructors of the file run; that is what is asked for.
            let library = unsafe { libc::dlopen(name.as_ptr(), flags) };
            if library.is_null() {
                return std::ptr::null_mut();
            }
            // SAFETY: a live library and a NUL-terminated name.
            unsafe { libc::dlsym(library, c"xcopy_plugin_init_v0".as_ptr()) }
        });
        if symbol.is_null() {
            return stop(Fault::Refused, "the file cannot be loaded, or has no entry");
        }
        // SAFETY: the contract gives the symbol this type.
        let init: Init = unsafe { std::mem::transmute::<*mut c_void, Init>(symbol) };
        let host = host::table(tail)?;
        let table = Self::table_of(init, host, "")?;
        // SAFETY: the core found the strings to be NUL-terminated.
        let name = unsafe { text(table.name) };
        let mut methods = Vec::new();
        let mut next = XCOPY_METHOD_DYNAMIC;
        for index in 0..table.nmethods as usize {
            // SAFETY: nmethods of method_stride bytes, as the core read them.
            let method = unsafe {
                let at = table.methods.cast::<u8>().add(index * table.method_stride);
                &*at.cast::<xcopy_plugin_method>()
            };
            // SAFETY: as above.
            let name = unsafe { text(method.name) };
            let fixed = FIXED.iter().find(|fixed| fixed.0 == name);
            let id = fixed.map_or_else(
                || {
                    next += 1;
                    next - 1
                },
                |fixed| fixed.1,
            );
            methods.push(Method {
                name,
                id,
                index: index as u32,
                flags: method.flags,
            });
        }
        let plugin = Plugin {
            table,
            name,
            methods,
            tail,
            init,
            host,
        };
        plugin.check_table();
        Ok(plugin)
    }

    fn table_of(init: Init, host: *const xcopy_host, when: &str) -> Checked<xcopy_plugin> {
        // SAFETY: the host's table lives for the life of the process.
        let table = calls::slow(&"xcopy_plugin_init_v0", || unsafe { init(host) });
        if table.is_null() {
            let text = format!("xcopy_plugin_init_v0 answered no table{when}");
            return stop(Fault::NoTable, &text);
        }
        let mut ours = std::mem::MaybeUninit::<xcopy_plugin>::zeroed();
        // SAFETY: the table states its size; every field may be zero.
        let ours = unsafe {
            let size = ((*table).struct_size as usize).min(size_of::<xcopy_plugin>());
            std::ptr::copy_nonoverlapping(table.cast::<u8>(), ours.as_mut_ptr().cast(), size);
            ours.assume_init()
        };
        Ok(ours)
    }

    /// The name of its model.
    pub fn model(&self) -> &'static str {
        match self.table.model {
            XCOPY_MODEL_POLLED => "polled",
            XCOPY_MODEL_THREADED => "threaded",
            XCOPY_MODEL_BLOCKING => "blocking",
            _ => "affine",
        }
    }

    /// Its version.
    pub fn version(&self) -> String {
        // SAFETY: the core found the string to be NUL-terminated.
        unsafe { text(self.table.version) }
    }

    /// Whether it announces a command.
    pub fn can(&self, bit: u32) -> bool {
        self.table.commands & bit != 0
    }

    /// Whether everything has to happen on the queue's thread.
    pub fn is_affine(&self) -> bool {
        self.table.model == XCOPY_MODEL_AFFINE
    }

    /// Whether it moves nothing by definition.
    pub fn is_null(&self) -> bool {
        self.methods.iter().any(|m| m.id == XCOPY_METHOD_NULL)
    }

    fn check_table(&self) {
        let bad = |text: String| wire::fault(Fault::BadTable, &text);
        let table = &self.table;
        // Younger than this check: it may know words that we do not.
        if table.abi_version > XCOPY_ABI_VERSION {
            return;
        }
        let commands = XCOPY_CAN_COPY
            | XCOPY_CAN_ZERO
            | XCOPY_CAN_FLUSH
            | XCOPY_CAN_READ
            | XCOPY_CAN_WRITE
            | XCOPY_CAN_TOKEN;
        if table.commands & !commands != 0 {
            bad(format!(
                "commands {:#x} has bits that are none",
                table.commands
            ));
        }
        if table.flags & !(XCOPY_PLUGIN_KERNEL | XCOPY_PLUGIN_NATIVE) != 0 {
            bad(format!("flags {:#x} has bits that are none", table.flags));
        }
        if !self.methods.is_empty() && !self.can(XCOPY_CAN_COPY | XCOPY_CAN_TOKEN) {
            bad("it has methods, but commands has neither COPY nor TOKEN".into());
        }
        if self.methods.is_empty() && self.can(XCOPY_CAN_COPY | XCOPY_CAN_TOKEN) {
            bad("it takes COPY or TOKEN, but has no method".into());
        }
        let known = XCOPY_METHOD_OFFLOADS
            | XCOPY_METHOD_BYPASSES_CACHE
            | XCOPY_METHOD_BY_NAME
            | XCOPY_METHOD_SERIAL_DST
            | XCOPY_METHOD_FILLS_HOLES
            | XCOPY_METHOD_TAIL_AT_END;
        for method in self.methods.iter().filter(|m| m.flags & !known != 0) {
            bad(format!(
                "{}: flags {:#x} has bits that are none",
                method.name, method.flags
            ));
        }
        let queue = [
            ("queue_fd", table.queue_fd.is_some()),
            ("arm", table.arm.is_some()),
        ];
        if table.model != XCOPY_MODEL_BLOCKING && queue[0].1 != queue[1].1 {
            bad(format!(
                "{} without {}",
                queue[usize::from(!queue[0].1)].0,
                queue[usize::from(queue[0].1)].0
            ));
        }
    }

    /// Starts a context.
    pub fn start(&self) -> Checked<Context<'_>> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        if STARTED.fetch_add(1, Ordering::Relaxed) > 0 {
            // The core asks for the table again for each context.
            Self::table_of(self.init, self.host, " when it was called again")?;
        }
        let host_ctx = host::add_context()?;
        let mut state = std::ptr::null_mut();
        if let Some(start) = self.table.start {
            let place = arena::lend(arena::Kind::Place, size_of::<*mut c_void>(), 8)?;
            // SAFETY: just lent, of a pointer's size.
            let answer = unsafe {
                let at: *mut *mut c_void = place.pointer();
                at.write(std::ptr::null_mut());
                let answer = calls::slow(&"start", || start(host_ctx as *mut c_void, at));
                state = at.read();
                answer
            };
            place.take_back();
            if answer != 0 {
                return stop(Fault::StartFails, &format!("start answered {answer}"));
            }
        }
        Ok(Context {
            plugin: self,
            host_ctx,
            state,
        })
    }
}

/// One context of the plugin.
pub struct Context<'a> {
    /// The plugin.
    pub plugin: &'a Plugin,
    /// The plugin's state.
    pub state: *mut c_void,
    host_ctx: usize,
}

// SAFETY: the state is opaque here and handed back under the rules of the model.
unsafe impl Send for Context<'_> {}
// SAFETY: as above.
unsafe impl Sync for Context<'_> {}

impl Context<'_> {
    /// Stops it; nothing of it is in use.
    pub fn stop(self) {
        if let Some(stop) = self.plugin.table.stop {
            // SAFETY: the last call with this state.
            calls::slow(&"stop", || unsafe { stop(self.state) });
        }
        host::stop_context(self.host_ctx);
    }

    /// Judges a pair: one verdict for each method, `tail` bytes more apart.
    pub fn probe(&self, src: usize, dst: usize, tail: usize) -> Checked<Vec<xcopy_verdict>> {
        let n = self.plugin.methods.len();
        let stride = size_of::<xcopy_verdict>() + tail;
        let Some(probe) = self.plugin.table.probe.filter(|_| n > 0) else {
            return Ok(Vec::new());
        };
        let block = arena::lend(arena::Kind::Verdicts, n * stride, 8)?;
        // SAFETY: just lent; zeroed as the contract has it; n verdicts, stride
        // bytes apart, and handles that are NULL or open.
        let answer = unsafe {
            block.fill(&vec![0; block.len]);
            calls::slow(&"probe", || {
                let (src, dst) = (src as *mut c_void, dst as *mut c_void);
                probe(self.state, src, dst, block.pointer(), stride, n as u32)
            })
        };
        let verdicts = read_verdicts(&block, stride, n);
        block.take_back();
        match answer {
            0 => Ok(verdicts),
            answer => stop(Fault::Fails, &format!("probe answered {answer}")),
        }
    }
}

/// The verdicts in a block that was not taken back yet.
pub fn read_verdicts(block: &arena::Block, stride: usize, n: usize) -> Vec<xcopy_verdict> {
    let verdict = |index: usize| {
        // SAFETY: inside the block; plain data, of which any bytes are a value.
        unsafe {
            let at = block.pointer::<u8>().add(index * stride);
            at.cast::<xcopy_verdict>().read_unaligned()
        }
    };
    (0..n).map(verdict).collect()
}

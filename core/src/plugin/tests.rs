//! Negotiation with tables of all kinds; `registered` follows what was taken,
//! `files` loads real shared objects.

mod files;
mod registered;

use super::registry::{Plugin, Registry};
use super::table::copy_prefix;
use crate::error::{Error, Result};
use std::cell::Cell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use xcopy_abi::*;

/// A table with fields that version 0.1 does not know.
#[repr(C)]
struct Longer<T> {
    known: T,
    tail: [u64; 3],
}

static HOST: xcopy_host = host(size_of::<xcopy_host>());
static LONGER_HOST: Longer<xcopy_host> = Longer {
    known: host(size_of::<Longer<xcopy_host>>()),
    tail: [7; 3],
};

const fn host(size: usize) -> xcopy_host {
    xcopy_host {
        struct_size: size as u32,
        abi_version: XCOPY_ABI_VERSION,
        log: None,
        alloc: None,
        free: None,
        complete: None,
        complete_local: None,
        device_event: None,
    }
}

thread_local! {
    /// What the next `init` on this thread answers.
    static NEXT: Cell<*const xcopy_plugin> = const { Cell::new(ptr::null()) };
    /// The first word of the host's tail, as `init` saw it.
    static HOST_TAIL: Cell<u64> = const { Cell::new(0) };
    static STARTED: Cell<i32> = const { Cell::new(0) };
    static START_ANSWER: Cell<c_int> = const { Cell::new(0) };
}

unsafe extern "C" fn init(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: the tail is only read if the host states a size that holds it.
    let tail = unsafe {
        let long = (*host).struct_size as usize >= size_of::<Longer<xcopy_host>>();
        if long {
            (*host.cast::<Longer<xcopy_host>>()).tail[0]
        } else {
            0
        }
    };
    HOST_TAIL.set(tail);
    NEXT.get()
}

unsafe extern "C" fn start(host_ctx: *mut c_void, state: *mut *mut c_void) -> c_int {
    STARTED.set(STARTED.get() + 1);
    // SAFETY: the core's live pointer.
    unsafe { *state = host_ctx };
    START_ANSWER.get()
}

unsafe extern "C" fn stop(_state: *mut c_void) {
    STARTED.set(STARTED.get() - 1);
}

unsafe extern "C" fn open(
    _: *mut c_void,
    _: *const xcopy_device_desc,
    _: *mut *mut c_void,
    _: *mut xcopy_device_props,
) -> c_int {
    -libc::ENODEV
}

unsafe extern "C" fn close(_: *mut c_void, _: *mut c_void) {}

unsafe extern "C" fn probe(
    _: *mut c_void,
    _: *mut c_void,
    _: *mut c_void,
    _: *mut xcopy_verdict,
    _: usize,
    _: u32,
) -> c_int {
    0
}

unsafe extern "C" fn queue_create(
    _: *mut c_void,
    _: *mut xcopy_host_queue,
    _: *const xcopy_plugin_queue_options,
    _: *mut *mut c_void,
) -> c_int {
    0
}

unsafe extern "C" fn queue_destroy(_: *mut c_void) {}

unsafe extern "C" fn submit(_: *mut c_void, _: *const *mut xcopy_cmd, _: u32) -> c_int {
    0
}

unsafe extern "C" fn poll(_: *mut c_void, _: u32) -> c_int {
    0
}

unsafe extern "C" fn execute(_: *mut c_void, _: *mut xcopy_cmd, _: *mut xcopy_result) -> c_int {
    0
}

/// A table with everything that any model needs, and no methods.
fn table(name: &'static CStr) -> xcopy_plugin {
    xcopy_plugin {
        struct_size: size_of::<xcopy_plugin>() as u32,
        abi_version: XCOPY_ABI_VERSION,
        name: name.as_ptr(),
        version: c"1.2".as_ptr(),
        description: c"for tests".as_ptr(),
        model: XCOPY_MODEL_POLLED,
        flags: XCOPY_PLUGIN_NATIVE,
        commands: 0,
        cmd_private: 0,
        max_ranges: 1,
        nmethods: 0,
        methods: ptr::null(),
        method_stride: size_of::<xcopy_plugin_method>(),
        start: Some(start),
        stop: Some(stop),
        open: Some(open),
        close: Some(close),
        probe: Some(probe),
        queue_create: Some(queue_create),
        queue_destroy: Some(queue_destroy),
        submit: Some(submit),
        poll: Some(poll),
        queue_fd: None,
        arm: None,
        cancel: None,
        execute: Some(execute),
        describe: None,
    }
}

/// A table that offers methods of these names.
fn offering(name: &'static CStr, names: &[&'static CStr]) -> xcopy_plugin {
    let methods: Vec<_> = names
        .iter()
        .map(|name| xcopy_plugin_method {
            name: name.as_ptr(),
            flags: 0,
            worth: 0,
        })
        .collect();
    let methods = Vec::leak(methods);
    xcopy_plugin {
        nmethods: methods.len() as u32,
        methods: methods.as_ptr(),
        ..table(name)
    }
}

fn register(registry: &Registry, table: xcopy_plugin) -> Result<Arc<Plugin>> {
    register_at(registry, Box::leak(Box::new(table)), &HOST)
}

fn register_at(
    registry: &Registry,
    table: *const xcopy_plugin,
    host: &'static xcopy_host,
) -> Result<Arc<Plugin>> {
    NEXT.set(table);
    registry.register(Some(init), host, ptr::null_mut())
}

fn refusal(table: xcopy_plugin) -> Error {
    let registry = Registry::new();
    let error = register(&registry, table).unwrap_err();
    assert!(registry.plugins().is_empty());
    error
}

#[test]
fn older_and_newer_sides_agree() {
    let longer_host = &LONGER_HOST.known;
    for (host, tail) in [(&HOST, 0), (longer_host, 7)] {
        for newer in [false, true] {
            let mut known = offering(c"both", &[c"m"]);
            if newer {
                known.struct_size = size_of::<Longer<xcopy_plugin>>() as u32;
            }
            let table = Box::leak(Box::new(Longer {
                known,
                tail: [u64::MAX; 3],
            }));
            let registry = Registry::new();
            let plugin = register_at(&registry, &table.known, host).unwrap();
            assert_eq!((plugin.name(), plugin.version()), ("both", "1.2"));
            assert_eq!(plugin.method_mask(), 1 << 16);
            assert!(plugin.table().execute.is_some());
            assert_eq!(HOST_TAIL.get(), tail);
        }
    }
}

#[test]
fn a_newer_core_sees_zero_where_an_older_plugin_ends() {
    let old = table(c"old");
    // SAFETY: exactly the older table's bytes are there; zero is valid in both.
    let new: Longer<xcopy_plugin> =
        unsafe { copy_prefix(ptr::from_ref(&old).cast(), old.struct_size as usize) };
    assert!(new.known.execute.is_some() && new.known.name == old.name);
    assert_eq!(new.tail, [0; 3]);
}

/// A table whose last byte is the last of a page, with none behind it.
fn at_the_edge(table: xcopy_plugin) -> *const xcopy_plugin {
    let page = 4096usize;
    // SAFETY: a fresh mapping of two pages, the second made inaccessible; the
    // table is written wholly inside the first.
    unsafe {
        let memory = libc::mmap(
            ptr::null_mut(),
            2 * page,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(memory, libc::MAP_FAILED);
        assert_eq!(
            libc::mprotect(memory.byte_add(page), page, libc::PROT_NONE),
            0
        );
        let place = memory
            .byte_add(page - size_of::<xcopy_plugin>())
            .cast::<xcopy_plugin>();
        place.write(table);
        place
    }
}

#[test]
fn nothing_beyond_the_table_is_read() {
    let plugin = register_at(&Registry::new(), at_the_edge(table(c"edge")), &HOST);
    assert_eq!(plugin.unwrap().name(), "edge");
    // Declared shorter than 0.1: refused by its first eight bytes.
    let short = xcopy_plugin {
        struct_size: 8,
        ..table(c"edge")
    };
    let error = register_at(&Registry::new(), at_the_edge(short), &HOST).unwrap_err();
    assert!(
        error.errno == libc::EINVAL && error.message.contains("8 bytes"),
        "{error}"
    );
}

#[test]
fn unfit_tables_are_refused() {
    let registry = Registry::new();
    let error = register_at(&registry, ptr::null(), &HOST).unwrap_err();
    assert_eq!(error.errno, libc::ENOTSUP);
    assert_eq!(
        registry
            .register(None, &HOST, ptr::null_mut())
            .unwrap_err()
            .errno,
        libc::EINVAL
    );
    let odd = Box::leak(Box::new(table(c"a")));
    let odd = ptr::from_mut(odd).wrapping_byte_add(1);
    assert_eq!(
        register_at(&registry, odd, &HOST).unwrap_err().errno,
        libc::EINVAL
    );

    let error = refusal(xcopy_plugin {
        abi_version: 3 << 16 | 4,
        ..table(c"a")
    });
    assert_eq!(error.errno, libc::ENOTSUP);
    assert!(
        error.message.contains("3.4") && error.message.contains("0.1"),
        "{error}"
    );
    let minor = xcopy_plugin {
        abi_version: 9,
        ..table(c"a")
    };
    assert!(register(&Registry::new(), minor).is_ok());

    // The first version's table ended with `execute`.
    let shortest = std::mem::offset_of!(xcopy_plugin, describe) as u32;
    let method = |name: &'static CStr| offering(c"a", &[name]);
    let cases = [
        (
            xcopy_plugin {
                struct_size: 0,
                ..table(c"a")
            },
            "0 bytes",
        ),
        (
            xcopy_plugin {
                struct_size: shortest - 8,
                ..table(c"a")
            },
            "struct_size",
        ),
        (
            xcopy_plugin {
                model: 0,
                ..table(c"a")
            },
            "model 0",
        ),
        (
            xcopy_plugin {
                flags: 0,
                ..table(c"a")
            },
            "XCOPY_PLUGIN_KERNEL",
        ),
        (
            xcopy_plugin {
                cmd_private: 65_537,
                ..table(c"a")
            },
            "cmd_private",
        ),
        (
            xcopy_plugin {
                max_ranges: 0,
                ..table(c"a")
            },
            "max_ranges",
        ),
        (
            xcopy_plugin {
                max_ranges: 65_537,
                ..table(c"a")
            },
            "max_ranges",
        ),
        (
            xcopy_plugin {
                nmethods: 1,
                ..table(c"a")
            },
            "methods is NULL",
        ),
        (
            xcopy_plugin {
                nmethods: 33,
                ..method(c"m")
            },
            "33 methods",
        ),
        (
            xcopy_plugin {
                method_stride: 8,
                ..method(c"m")
            },
            "method_stride",
        ),
        (
            xcopy_plugin {
                method_stride: 17,
                ..method(c"m")
            },
            "method_stride",
        ),
        (
            xcopy_plugin {
                probe: None,
                ..method(c"m")
            },
            "probe",
        ),
        (
            xcopy_plugin {
                name: ptr::null(),
                ..table(c"a")
            },
            "name is NULL",
        ),
        (
            xcopy_plugin {
                version: ptr::null(),
                ..table(c"a")
            },
            "version is NULL",
        ),
        (
            xcopy_plugin {
                description: c"\xff".as_ptr(),
                ..table(c"a")
            },
            "not UTF-8",
        ),
        (table(c"Null"), "'Null'"),
        (table(c"\xff"), "not UTF-8"),
        (
            table(c"a23456789012345678901234567890123"),
            "longer than 31",
        ),
        (method(c"x y"), "'x y'"),
        (offering(c"a", &[c"m", c"n", c"m"]), "'m' twice"),
        (method(c"zero"), "core's own"),
        (method(c"read_write"), "core's own"),
    ];
    for (table, part) in cases {
        let error = refusal(table);
        assert_eq!(error.errno, libc::EINVAL, "{error}");
        assert!(error.message.contains(part), "{part}: {error}");
    }
    let mut null_name = method(c"m");
    let nameless = xcopy_plugin_method {
        name: ptr::null(),
        flags: 0,
        worth: 0,
    };
    null_name.methods = Box::leak(Box::new(nameless));
    assert!(refusal(null_name).message.contains("name is NULL"));
}

type Without = fn(&mut xcopy_plugin);

#[test]
fn each_model_needs_its_functions() {
    const FUNCTIONS: [(&str, Without); 7] = [
        ("open", |t| t.open = None),
        ("close", |t| t.close = None),
        ("queue_create", |t| t.queue_create = None),
        ("queue_destroy", |t| t.queue_destroy = None),
        ("submit", |t| t.submit = None),
        ("poll", |t| t.poll = None),
        ("execute", |t| t.execute = None),
    ];
    let needs = |model: u32| -> &[&str] {
        match model {
            XCOPY_MODEL_POLLED => &[
                "open",
                "close",
                "queue_create",
                "queue_destroy",
                "submit",
                "poll",
            ],
            XCOPY_MODEL_THREADED => &["open", "close", "queue_create", "queue_destroy", "submit"],
            XCOPY_MODEL_BLOCKING => &["open", "close", "execute"],
            _ => &["queue_create", "queue_destroy", "submit", "poll"],
        }
    };
    for model in XCOPY_MODEL_POLLED..=XCOPY_MODEL_AFFINE {
        for (name, without) in FUNCTIONS {
            let mut table = xcopy_plugin {
                model,
                ..table(c"a")
            };
            without(&mut table);
            let answer = register(&Registry::new(), table);
            match needs(model).contains(&name) {
                true => {
                    let error = answer.unwrap_err();
                    assert!(
                        error.message.contains(&format!("no {name},")),
                        "{model}: {error}"
                    );
                }
                false => assert_eq!(answer.unwrap().model(), model),
            }
        }
        // All that the model does not need may be absent at once.
        let mut bare = xcopy_plugin {
            model,
            start: None,
            stop: None,
            probe: None,
            ..table(c"a")
        };
        for (name, without) in FUNCTIONS {
            if !needs(model).contains(&name) {
                without(&mut bare);
            }
        }
        assert!(register(&Registry::new(), bare).unwrap().state().is_null());
    }
}

//! Every plugin that is linked in, registered in one context at once.
#![allow(missing_docs)]

use std::io::Write;
use xcopy::abi::*;
use xcopy_ctests::disk::{Disk, stamp};
use xcopy_ctests::faulty::MODELS;
use xcopy_ctests::rig::{Rig, copy, last_error, request};
use xcopy_ctests::script::Script;

type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

const STATICS: [(&str, Init); 8] = [
    ("null", xcopy_plugin_null::init),
    ("null_threaded", xcopy_plugin_null::init_threaded),
    ("null_blocking", xcopy_plugin_null::init_blocking),
    ("null_affine", xcopy_plugin_null::init_affine),
    ("file", xcopy_plugin_file::init),
    ("odx", xcopy_plugin_odx::init),
    ("scsi", xcopy_plugin_scsi::init),
    ("nvme", xcopy_plugin_nvme::init),
];

fn all() -> (Rig, std::sync::Arc<Script>) {
    let rig = Rig::new();
    for (name, init) in STATICS {
        assert_eq!(rig.register(init), 0, "{name}: {}", last_error());
    }
    let script = Script::new();
    for model in MODELS {
        assert_eq!(
            model.register(&rig, &script),
            0,
            "{model:?}: {}",
            last_error()
        );
    }
    (rig, script)
}

#[test]
fn names_are_distinct() {
    let (rig, _script) = all();
    let names = rig.plugins();
    let mut wanted: Vec<String> = STATICS.iter().map(|(name, _)| (*name).into()).collect();
    wanted.extend(MODELS.iter().map(|model| model.name().to_owned()));
    assert_eq!(names, wanted);
}

#[test]
fn a_second_registration_is_refused() {
    let (rig, script) = all();
    for (name, init) in STATICS {
        assert_eq!(rig.register(init), -libc::EEXIST, "{name}");
        assert!(last_error().contains(name), "{}", last_error());
    }
    for model in MODELS {
        assert_eq!(model.register(&rig, &script), -libc::EEXIST, "{model:?}");
    }
    assert_eq!(rig.plugins().len(), STATICS.len() + MODELS.len());
}

#[test]
fn each_answers_for_itself() {
    let (rig, script) = all();
    for (name, _) in &STATICS[..4] {
        let (src, dst) = (
            rig.open(&format!("{name}:1M")),
            rig.open(&format!("{name}:1M")),
        );
        let range = xcopy_range {
            src_offset: 0,
            dst_offset: 4096,
            length: 65536,
        };
        let done = rig.run(&copy(1, src, dst, range));
        assert_eq!(
            (done.res, done.bytes_offloaded),
            (0, 65536),
            "{name} {done:?}"
        );
        assert_eq!(1 << done.method, rig.mask(name), "{name} {done:?}");
    }
    for model in MODELS {
        let (a, b) = (stamp(1, 0, 65536), stamp(2, 0, 65536));
        script.add_disk("a", Disk::new(a.clone(), 512, 0));
        let target = script.add_disk("b", Disk::new(b.clone(), 512, 0));
        let (src, dst) = (rig.open(&model.disk("a")), rig.open(&model.disk("b")));
        let range = xcopy_range {
            src_offset: 512,
            dst_offset: 1024,
            length: 8192,
        };
        let done = rig.run(&copy(2, src, dst, range));
        assert_eq!(
            (done.res, done.bytes_offloaded),
            (0, 8192),
            "{model:?} {done:?}"
        );
        assert_eq!(
            1 << done.method,
            rig.mask(&format!("{}_a", model.name())),
            "{done:?}"
        );
        let mut wanted = b;
        wanted[1024..1024 + 8192].copy_from_slice(&a[512..512 + 8192]);
        assert!(*target.bytes() == wanted, "{model:?}");
    }
    assert_eq!(script.violations(), Vec::<String>::new());
}

#[test]
fn the_file_plugin_copies_files() {
    let (rig, _script) = all();
    let content = stamp(3, 1, 1_000_000);
    let mut src = tempfile::NamedTempFile::new().expect("a file");
    src.write_all(&content).expect("written");
    let dst = tempfile::NamedTempFile::new().expect("a file");
    let (a, b) = (
        src.path().display().to_string(),
        dst.path().display().to_string(),
    );
    let (from, to) = (rig.open(&a), rig.open(&b));
    let methods = rig.query(from, to);
    let of = |id| methods.iter().find(|m| m.method == id).expect("a verdict");
    assert_eq!(of(XCOPY_METHOD_READ_WRITE).usable, 1);
    let reflink = of(XCOPY_METHOD_REFLINK);
    let mut whole = copy(
        3,
        from,
        to,
        xcopy_range {
            length: 1_000_000,
            ..Default::default()
        },
    );
    whole.methods = rig.mask("reflink");
    let done = rig.run(&whole);
    if reflink.usable == 1 {
        assert_eq!(
            (done.res, done.method),
            (0, XCOPY_METHOD_REFLINK),
            "{done:?}"
        );
    } else {
        // Most file systems share no extents: then the plugin must say so.
        assert_eq!(
            (done.res, done.reason),
            (-libc::ENOTSUP, reflink.reason),
            "{done:?}"
        );
        whole.methods = 0;
        let done = rig.run(&whole);
        assert_eq!(
            (done.res, done.method),
            (0, XCOPY_METHOD_READ_WRITE),
            "{done:?}"
        );
    }
    assert!(std::fs::read(dst.path()).expect("readable") == content);
    let flushed = rig.run(&request(4, XCOPY_OP_FLUSH, 0, to));
    assert_eq!(flushed.res, 0, "{flushed:?}");
}

//! Which namespaces of a subsystem the NVMe plugin copies between, and what it
//! tells of one.
#![allow(missing_docs)]

mod nvme_bed;

use nvme_bed::*;
use std::sync::Arc;
use xcopy::abi::*;
use xcopy_ctests::disk::Disk;
use xcopy_ctests::nvme::{State, controller};
use xcopy_plugin_nvme::Paths;

const SET: u32 = XCOPY_REQ_SET_HOST_BEHAVIOR;

fn paths(controllers: &[&str], alternate: Option<&str>) -> Paths {
    Paths {
        controllers: controllers.iter().map(|name| name.to_string()).collect(),
        alternate: alternate.map(str::to_owned),
    }
}

/// Two namespaces, by these paths.
fn reached(src: Paths, dst: Paths) -> (Bed, u32, u32) {
    let bed = Bed::new(2, |mut state| {
        state.paths = [(1, src), (2, dst)].into();
        state.each(raised)
    });
    let (src, dst) = (bed.open(1), bed.open(2));
    (bed, src, dst)
}

#[test]
fn private_namespaces_of_different_controllers_are_no_pair() {
    let (bed, src, dst) = reached(paths(&["nvme0"], None), paths(&["nvme1"], None));
    let (usable, reason, text) = bed.verdict(src, dst);
    assert_eq!((usable, reason), (0, XCOPY_REASON_CROSS_DEVICE), "{text}");
    assert!(text.contains("nvme0 and nvme1"), "{text}");
    let done = bed.try_copy(src, dst, &[range(0, 0, 1 << 20)], SET);
    assert_eq!(
        (done.res, done.reason),
        (-libc::ENOTSUP, XCOPY_REASON_CROSS_DEVICE)
    );
    bed.check_untouched();
    assert_eq!(bed.controller.with(|state| state.sets), 0);

    // Each within itself.
    let done = bed.copy(src, src, &[range(0, 1 << 20, 1 << 20)], 0);
    assert_eq!(done.res, 0, "{done:?}");

    // One controller reaches both.
    let both = paths(&["nvme0", "nvme1"], None);
    let (bed, src, dst) = reached(both, paths(&["nvme1"], None));
    let done = bed.copy(src, dst, &[range(0, 0, 1 << 20)], SET);
    assert_eq!(done.res, 0, "{done:?}");
    bed.check();
}

#[test]
fn a_switch_of_one_controller_is_no_switch_of_its_subsystem() {
    let turns = Some("the policy is round-robin");
    let two = ["nvme0", "nvme1"];
    let (bed, src, dst) = reached(paths(&two, turns), paths(&two, turns));
    let (usable, reason, text) = bed.verdict(src, dst);
    assert_eq!((usable, reason), (0, XCOPY_REASON_NOT_SUPPORTED), "{text}");
    assert!(text.contains("round-robin"), "{text}");
    let done = bed.try_copy(src, dst, &[range(0, 0, 1 << 20)], SET);
    assert_eq!(done.res, -libc::ENOTSUP, "{done:?}");
    assert_eq!(bed.controller.with(|state| state.sets), 0);
    bed.check_untouched();

    // Within one namespace no switch is needed.
    let done = bed.copy(src, src, &[range(0, 1 << 20, 1 << 20)], 0);
    assert_eq!(done.res, 0, "{done:?}");
    // But for fast copies only, which this controller has to be asked for.
    let fast = SET | XCOPY_REQ_FAST_ONLY;
    let done = bed.try_copy(src, src, &[range(0, 1 << 20, 1 << 20)], fast);
    assert_eq!(
        (done.res, done.reason, done.commands),
        (-libc::ENOTSUP, XCOPY_REASON_NOT_SUPPORTED, 0),
        "{done:?}"
    );
    assert_eq!(bed.controller.with(|state| state.sets), 0);
    // Nor between two where all commands keep to one controller.
    let (bed, src, dst) = reached(paths(&two, None), paths(&two, None));
    let done = bed.copy(src, dst, &[range(0, 0, 1 << 20)], SET);
    assert_eq!(done.res, 0, "{done:?}");
    bed.check();
}

#[test]
fn one_identifier_of_two_private_namespaces_is_no_copy_within() {
    let shared = |mut state: State| {
        state.subsystem = Some("subsystem of twins".to_owned());
        state.each(raised)
    };
    let bed = Bed::new(1, shared);
    let disk = Arc::new(Disk::new(vec![7; 8 << 20], 512, 0));
    let twin = controller("twin", shared(State::over(&[disk])));
    let (src, dst) = (bed.open_at("twin", "1"), bed.open(1));
    let (usable, reason, text) = bed.verdict(src, dst);
    assert_eq!((usable, reason), (0, XCOPY_REASON_CROSS_DEVICE), "{text}");
    assert!(text.contains("identifier 1"), "{text}");
    let done = bed.try_copy(src, dst, &[range(0, 1 << 20, 1 << 20)], 0);
    assert_eq!(done.res, -libc::ENOTSUP, "{done:?}");
    bed.check_untouched();
    assert!(twin.with(|state| state.seen.is_empty()));
}

#[test]
fn a_namespace_is_described() {
    let (bed, src, dst) = reached(paths(&["nvme0", "nvme3"], None), Paths::default());
    let text = bed.rig.describe(src);
    for line in [
        "namespace (NSID): 1",
        "controllers: nvme0, nvme3",
        "format: blocks of 512 bytes",
        "copy (ONCS): yes",
        "copy formats offered (OCFS): 0h 1h 2h 3h",
        "copy formats switched on (CDFE): none",
    ] {
        let line = format!("nvme_sim: {line}");
        assert!(text.lines().any(|said| said == line), "{line}: {text}");
    }
    let facts = bed.controller.with(|state| {
        let unit = unit(state, 1);
        (unit.mssrl, unit.mcl, u32::from(unit.msrc) + 1)
    });
    for line in [
        format!("(MSSRL): {}", facts.0),
        format!("(MCL): {}", facts.1),
        format!("(MSRC): {}", facts.2),
    ] {
        assert!(text.lines().any(|said| said.ends_with(&line)), "{text}");
    }
    let done = bed.copy(src, dst, &[range(0, 0, 1 << 20)], SET);
    assert_eq!(done.res, 0, "{done:?}");
    let text = bed.rig.describe(dst);
    assert!(text.contains("switched on (CDFE): 2h\n"), "{text}");
    assert!(!text.contains("controllers:"), "not known: {text}");
}

//! The registry: numbers, names, start and stop.

use super::super::methods::{FIXED_METHODS, fixed_name};
use super::*;

#[test]
fn a_longer_method_is_stepped_over_by_its_stride() {
    let known = |name: &'static CStr, worth| xcopy_plugin_method {
        name: name.as_ptr(),
        flags: XCOPY_METHOD_OFFLOADS,
        worth,
    };
    let methods = Box::leak(Box::new([
        Longer {
            known: known(c"one", 0),
            tail: [u64::MAX; 3],
        },
        Longer {
            known: known(c"reflink", 0),
            tail: [u64::MAX; 3],
        },
        Longer {
            known: known(c"two", 77),
            tail: [u64::MAX; 3],
        },
    ]));
    let table = xcopy_plugin {
        nmethods: 3,
        methods: methods.as_ptr().cast(),
        method_stride: size_of::<Longer<xcopy_plugin_method>>(),
        ..table(c"strides")
    };
    let plugin = register(&Registry::new(), table).unwrap();
    let seen: Vec<_> = plugin
        .methods()
        .iter()
        .map(|m| (m.name.as_str(), m.id, m.worth, m.flags))
        .collect();
    assert_eq!(
        seen,
        [
            ("one", 16, 650, 1),
            ("reflink", 1, 900, 1),
            ("two", 17, 77, 1)
        ]
    );
    assert_eq!(plugin.method_mask(), 1 << 16 | 1 << 17 | 1 << 1);
}

#[test]
fn numbers_and_names() {
    let registry = Registry::new();
    register(&registry, offering(c"first", &[c"alpha", c"odx"])).unwrap();
    let alpha = registry.method_name(16).unwrap();
    let error = register(&registry, offering(c"second", &[c"fresh", c"alpha"])).unwrap_err();
    assert!(
        error.errno == libc::EEXIST && error.message.contains("'alpha'"),
        "{error}"
    );
    assert_eq!(registry.method_by_name("fresh"), None);
    // A fixed method may have several plugins.
    register(&registry, offering(c"second", &[c"odx", c"beta"])).unwrap();
    let error = register(&registry, table(c"first")).unwrap_err();
    assert!(
        error.errno == libc::EEXIST && error.message.contains("linked in"),
        "{error}"
    );

    assert_eq!(registry.method_by_name("beta"), Some(17));
    assert_eq!(registry.method_by_name("zero"), Some(XCOPY_METHOD_ZERO));
    for none in [0, 10, 15, 18, 31, 32, u16::MAX] {
        assert!(registry.method_name(none).is_none());
    }
    let many = [
        c"m2", c"m3", c"m4", c"m5", c"m6", c"m7", c"m8", c"m9", c"ma", c"mb", c"mc",
    ];
    register(&registry, offering(c"many", &many)).unwrap();
    let error = register(&registry, offering(c"more", &[c"n1", c"n2", c"n3", c"n4"])).unwrap_err();
    assert_eq!(error.errno, libc::ENOSPC);
    let last = register(&registry, offering(c"more", &[c"n1", c"n2", c"n3"])).unwrap();
    assert_eq!(last.methods()[2].id, 31);
    // The pointer of the first name held while the list grew.
    // SAFETY: valid while the registry lives.
    assert_eq!(unsafe { CStr::from_ptr(alpha) }, c"alpha");
    assert_eq!(registry.method_name(16), Some(alpha));
    let names: Vec<_> = registry
        .plugins()
        .iter()
        .map(|p| p.name().to_owned())
        .collect();
    assert_eq!(names, ["first", "second", "many", "more"]);
    assert_eq!(registry.by_name("many").unwrap().description(), "for tests");
    assert!(registry.by_name("nobody").is_none());
}

#[test]
fn fixed_names_and_numbers_agree() {
    for &(name, id, _) in FIXED_METHODS {
        assert_eq!(fixed_name(id).unwrap().to_str(), Ok(name));
    }
    assert_eq!(
        (0..=u16::MAX).filter_map(fixed_name).count(),
        FIXED_METHODS.len()
    );
    assert!(FIXED_METHODS.is_sorted_by(|a, b| a.2 > b.2));
}

#[test]
fn started_once_and_stopped_with_the_last_user() {
    let registry = Registry::new();
    NEXT.set(Box::leak(Box::new(table(c"life"))));
    let mut context = 0u8;
    let host_ctx: *mut c_void = (&raw mut context).cast();
    let plugin = registry.register(Some(init), &HOST, host_ctx).unwrap();
    assert_eq!((plugin.state(), STARTED.get()), (host_ctx, 1));
    drop(registry);
    assert_eq!(STARTED.get(), 1);
    drop(plugin);
    assert_eq!(STARTED.get(), 0);
}

#[test]
fn a_failing_start_leaves_nothing() {
    let registry = Registry::new();
    for (answer, errno) in [
        (-libc::ENODEV, libc::ENODEV),
        (5, libc::EPROTO),
        (c_int::MIN, libc::EPROTO),
    ] {
        START_ANSWER.set(answer);
        let error = register(&registry, offering(c"never", &[c"m"])).unwrap_err();
        assert!(
            error.errno == errno && error.message.contains("'never'"),
            "{error}"
        );
    }
    START_ANSWER.set(0);
    assert!(registry.plugins().is_empty() && registry.method_by_name("m").is_none());
    assert_eq!(
        register(&registry, offering(c"never", &[c"m"]))
            .unwrap()
            .methods()[0]
            .id,
        16
    );
}

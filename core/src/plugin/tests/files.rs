//! Plugins as files, compiled here from C without the headers: their layout is
//! that of version 0.1 whatever the headers become.

use super::*;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A BLOCKING plugin; NAME and INIT are given on the command line.
const SOURCE: &str = r#"
struct table {
    unsigned size, version;
    const char *name, *text, *description;
    unsigned model, flags, commands, private, ranges, methods;
    const void *method;
    unsigned long stride;
    void *functions[13];
};
static int any(void) { return 0; }
static struct table table = {
    sizeof table, 1, NAME, "0.1", "an old one", 3, 2, 0, 0, 1, 0, 0, 0,
    { 0, 0, any, any, 0, 0, 0, 0, 0, 0, 0, 0, any }
};
const void *INIT(const void *host) { return host ? &table : 0; }
"#;

/// A private directory, and a compiler if there is one.
struct Shop {
    place: tempfile::TempDir,
}

impl Shop {
    fn new() -> Option<Shop> {
        let found = Command::new("cc").arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            eprintln!("SKIP: no C compiler (cc) to build plugins with");
            return None;
        }
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("plugin.c"), SOURCE).unwrap();
        Some(Shop { place })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.place.path().join(format!("libxcopy_{name}.so"))
    }

    fn build(&self, file: &str, name: &str, init: &str) -> PathBuf {
        let path = self.file(file);
        let status = Command::new("cc")
            .args(["-shared", "-fPIC", "-w", "-o"])
            .arg(&path)
            .args([format!("-DNAME=\"{name}\""), format!("-DINIT={init}")])
            .arg(self.place.path().join("plugin.c"))
            .status();
        assert!(status.unwrap().success());
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    }
}

const INIT: &str = "xcopy_plugin_init_v0";

fn load(registry: &Registry, path: &Path) -> Result<Arc<Plugin>> {
    registry.load(path.to_str().unwrap(), &HOST, ptr::null_mut())
}

#[test]
fn by_path() {
    let Some(shop) = Shop::new() else { return };
    let registry = Registry::new();
    let path = shop.build("good", "good", INIT);
    let plugin = load(&registry, &path).unwrap();
    assert_eq!(
        (plugin.name(), plugin.description()),
        ("good", "an old one")
    );
    assert_eq!(plugin.path(), Some(path.canonicalize().unwrap().as_path()));
    assert!(plugin.table().execute.is_some() && plugin.table().submit.is_none());
    let error = load(&registry, &path).unwrap_err();
    assert!(
        error.errno == libc::EEXIST && error.message.contains("loaded from"),
        "{error}"
    );
    let by_name = registry.load("good", &HOST, ptr::null_mut()).unwrap_err();
    assert_eq!(by_name.errno, libc::EEXIST);
    // Another context has its own.
    assert!(load(&Registry::new(), &path).is_ok());
}

#[test]
fn by_a_name_that_is_nowhere() {
    let error = Registry::new()
        .load("nosuchplugin", &HOST, ptr::null_mut())
        .unwrap_err();
    assert!(
        error.errno == libc::ENOENT && error.message.contains("searched"),
        "{error}"
    );
}

#[test]
fn unfit_files() {
    let Some(shop) = Shop::new() else { return };
    let registry = Registry::new();
    let refused = |path: &Path, errno, part: &str| {
        let error = load(&registry, path).unwrap_err();
        assert_eq!(error.errno, errno, "{error}");
        assert!(error.message.contains(part), "{part}: {error}");
    };
    refused(
        &shop.build("other", "good", INIT),
        libc::EINVAL,
        "libxcopy_good.so",
    );
    refused(
        &shop.build("later", "later", "xcopy_plugin_init_v1"),
        libc::ENOEXEC,
        "init_v0",
    );
    let strange = shop.place.path().join("strange.so");
    fs::copy(shop.file("other"), &strange).unwrap();
    refused(&strange, libc::EINVAL, "libxcopy_NAME.so");
    let text = shop.file("text");
    fs::write(&text, "not a library").unwrap();
    fs::set_permissions(&text, Permissions::from_mode(0o644)).unwrap();
    refused(&text, libc::ELIBACC, "ldd");
    refused(&shop.file("missing"), libc::ENOENT, "install");
    let open = shop.build("open", "open", INIT);
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    refused(&open, libc::EACCES, "chmod o-w");
    assert!(registry.plugins().is_empty());
}

#[test]
fn a_whole_directory() {
    let Some(shop) = Shop::new() else { return };
    let registry = Registry::new();
    register(&registry, table(c"taken")).unwrap();
    for name in ["b", "a", "taken"] {
        shop.build(name, name, INIT);
    }
    fs::write(shop.file("broken"), "").unwrap();
    fs::write(shop.place.path().join("libxcopy.so"), "passed over").unwrap();
    let (loaded, failed) = registry
        .load_all(Some(shop.place.path()), &HOST, ptr::null_mut())
        .unwrap();
    assert_eq!(loaded, 2);
    assert_eq!(
        failed.iter().map(|f| &f.0).collect::<Vec<_>>(),
        [&shop.file("broken")]
    );
    let names: Vec<_> = registry
        .plugins()
        .iter()
        .map(|p| p.name().to_owned())
        .collect();
    assert_eq!(names, ["taken", "a", "b"]);

    let missing = shop.place.path().join("none");
    let error = registry
        .load_all(Some(&missing), &HOST, ptr::null_mut())
        .unwrap_err();
    assert!(
        error.errno == libc::ENOENT && error.message.contains("none"),
        "{error}"
    );
    assert!(registry.load_all(None, &HOST, ptr::null_mut()).is_ok());
}

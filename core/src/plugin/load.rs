//! From a file to its entry point.

use super::{find, vet};
use crate::error::{Error, Result};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::path::{Path, PathBuf};
use xcopy_abi::{xcopy_host, xcopy_plugin};

/// The entry point of a loaded plugin.
pub(super) type Init = unsafe extern "C" fn(*const xcopy_host) -> *const xcopy_plugin;

/// A plugin's file, loaded for the life of the process.
pub(super) struct Loaded {
    /// Real path of what was loaded.
    pub path: PathBuf,
    /// Name that the file has, which its table must have too.
    pub name: String,
    /// Entry point.
    pub init: Init,
}

/// Vets and loads a file. It is never unloaded: threads and thread-local
/// destructors of a plugin may outlast every table of ours.
pub(super) fn load(path: &Path) -> Result<Loaded> {
    let Some(name) = find::name_of_file(path) else {
        return Err(Error::new(
            libc::EINVAL,
            format!(
                "plugin {}: a plugin's file is named libxcopy_NAME.so, NAME of a-z, 0-9 and _; \
                 rename it",
                path.display()
            ),
        ));
    };
    let real = vet::vet(path)?;
    let flags = RTLD_NOW | RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: constructors of the file run here. It was vetted as one that only
    // root or the user themself could have put there.
    let library = unsafe { Library::open(Some(&real), flags) }.map_err(|error| {
        Error::new(
            libc::ELIBACC,
            format!(
                "plugin {}: {}; check what it needs with ldd, and that it was built for this \
                 machine",
                real.display(),
                reason(&error)
            ),
        )
    })?;
    // SAFETY: the plugin contract gives this name to a function of this type.
    let init = unsafe { library.get::<Init>(b"xcopy_plugin_init_v0\0") }.map(|symbol| *symbol);
    std::mem::forget(library);
    let init = init.map_err(|_| {
        Error::new(
            libc::ENOEXEC,
            format!(
                "plugin {}: exports no xcopy_plugin_init_v0, so it is no plugin or one for another \
                 generation of libxcopy; install one built for this version",
                real.display()
            ),
        )
    })?;
    Ok(Loaded {
        path: real,
        name: name.to_owned(),
        init,
    })
}

/// The dynamic loader's own words, which the error keeps as its source.
fn reason(error: &libloading::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    }
}

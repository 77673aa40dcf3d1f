//! The plugins of one context.

use super::methods::{self, Method};
use super::table::{self, Offer};
use super::{find, load};
use crate::error::{Error, Result};
use std::ffi::{CString, c_char, c_void};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xcopy_abi::*;

/// A plugin, started for one context; stopped when the last user lets go. Its
/// code stays loaded.
pub struct Plugin {
    table: xcopy_plugin,
    state: *mut c_void,
    name: String,
    version: String,
    description: String,
    path: Option<PathBuf>,
    methods: Vec<Method>,
    mask: u32,
}

// SAFETY: the pointers in the table are to static, immutable memory and to
// functions; the state is only passed to those, which take it from any thread
// under the rules of the plugin's execution model.
unsafe impl Send for Plugin {}
// SAFETY: as above; nothing in it changes.
unsafe impl Sync for Plugin {}

impl Plugin {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own version.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What it does.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The file that it was loaded from; none if it was linked in.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// The core's copy of its table: zero beyond what the plugin knew.
    pub fn table(&self) -> &xcopy_plugin {
        &self.table
    }

    /// What its `start` made, NULL if it has none.
    pub fn state(&self) -> *mut c_void {
        self.state
    }

    /// Its methods, in the order in which it judges them.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The name of one of its methods.
    pub fn method_name(&self, method: u16) -> Option<&str> {
        let own = self.methods.iter().find(|own| own.id == method);
        own.map(|own| own.name.as_str())
    }

    /// Place of a method in its table; 0 of one that is not its own.
    pub fn index_of(&self, method: u16) -> u32 {
        let at = self.methods.iter().position(|own| own.id == method);
        at.unwrap_or(0) as u32
    }

    /// Its XCOPY_MODEL_.
    pub fn model(&self) -> u32 {
        self.table.model
    }

    /// Its methods as a mask.
    pub fn method_mask(&self) -> u32 {
        self.mask
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        if let Some(stop) = self.table.stop {
            // SAFETY: the state is what `start` made; whoever used it held this
            // plugin, so nobody does any more. It may not unwind.
            unsafe { stop(self.state) };
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("path", &self.path)
            .field("methods", &self.methods)
            .finish_non_exhaustive()
    }
}

/// The plugins of one context and the numbers of their methods. Plugins come
/// and stay; names and numbers are never given twice.
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    plugins: Vec<Arc<Plugin>>,
    /// Names of the methods from XCOPY_METHOD_DYNAMIC on. A CString's memory
    /// does not move when the list grows.
    dynamic: Vec<CString>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Registry {
            inner: Mutex::new(Inner::default()),
        }
    }

    // What a panic could interrupt here leaves the lists whole.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a plugin that is linked in. The caller vouches for `init`.
    pub fn register(
        &self,
        init: xcopy_plugin_init_fn,
        host: &'static xcopy_host,
        host_ctx: *mut c_void,
    ) -> Result<Arc<Plugin>> {
        let Some(init) = init else {
            return Err(Error::new(
                libc::EINVAL,
                "the plugin's init function is NULL",
            ));
        };
        let mut inner = self.lock();
        inner.add(init, None, host, host_ctx)
    }

    /// Loads a plugin: by path if there is a '/' in it, else by name from the
    /// directories that are searched.
    pub fn load(
        &self,
        name_or_path: &str,
        host: &'static xcopy_host,
        host_ctx: *mut c_void,
    ) -> Result<Arc<Plugin>> {
        let mut inner = self.lock();
        if name_or_path.contains('/') {
            return inner.load(Path::new(name_or_path), host, host_ctx);
        }
        // A name that is taken is an answer whether or not a file is found.
        inner.vacant(name_or_path)?;
        let path = find::by_name(name_or_path, &find::search_directories())?;
        inner.load(&path, host, host_ctx)
    }

    /// Loads all plugins of a directory, or of all directories that are
    /// searched: the number loaded, and the files that could not be. Names that
    /// are registered already are passed over.
    pub fn load_all(
        &self,
        directory: Option<&Path>,
        host: &'static xcopy_host,
        host_ctx: *mut c_void,
    ) -> Result<(u32, Vec<(PathBuf, Error)>)> {
        let directories = match directory {
            Some(one) => vec![one.to_owned()],
            None => find::search_directories(),
        };
        let (mut loaded, mut failed) = (0, Vec::new());
        let mut inner = self.lock();
        for path in directories {
            let files = match plugin_files(&path) {
                Ok(files) => files,
                // Directories that are only searched need not be there.
                Err(error) if directory.is_none() && find::absent(&error) => continue,
                Err(error) => {
                    let error =
                        Error::from_io(format_args!("plugin directory {}", path.display()), &error);
                    if directory.is_some() {
                        return Err(error);
                    }
                    failed.push((path, error));
                    continue;
                }
            };
            for file in files {
                let name = find::name_of_file(&file);
                if name.is_some_and(|name| inner.vacant(name).is_err()) {
                    continue;
                }
                match inner.load(&file, host, host_ctx) {
                    Ok(_) => loaded += 1,
                    Err(error) => failed.push((file, error)),
                }
            }
        }
        Ok((loaded, failed))
    }

    /// All plugins, in the order in which they came.
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        self.lock().plugins.clone()
    }

    /// The plugin of this name.
    pub fn by_name(&self, name: &str) -> Option<Arc<Plugin>> {
        self.lock()
            .plugins
            .iter()
            .find(|plugin| plugin.name == name)
            .cloned()
    }

    /// The fixed methods, whether or not a plugin serves them, and those that were
    /// given to plugins, as a mask.
    pub fn known_methods(&self) -> u32 {
        let given = self.lock().dynamic.len() as u32;
        let given = 1u32.checked_shl(given).unwrap_or(0).wrapping_sub(1);
        methods::fixed_mask() | given << XCOPY_METHOD_DYNAMIC
    }

    /// The NUL-terminated name of a method, valid while the registry lives.
    pub fn method_name(&self, method: u16) -> Option<*const c_char> {
        if let Some(name) = methods::fixed_name(method) {
            return Some(name.as_ptr());
        }
        let index = method.checked_sub(XCOPY_METHOD_DYNAMIC)?;
        self.lock()
            .dynamic
            .get(usize::from(index))
            .map(|name| name.as_ptr())
    }

    /// The number of a method by its name.
    pub fn method_by_name(&self, name: &str) -> Option<u16> {
        methods::fixed_id(name).or_else(|| self.lock().dynamic_id(name))
    }
}

/// The files in a directory that are named as plugins are, in order.
fn plugin_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in directory.read_dir()? {
        let path = entry?.path();
        if find::name_of_file(&path).is_some() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

impl Inner {
    fn vacant(&self, name: &str) -> Result<()> {
        let Some(holder) = self.plugins.iter().find(|plugin| plugin.name == name) else {
            return Ok(());
        };
        let from = match &holder.path {
            Some(path) => format!("loaded from {}", path.display()),
            None => "linked in".to_owned(),
        };
        Err(Error::new(
            libc::EEXIST,
            format!("a plugin named '{name}' is registered already ({from}); use that one"),
        ))
    }

    fn dynamic_id(&self, name: &str) -> Option<u16> {
        let index = self
            .dynamic
            .iter()
            .position(|known| known.as_bytes() == name.as_bytes())?;
        Some(XCOPY_METHOD_DYNAMIC + index as u16)
    }

    fn load(
        &mut self,
        path: &Path,
        host: &'static xcopy_host,
        host_ctx: *mut c_void,
    ) -> Result<Arc<Plugin>> {
        if let Some(name) = find::name_of_file(path) {
            self.vacant(name)?;
        }
        let loaded = load::load(path)?;
        self.add(
            loaded.init,
            Some((loaded.path, loaded.name)),
            host,
            host_ctx,
        )
    }

    /// Negotiates with a plugin, starts it and lists it; nothing of it stays if
    /// that fails.
    fn add(
        &mut self,
        init: load::Init,
        file: Option<(PathBuf, String)>,
        host: &'static xcopy_host,
        host_ctx: *mut c_void,
    ) -> Result<Arc<Plugin>> {
        let origin = match &file {
            Some((path, _)) => format!("plugin {}", path.display()),
            None => "linked-in plugin".to_owned(),
        };
        // SAFETY: a plugin's entry point, vetted or vouched for, and a table
        // that is valid for the life of the process.
        let offer = unsafe { table::read(init(host), &origin) }?;
        if let Some((_, name)) = &file
            && *name != offer.name
        {
            return Err(Error::new(
                libc::EINVAL,
                format!(
                    "{origin}: holds the plugin '{}'; name the file {}",
                    offer.name,
                    find::file_name(&offer.name)
                ),
            ));
        }
        self.vacant(&offer.name)?;
        let (methods, fresh) = self.number(&offer)?;
        let state = start(&offer, host_ctx)?;
        let plugin = Arc::new(Plugin {
            mask: methods.iter().fold(0, |mask, method| mask | 1 << method.id),
            methods,
            state,
            path: file.map(|(path, _)| path),
            table: offer.table,
            name: offer.name,
            version: offer.version,
            description: offer.description,
        });
        self.dynamic.extend(fresh);
        self.plugins.push(plugin.clone());
        Ok(plugin)
    }

    /// Numbers the methods of an offer: with them, the names that take the next
    /// free numbers.
    fn number(&self, offer: &Offer) -> Result<(Vec<Method>, Vec<CString>)> {
        let (mut methods, mut fresh) = (Vec::new(), Vec::new());
        for offered in &offer.methods {
            let refuse = |errno, why: &str| {
                let (plugin, method) = (&offer.name, &offered.name);
                Err(Error::new(
                    errno,
                    format!("plugin '{plugin}': method '{method}' {why}"),
                ))
            };
            let id = match methods::fixed_id(&offered.name) {
                Some(id) if methods::RESERVED.contains(&id) => {
                    return refuse(libc::EINVAL, "is the core's own; choose another name");
                }
                Some(id) => id,
                None if self.dynamic_id(&offered.name).is_some() => {
                    return refuse(libc::EEXIST, "is another plugin's already; load only one");
                }
                None => {
                    let index = self.dynamic.len() + fresh.len();
                    let id = usize::from(XCOPY_METHOD_DYNAMIC) + index;
                    if id >= XCOPY_METHOD_MAX {
                        return refuse(libc::ENOSPC, "finds no free number; load fewer plugins");
                    }
                    let Ok(name) = CString::new(offered.name.as_str()) else {
                        return refuse(libc::EINVAL, "has a NUL in its name");
                    };
                    fresh.push(name);
                    id as u16
                }
            };
            methods.push(Method {
                id,
                name: offered.name.clone(),
                flags: offered.flags,
                worth: match offered.worth {
                    0 => methods::default_worth(id, offered.flags),
                    stated => stated,
                },
            });
        }
        Ok((methods, fresh))
    }
}

/// Starts a plugin for a context and answers its state.
fn start(offer: &Offer, host_ctx: *mut c_void) -> Result<*mut c_void> {
    let mut state = std::ptr::null_mut();
    let Some(start) = offer.table.start else {
        return Ok(state);
    };
    // SAFETY: the contract of `start`: it writes the state through a live
    // pointer and keeps the host context for its calls of the host.
    let answer = unsafe { start(host_ctx, &mut state) };
    if answer == 0 {
        return Ok(state);
    }
    // A positive answer is none that the contract knows.
    let errno = if (-4095..0).contains(&answer) {
        -answer
    } else {
        libc::EPROTO
    };
    let why = std::io::Error::from_raw_os_error(errno);
    let name = &offer.name;
    Err(Error::new(
        errno,
        format!("plugin '{name}' does not start: {why} (answer {answer})"),
    ))
}

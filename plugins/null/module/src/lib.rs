//! libxcopy_null.so: the null plugin as a file that the core can load.

use xcopy_abi::{xcopy_host, xcopy_plugin};

/// The entry point that the core looks up.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
// SAFETY: the name belongs to the plugin contract, and a loaded plugin is
// bound RTLD_LOCAL, so no other module's symbol of that name is met.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xcopy_plugin_init_v0(host: *const xcopy_host) -> *const xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { xcopy_plugin_null::init(host) }
}

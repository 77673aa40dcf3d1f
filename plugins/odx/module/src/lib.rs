//! libxcopy_odx.so: the odx plugin as a module that the core can load.

xcopy_plugin_sdk::export!(xcopy_plugin_odx::init);

//! libxcopy_scsi.so: the scsi plugin as a module that the core can load.

xcopy_plugin_sdk::export!(xcopy_plugin_scsi::init);

//! libxcopy_nvme.so: the NVMe plugin as a module that the core can load.

xcopy_plugin_sdk::export!(xcopy_plugin_nvme::init);

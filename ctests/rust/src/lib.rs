//! What the tests of libxcopy's C surface share; the tests are in `tests/`.
//!
//! | module | holds |
//! |---|---|
//! | `rig` | a context and a queue, with the C calls behind safe functions |
//! | `disk` | memory disks whose every 512 bytes say where they belong |
//! | `script` | what a faulty plugin is told to do, and what it saw |
//! | `faulty` | the faulty plugin, in all four execution models |
//! | `nvme` | an NVMe controller in memory, for the NVMe plugin |
//! | `judge` | whether a completion, its report and the bytes agree |
//! | `array` | two disks of a copy manager, opened by plugin odx, and all checks |
//! | `units` | two units of a copy manager, opened by plugin scsi or odx, and all checks |
//! | `fixture` | two disks of one faulty plugin, and all checks after each copy |

pub mod array;
pub mod disk;
pub mod faulty;
pub mod fixture;
pub mod judge;
pub mod nvme;
pub mod rig;
pub mod script;
pub mod units;

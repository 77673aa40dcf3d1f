//! An NVMe controller in memory, for the NVMe plugin: strict where the
//! specification lets a controller be, and told by the test what to do wrong.

mod controller;
mod identify;
mod ring;

pub use controller::{Controller, Fault, Hook, Seen, State, Unit};

use ring::SimRing;
use std::collections::HashMap;
use std::ffi::CStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use xcopy_plugin_nvme::Paths;
use xcopy_plugin_nvme::system::{Answer, Link, Port, System};
use xcopy_plugin_nvme::wire::Command;
use xcopy_plugin_sdk::abi::XCOPY_PLUGIN_NATIVE;
use xcopy_plugin_sdk::{Description, Failure, errno, init_polled};

static CONTROLLERS: Mutex<Option<HashMap<String, Arc<Controller>>>> = Mutex::new(None);

fn controllers() -> MutexGuard<'static, Option<HashMap<String, Arc<Controller>>>> {
    CONTROLLERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A controller that `nvme_sim:NAME/NSID[@OFFSET+SIZE]` opens.
pub fn controller(name: &str, state: State) -> Arc<Controller> {
    let made = Arc::new(Controller::new(state));
    let mut all = controllers();
    all.get_or_insert_default()
        .insert(name.to_owned(), made.clone());
    made
}

/// The NVMe plugin over these controllers.
///
/// # Safety
/// `host` is NULL or the core's table, valid for the life of the process.
pub unsafe extern "C" fn init(
    host: *const xcopy::abi::xcopy_host,
) -> *const xcopy::abi::xcopy_plugin {
    // SAFETY: handed on as it came, under the same contract.
    unsafe { init_polled::<xcopy_plugin_nvme::Nvme<Sim>>(host) }
}

/// The system of these controllers.
pub struct Sim;

/// The way to one namespace.
pub struct SimPort {
    controller: Arc<Controller>,
    nsid: u32,
}

impl System for Sim {
    const NAME: &'static CStr = c"nvme_sim";
    const FLAGS: u32 = XCOPY_PLUGIN_NATIVE;
    type Port = SimPort;
    type Ring = SimRing;

    fn connect(device: &Description<'_>) -> Result<Link<SimPort>, Failure> {
        let no = || Failure::new(errno::EINVAL).because("nvme_sim:NAME/NSID[@OFFSET+SIZE]");
        let spec = device.name().unwrap_or_default();
        let (place, part) = match spec.split_once('@') {
            Some((place, part)) => (place, Some(part)),
            None => (spec, None),
        };
        let (name, nsid) = place.split_once('/').ok_or_else(no)?;
        let nsid: u32 = nsid.parse().map_err(|_| no())?;
        let all = controllers();
        let found = all.as_ref().and_then(|all| all.get(name));
        let controller = found.ok_or_else(no)?.clone();
        let subsystem = controller.with(|state| state.subsystem.clone());
        let (block, size) = controller
            .with(|state| {
                let unit = state.units.get(&nsid)?;
                Some((unit.block, unit.blocks * u64::from(unit.block)))
            })
            .ok_or_else(no)?;
        let (offset, size) = match part.and_then(|part| part.split_once('+')) {
            None => (0, size),
            Some((offset, size)) => (
                offset.parse().map_err(|_| no())?,
                size.parse().map_err(|_| no())?,
            ),
        };
        Ok(Link {
            port: SimPort { controller, nsid },
            nsid,
            controller: subsystem.unwrap_or_else(|| name.to_owned()),
            name: place.to_owned(),
            offset,
            size,
            block,
            local: true,
            writable: true,
        })
    }

    fn ring(_entries: u32, _pinned: bool) -> Result<SimRing, String> {
        SimRing::new()
    }
}

impl Port for SimPort {
    fn admin(&self, command: Command, data: &mut [u8]) -> Answer {
        self.controller.admin(&command, data)
    }

    fn io(&self, command: Command, data: &[u8]) -> Answer {
        self.controller.io(&command, data, false)
    }

    fn is_there(&self) -> bool {
        self.controller.with(|state| state.there)
    }

    fn has_ring(&self) -> bool {
        self.controller.with(|state| state.ring)
    }

    fn would_send(&self, command: Command) -> Result<(), i32> {
        assert!(command.is_copy());
        self.controller
            .with(|state| match (state.privileged, state.copy_refused) {
                (false, Some(errno)) => Err(errno),
                _ => Ok(()),
            })
    }

    fn hindrance(&self) -> String {
        String::new()
    }

    fn paths(&self) -> Paths {
        self.controller
            .with(|state| state.paths.get(&self.nsid).cloned().unwrap_or_default())
    }
}

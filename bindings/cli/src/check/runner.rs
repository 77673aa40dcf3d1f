//! Ways to give the plugin commands: a queue of it, or calls of `execute`.

use std::time::Duration;

use xcopy::abi::*;

use super::arena::{self, Kind};
use super::disk::{Disk, Opened, Spec};
use super::fault::Fault;
use super::flight::{Ended, Order};
use super::lane::Lane;
use super::plugin::{Checked, Context, stop};
use super::{calls, host};

/// A transient failure is tried again so often.
const TRIES: usize = 200;

/// A way to give commands.
pub enum Runner<'a> {
    /// A queue of the plugin.
    Queue(Lane<'a>),
    /// BLOCKING: calls of `execute` on this thread.
    Calls(&'a Context<'a>),
}

impl<'a> Runner<'a> {
    /// A new one, owned by this thread.
    pub fn new(context: &'a Context<'a>, limit: Duration) -> Checked<Runner<'a>> {
        match context.plugin.table.model {
            XCOPY_MODEL_BLOCKING => Ok(Runner::Calls(context)),
            _ => Lane::new(context, limit).map(Runner::Queue),
        }
    }

    /// Carries commands out, again while they fail for a moment only.
    pub fn run(&mut self, orders: &[Order]) -> Checked<Vec<Ended>> {
        let mut ended = self.run_once(orders)?;
        for _ in 0..TRIES {
            let again: Vec<usize> = (0..ended.len())
                .filter(|index| ended[*index].is_transient())
                .collect();
            if again.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            let orders: Vec<Order> = again.iter().map(|index| orders[*index].clone()).collect();
            for (index, end) in again.into_iter().zip(self.run_once(&orders)?) {
                ended[index] = end;
            }
        }
        Ok(ended)
    }

    fn run_once(&mut self, orders: &[Order]) -> Checked<Vec<Ended>> {
        let context = match self {
            Runner::Queue(lane) => return lane.run(orders),
            Runner::Calls(context) => context,
        };
        orders.iter().map(|order| execute(context, order)).collect()
    }

    /// Looks for a while whether the plugin answers once more.
    pub fn linger(&mut self, time: Duration) {
        match self {
            Runner::Queue(lane) => lane.linger(time),
            Runner::Calls(_) => {}
        }
    }

    /// Opens a device, where and how the model wants it.
    pub fn open(&mut self, context: &Context<'_>, spec: &Spec) -> Checked<Opened> {
        match self {
            Runner::Queue(lane) if context.plugin.is_affine() => lane.open(spec),
            _ => context.open(spec),
        }
    }

    /// Closes a device.
    pub fn close(&mut self, context: &Context<'_>, disk: Disk) -> Checked<()> {
        match self {
            Runner::Queue(lane) if context.plugin.is_affine() => lane.close(disk),
            _ => {
                context.close(disk);
                Ok(())
            }
        }
    }

    /// Judges a pair.
    pub fn probe(
        &mut self,
        context: &Context<'_>,
        pair: (usize, usize),
        tail: usize,
    ) -> Checked<Vec<xcopy_verdict>> {
        match self {
            Runner::Queue(lane) if context.plugin.is_affine() => lane.probe(pair, tail),
            _ => context.probe(pair.0, pair.1, tail),
        }
    }

    /// Gives it back; nothing is in flight.
    pub fn finish(self) {
        if let Runner::Queue(lane) = self {
            lane.destroy();
        }
    }
}

/// Carries one command out by `execute`.
pub fn execute(context: &Context<'_>, order: &Order) -> Checked<Ended> {
    let Some(execute) = context.plugin.table.execute else {
        return stop(Fault::BadTable, "BLOCKING without execute");
    };
    let cookie = host::make(order, context.plugin.table.cmd_private, context.plugin.tail)?;
    host::offer(0, &[cookie]);
    host::offered(&[cookie], 1);
    let place = arena::lend(Kind::Arguments, size_of::<xcopy_result>(), 8)?;
    let command = host::pointer(cookie);
    // SAFETY: the state is the plugin's; command and result are lent until the
    // call returns, as the contract has it.
    let (answer, result) = unsafe {
        let at: *mut xcopy_result = place.pointer();
        at.write(xcopy_result {
            cookie,
            ..Default::default()
        });
        let answer = calls::slow(&"execute", || execute(context.state, command, at));
        (answer, at.read())
    };
    // Sense data must be valid until the call returns, and is read at once.
    host::end_blocking(cookie, answer, result);
    place.take_back();
    Ok(host::collect(cookie).unwrap_or_default())
}

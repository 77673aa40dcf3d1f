//! Commands from a ring to the copy manager, several at once.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};

use copy_manager::{CopyManager, Kind};

use crate::ring::{Request, Response, Ring};

/// Commands of one unit in service at once.
const WORKERS: usize = 8;

/// Serves a unit until its device is gone.
pub fn serve(manager: &Arc<CopyManager>, nexus: usize, unit: usize, ring: &Arc<Ring>) {
    let (sender, receiver) = channel();
    let receiver = Arc::new(Mutex::new(receiver));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            let receiver = receiver.clone();
            scope.spawn(move || work(manager, nexus, unit, ring, &receiver));
        }
        loop {
            while let Some(request) = ring.next() {
                if sender.send(request).is_err() {
                    return;
                }
            }
            if ring.wait().is_err() {
                // The workers end with the last sender.
                drop(sender);
                return;
            }
        }
    });
}

fn work(
    manager: &Arc<CopyManager>,
    nexus: usize,
    unit: usize,
    ring: &Ring,
    requests: &Mutex<Receiver<Request>>,
) {
    loop {
        let request = requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .recv();
        let Ok(request) = request else { return };
        let out = if sends_data(&request.cdb) {
            ring.data(&request)
        } else {
            Vec::new()
        };
        let reply = manager.execute(nexus, unit, &request.cdb, &out);
        // TCMU knows no lost status; a command that ends without one was aborted.
        const TASK_ABORTED: u8 = 0x40;
        let status = if reply.transport.is_some() {
            TASK_ABORTED
        } else {
            reply.status
        };
        let length = match sends_data(&request.cdb) {
            true => out.len() as u32,
            false => ring.answer(&request, &reply.data),
        };
        if ring
            .complete(
                &request,
                &Response {
                    status,
                    sense: &reply.sense,
                    length,
                },
            )
            .is_err()
        {
            return;
        }
    }
}

/// The command's data goes to the unit.
fn sends_data(cdb: &[u8]) -> bool {
    match Kind::of(cdb) {
        Kind::Write | Kind::WriteSame | Kind::PersistentReserveOut => true,
        kind if kind.starts_an_operation() => true,
        // MODE SELECT (6) and (10), UNMAP.
        Kind::Other => matches!(cdb.first(), Some(0x15 | 0x55 | 0x42)),
        _ => false,
    }
}

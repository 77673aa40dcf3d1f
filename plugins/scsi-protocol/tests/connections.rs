//! The caller's own connection: its struct is checked, its limits are kept, its
//! answers are taken for no more than they can be.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use xcopy_scsi_protocol::{Connection, Data, Transport, xcopy_scsi_command, xcopy_scsi_transport};

#[derive(Default)]
struct Seen {
    now: AtomicU32,
    most: AtomicU32,
    direction: AtomicU32,
}

unsafe extern "C" fn execute(ctx: *mut c_void, command: *mut xcopy_scsi_command) -> c_int {
    // SAFETY: the test's context, and the library's command.
    let (seen, command) = unsafe { (&*ctx.cast::<Seen>(), &mut *command) };
    let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
    seen.most.fetch_max(now, Ordering::SeqCst);
    seen.direction.store(command.direction, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(5));
    seen.now.fetch_sub(1, Ordering::SeqCst);
    // SAFETY: as many bytes as the command says.
    match unsafe { *command.cdb } {
        0x01 => return -19,
        0x02 => return 7,
        0x03 => command.status = 0x1_0000,
        0x04 => {
            command.status = 2;
            command.sense_len = u32::MAX;
            command.residual = u32::MAX;
        }
        _ => {}
    }
    0
}

fn way(seen: &Seen, max_concurrent: u32, name: &'static CStr) -> xcopy_scsi_transport {
    xcopy_scsi_transport {
        size: size_of::<xcopy_scsi_transport>() as u32,
        max_transfer: 8192,
        max_concurrent,
        reserved: 0,
        ctx: ptr::from_ref(seen).cast_mut().cast(),
        execute: Some(execute),
        name: name.as_ptr(),
    }
}

fn connect(way: &xcopy_scsi_transport) -> std::io::Result<Connection> {
    // SAFETY: a struct that outlives the connection.
    unsafe { Connection::new(ptr::from_ref(way).cast()) }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_no_connection_is_refused() {
    let seen = Seen::default();
    let good = way(&seen, 0, c"mine");
    assert_eq!(connect(&good).expect("good").name(), "mine");
    // SAFETY: NULL is legal.
    assert!(unsafe { Connection::new(ptr::null()) }.is_err());
    for bad in [
        xcopy_scsi_transport { size: 0, ..good },
        xcopy_scsi_transport {
            size: 1 << 20,
            ..good
        },
        xcopy_scsi_transport {
            reserved: 1,
            ..good
        },
        xcopy_scsi_transport {
            execute: None,
            ..good
        },
    ] {
        assert!(connect(&bad).is_err(), "{bad:?}");
    }
    // A caller from before `name`.
    let short = xcopy_scsi_transport {
        size: good.size - 8,
        ..good
    };
    assert_eq!(
        connect(&short).expect("short").name(),
        "the caller's connection"
    );
    let unnamed = xcopy_scsi_transport {
        name: ptr::null(),
        max_transfer: 0,
        ..good
    };
    let unnamed = connect(&unnamed).expect("unnamed");
    assert_eq!(
        (unnamed.name(), unnamed.max_transfer()),
        ("the caller's connection", 1 << 20)
    );
}

#[test]
fn calls_at_once_are_limited() {
    for (limit, most) in [(1, 1), (2, 2), (0, 4)] {
        let seen = Seen::default();
        let way = way(&seen, limit, c"mine");
        let connection = connect(&way).expect("good");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    connection
                        .execute(&[0; 6], Data::None, SECOND)
                        .expect("sent")
                });
            }
        });
        assert!(seen.most.load(Ordering::SeqCst) <= most, "limit {limit}");
    }
}

#[test]
fn answers_are_bounded() {
    let seen = Seen::default();
    let way = way(&seen, 0, c"mine");
    let connection = connect(&way).expect("good");
    let send = |code: u8, data| connection.execute(&[code, 0, 0, 0, 0, 0], data, SECOND);
    assert_eq!(
        send(1, Data::None).expect_err("not sent").raw_os_error(),
        Some(19)
    );
    assert_eq!(
        send(2, Data::None).expect_err("no errno").raw_os_error(),
        Some(5)
    );
    assert!(!send(3, Data::None).expect("sent").is_good());
    let odd = send(4, Data::Out(&[0; 512])).expect("sent");
    assert_eq!((odd.sense.len(), odd.residual), (252, 512));
    assert!(!odd.is_good());
    assert_eq!(seen.direction.load(Ordering::SeqCst), 2);
    assert!(send(0, Data::In(&mut [0; 8])).expect("sent").is_good());
    assert_eq!(seen.direction.load(Ordering::SeqCst), 1);
}

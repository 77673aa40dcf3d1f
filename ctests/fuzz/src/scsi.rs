//! What a SCSI target says: INQUIRY, pages, capacities, limits, statuses and sense
//! data of any bytes, on the plugin's way from discovery to a copy.

use crate::input::Input;
use crate::ledger::{answered, take};
use std::ffi::{c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::{Mutex, PoisonError};
use xcopy::abi::*;
use xcopy::*;
use xcopy_plugin_odx::wire::{Information, management_tokens};
use xcopy_scsi_protocol::wire::sense::Sense;
use xcopy_scsi_protocol::wire::{block, designator, inquiry, operating, status, third_party};
use xcopy_scsi_protocol::{xcopy_scsi_command, xcopy_scsi_transport};

/// Blocks of both units.
const BLOCKS: u64 = 2048;

/// Both units behind one script.
struct Target {
    script: Mutex<Vec<u8>>,
    /// Bytes of the copies that were answered with GOOD.
    accepted: Mutex<u64>,
}

struct Unit<'a> {
    target: &'a Target,
    number: u8,
}

fn with<T>(lock: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a good target says.
fn honest(cdb: &[u8], number: u8) -> Vec<u8> {
    let page = |code: u8, content: &[u8]| {
        let mut page = vec![0, code, 0, content.len() as u8];
        page.extend(content);
        page
    };
    let mut bytes = match (cdb[0], cdb[1], cdb[2]) {
        (0x12, 0, _) => {
            let mut bytes = vec![0, 0, 6, 2, 31, 8, 0, 2];
            bytes.extend([b' '; 28]);
            bytes
        }
        (0x12, _, 0x00) => page(0, &[0, 0x80, 0x83, 0x8f, 0xb0]),
        (0x12, _, 0x83) => {
            let mut name = vec![1, 3, 0, 16, 0x60];
            name.resize(19, 0);
            name.push(number);
            page(0x83, &name)
        }
        (0x12, _, 0x8f) => page(0x8f, &[0, 1, 0, 8, 7, 0x83, 2, 0, 1, 0x84, 1, 3]),
        (0x12, _, code) => page(code, &[0; 60]),
        (0x9e, _, _) => {
            let mut bytes = (BLOCKS - 1).to_be_bytes().to_vec();
            bytes.extend(512u32.to_be_bytes());
            bytes
        }
        (0x84, 3, _) => {
            let mut bytes = vec![0, 0, 0, 42, 1, 0, 0, 0, 0, 2, 0, 4, 0, 0, 4, 0];
            bytes.resize(34, 0);
            bytes.extend([0, 4, 4, 9, 0, 0, 0, 0, 0, 2, 2, 0xe4]);
            bytes
        }
        _ => Vec::new(),
    };
    bytes.resize(bytes.len().max(32), 0);
    bytes
}

/// Bytes that a parameter list asks to copy; None if it is not well made.
fn asked(cdb: &[u8], list: &[u8]) -> Option<u64> {
    let be16 = |at: usize| Some(u16::from_be_bytes(*list.get(at..at + 2)?.first_chunk()?));
    let (cscds, segments, head) = match cdb[1] {
        0 => {
            let segments = list.get(8..12)?.first_chunk()?;
            (be16(2)?, u32::from_be_bytes(*segments), 16)
        }
        _ => (be16(42)?, be16(44)?.into(), 48),
    };
    let first = head + usize::from(cscds);
    assert_eq!(
        list.len(),
        first + segments as usize,
        "lengths that do not add up"
    );
    let mut bytes = 0;
    for at in (first..list.len()).step_by(28) {
        assert_eq!((list[at], be16(at + 2)?), (2, 24));
        bytes += u64::from(be16(at + 10)?) * 512;
    }
    Some(bytes)
}

unsafe extern "C" fn execute(ctx: *mut c_void, command: *mut xcopy_scsi_command) -> c_int {
    // SAFETY: the unit that outlives the context, and the library's command.
    let (unit, command) = unsafe { (&*ctx.cast::<Unit>(), &mut *command) };
    // SAFETY: as many bytes as the command says.
    let cdb = unsafe { slice::from_raw_parts(command.cdb, command.cdb_len as usize) };
    assert!(matches!(cdb.len(), 6 | 10 | 16));
    let mut script = with(&unit.target.script);
    let mut input = Input(&script);
    let kind = input.u8();
    let mut answer = 0;
    let mut data = honest(cdb, unit.number);
    match kind % 16 {
        1 | 2 => {
            command.status = u32::from(input.u8());
            command.host_status = u32::from(input.u8() % 4) * u32::from(input.u8() % 32);
            let n = input.below(64);
            let sense = input.bytes(n);
            // SAFETY: room for 252 bytes and more than what is put there.
            unsafe { ptr::copy_nonoverlapping(sense.as_ptr(), command.sense, sense.len()) };
            // The length may be a lie.
            command.sense_len = match input.u8() {
                255 => u32::MAX,
                254 => 252,
                _ => sense.len() as u32,
            };
        }
        3 => answer = -c_int::from(input.u8()),
        4 => {
            let n = input.below(256);
            data = input.bytes(n).to_vec();
        }
        5 | 6 => {
            for _ in 0..1 + input.below(4) {
                let at = input.below(data.len());
                if let Some(byte) = data.get_mut(at) {
                    *byte = input.u8();
                }
            }
        }
        _ => {}
    }
    let rest = input.0.to_vec();
    *script = rest;
    drop(script);
    if answer != 0 {
        return answer;
    }
    match command.direction {
        1 => {
            let came = data.len().min(command.data_len as usize);
            // SAFETY: the library's room, as long as the command says.
            unsafe { ptr::copy_nonoverlapping(data.as_ptr(), command.data.cast(), came) };
            command.residual = command.data_len - came as u32;
        }
        2 if cdb[0] == 0x83 && command.status == 0 && command.host_status == 0 => {
            // SAFETY: as many bytes as the command says.
            let list = unsafe {
                slice::from_raw_parts(command.data.cast::<u8>(), command.data_len as usize)
            };
            let bytes = asked(cdb, list).expect("a parameter list");
            *with(&unit.target.accepted) += bytes;
        }
        2 if cdb[0] == 0x83 => {
            // RECOVERED ERROR is a success, too.
            // SAFETY: as above.
            let list = unsafe {
                slice::from_raw_parts(command.data.cast::<u8>(), command.data_len as usize)
            };
            *with(&unit.target.accepted) += asked(cdb, list).expect("a parameter list");
        }
        _ => {}
    }
    0
}

/// The decoders alone, on the same bytes.
fn decode(data: &[u8]) {
    let _ = Sense::parse(data);
    let _ = inquiry::Inquiry::parse(data);
    let _ = inquiry::supported_pages(data);
    let _ = inquiry::serial_number(data);
    let names = designator::designators(data).unwrap_or_default();
    assert!(
        designator::by_preference(&names)
            .iter()
            .all(|name| name.bytes.len() <= 20)
    );
    if let Some(capacity) = block::Capacity::parse(data) {
        assert!(capacity.bytes() >= capacity.blocks);
    }
    let _ = block::BlockLimits::parse(data);
    let _ = operating::OperatingParameters::parse(data);
    let _ = status::StatusLid1::parse(data);
    let _ = status::FailureDetails::parse(data);
    if let Some(status) = status::StatusLid4::parse(data) {
        let _ = status.bytes(4096);
    }
    let _ = third_party::ThirdParty::parse(data);
    if let Some(token) = Information::decode(data).and_then(|found| found.token) {
        let _ = (token.rod_type(), token.represents(), token.block_length());
    }
    let _ = management_tokens(data);
}

/// Runs one input.
pub fn run(data: &[u8]) {
    decode(data);
    let target = Target {
        script: Mutex::new(data.to_vec()),
        accepted: Mutex::new(0),
    };
    let units = [1, 2].map(|number| Unit {
        target: &target,
        number,
    });
    let mut ways = units.each_ref().map(|unit| xcopy_scsi_transport {
        size: size_of::<xcopy_scsi_transport>() as u32,
        max_transfer: 0,
        max_concurrent: 0,
        reserved: 0,
        ctx: ptr::from_ref(unit).cast_mut().cast(),
        execute: Some(execute),
        name: ptr::null(),
    });
    let (mut context, mut queue) = (ptr::null_mut(), ptr::null_mut());
    let mut devices = [0; 2];
    // SAFETY: places for the answers; the ways outlive the context.
    unsafe {
        assert_eq!(answered(xcopy_context_create(ptr::null(), &mut context)), 0);
        assert_eq!(
            answered(xcopy_plugin_register(
                context,
                Some(xcopy_plugin_scsi::init)
            )),
            0
        );
        assert_eq!(
            answered(xcopy_queue_create(context, ptr::null(), &mut queue)),
            0
        );
        for (way, device) in ways.iter_mut().zip(&mut devices) {
            let at = ptr::from_mut(way).cast();
            let flags = XCOPY_OPEN_READ | XCOPY_OPEN_WRITE;
            // A unit that is no disk is refused.
            answered(xcopy_device_open_native(
                context,
                c"scsi".as_ptr(),
                at,
                flags,
                device,
            ));
        }
    }
    if !devices.contains(&XCOPY_HANDLE_NONE) {
        copy(context, queue, devices, &target);
    }
    // SAFETY: live, given up here; nothing is in flight.
    unsafe {
        assert_eq!(answered(xcopy_queue_destroy(queue, 0)), 0);
        assert_eq!(answered(xcopy_context_free(context)), 0);
    }
}

fn copy(
    context: *mut xcopy_context,
    queue: *mut xcopy_queue,
    [src, dst]: [u32; 2],
    target: &Target,
) {
    let mut text = [0; 512];
    // SAFETY: a live context and room of the size given.
    let whole = unsafe { xcopy_device_describe(context, src, text.as_mut_ptr(), text.len()) };
    answered(whole);
    // SAFETY: plain data, for which zeroes are valid.
    let mut report: xcopy_report = unsafe { std::mem::zeroed() };
    report.size = size_of::<xcopy_report>() as u32;
    let ext = xcopy_ext {
        size: size_of::<xcopy_ext>() as u32,
        reserved: 0,
        ranges: ptr::null(),
        nranges: 0,
        report: &raw mut report,
        token_lifetime_s: 0,
        token_type: 0,
    };
    let request = xcopy_request {
        user_data: 1,
        op: XCOPY_OP_COPY,
        reserved: 0,
        flags: XCOPY_REQ_NO_FALLBACK,
        src,
        dst,
        src_offset: 4096,
        dst_offset: 8192,
        length: 256 << 10,
        methods: 0,
        timeout_ms: 100,
        ext: &raw const ext,
    };
    let mut done = [xcopy_completion::default()];
    // SAFETY: a live queue, a request of 64 bytes, a place for the end.
    unsafe {
        if answered(xcopy_submit(queue, &request, 64, 1)) != 1 {
            return;
        }
        assert_eq!(take(queue, &mut done), 1, "no end");
    }
    let done = done[0];
    assert!(done.bytes_copied <= request.length);
    let accepted = *with(&target.accepted);
    assert!(
        done.bytes_copied <= accepted,
        "{} copied, {accepted} accepted",
        done.bytes_copied
    );
    assert!(
        done.res != 0 || done.bytes_copied == request.length,
        "{done:?}"
    );
}

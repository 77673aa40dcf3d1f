//! The library's own discovery meets the copy manager through `xcopy_scsi.h`: what
//! one side writes by the tables, the other reads by them.

use std::time::Duration;

use copy_manager::{
    CopyManager, DiskOptions, Effect, Kind, Personality, Refusal, TransportError, When,
};
use xcopy_scsi_protocol::{Connection, Data, Lun, Place, Transport};

fn open(manager: &std::sync::Arc<CopyManager>, unit: usize) -> (copy_manager::Connection, Lun) {
    let nexus = manager.nexus("tests");
    let connection = manager.connect(nexus, unit);
    // SAFETY: the connection is returned beside the unit, and dropped after it.
    let transport = unsafe { Connection::new(connection.native()) }.unwrap();
    let lun = Lun::discover(Box::new(transport), Place::default(), None).unwrap();
    (connection, lun)
}

#[test]
fn discovery_reads_every_target() {
    for name in ["ctl", "lio", "array", "scst", "comstar", "windows", "liar"] {
        let personality = Personality::by_name(name).unwrap();
        let manager = CopyManager::new(personality.clone());
        for block in [512, 4096] {
            let unit = manager.add_disk(DiskOptions::new(block, 1 << 30));
            let (_connection, lun) = open(&manager, unit);
            let facts = lun.facts();
            assert_eq!((lun.block_size(), lun.bytes()), (block, 1 << 30), "{name}");
            assert_eq!(facts.inquiry.vendor, personality.vendor);
            assert_eq!(facts.inquiry.product, personality.product);
            assert!(facts.inquiry.third_party_copy);
            assert_eq!(lun.serial().as_deref(), Some(&*format!("XCOPY-{unit:08}")));
            // NAA first, then EUI-64; none of the target port's.
            assert_eq!(facts.names[0].bytes.len(), 16, "{name}: {:?}", facts.names);
            assert_eq!(facts.names[0].bytes[..4], [0x60, 0x01, 0x40, 0x5F]);
            assert_eq!(facts.names[1].bytes.len(), 8);
            let limits = &personality.copy;
            if personality.implements(Kind::OperatingParameters) {
                let operating = facts.operating.as_ref().expect(name);
                assert_eq!(operating.max_cscds, limits.cscds);
                assert_eq!(operating.max_segments, limits.segments);
                assert_eq!(operating.max_descriptors_bytes, limits.descriptor_bytes);
                assert_eq!(operating.max_segment_bytes, limits.segment_bytes);
                assert_eq!(operating.total_concurrent, limits.total_concurrent);
                assert_eq!(operating.max_concurrent, limits.concurrent);
                assert_eq!(operating.types, limits.types);
            } else {
                assert!(facts.operating.is_err(), "{name}");
            }
            assert_eq!(
                lun.third_party().is_some(),
                personality.third_party_page,
                "{name}"
            );
            let Some(page) = lun.third_party() else {
                continue;
            };
            let kinds = [
                (0x83, 0x00, Kind::ExtendedCopyLid1),
                (0x83, 0x01, Kind::ExtendedCopyLid4),
                (0x83, 0x10, Kind::PopulateToken),
                (0x83, 0x1C, Kind::CopyOperationAbort),
                (0x84, 0x05, Kind::CopyStatusLid4),
                (0x84, 0x07, Kind::RodTokenInformation),
            ];
            for (opcode, action, kind) in kinds {
                assert_eq!(
                    page.has_command(opcode, action),
                    personality.implements(kind)
                );
            }
            let rules = personality.tokens.as_ref().unwrap();
            let rod = page.rod_limits.as_ref().unwrap();
            assert_eq!(rod.max_ranges, rules.ranges);
            assert_eq!(rod.max_inactivity_s, rules.max_timeout_s);
            assert_eq!(rod.default_inactivity_s, rules.default_timeout_s);
            assert_eq!(rod.max_blocks * u64::from(block), rules.max_bytes);
            assert_eq!(rod.optimal_blocks * u64::from(block), rules.optimal_bytes);
            let types: Vec<u32> = page.rod_types.iter().map(|kind| kind.code).collect();
            assert_eq!(types, [&rules.rod_types[..], &[0xFFFF_0001]].concat());
            assert_eq!(page.cscd_ids, [0xFFFF]);
        }
    }
}

#[test]
fn reads_writes_zeroes_and_flushes() {
    let manager = CopyManager::new(Personality::ctl());
    let unit = manager.add_disk(DiskOptions::new(512, 16 << 20));
    let (_connection, lun) = open(&manager, unit);
    let bytes: Vec<u8> = (0..8192u32).map(|n| (n / 3) as u8).collect();
    lun.write(4096, &bytes).unwrap();
    let mut back = vec![0; 8192];
    lun.read(4096, &mut back).unwrap();
    assert_eq!(back, bytes);
    manager.peek(unit, 4096, &mut back);
    assert_eq!(back, bytes);
    lun.zero(4096 + 512, 1024).unwrap();
    manager.peek(unit, 4096, &mut back);
    assert!(back[512..1536].iter().all(|byte| *byte == 0) && back[1536..] == bytes[1536..]);
    lun.flush().unwrap();
    let last = manager.trace().pop().unwrap();
    assert_eq!((last.kind, last.status), (Kind::SynchronizeCache, Some(0)));
}

/// Status, sense, residual and a status that never came, as the header has them.
#[test]
fn ends_of_commands() {
    let manager = CopyManager::new(Personality::array());
    let unit = manager.add_disk(DiskOptions::new(512, 1 << 20));
    let nexus = manager.nexus("tests");
    let connection = manager.connect(nexus, unit);
    // SAFETY: it outlives the transport.
    let transport = unsafe { Connection::new(connection.native()) }.unwrap();
    assert_eq!(transport.name(), "array:0");
    let ready = [0; 6];
    let go = |cdb: &[u8], data: Data<'_>| {
        transport
            .execute(cdb, data, Duration::from_secs(1))
            .unwrap()
    };
    let mut room = [7; 128];
    // INQUIRY answers 96 bytes of 128.
    let outcome = go(&[0x12, 0, 0, 0, 128, 0], Data::In(&mut room));
    assert_eq!((outcome.status, outcome.residual), (0, 32));
    assert_eq!((room[2], room[95], room[96]), (0x06, 0, 7));
    // POWER ON awaits each nexus.
    assert!(go(&ready, Data::None).is_unit_attention());
    manager.set_fault(
        Kind::TestUnitReady,
        When::Nth(1),
        Effect::Answer(Refusal::Status(0x28)),
    );
    let lost = Refusal::Transport(TransportError::TimedOut);
    manager.set_fault(Kind::TestUnitReady, When::Nth(2), Effect::Answer(lost));
    manager.set_fault(
        Kind::TestUnitReady,
        When::Nth(3),
        Effect::Answer(Refusal::check(2, 0x04, 0x01)),
    );
    assert_eq!(go(&ready, Data::None).status, 0x28);
    let outcome = go(&ready, Data::None);
    assert_eq!((outcome.status, outcome.host_status), (0, 3));
    let outcome = go(&ready, Data::None);
    assert_eq!(outcome.status, 2);
    assert_eq!(outcome.sense, [0x72, 2, 4, 1, 0, 0, 0, 0]);
    assert!(go(&ready, Data::None).is_good());
}

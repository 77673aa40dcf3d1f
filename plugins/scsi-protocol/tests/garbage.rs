//! Any bytes from a target: no panic, nothing read beyond them, and nothing that
//! could make a copy go wrong.

use proptest::prelude::*;
use std::io;
use std::sync::Mutex;
use std::time::Duration;
use xcopy_scsi_protocol::judge::{Purpose, judge};
use xcopy_scsi_protocol::wire::block::{BlockLimits, Capacity};
use xcopy_scsi_protocol::wire::designator::{by_preference, designators};
use xcopy_scsi_protocol::wire::inquiry::{Inquiry, serial_number, supported_pages};
use xcopy_scsi_protocol::wire::operating::OperatingParameters;
use xcopy_scsi_protocol::wire::sense::Sense;
use xcopy_scsi_protocol::wire::status::{FailureDetails, StatusLid1, StatusLid4};
use xcopy_scsi_protocol::wire::third_party::ThirdParty;
use xcopy_scsi_protocol::{Data, Lun, Outcome, Place, Transport};

/// Answers with what it was given, one after the other, and then with zeroes.
struct Garbage(Mutex<Vec<Vec<u8>>>);

impl Transport for Garbage {
    fn execute(&self, _: &[u8], data: Data<'_>, _: Duration) -> io::Result<Outcome> {
        let answer = self.0.lock().expect("no panic").pop().unwrap_or_default();
        let mut outcome = Outcome::default();
        if let Data::In(room) = data {
            let came = room.len().min(answer.len());
            room[..came].copy_from_slice(&answer[..came]);
            outcome.residual = (room.len() - came) as u32;
        }
        Ok(outcome)
    }

    fn max_transfer(&self) -> usize {
        4096
    }

    fn name(&self) -> &str {
        "garbage"
    }
}

/// Bytes that begin as a page or as sense data does, now and then.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let head = prop_oneof![
        Just(vec![]),
        prop::sample::select(vec![0x00u8, 0x80, 0x83, 0x8f, 0xb0]).prop_flat_map(|page| {
            any::<(bool, u8)>().prop_map(move |(long, len)| vec![0, page, u8::from(long), len])
        }),
        prop::sample::select(vec![0x70u8, 0x71, 0x72, 0x73]).prop_map(|code| vec![code]),
    ];
    (head, prop::collection::vec(any::<u8>(), 0..600))
        .prop_map(|(head, rest)| [head, rest].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn decoders_take_anything(bytes in bytes()) {
        let _ = (Inquiry::parse(&bytes), supported_pages(&bytes), serial_number(&bytes));
        let _ = (BlockLimits::parse(&bytes), OperatingParameters::parse(&bytes));
        let _ = (StatusLid1::parse(&bytes), FailureDetails::parse(&bytes), ThirdParty::parse(&bytes));
        if let Some(status) = StatusLid4::parse(&bytes) {
            let _ = status.bytes(4096);
            prop_assert!(status.sense.len() <= 255);
        }
        if let Some(capacity) = Capacity::parse(&bytes) {
            prop_assert!(capacity.block_size.is_power_of_two() && capacity.block_size >= 512);
            prop_assert_eq!(capacity.bytes() / capacity.blocks, capacity.block_size.into());
        }
        for name in by_preference(&designators(&bytes).unwrap_or_default()) {
            prop_assert!((1..=20).contains(&name.bytes.len()));
        }
        let sense = Sense::parse(&bytes);
        for purpose in [Purpose::Copy, Purpose::CopyStatus, Purpose::Io, Purpose::Query] {
            let outcome = Outcome { status: 2, sense: bytes.clone(), ..Outcome::default() };
            let judged = judge(&outcome, purpose);
            prop_assert_eq!(judged.is_none(), sense.as_ref().is_some_and(|s| s.key <= 1 && !s.deferred));
        }
    }

    #[test]
    fn discovery_takes_anything(
        good in any::<bool>(), answers in prop::collection::vec(bytes(), 0..16),
    ) {
        let mut answers = answers;
        if good {
            // Far enough for the pages to be asked for.
            let mut capacity = vec![0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 2, 0];
            capacity.resize(32, 0);
            let mut pages = vec![0, 0, 0, 5, 0, 0x80, 0x83, 0x8f, 0xb0];
            pages.resize(252, 0);
            let mut inquiry = vec![0, 0, 6, 2, 31, 8];
            inquiry.resize(36, b' ');
            answers.extend([pages, capacity, inquiry]);
        }
        let found = Lun::discover(Box::new(Garbage(Mutex::new(answers))), Place::default(), None);
        prop_assert!(!good || found.is_ok());
        if let Ok(lun) = found {
            let text = lun.describe();
            prop_assert!(text.lines().all(|line| line.contains(": ")), "{text}");
            prop_assert!(lun.max_io() >= lun.block_size() as usize);
            prop_assert_eq!(lun.blocks(lun.bytes(), 512), None);
            prop_assert_eq!(lun.blocks(u64::MAX, u64::MAX), None);
        }
    }
}

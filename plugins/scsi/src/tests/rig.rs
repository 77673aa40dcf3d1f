//! Units that answer from a script, and a host that says nothing.

use crate::pair::Pair;
use crate::{copy, probe};
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xcopy_plugin_sdk::Failure;
use xcopy_plugin_sdk::abi::*;
use xcopy_scsi_protocol::{Data, Lun, Outcome, Place, Transport};

/// What a unit says of itself.
#[derive(Clone)]
pub struct Face {
    pub third_party: bool,
    pub block_size: u32,
    pub blocks: u64,
    /// VPD page 83h after its head.
    pub names: Vec<u8>,
    /// RECEIVE COPY OPERATING PARAMETERS: CSCDs, segments, bytes of descriptors,
    /// of a segment, log2 of the granularity, copies at once, SNLID.
    pub operating: Option<(u16, u16, u32, u32, u8, u16, bool)>,
    /// VPD page 8Fh after its head.
    pub page_8f: Option<Vec<u8>>,
}

/// NAA 6h, 16 bytes, ending in `n`; then a T10 name.
pub fn names(n: u8) -> Vec<u8> {
    let mut bytes = vec![0x01, 0x03, 0x00, 0x10, 0x60, 0x01, 0x40, 0x51];
    bytes.extend([0; 11]);
    bytes.push(n);
    bytes.extend([0x02, 0x01, 0x00, 0x04, b'u', b'n', b't', b'0' + n]);
    bytes
}

impl Face {
    pub fn lio(n: u8) -> Face {
        Face {
            third_party: true,
            block_size: 512,
            blocks: 1 << 20,
            names: names(n),
            operating: Some((2, 1, 1024, 256 << 20, 9, 1, true)),
            page_8f: None,
        }
    }
}

/// The unit behind a script.
pub struct Unit {
    pub face: Mutex<Face>,
    /// How the next commands of 83h end; GOOD when there are none.
    pub ends: Mutex<VecDeque<io::Result<Outcome>>>,
    /// Ends of the next commands of any kind, before all others.
    pub first: Mutex<VecDeque<Outcome>>,
    /// CDBs and parameter lists of 83h.
    pub sent: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    /// Answers of 84h/05h.
    pub statuses: Mutex<VecDeque<Vec<u8>>>,
}

pub struct Wire(pub Arc<Unit>);

pub fn check(key: u8, asc: u8, ascq: u8) -> Outcome {
    Outcome {
        status: 2,
        sense: vec![0x72, key, asc, ascq, 0, 0, 0, 0],
        ..Outcome::default()
    }
}

fn page(number: u8, content: &[u8]) -> Vec<u8> {
    let mut page = vec![0, number];
    page.extend((content.len() as u16).to_be_bytes());
    page.extend(content);
    page
}

impl Unit {
    fn answer(&self, cdb: &[u8]) -> Option<Vec<u8>> {
        let face = self.face.lock().expect("no panic").clone();
        Some(match (cdb[0], cdb[1]) {
            (0x12, 0) => {
                let mut bytes = vec![0, 0, 6, 2, 31, u8::from(face.third_party) << 3, 0, 2];
                bytes.extend(b"SCRIPT  unit            1.0 ");
                bytes
            }
            (0x12, _) => match cdb[2] {
                0x00 if face.page_8f.is_some() => page(0, &[0, 0x83, 0x8f]),
                0x00 => page(0, &[0, 0x83]),
                0x83 => page(0x83, &face.names),
                0x8f => page(0x8f, &face.page_8f?),
                _ => return None,
            },
            (0x9e, 0x10) => {
                let mut bytes = (face.blocks - 1).to_be_bytes().to_vec();
                bytes.extend(face.block_size.to_be_bytes());
                bytes.resize(32, 0);
                bytes
            }
            (0x84, 0x03) => {
                let (cscds, segments, list, segment, log2, concurrent, snlid) = face.operating?;
                let mut bytes = vec![0, 0, 0, 42, u8::from(snlid), 0, 0, 0];
                bytes.extend(cscds.to_be_bytes());
                bytes.extend(segments.to_be_bytes());
                bytes.extend(list.to_be_bytes());
                bytes.extend(segment.to_be_bytes());
                bytes.resize(34, 0);
                bytes.extend(concurrent.to_be_bytes());
                bytes.extend([concurrent as u8, log2, 0, 0, 0, 0, 0, 2, 0x02, 0xe4]);
                bytes
            }
            (0x84, 0x05) => self.statuses.lock().expect("no panic").pop_front()?,
            _ => return None,
        })
    }
}

impl Transport for Wire {
    fn execute(&self, cdb: &[u8], data: Data<'_>, _: Duration) -> io::Result<Outcome> {
        let unit = &self.0;
        if let Some(first) = unit.first.lock().expect("no panic").pop_front() {
            return Ok(first);
        }
        if cdb[0] == 0x83 {
            let list = match data {
                Data::Out(list) => list.to_vec(),
                _ => Vec::new(),
            };
            unit.sent
                .lock()
                .expect("no panic")
                .push((cdb.to_vec(), list));
            let end = unit.ends.lock().expect("no panic").pop_front();
            return end.unwrap_or_else(|| Ok(Outcome::default()));
        }
        let Data::In(room) = data else {
            return Ok(Outcome::default());
        };
        let Some(bytes) = unit.answer(cdb) else {
            return Ok(check(5, 0x24, 0));
        };
        let came = bytes.len().min(room.len());
        room[..came].copy_from_slice(&bytes[..came]);
        Ok(Outcome {
            residual: (room.len() - came) as u32,
            ..Outcome::default()
        })
    }

    fn max_transfer(&self) -> usize {
        1 << 20
    }

    fn name(&self) -> &str {
        "unit"
    }
}

/// Source and destination.
pub struct Rig {
    pub src: Lun,
    pub dst: Lun,
    pub from: Arc<Unit>,
    pub to: Arc<Unit>,
}

impl Rig {
    pub fn new(src: Face, dst: Face) -> Rig {
        let unit = |face| {
            Arc::new(Unit {
                face: Mutex::new(face),
                ends: Mutex::default(),
                first: Mutex::default(),
                sent: Mutex::default(),
                statuses: Mutex::default(),
            })
        };
        let (from, to) = (unit(src), unit(dst));
        let lun = |unit: &Arc<Unit>| {
            Lun::discover(Box::new(Wire(unit.clone())), Place::default(), None).expect("a unit")
        };
        Rig {
            src: lun(&from),
            dst: lun(&to),
            from,
            to,
        }
    }

    pub fn lio() -> Rig {
        Rig::new(Face::lio(1), Face::lio(2))
    }

    pub fn judge(&self) -> Result<Pair, probe::Refusal> {
        probe::judge(&self.src, &self.dst)
    }

    /// A pair whose trial went well and is forgotten.
    pub fn pair(&self) -> Pair {
        let pair = self.judge().expect("usable");
        self.to.sent.lock().expect("no panic").clear();
        pair
    }

    pub fn end(&self, end: Outcome) {
        self.to.ends.lock().expect("no panic").push_back(Ok(end));
    }

    pub fn copy(&self, pair: &Pair, ranges: &[xcopy_range]) -> Result<(), Failure> {
        copy::execute(&|_| {}, pair, &self.src, &self.dst, ranges)
    }

    /// Parameter lists that the destination got.
    pub fn lists(&self) -> Vec<Vec<u8>> {
        let sent = self.to.sent.lock().expect("no panic");
        sent.iter().map(|(_, list)| list.clone()).collect()
    }
}

pub const fn range(src: u64, dst: u64, length: u64) -> xcopy_range {
    xcopy_range {
        src_offset: src,
        dst_offset: dst,
        length,
    }
}

//! READ, WRITE, zeroes and flush on a logical unit that the kernel has no node
//! for.

use crate::judge::{Action, Judgement, Purpose};
use crate::lun::Lun;
use crate::transport::Data;
use crate::wire::cdb;
use std::time::Duration;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::{Failure, errno};

/// What a READ, WRITE or WRITE SAME may take.
const IO_TIMEOUT: Duration = Duration::from_secs(60);
/// What SYNCHRONIZE CACHE may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of one WRITE SAME where the unit states no limit.
const WRITE_SAME_BYTES: u64 = 32 << 20;
/// Times that a command is given again after a unit attention at once.
const ATTENTIONS: u32 = 3;

impl Lun {
    /// Bytes of one READ or WRITE at most.
    pub fn max_io(&self) -> usize {
        let facts = self.facts();
        let block = facts.capacity.block_size as usize;
        let stated = (self.limits().max_transfer as usize).saturating_mul(block);
        let max = match stated {
            0 => self.max_transfer(),
            bytes => bytes.min(self.max_transfer()),
        };
        (max / block * block).max(block)
    }

    /// Fills `room` from byte `offset` of the device on.
    pub fn read(&self, offset: u64, room: &mut [u8]) -> Result<(), Failure> {
        let _in_use = self.begin()?;
        let (most, mut done) = (self.max_io(), 0);
        while done < room.len() {
            let end = room.len().min(done + most);
            let part = &mut room[done..end];
            let (lba, blocks) = self.io_blocks(offset + done as u64, part.len() as u64)?;
            let cdb = cdb::read_16(lba, blocks);
            let came = self
                .io(&cdb, &mut Data::In(part))
                .map_err(|why| why.failure().on_read())?;
            done += self.whole_blocks(came).map_err(Failure::on_read)?;
        }
        Ok(())
    }

    /// Writes `data` from byte `offset` of the device on.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        let _in_use = self.begin()?;
        self.write_in_use(offset, data)
    }

    fn write_in_use(&self, offset: u64, data: &[u8]) -> Result<(), Failure> {
        let (most, mut done) = (self.max_io(), 0);
        while done < data.len() {
            let part = &data[done..data.len().min(done + most)];
            let (lba, blocks) = self.io_blocks(offset + done as u64, part.len() as u64)?;
            let cdb = cdb::write_16(lba, blocks, false);
            let taken = self
                .io(&cdb, &mut Data::Out(part))
                .map_err(|why| why.failure())
                .and_then(|taken| self.whole_blocks(taken));
            done += taken.map_err(|why| why.on_write().known(done as u64))?;
        }
        Ok(())
    }

    /// The whole blocks of what a GOOD command moved by its residual: the rest is
    /// asked for anew, as Linux's sd does. None at all would go on for ever.
    fn whole_blocks(&self, moved: usize) -> Result<usize, Failure> {
        let block = self.facts().capacity.block_size as usize;
        match moved / block * block {
            0 => Err(nothing_moved()),
            bytes => Ok(bytes),
        }
    }

    /// Makes a byte range of the device read as zeroes: by WRITE SAME, or by
    /// writing zeroes where the unit does not know it.
    pub fn zero(&self, offset: u64, length: u64) -> Result<(), Failure> {
        let _in_use = self.begin()?;
        let facts = self.facts();
        let block = u64::from(facts.capacity.block_size);
        let stated = self.limits().max_write_same.saturating_mul(block);
        let most = match stated {
            0 => WRITE_SAME_BYTES,
            bytes => bytes.min(WRITE_SAME_BYTES),
        };
        let most = (most / block * block).max(block);
        let zeroes = vec![0; facts.capacity.block_size as usize];
        let mut done = 0;
        while done < length {
            let part = most.min(length - done);
            let (lba, blocks) = self.io_blocks(offset + done, part)?;
            let cdb = cdb::write_same_16(lba, blocks);
            match self.io(&cdb, &mut Data::Out(&zeroes)) {
                Ok(taken) if taken == zeroes.len() => {}
                Ok(_) => return Err(nothing_moved().on_write().known(done)),
                Err(why) if is_unknown(&why) => {
                    return self.write_zeroes(offset, length, done);
                }
                Err(why) => return Err(why.failure().on_write().known(done)),
            }
            done += part;
        }
        Ok(())
    }

    fn write_zeroes(&self, offset: u64, length: u64, mut done: u64) -> Result<(), Failure> {
        let zeroes = vec![0; self.max_io()];
        while done < length {
            let part = (zeroes.len() as u64).min(length - done);
            self.write_in_use(offset + done, &zeroes[..part as usize])
                .map_err(|why| why.known(done))?;
            done += part;
        }
        Ok(())
    }

    /// Makes durable what was written: SYNCHRONIZE CACHE. A unit that does not
    /// know the command has no volatile cache.
    pub fn flush(&self) -> Result<(), Failure> {
        let _in_use = self.begin()?;
        for cdb in [cdb::synchronize_cache_16(), cdb::synchronize_cache_10()] {
            match self.io_for(&cdb, &mut Data::None, FLUSH_TIMEOUT) {
                Ok(_) => return Ok(()),
                Err(why) if is_unknown(&why) => {}
                Err(why) => return Err(why.failure().on_write()),
            }
        }
        Ok(())
    }

    fn io_blocks(&self, offset: u64, length: u64) -> Result<(u64, u32), Failure> {
        let blocks = self
            .blocks(offset, length)
            .and_then(|(lba, blocks)| Some((lba, u32::try_from(blocks).ok()?)));
        blocks.ok_or_else(|| {
            Failure::new(errno::EINVAL)
                .reason(XCOPY_REASON_BOUNDS)
                .fatal()
                .untouched()
                .because(format!(
                    "bytes {offset} to {} are no blocks of {}",
                    offset.saturating_add(length),
                    self.name()
                ))
        })
    }

    fn io(&self, cdb: &[u8], data: &mut Data<'_>) -> Result<usize, Judgement> {
        self.io_for(cdb, data, IO_TIMEOUT)
    }

    fn io_for(
        &self,
        cdb: &[u8],
        data: &mut Data<'_>,
        timeout: Duration,
    ) -> Result<usize, Judgement> {
        let mut attentions = 0;
        loop {
            let len = data.len();
            let again = match data {
                Data::None => Data::None,
                Data::In(room) => Data::In(room),
                Data::Out(out) => Data::Out(out),
            };
            match self.carry_out(cdb, again, timeout, Purpose::Io) {
                Ok(outcome) => return Ok(len.saturating_sub(outcome.residual as usize)),
                Err(why) if why.action == Action::Reidentify && attentions < ATTENTIONS => {
                    attentions += 1;
                    self.verify().map_err(|_| why.clone().but(Action::Fatal))?;
                }
                Err(why) => return Err(why),
            }
        }
    }
}

/// GOOD with a residual of everything.
fn nothing_moved() -> Failure {
    Failure::new(errno::EIO).because("the unit reports success and moved nothing")
}

/// ILLEGAL REQUEST, 20h/00h or 24h/00h.
fn is_unknown(why: &Judgement) -> bool {
    matches!(why.code, Some((0x5, 0x20 | 0x24, _)))
}

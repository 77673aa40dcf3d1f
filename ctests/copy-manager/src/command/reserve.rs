//! PERSISTENT RESERVE IN and OUT (SPC-4 6.15, 6.16).

use super::inquiry::cut;
use crate::bytes::{u16_at, u64_at};
use crate::fault::Refusal;
use crate::reservation::Refused;
use crate::sense::{Sense, status};
use crate::state::{Call, Done, Outcome, State};

impl State {
    pub(crate) fn reserve_in(&mut self, call: &Call<'_>) -> Outcome {
        let report = self.units[call.unit]
            .reservations
            .report(call.cdb[1] & 0x1F);
        let bytes = report.ok_or_else(|| Sense::field_in_cdb(1))?;
        Ok(cut(bytes, usize::from(u16_at(&call.cdb, 7))))
    }

    pub(crate) fn reserve_out(&mut self, call: &Call<'_>) -> Outcome {
        if call.out.len() < 24 {
            return Err(Sense::illegal(0x1A, 0x00).into());
        }
        let reservations = &mut self.units[call.unit].reservations;
        let (action, kind) = (call.cdb[1] & 0x1F, call.cdb[2] & 0x0F);
        let (key, action_key) = (u64_at(call.out, 0), u64_at(call.out, 8));
        match reservations.out(call.nexus, action, kind, key, action_key) {
            Ok(()) => Ok(Done::Data(Vec::new())),
            Err(Refused::Conflict) => Err(Refusal::Status(status::RESERVATION_CONFLICT)),
            Err(Refused::Field) => Err(Sense::field_in_cdb(1).into()),
        }
    }
}

//! Persistent reservations, as far as a copy meets them (SPC-4 5.13).

use std::collections::BTreeMap;

/// Of one logical unit.
#[derive(Default)]
pub(crate) struct Reservations {
    /// Registered keys by nexus.
    keys: BTreeMap<usize, u64>,
    /// Who holds it, and its type; all registrants hold an "all registrants" one.
    holder: Option<(usize, u8)>,
    generation: u32,
}

/// PERSISTENT RESERVE OUT refused with RESERVATION CONFLICT, or for a field.
pub(crate) enum Refused {
    Conflict,
    Field,
}

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
const WRITE_EXCLUSIVE_ALL: u8 = 7;
const EXCLUSIVE_ACCESS_ALL: u8 = 8;

impl Reservations {
    fn shut_out(&self, nexus: usize) -> Option<u8> {
        let (holder, kind) = self.holder?;
        let registrants = kind >= WRITE_EXCLUSIVE_REGISTRANTS;
        let inside = holder == nexus || (registrants && self.keys.contains_key(&nexus));
        (!inside).then_some(kind)
    }

    /// SPC-4 table 64: a write, or a third-party copy command, by another.
    pub(crate) fn forbid_write(&self, nexus: usize) -> bool {
        self.shut_out(nexus).is_some()
    }

    pub(crate) fn forbid_read(&self, nexus: usize) -> bool {
        self.shut_out(nexus).is_some_and(|kind| {
            matches!(
                kind,
                EXCLUSIVE_ACCESS | EXCLUSIVE_ACCESS_REGISTRANTS | EXCLUSIVE_ACCESS_ALL
            )
        })
    }

    /// PERSISTENT RESERVE OUT: service action, type, the two keys.
    pub(crate) fn out(
        &mut self,
        nexus: usize,
        action: u8,
        kind: u8,
        key: u64,
        action_key: u64,
    ) -> Result<(), Refused> {
        let registered = self.keys.get(&nexus).copied();
        if !matches!(action, 0 | 6) && registered != Some(key) {
            return Err(Refused::Conflict);
        }
        let known = matches!(
            kind,
            WRITE_EXCLUSIVE
                | EXCLUSIVE_ACCESS
                | WRITE_EXCLUSIVE_REGISTRANTS
                | EXCLUSIVE_ACCESS_REGISTRANTS
                | WRITE_EXCLUSIVE_ALL
                | EXCLUSIVE_ACCESS_ALL
        );
        match action {
            // REGISTER, REGISTER AND IGNORE EXISTING KEY
            0 | 6 => {
                if action == 0 && registered.unwrap_or(0) != key {
                    return Err(Refused::Conflict);
                }
                if action_key == 0 {
                    self.keys.remove(&nexus);
                    if self.holder.is_some_and(|(holder, _)| holder == nexus) {
                        self.holder = None;
                    }
                } else {
                    self.keys.insert(nexus, action_key);
                }
                self.generation = self.generation.wrapping_add(1);
            }
            // RESERVE
            1 if known => match self.holder {
                Some(held) if held != (nexus, kind) => return Err(Refused::Conflict),
                _ => self.holder = Some((nexus, kind)),
            },
            // RELEASE
            2 => {
                if self.holder == Some((nexus, kind)) {
                    self.holder = None;
                }
            }
            // CLEAR
            3 => {
                *self = Reservations {
                    generation: self.generation.wrapping_add(1),
                    ..Reservations::default()
                };
            }
            // PREEMPT, PREEMPT AND ABORT
            4 | 5 if known => {
                let victims: Vec<usize> = self
                    .keys
                    .iter()
                    .filter(|(_, k)| **k == action_key)
                    .map(|(n, _)| *n)
                    .collect();
                let held = self
                    .holder
                    .is_some_and(|(holder, _)| victims.contains(&holder));
                self.keys.retain(|n, _| *n == nexus || !victims.contains(n));
                if held {
                    self.holder = Some((nexus, kind));
                }
                self.generation = self.generation.wrapping_add(1);
            }
            _ => return Err(Refused::Field),
        }
        Ok(())
    }

    /// PERSISTENT RESERVE IN: READ KEYS, READ RESERVATION, REPORT CAPABILITIES.
    pub(crate) fn report(&self, action: u8) -> Option<Vec<u8>> {
        let mut out = self.generation.to_be_bytes().to_vec();
        match action {
            0 => {
                out.extend((self.keys.len() as u32 * 8).to_be_bytes());
                self.keys
                    .values()
                    .for_each(|key| out.extend(key.to_be_bytes()));
            }
            1 => match self.holder {
                None => out.extend([0; 4]),
                Some((holder, kind)) => {
                    out.extend(16u32.to_be_bytes());
                    let key = if kind >= WRITE_EXCLUSIVE_ALL {
                        0
                    } else {
                        self.keys.get(&holder).copied().unwrap_or(0)
                    };
                    out.extend(key.to_be_bytes());
                    out.extend([0, 0, 0, 0, 0, kind, 0, 0]);
                }
            },
            // LENGTH 8, TMV, the six types.
            2 => out = vec![0, 8, 0, 0x80, 0xEA, 0x01, 0, 0],
            _ => return None,
        }
        Some(out)
    }
}

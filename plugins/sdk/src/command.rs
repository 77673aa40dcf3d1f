//! A command, as the plugin sees it.

use crate::device::device_of;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;
use xcopy_abi::*;

/// A command that is in flight.
pub struct Command<'a, D> {
    command: NonNull<xcopy_cmd>,
    devices: PhantomData<&'a mut D>,
}

/// What a command asks for. Ranges are within the method's limits; offsets and
/// lengths are in bytes.
#[derive(Debug)]
#[non_exhaustive]
#[allow(missing_docs)]
pub enum Operation<'a, D> {
    /// Copy the ranges.
    Copy {
        src: &'a D,
        dst: &'a D,
        ranges: &'a [xcopy_range],
    },
    /// Make the ranges (dst_offset, length) read as zeroes.
    Zero {
        dst: &'a D,
        ranges: &'a [xcopy_range],
    },
    /// Make durable what was written.
    Flush { dst: &'a D },
    /// Fill the buffer from this offset on.
    Read {
        src: &'a D,
        offset: u64,
        buffer: &'a mut [u8],
    },
    /// Write the data at this offset.
    Write {
        dst: &'a D,
        offset: u64,
        data: &'a [u8],
    },
    /// Make a token of a range; answer [`Done::with_token`](crate::Done::with_token).
    TokenCreate {
        src: &'a D,
        offset: u64,
        length: u64,
        token: &'a mut [u8],
        token_type: u32,
        lifetime_s: u32,
    },
    /// Write `length` bytes of what the token stands for, from its byte
    /// `token_offset` on.
    TokenWrite {
        dst: &'a D,
        offset: u64,
        length: u64,
        token: &'a [u8],
        token_offset: u64,
    },
    /// Forget the token.
    TokenRelease { dst: &'a D, token: &'a [u8] },
    /// A command that this crate does not know, or that lacks a part: answer
    /// [`Command::unknown`].
    Unknown(u16),
}

impl<'a, D> Command<'a, D> {
    /// # Safety
    /// A command of the contract, with devices `D`, that is in flight for `'a`
    /// and used by nobody else.
    pub(crate) unsafe fn new(command: NonNull<xcopy_cmd>) -> Command<'a, D> {
        Command {
            command,
            devices: PhantomData,
        }
    }

    pub(crate) fn raw(&self) -> &xcopy_cmd {
        // SAFETY: in flight, so stable core memory that nobody changes.
        unsafe { self.command.as_ref() }
    }

    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.raw().bytes
    }

    /// The core's number of the method.
    pub fn method(&self) -> u16 {
        self.raw().method
    }

    /// Place of the method in the plugin's METHODS: what tells one of several apart.
    pub fn method_index(&self) -> usize {
        self.raw().method_index as usize
    }

    /// The command must be durable when it ends.
    pub fn is_durable(&self) -> bool {
        self.raw().flags & XCOPY_CMD_DURABLE != 0
    }

    /// Fail rather than let bytes pass through the host.
    pub fn is_offload_only(&self) -> bool {
        self.raw().flags & XCOPY_CMD_OFFLOAD_ONLY != 0
    }

    /// XCOPY_CMD_ flags.
    pub fn flags(&self) -> u32 {
        self.raw().flags
    }

    /// The time that the caller still gives it: a hint.
    pub fn time_left(&self) -> Option<Duration> {
        let ms = self.raw().timeout_ms;
        (ms > 0).then(|| Duration::from_millis(ms.into()))
    }

    /// The failure for what a plugin does not know.
    pub fn unknown(&self) -> crate::Failure {
        crate::Failure::new(crate::errno::ENOTSUP)
            .reason(XCOPY_REASON_NOT_SUPPORTED)
            .next_method()
            .untouched()
    }

    /// What it asks for.
    pub fn operation(&mut self) -> Operation<'_, D> {
        let op = self.raw().op;
        self.known().unwrap_or(Operation::Unknown(op))
    }

    fn known(&mut self) -> Option<Operation<'_, D>> {
        // SAFETY: in flight, so stable; what it points to is as the contract
        // says of each operation, and the borrow of self keeps a second view of
        // the buffer away. Devices of commands in flight are open.
        unsafe {
            let command = self.command.as_ref();
            let src = || device_of(command.src, PhantomData);
            let dst = || device_of(command.dst, PhantomData);
            let ranges = match command.ranges.is_null() {
                true => &[][..],
                false => std::slice::from_raw_parts(command.ranges, command.nranges as usize),
            };
            let buffer = || {
                let len = usize::try_from(command.bytes).ok()?;
                NonNull::new(command.buffer.cast::<u8>()).map(|at| (at.as_ptr(), len))
            };
            let token = || {
                let len = command.token_size as usize;
                NonNull::new(command.token).map(|at| (at.as_ptr(), len))
            };
            Some(match command.op {
                XCOPY_CMD_COPY => Operation::Copy {
                    src: src()?,
                    dst: dst()?,
                    ranges,
                },
                XCOPY_CMD_ZERO => Operation::Zero {
                    dst: dst()?,
                    ranges,
                },
                XCOPY_CMD_FLUSH => Operation::Flush { dst: dst()? },
                XCOPY_CMD_READ => {
                    let (at, len) = buffer()?;
                    Operation::Read {
                        src: src()?,
                        offset: ranges.first()?.src_offset,
                        buffer: std::slice::from_raw_parts_mut(at, len),
                    }
                }
                XCOPY_CMD_WRITE => {
                    let (at, len) = buffer()?;
                    Operation::Write {
                        dst: dst()?,
                        offset: ranges.first()?.dst_offset,
                        data: std::slice::from_raw_parts(at, len),
                    }
                }
                XCOPY_CMD_TOKEN_CREATE => {
                    let ((at, len), range) = (token()?, ranges.first()?);
                    Operation::TokenCreate {
                        src: src()?,
                        offset: range.src_offset,
                        length: range.length,
                        token: std::slice::from_raw_parts_mut(at, len),
                        token_type: command.token_type,
                        lifetime_s: command.token_lifetime_s,
                    }
                }
                XCOPY_CMD_TOKEN_WRITE => {
                    let ((at, len), range) = (token()?, ranges.first()?);
                    Operation::TokenWrite {
                        dst: dst()?,
                        offset: range.dst_offset,
                        length: range.length,
                        token: std::slice::from_raw_parts(at, len),
                        token_offset: range.src_offset,
                    }
                }
                XCOPY_CMD_TOKEN_RELEASE => {
                    let (at, len) = token()?;
                    Operation::TokenRelease {
                        dst: dst()?,
                        token: std::slice::from_raw_parts(at, len),
                    }
                }
                _ => return None,
            })
        }
    }
}

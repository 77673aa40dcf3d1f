//! A command, from its order to its end.

use std::io;

use xcopy::abi::*;

use super::arena::{self, Block, Kind};
use super::fault::Fault;
use super::judge::{self, Asked};
use super::wire;

/// What a plugin may leave in the private bytes before it wrote there: they are
/// not cleared between commands.
const JUNK: u8 = 0xa5;
/// Room for a token, as the core gives it.
pub const TOKEN_ROOM: u32 = 4096;

/// What a command shall do.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// XCOPY_CMD_.
    pub op: u16,
    /// Number of the method.
    pub method: u16,
    /// Its place in the plugin's table.
    pub method_index: u32,
    /// XCOPY_CMD_ flags.
    pub flags: u32,
    /// Milliseconds, or 0.
    pub timeout_ms: u32,
    /// The plugin's handle, or 0.
    pub src: usize,
    /// The plugin's handle, or 0.
    pub dst: usize,
    /// The ranges.
    pub ranges: Vec<xcopy_range>,
    /// WRITE: the bytes.
    pub data: Vec<u8>,
    /// TOKEN_WRITE, TOKEN_RELEASE: the token.
    pub token: Vec<u8>,
    /// OPEN, PROBE: the arguments.
    pub arg: usize,
}

impl Order {
    /// Bytes of all ranges.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|range| range.length).sum()
    }
}

/// How a command ended.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    /// 0 or -errno.
    pub status: i32,
    /// XCOPY_ACTION_.
    pub action: u16,
    /// READ: what was read.
    pub data: Vec<u8>,
    /// TOKEN_CREATE: the token.
    pub token: Vec<u8>,
}

impl Ended {
    /// Whether the command should be given again.
    pub fn is_transient(&self) -> bool {
        match self.action {
            XCOPY_ACTION_DEFAULT => {
                matches!(-self.status, libc::EAGAIN | libc::EBUSY | libc::EINTR)
            }
            action => self.status != 0 && action == XCOPY_ACTION_RETRY,
        }
    }

    /// Whether it says that the method cannot do this at all.
    pub fn leaves_method(&self) -> bool {
        let cannot = matches!(
            -self.status,
            libc::EOPNOTSUPP | libc::ENOSYS | libc::EXDEV | libc::ENOTTY
        );
        self.status != 0
            && (self.action == XCOPY_ACTION_NEXT_METHOD
                || self.action == XCOPY_ACTION_DEFAULT && cannot)
    }
}

/// Where a command is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is offered, in a call of submit.
    Offered,
    /// The plugin has it.
    Flying,
    /// The plugin did not take it, or never saw it yet.
    Waiting,
    /// It ended.
    Ended,
}

/// A command in the memory that the plugin sees.
pub struct Flight {
    /// Where it is.
    pub state: State,
    /// Cancel was called for it.
    pub canceled: bool,
    /// The host queue that it was given to; 0 for none.
    pub queue: usize,
    /// How it ended.
    pub ended: Option<Ended>,
    /// What was asked.
    pub asked: Asked,
    command: Block,
    ranges: Option<Block>,
    buffer: Option<Block>,
    token: Option<Block>,
    private: Option<Block>,
    before: Vec<u8>,
    ranges_before: Vec<u8>,
    data: Vec<u8>,
}

fn bytes_of<T>(items: &[T]) -> Vec<u8> {
    // SAFETY: plain integers without padding; any of their bytes can be read.
    unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<u8>(), size_of_val(items)) }.to_vec()
}

impl Flight {
    /// Lays the command out. `tail` bytes more than today's struct are there, as
    /// a later core has them.
    pub fn new(order: &Order, cookie: u64, cmd_private: u32, tail: usize) -> io::Result<Flight> {
        let lent = |kind, len: usize, align| -> io::Result<Option<Block>> {
            match len {
                0 => Ok(None),
                len => arena::lend(kind, len, align).map(Some),
            }
        };
        let bytes = order.bytes();
        let io_bytes = match order.op {
            XCOPY_CMD_READ | XCOPY_CMD_WRITE => bytes as usize,
            _ => 0,
        };
        let token_size = match order.op {
            XCOPY_CMD_TOKEN_CREATE => TOKEN_ROOM,
            _ => order.token.len() as u32,
        };
        let ranges = lent(Kind::Ranges, size_of_val(&order.ranges[..]), 8)?;
        let buffer = lent(Kind::Buffer, io_bytes, 4096)?;
        let token = lent(Kind::Token, token_size as usize, 8)?;
        let private = lent(
            Kind::Private,
            (cmd_private as usize).next_multiple_of(16),
            16,
        )?;
        let command = arena::lend(Kind::Command, size_of::<xcopy_cmd>() + tail, 8)?;
        let ranges_before = bytes_of(&order.ranges);
        let at = |block: &Option<Block>| block.map_or(std::ptr::null_mut::<u8>(), |b| b.pointer());
        let content = xcopy_cmd {
            cookie,
            op: order.op,
            method: order.method,
            flags: order.flags,
            src: order.src as *mut _,
            dst: order.dst as *mut _,
            ranges: at(&ranges).cast_const().cast(),
            nranges: order.ranges.len() as u32,
            timeout_ms: order.timeout_ms,
            bytes,
            buffer: at(&buffer).cast(),
            token: at(&token).cast(),
            token_size,
            token_type: 0,
            token_lifetime_s: 0,
            method_index: order.method_index,
            arg: order.arg as *mut _,
            private_data: at(&private).cast(),
        };
        let before = bytes_of(std::slice::from_ref(&content));
        // SAFETY: all blocks were just lent, and the plugin knows none of them.
        unsafe {
            command.fill(&before);
            if let Some(block) = &ranges {
                block.fill(&ranges_before);
            }
            if let Some(block) = &buffer {
                block.fill(&vec![0x5c; io_bytes]);
                block.fill(&order.data);
            }
            if let Some(block) = &token {
                block.fill(&order.token);
            }
            if let Some(block) = &private {
                block.fill(&vec![JUNK; block.len]);
            }
        }
        Ok(Flight {
            state: State::Waiting,
            canceled: false,
            queue: 0,
            ended: None,
            asked: Asked {
                op: order.op,
                bytes,
                token_size,
            },
            command,
            ranges,
            buffer,
            token,
            private,
            before,
            ranges_before,
            data: order.data.clone(),
        })
    }

    /// The command, as the plugin gets it.
    pub fn pointer(&self) -> *mut xcopy_cmd {
        self.command.pointer()
    }

    /// Takes an end in, and answers what the plugin must not touch any more.
    pub fn end(&mut self, result: &xcopy_result) -> Vec<Block> {
        for (fault, text) in judge::answer(&self.asked, result) {
            wire::fault(fault, &text);
        }
        let op = judge::op_name(self.asked.op);
        let mut ended = Ended {
            status: result.status,
            action: result.action,
            ..Default::default()
        };
        // SAFETY: nothing was taken back yet; a plugin that ended the command
        // and still writes is what this is here to find.
        unsafe {
            if self.command.bytes().get(..self.before.len()) != Some(&self.before[..])
                || self.ranges.is_some_and(|b| b.bytes() != self.ranges_before)
            {
                wire::fault(
                    Fault::ChangesCommand,
                    &format!("a {op} command was changed"),
                );
            }
            if let Some(block) = &self.buffer {
                if self.asked.op == XCOPY_CMD_READ {
                    ended.data = block.bytes().to_vec();
                } else if block.bytes() != self.data {
                    wire::fault(Fault::AltersSource, "WRITE changed its buffer");
                }
            }
            if let (Some(block), XCOPY_CMD_TOKEN_CREATE) = (&self.token, self.asked.op) {
                let size = (result.token_size as usize).min(block.len);
                ended.token = block.bytes()[..size].to_vec();
            }
        }
        self.state = State::Ended;
        self.ended = Some(ended);
        self.data = Vec::new();
        let mut blocks = vec![self.command];
        let others = [
            self.ranges.take(),
            self.buffer.take(),
            self.token.take(),
            self.private.take(),
        ];
        blocks.extend(others.into_iter().flatten());
        blocks
    }
}

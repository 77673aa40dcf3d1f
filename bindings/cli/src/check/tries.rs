//! What is tried on the devices of a bench.

use xcopy::abi::*;

use super::bench::{Bench, Did, Eyes, range, ranges_of, read, stamped};
use super::fault::Fault;
use super::flight::Order;
use super::plugin::{Checked, Method, stop};

/// Commands of the largest batch.
const MANY: u64 = 48;

impl Bench<'_> {
    /// A COPY of some ranges.
    pub fn copy(&self, method: &Method, ranges: Vec<xcopy_range>) -> Order {
        let by_name = method.flags & XCOPY_METHOD_BY_NAME != 0;
        Order {
            op: XCOPY_CMD_COPY,
            method: method.id,
            method_index: method.index,
            flags: if by_name { 0 } else { XCOPY_CMD_OFFLOAD_ONLY },
            src: self.src.handle,
            dst: self.dst.handle,
            ranges,
            ..Order::default()
        }
    }

    /// Drives a method within its limits and compares what it did.
    pub fn drive(&mut self, method: &Method, limits: &xcopy_limits) -> Checked<Did> {
        let (half, grain) = (self.half(), self.grain);
        let zero_is_all = |limit: u64| if limit == 0 { u64::MAX } else { limit };
        let bytes = zero_is_all(limits.max_bytes);
        let piece = zero_is_all(limits.max_range_bytes).min(bytes).min(half) / grain * grain;
        if piece == 0 {
            return Ok(Did::Left(-libc::EINVAL));
        }
        let mut cases = vec![
            ("one block", vec![range(0, half, grain)]),
            (
                "three blocks",
                vec![range(
                    half - piece.min(3 * grain),
                    self.span - piece.min(3 * grain),
                    piece.min(3 * grain),
                )],
            ),
            ("all of it", vec![range(0, half, piece)]),
        ];
        let n = ranges_of(limits, self.context)
            .min(half / (2 * grain))
            .min(bytes / grain);
        if n > 1 {
            let gap = if limits.contiguous_dst == 1 { 1 } else { 2 };
            let at = |i: u64| range((n - 1 - i) * grain, half + i * gap * grain, grain);
            cases.push(("many ranges", (0..n).map(at).collect()));
        }
        let mut commands = 0;
        for (name, ranges) in cases {
            let mut order = self.copy(method, ranges);
            order.timeout_ms = 60_000;
            if let Some(status) = self.copy_well(method, &[order], name)? {
                return Ok(Did::Left(status));
            }
            commands += 1;
        }
        let at_once = match limits.max_concurrent {
            _ if method.flags & XCOPY_METHOD_SERIAL_DST != 0 => 1,
            0 => MANY,
            limit => u64::from(limit),
        };
        let many: Vec<Order> = (0..MANY.min(half / grain))
            .map(|i| self.copy(method, vec![range(i * grain, half + i * grain, grain)]))
            .collect();
        self.stamp_again(2)?;
        for batch in many.chunks(at_once.max(1) as usize) {
            if let Some(status) = self.copy_well(method, batch, "a batch")? {
                return Ok(Did::Left(status));
            }
            commands += batch.len();
        }
        Ok(Did::Well(commands))
    }

    /// New content, so that a copy that does nothing shows.
    fn stamp_again(&mut self, generation: u8) -> Checked<()> {
        if matches!(self.eyes, Eyes::None(_)) {
            return Ok(());
        }
        self.stamp(generation)?;
        if self.shared {
            self.images[0] = self.images[1].clone();
        }
        Ok(())
    }

    /// Carries copies out; Some if the method leaves the pair by this status.
    fn copy_well(&mut self, method: &Method, orders: &[Order], what: &str) -> Checked<Option<i32>> {
        let ended = self.runner.run(orders)?;
        let what = format!("{}, {what}", method.name);
        for end in &ended {
            if end.leaves_method() {
                return Ok(Some(end.status));
            }
            if end.status != 0 {
                let text = format!("{what}: COPY answered {}", end.status);
                return stop(Fault::Fails, &text);
            }
        }
        let all: Vec<xcopy_range> = orders.iter().flat_map(|o| o.ranges.clone()).collect();
        for range in &all {
            let bytes = self.source(range.src_offset, range.length);
            if !bytes.is_empty() {
                self.note(range.dst_offset, &bytes);
            }
        }
        self.compare(&what, &all)?;
        Ok(None)
    }

    /// WRITE in the midst of what is there.
    pub fn write_inside(&mut self) -> Checked<()> {
        let block = u64::from(self.dst.block);
        let disk = &self.dst;
        let (at, handle, limit) = (self.half() + block, disk.handle, self.io_bytes(disk));
        for len in [
            block,
            (3 * block).min(limit),
            limit.min(self.half() - block),
        ] {
            let data = stamped(9, 9, len);
            let order = Order {
                op: XCOPY_CMD_WRITE,
                method: XCOPY_METHOD_READ_WRITE,
                dst: handle,
                ranges: vec![range(0, at, len)],
                data: data.clone(),
                ..Order::default()
            };
            self.all_well(&[order])?;
            if !matches!(self.eyes, Eyes::None(_)) {
                self.note(at, &data);
            }
            self.compare("WRITE", &[range(0, at, len)])?;
        }
        Ok(())
    }

    /// ZERO in the midst of what is there.
    pub fn zero_inside(&mut self) -> Checked<()> {
        let block = u64::from(self.dst.block);
        let at = self.half() + 5 * block;
        let len = (8 * block).min(self.io_bytes(&self.dst));
        if at + len > self.span {
            return Ok(());
        }
        let order = Order {
            op: XCOPY_CMD_ZERO,
            method: XCOPY_METHOD_ZERO,
            dst: self.dst.handle,
            ranges: vec![range(0, at, len)],
            ..Order::default()
        };
        self.all_well(&[order])?;
        if !matches!(self.eyes, Eyes::None(_)) {
            self.note(at, &vec![0; len as usize]);
        }
        self.compare("ZERO", &[range(0, at, len)])
    }

    /// FLUSH of the destination.
    pub fn flush(&mut self) -> Checked<()> {
        let order = Order {
            op: XCOPY_CMD_FLUSH,
            dst: self.dst.handle,
            ..Order::default()
        };
        self.all_well(&[order]).map(drop)
    }

    /// A token's round: made, written from, released.
    pub fn token(&mut self, create: &Method, write: &Method) -> Checked<Did> {
        let (half, grain) = (self.half(), self.grain);
        let len = (4 * grain).min(half);
        let made = Order {
            op: XCOPY_CMD_TOKEN_CREATE,
            method: create.id,
            method_index: create.index,
            src: self.src.handle,
            ranges: vec![range(0, 0, len)],
            ..Order::default()
        };
        let Some(made) = self.runner.run(&[made])?.pop() else {
            return Ok(Did::Left(0));
        };
        if made.leaves_method() {
            return Ok(Did::Left(made.status));
        }
        if made.status != 0 {
            return stop(
                Fault::Fails,
                &format!("TOKEN_CREATE answered {}", made.status),
            );
        }
        // From the token's second block on: src_offset counts bytes into it.
        let skip = if len > grain { grain } else { 0 };
        let written = range(skip, half, len - skip);
        let write_order = Order {
            op: XCOPY_CMD_TOKEN_WRITE,
            method: write.id,
            method_index: write.index,
            dst: self.dst.handle,
            ranges: vec![written],
            token: made.token.clone(),
            ..Order::default()
        };
        self.all_well(&[write_order])?;
        let bytes = self.source(skip, len - skip);
        if !bytes.is_empty() {
            self.note(half, &bytes);
        }
        self.compare("TOKEN_WRITE", &[written])?;
        let release = Order {
            op: XCOPY_CMD_TOKEN_RELEASE,
            method: write.id,
            method_index: write.index,
            dst: self.src.handle,
            token: made.token,
            ..Order::default()
        };
        self.all_well(&[release])?;
        Ok(Did::Well(3))
    }

    /// Commands of one kind that can be given at any time, if there is one.
    pub fn simple(&self, n: u64, method: Option<&Method>) -> Vec<Order> {
        let plugin = self.context.plugin;
        let places = (self.half() / self.grain).max(1);
        let block = u64::from(self.src.block);
        let order = |i: u64| match method {
            Some(method) => {
                let at = i % places * self.grain;
                Some(self.copy(method, vec![range(at, self.half() + at, self.grain)]))
            }
            None if plugin.can(XCOPY_CAN_READ) => Some(read(
                self.src.handle,
                i % (self.span / block) * block,
                block,
            )),
            None if plugin.can(XCOPY_CAN_FLUSH) => Some(Order {
                op: XCOPY_CMD_FLUSH,
                dst: self.dst.handle,
                ..Order::default()
            }),
            None => None,
        };
        (0..n).filter_map(order).collect()
    }
}

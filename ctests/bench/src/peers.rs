//! What the path is compared with: io_uring NOP, and a bare bounded queue.

use crate::{Failure, Work};
use crossbeam_queue::ArrayQueue;
use io_uring::{IoUring, cqueue, opcode, squeue};
use std::hint::black_box;

/// How a ring is set up.
#[derive(Clone, Copy, PartialEq)]
pub enum Ring {
    /// No flags.
    Default,
    /// SINGLE_ISSUER and DEFER_TASKRUN.
    Deferred,
}

/// `batch` NOPs are submitted and waited for.
pub fn uring(kind: Ring, batch: u32) -> Result<Work, Failure> {
    let mut builder = IoUring::<squeue::Entry, cqueue::Entry>::builder();
    if kind == Ring::Deferred {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    let mut ring = builder
        .build(64)
        .map_err(|e| format!("io_uring_setup: {e}"))?;
    let mut number = 0u64;
    Ok(Box::new(move |ops| {
        let end = number + ops;
        let mut sum = 0u64;
        while number < end {
            let mut queue = ring.submission();
            for _ in 0..batch {
                let entry = opcode::Nop::new().build().user_data(number);
                // SAFETY: a NOP points to nothing.
                unsafe { queue.push(&entry) }.map_err(|e| e.to_string())?;
                sum = sum.wrapping_add(number);
                number += 1;
            }
            drop(queue);
            ring.submit_and_wait(batch as usize)
                .map_err(|e| e.to_string())?;
            let mut taken = 0;
            for completion in ring.completion() {
                if completion.result() != 0 {
                    return Err(format!("NOP: {}", completion.result()));
                }
                sum = sum.wrapping_sub(completion.user_data());
                taken += 1;
            }
            if taken != batch {
                return Err(format!("{taken} of {batch} taken"));
            }
        }
        if sum != 0 {
            return Err("completions do not match".into());
        }
        Ok(())
    }))
}

/// `batch` entries of a request's size are pushed, then popped.
pub fn array_queue(batch: u32) -> Work {
    let queue: ArrayQueue<[u64; 8]> = ArrayQueue::new(256);
    let mut number = 0u64;
    Box::new(move |ops| {
        let end = number + ops;
        while number < end {
            for k in 0..u64::from(batch) {
                if queue.push(black_box([number + k; 8])).is_err() {
                    return Err("the queue is full".into());
                }
            }
            for k in 0..u64::from(batch) {
                if queue
                    .pop()
                    .is_none_or(|entry| black_box(entry)[7] != number + k)
                {
                    return Err("an entry was lost".into());
                }
            }
            number += u64::from(batch);
        }
        Ok(())
    })
}

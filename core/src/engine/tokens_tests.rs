//! Uses of a token, its pieces, and what becomes of its secrets.

use super::context::{Context, default_options};
use super::queue::{Queue, default_options as queue_options};
use super::shared::{Errand, Purpose};
use super::tokens::*;
use crate::host::Buffers;
use crate::plan::Cursor;
use std::sync::Arc;
use xcopy_abi::xcopy_result;

fn piece(position: u64, length: u64) -> Piece {
    Piece {
        position,
        length,
        secret: Secret::new(vec![1]),
    }
}

#[test]
fn a_piece_is_found_by_each_of_its_bytes() {
    let content = Content {
        pieces: vec![piece(0, 8), piece(8, 1), piece(9, 100)],
        bytes: 109,
        ..Content::default()
    };
    let start = |at| content.piece_at(at).map(|piece| piece.position);
    let found = [0, 7, 8, 9, 108, 109, u64::MAX].map(start);
    let wanted = [Some(0), Some(0), Some(8), Some(9), Some(9), None, None];
    assert_eq!(found, wanted);
    assert!(Content::default().piece_at(0).is_none());
}

#[test]
fn many_read_a_token_and_one_fills_it() {
    let token = Arc::new(Token::new(1));
    let (one, two) = (token.share(), token.share());
    assert!(one.is_some() && two.is_some() && token.take().is_none());
    drop(one);
    assert!(token.take().is_none());
    drop(two);
    let alone = token.take();
    assert!(alone.is_some() && token.share().is_none() && token.take().is_none());
    drop(alone);
    assert!(token.share().is_some());
}

#[test]
fn a_secret_is_not_in_the_buffer_when_it_is_taken_again() {
    let buffers = Buffers::new(None, None, std::ptr::null_mut(), 0, 1 << 20);
    for secret in [true, false] {
        let mut buffer = buffers.try_take(4096).expect("memory");
        buffer[..4096].fill(7);
        if secret {
            buffer.keep_secret(4096);
        }
        let place = buffer.as_ptr();
        drop(buffer);
        let again = buffers.try_take(4096).expect("memory");
        assert_eq!(again.as_ptr(), place, "another buffer proves nothing");
        let left = again[..4096].iter().filter(|byte| **byte != 0).count();
        assert_eq!(left, if secret { 0 } else { 4096 });
    }
}

#[test]
fn what_commands_left_behind_use_ends_with_the_last_of_them() {
    let context = Context::new(default_options()).expect("a context");
    let queue = Queue::new(context, queue_options()).expect("a queue");
    let shared = queue.shared().clone();
    let fly = |cell: u32| {
        let cookie = shared.launch(cell);
        shared.cells[cell as usize].set_errand(Errand {
            slot: 0,
            plugin: 3,
            method: 0,
            purpose: Purpose::Method,
            ranges: 1,
            start: Cursor::default(),
        });
        xcopy_result {
            cookie,
            ..Default::default()
        }
    };
    let (one, two) = (fly(0), fly(1));
    let token = Arc::new(Token::new(1));
    shared.leave(LeftBehind {
        tokens: vec![token.clone()],
        ..LeftBehind::default()
    });
    drop(queue);
    for (result, holders) in [(one, 2), (two, 1)] {
        assert!(Arc::strong_count(&token) == 2);
        shared.complete_remote(3, &result);
        assert_eq!(Arc::strong_count(&token), holders);
    }
}

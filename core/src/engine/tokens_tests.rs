//! Uses of a token, its pieces, and what becomes of its secrets.

use super::tokens::*;
use crate::host::Buffers;
use std::sync::Arc;

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

//! Vectors written by hand from the tables, and decoders under any bytes.

use super::*;
use proptest::prelude::*;
use xcopy_scsi_protocol::wire::status::CopyState;

/// SBC-4 5.12.2, table 72: two ranges, IMMED, access upon reference, 30 s.
#[test]
fn populate_token_s_parameter_list() {
    let ranges = [
        BlockRange {
            lba: 0x1_0203_0405,
            blocks: 0x800,
        },
        BlockRange { lba: 7, blocks: 1 },
    ];
    let list = populate_parameters(&ranges, true, Some(0x0001_0000), 30);
    #[rustfmt::skip]
    let expected = [
        0x00, 0x2e, // POPULATE TOKEN DATA LENGTH: 48 - 2
        0x03, 0x00, // RTV, IMMED
        0x00, 0x00, 0x00, 0x1e, // INACTIVITY TIMEOUT
        0x00, 0x01, 0x00, 0x00, // ROD TYPE
        0x00, 0x00, // reserved
        0x00, 0x20, // BLOCK DEVICE RANGE DESCRIPTOR LENGTH
        0x00, 0x00, 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x00, 0x00, 0x08, 0x00, 0, 0, 0, 0,
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x01, 0, 0, 0, 0,
    ];
    assert_eq!(list, expected);
    // No type asked for: neither RTV nor ROD TYPE.
    let list = populate_parameters(&ranges[1..], false, None, 0);
    assert_eq!((list.len(), list[2], &list[8..12]), (32, 0, &[0; 4][..]));
}

/// SBC-4 5.59.2, table 159.
#[test]
fn write_using_token_s_parameter_list() {
    let mut secret = [0xa5; TOKEN_BYTES];
    secret[6..8].copy_from_slice(&[0x01, 0xf8]);
    let token = Token::new(&secret).expect("a token");
    let range = BlockRange {
        lba: 0x10,
        blocks: 0x20,
    };
    let list = write_parameters(&token, &[range], 0x0102, false, true);
    assert_eq!(list.len(), 552);
    #[rustfmt::skip]
    assert_eq!(list[..16], [
        0x02, 0x26, // WRITE USING TOKEN DATA LENGTH: 552 - 2
        0x02, 0x00, // DEL_TKN
        0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0x01, 0x02, // OFFSET INTO ROD
    ]);
    assert_eq!(list[16..528], secret);
    assert_eq!(list[528..536], [0, 0, 0, 0, 0, 0, 0x00, 0x10]);
    #[rustfmt::skip]
    assert_eq!(list[536..], [
        0, 0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0x20, 0, 0, 0, 0,
    ]);
    assert_eq!(write_parameters(&token, &[range], 0, true, false)[2], 0x01);
}

/// SBC-4 4.28.4, table 31: FFFF0001h, length 01F8h, and zeroes.
#[test]
fn the_token_for_zeroes() {
    let token = Token::zeroes();
    assert_eq!(token.bytes()[..8], [0xff, 0xff, 0, 1, 0, 0, 0x01, 0xf8]);
    assert!(token.bytes()[8..].iter().all(|byte| *byte == 0));
    assert_eq!(token.rod_type(), ROD_TYPE_BLOCK_ZERO);
    assert_eq!((token.represents(), token.block_length()), (None, None));
}

/// SPC-4 6.4.6.2, table 110, with SBC-4 6.7 for bytes 96 to 127.
#[test]
fn a_token_s_fields() {
    let mut bytes = [0; TOKEN_BYTES];
    bytes[..8].copy_from_slice(&[0x00, 0x80, 0x00, 0x01, 0, 0, 0x01, 0xf8]);
    bytes[48..64].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0]);
    bytes[96..100].copy_from_slice(&[0, 0, 0x10, 0]);
    let token = Token::new(&bytes).expect("a token");
    assert_eq!(token.rod_type(), 0x0080_0001);
    assert_eq!(token.represents(), Some(8 << 20));
    assert_eq!(token.block_length(), Some(4096));
    bytes[48..64].fill(0xff);
    assert_eq!(Token::new(&bytes).and_then(|t| t.represents()), None);
    bytes[7] = 0xf7;
    assert!(Token::new(&bytes).is_none(), "another length");
    bytes[7] = 0xf8;
    assert!(Token::new(&bytes[..511]).is_none(), "cut off");
    let printed = format!("{token:?}");
    assert_eq!(printed, "Token(type 0x00800001)");
}

/// SPC-4 6.5.7: POPULATE TOKEN, completed, with four bytes of sense data field.
#[test]
fn rod_token_information() {
    let mut bytes = vec![0u8; 32];
    bytes[..4].copy_from_slice(&[0, 0, 0x02, 0x26]); // 32 - 4 + 4 + 4 + 514
    bytes[4] = 0x10;
    bytes[5] = 0x01;
    bytes[6..8].copy_from_slice(&[0, 9]);
    bytes[8..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xfe]);
    bytes[13] = 4;
    bytes[15] = 0xf1;
    bytes[23] = 0x40;
    bytes.extend([0xee; 4]);
    bytes.extend([0, 0, 0x02, 0x02]); // ROD TOKEN DESCRIPTORS LENGTH
    bytes.extend([0, 0]);
    let mut token = vec![0x77; TOKEN_BYTES];
    token[6..8].copy_from_slice(&[0x01, 0xf8]);
    bytes.extend(&token);
    let information = Information::decode(&bytes).expect("an answer");
    assert_eq!(information.state.state, CopyState::Done);
    assert_eq!(information.state.delay_ms, None);
    assert_eq!(information.state.bytes(512), Some(64 * 512));
    let found = information.token.expect("a token");
    assert_eq!(found.bytes()[..], token[..]);
    // Cut off anywhere the token is not there, and nothing is read beyond.
    for cut in 32..bytes.len() {
        let information = Information::decode(&bytes[..cut]).expect("a head");
        assert!(information.token.is_none(), "{cut}");
    }
    assert!(Information::decode(&bytes[..31]).is_none());
    // What AVAILABLE DATA leaves out does not count either.
    bytes[3] -= 1;
    let information = Information::decode(&bytes).expect("a head");
    assert!(information.token.is_none());
}

/// SPC-4 6.5.8: a list of 96 bytes each.
#[test]
fn all_rod_tokens() {
    assert_eq!(management_tokens(&[0, 0, 0, 4]), Some(0));
    assert_eq!(management_tokens(&[0, 0, 1, 0x24]), Some(3));
    assert_eq!(management_tokens(&[0, 0, 0, 3]), None);
    assert_eq!(management_tokens(&[0, 0, 0]), None);
}

proptest! {
    #[test]
    fn any_bytes_decode_to_something_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..1100)) {
        let _ = Information::decode(&bytes);
        let _ = management_tokens(&bytes);
        if let Some(token) = Token::new(&bytes) {
            let _ = (token.represents(), token.block_length(), token.rod_type());
        }
    }
}

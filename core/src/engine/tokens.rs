//! Tokens: bearer secrets that name data, held by the core and wiped on free.

use crate::error::{Error, Result};
use crate::host::Buffer;
pub use crate::host::wipe;
use crate::plugin::{Registry, is_name};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use xcopy_abi::*;

/// Handle kind of tokens.
pub const KIND_TOKEN: u32 = 2;

/// Memory that is overwritten before it is freed.
#[derive(Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(bytes)
    }

    /// The secret.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

/// One token of a device: a part of what the whole represents.
pub struct Piece {
    /// First byte, counted in the token.
    pub position: u64,
    /// Bytes that it represents.
    pub length: u64,
    /// The device's token.
    pub secret: Secret,
}

/// What made a token, and alone knows what to do with it. By names: numbers of
/// methods are given anew in every process.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Maker {
    /// The plugin.
    pub plugin: String,
    /// Its method.
    pub method: String,
}

/// What commands still use whose queue was destroyed by force. It is wiped when the
/// last of them ended.
#[derive(Default)]
pub struct LeftBehind {
    /// Tokens that are written or released.
    pub tokens: Vec<Arc<Token>>,
    /// Tokens that are made, or unmade.
    pub making: Vec<Making>,
    /// Where new ones go to.
    pub buffers: Vec<Buffer>,
}

/// What is in a token once it was filled.
#[derive(Default)]
pub struct Content {
    /// In ascending order, without gaps once filled.
    pub pieces: Vec<Piece>,
    /// Bytes that all pieces represent.
    pub bytes: u64,
    /// What made it.
    pub maker: Maker,
    /// Where it was made, in words.
    pub origin: String,
    /// First byte on the device that it was made of.
    pub origin_offset: u64,
    /// When it was made, in seconds since 1970; 0 is unknown.
    pub created_s: u64,
    /// Seconds that it lives without being used; 0 is unknown.
    pub lifetime_s: u32,
    /// Type of the pieces.
    pub token_type: u32,
    /// Whether it can be used.
    pub filled: bool,
}

/// A token that is being made, before any of it can be used.
#[derive(Default)]
pub struct Making {
    /// Those that the device made, in no order.
    pub pieces: Vec<Piece>,
    /// Index of the plugin queue, and the method, that make them: one for all.
    pub by: Option<(u32, u16)>,
    /// The shortest life of a piece, in seconds; 0 is unknown.
    pub lifetime_s: u32,
    /// Type of the pieces.
    pub token_type: u32,
    /// Nothing comes of it.
    pub is_given_up: bool,
    /// Pieces that the device was told to forget, from the first on.
    pub unmade: usize,
}

impl Content {
    /// The piece that holds the token's byte `at`.
    pub fn piece_at(&self, at: u64) -> Option<&Piece> {
        let next = self.pieces.partition_point(|piece| piece.position <= at);
        let piece = self.pieces.get(next.checked_sub(1)?)?;
        (at - piece.position < piece.length).then_some(piece)
    }
}

/// A token.
pub struct Token {
    /// Its handle.
    pub handle: u32,
    /// Requests that use it now, or `ALONE`.
    users: AtomicU32,
    /// What is in it.
    pub content: Mutex<Content>,
}

impl Token {
    /// An empty token.
    pub fn new(handle: u32) -> Token {
        Token {
            handle,
            users: AtomicU32::new(0),
            content: Mutex::new(Content::default()),
        }
    }

    /// Takes it for a request that only reads it, unless another one fills it.
    pub fn share(self: &Arc<Self>) -> Option<TokenUse> {
        let more = |users: u32| (users < ALONE - 1).then(|| users + 1);
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        self.users.fetch_update(set, fetch, more).ok()?;
        Some(TokenUse(self.clone()))
    }

    /// Takes it for the one that fills or frees it, unless anybody uses it.
    pub fn take(self: &Arc<Self>) -> Option<TokenUse> {
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        self.users.compare_exchange(0, ALONE, set, fetch).ok()?;
        Some(TokenUse(self.clone()))
    }

    /// Locks the content.
    pub fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// `Token::users` while one request fills it.
const ALONE: u32 = u32::MAX;

/// A request's use of a token, given back when dropped.
pub struct TokenUse(Arc<Token>);

impl TokenUse {
    /// The token, to be kept beyond the use.
    pub fn token(&self) -> &Arc<Token> {
        &self.0
    }
}

impl std::ops::Deref for TokenUse {
    type Target = Token;

    fn deref(&self) -> &Token {
        &self.0
    }
}

impl Drop for TokenUse {
    fn drop(&mut self) {
        let less = |users| Some(if users == ALONE { 0 } else { users - 1 });
        // Never refused: `less` always answers.
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.0.users.fetch_update(set, fetch, less);
    }
}

/* Serialised, little endian: magic (8 bytes), version (4), total length (4),
 * checksum (8), 0 (4), lifetime (4), type (4), number of pieces (4), bytes
 * represented (8), when made (8), offset on the origin (8), names of the plugin
 * and of its method (32 each, with their NUL), origin (128, with its NUL), then
 * for each piece its position (8), length (8), the token's size (4) and the token.
 * The checksum finds damage, not malice: there is no key. */
const MAGIC: &[u8; 8] = b"XCPYTOKN";
const VERSION: u32 = 3;
const HEADER: usize = 256;
const PIECE_HEADER: usize = 20;
const NAME: usize = 32;
const ORIGIN: usize = 128;

/// What a token of a type shows of a source that changes (SPC-4 4.20.3: ROD
/// types, in which plugins of other storage state theirs).
fn shows(token_type: u32) -> u32 {
    match token_type {
        0x0001_0000 => XCOPY_TOKEN_SHOWS_SOURCE,
        0x0080_0001 => XCOPY_TOKEN_SHOWS_PAST_UNCHANGED,
        0x0080_0000..=0x0080_ffff => XCOPY_TOKEN_SHOWS_PAST,
        0xffff_0001 => XCOPY_TOKEN_SHOWS_ZEROES,
        _ => XCOPY_TOKEN_SHOWS_UNKNOWN,
    }
}

/// `HOST:DEVICE`, for people.
pub fn origin_of(device: &str) -> String {
    let host = nix::sys::utsname::uname();
    let host = host.as_ref().ok().and_then(|name| name.nodename().to_str());
    let mut origin = format!("{}:{device}", host.unwrap_or("?"));
    let mut room = ORIGIN - 1;
    while !origin.is_char_boundary(room.min(origin.len())) {
        room -= 1;
    }
    origin.truncate(room);
    origin.retain(|c| c != '\0');
    origin
}

/// Seconds since 1970, or 0.
pub fn seconds_now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A text in a field that ends with a NUL.
fn field<const N: usize>(text: &str) -> [u8; N] {
    let mut field = [0; N];
    for (to, from) in field.iter_mut().zip(text.bytes().take(N - 1)) {
        *to = from;
    }
    field
}

fn text_of(field: &[u8]) -> Option<String> {
    let end = field.iter().position(|b| *b == 0)?;
    std::str::from_utf8(&field[..end]).ok().map(str::to_owned)
}

fn serialised_len(content: &Content) -> usize {
    let pieces: usize = content
        .pieces
        .iter()
        .map(|p| PIECE_HEADER + p.secret.bytes().len())
        .sum();
    HEADER + pieces
}

/// FNV-1a over everything but the checksum itself.
fn checksum(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if (16..24).contains(&index) { 0 } else { *byte };
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// Describes `token` for a process with these plugins.
pub fn info(token: &Token, plugins: &Registry) -> xcopy_token_info {
    let content = token.content();
    let method = plugins.method_by_name(&content.maker.method);
    xcopy_token_info {
        bytes: if content.filled { content.bytes } else { 0 },
        export_bytes: if content.filled {
            serialised_len(&content) as u64
        } else {
            0
        },
        lifetime_s: content.lifetime_s,
        token_type: content.token_type,
        method: method.unwrap_or(XCOPY_METHOD_NONE),
        reserved: 0,
        filled: u32::from(content.filled),
        plugin: field::<NAME>(&content.maker.plugin).map(|b| b as core::ffi::c_char),
        created_s: content.created_s,
        origin_offset: content.origin_offset,
        shows: shows(content.token_type),
        reserved2: 0,
        origin: field::<ORIGIN>(&content.origin).map(|b| b as core::ffi::c_char),
    }
}

/// Writes `token` into `out` and answers the length, or the length needed.
pub fn export(token: &Token, out: &mut [u8]) -> Result<std::result::Result<usize, usize>> {
    let content = token.content();
    if !content.filled {
        return Err(Error::new(
            libc::EINVAL,
            "the token is empty: fill it with XCOPY_OP_TOKEN_CREATE first",
        ));
    }
    let needed = serialised_len(&content);
    let Some(out) = out.get_mut(..needed) else {
        return Ok(Err(needed));
    };
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    put(MAGIC);
    put(&VERSION.to_le_bytes());
    put(&(needed as u32).to_le_bytes());
    put(&0u64.to_le_bytes());
    put(&0u32.to_le_bytes());
    put(&content.lifetime_s.to_le_bytes());
    put(&content.token_type.to_le_bytes());
    put(&(content.pieces.len() as u32).to_le_bytes());
    put(&content.bytes.to_le_bytes());
    put(&content.created_s.to_le_bytes());
    put(&content.origin_offset.to_le_bytes());
    put(&field::<NAME>(&content.maker.plugin));
    put(&field::<NAME>(&content.maker.method));
    put(&field::<ORIGIN>(&content.origin));
    for piece in &content.pieces {
        put(&piece.position.to_le_bytes());
        put(&piece.length.to_le_bytes());
        put(&(piece.secret.bytes().len() as u32).to_le_bytes());
        put(piece.secret.bytes());
    }
    let sum = checksum(out);
    out[16..24].copy_from_slice(&sum.to_le_bytes());
    Ok(Ok(needed))
}

/// Reads what `export` wrote.
pub fn import(bytes: &[u8]) -> Result<Content> {
    let refuse = |what: &str| {
        Err(Error::new(
            libc::EINVAL,
            format!("not a usable token: {what}"),
        ))
    };
    let mut at = 0usize;
    let mut take = |n: usize| -> Option<&[u8]> {
        let part = bytes.get(at..at.checked_add(n)?)?;
        at += n;
        Some(part)
    };
    fn u32_of(part: Option<&[u8]>) -> Option<u32> {
        Some(u32::from_le_bytes(part?.try_into().ok()?))
    }
    fn u64_of(part: Option<&[u8]>) -> Option<u64> {
        Some(u64::from_le_bytes(part?.try_into().ok()?))
    }
    if take(8) != Some(MAGIC.as_slice()) {
        return refuse("it does not begin as one (foreign or damaged)");
    }
    match u32_of(take(4)) {
        Some(VERSION) => {}
        Some(version) => return refuse(&format!("its version is {version}, this is {VERSION}")),
        None => return refuse("it is cut off"),
    }
    if u32_of(take(4)).map(|n| n as usize) != Some(bytes.len()) {
        return refuse("its length is not what it says (cut off or padded)");
    }
    if u64_of(take(8)) != Some(checksum(bytes)) {
        return refuse("its checksum is wrong (damaged)");
    }
    let parsed = (|| {
        if u32_of(take(4))? != 0 {
            return None;
        }
        let lifetime_s = u32_of(take(4))?;
        let token_type = u32_of(take(4))?;
        let count = u32_of(take(4))?;
        let total = u64_of(take(8))?;
        let created_s = u64_of(take(8))?;
        let origin_offset = u64_of(take(8))?;
        let plugin = text_of(take(NAME)?)?;
        let method = text_of(take(NAME)?)?;
        if !is_name(plugin.as_bytes()) || !is_name(method.as_bytes()) {
            return None;
        }
        let origin = text_of(take(ORIGIN)?)?;
        let mut pieces = Vec::new();
        let mut position = 0u64;
        for _ in 0..count {
            let start = u64_of(take(8))?;
            let length = u64_of(take(8))?;
            let size = u32_of(take(4))? as usize;
            if start != position || length == 0 {
                return None;
            }
            position = position.checked_add(length)?;
            pieces.push(Piece {
                position: start,
                length,
                secret: Secret::new(take(size)?.to_vec()),
            });
        }
        if position != total || total == 0 {
            return None;
        }
        Some(Content {
            pieces,
            bytes: total,
            maker: Maker { plugin, method },
            origin,
            origin_offset,
            created_s,
            lifetime_s,
            token_type,
            filled: true,
        })
    })();
    match parsed {
        Some(content) if at == bytes.len() => Ok(content),
        _ => refuse("its parts do not fit together (damaged)"),
    }
}

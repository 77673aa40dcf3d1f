//! Tokens: bearer secrets that name data, held by the core and wiped on free.

use crate::error::{Error, Result};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
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

/// Overwrites `bytes` in a way that the compiler must keep.
pub fn wipe(bytes: &mut [u8]) {
    for byte in bytes {
        // SAFETY: a valid, exclusive reference to one byte.
        unsafe { std::ptr::write_volatile(byte, 0) };
    }
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
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

/// What is in a token once it was filled.
#[derive(Default)]
pub struct Content {
    /// In ascending order, without gaps once filled.
    pub pieces: Vec<Piece>,
    /// Bytes that all pieces represent.
    pub bytes: u64,
    /// Method that made it.
    pub method: u16,
    /// Plugin that made it.
    pub plugin: String,
    /// Seconds that it was given to live.
    pub lifetime_s: u32,
    /// Type of the pieces.
    pub token_type: u32,
    /// Whether it can be used.
    pub filled: bool,
}

/// A token.
pub struct Token {
    /// Its handle.
    pub handle: u32,
    /// Requests that use it now.
    pub users: AtomicU32,
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

    /// Locks the content.
    pub fn content(&self) -> std::sync::MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/* Serialised: magic, version, total length, checksum, method, lifetime, type,
 * bytes, plugin name, then the pieces. Little endian. The checksum finds damage,
 * not malice: there is no key. */
const MAGIC: &[u8; 8] = b"XCPYTOKN";
const VERSION: u32 = 1;
const HEADER: usize = 84;
const PIECE_HEADER: usize = 20;
const PLUGIN_NAME: usize = 32;

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

/// Describes `token`.
pub fn info(token: &Token) -> xcopy_token_info {
    let content = token.content();
    let mut info = xcopy_token_info {
        bytes: if content.filled { content.bytes } else { 0 },
        export_bytes: if content.filled {
            serialised_len(&content) as u64
        } else {
            0
        },
        lifetime_s: content.lifetime_s,
        token_type: content.token_type,
        method: content.method,
        reserved: 0,
        filled: u32::from(content.filled),
        plugin: [0; PLUGIN_NAME],
    };
    for (to, from) in info
        .plugin
        .iter_mut()
        .zip(content.plugin.bytes().take(PLUGIN_NAME - 1))
    {
        *to = from as core::ffi::c_char;
    }
    info
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
    put(&u32::from(content.method).to_le_bytes());
    put(&content.lifetime_s.to_le_bytes());
    put(&content.token_type.to_le_bytes());
    put(&(content.pieces.len() as u32).to_le_bytes());
    put(&content.bytes.to_le_bytes());
    let mut name = [0u8; PLUGIN_NAME];
    for (to, from) in name
        .iter_mut()
        .zip(content.plugin.bytes().take(PLUGIN_NAME - 1))
    {
        *to = from;
    }
    put(&name);
    put(&[0; 4]);
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
        let method = u16::try_from(u32_of(take(4))?).ok()?;
        let lifetime_s = u32_of(take(4))?;
        let token_type = u32_of(take(4))?;
        let count = u32_of(take(4))?;
        let total = u64_of(take(8))?;
        let name = take(PLUGIN_NAME)?;
        let name_len = name.iter().position(|b| *b == 0)?;
        let plugin = std::str::from_utf8(&name[..name_len]).ok()?.to_owned();
        take(4)?;
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
            method,
            plugin,
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

//! How a command ended, and why something failed.

use crate::errno::EIO;
use xcopy_abi::*;

/// The end of a command.
pub type Outcome = Result<Done, Failure>;

/// Success: all bytes of the command certainly are where they belong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Done {
    through_host: bool,
    token: Option<(u32, u32)>,
    token_lifetime_s: u32,
}

impl Done {
    /// Plain success.
    pub fn new() -> Done {
        Done::default()
    }

    /// The bytes passed through the host, although the method offloads.
    pub fn through_host(mut self) -> Done {
        self.through_host = true;
        self
    }

    /// TOKEN_CREATE: the token has `bytes` bytes and this type.
    pub fn with_token(mut self, bytes: u32, token_type: u32) -> Done {
        self.token = Some((bytes, token_type));
        self
    }

    /// TOKEN_CREATE: the token lives so many seconds without being used.
    pub fn token_lives(mut self, seconds: u32) -> Done {
        self.token_lifetime_s = seconds;
        self
    }
}

/// Why something was refused or failed, and what the core may do about it.
#[derive(Clone, Debug)]
pub struct Failure {
    pub(crate) errno: i32,
    pub(crate) text: String,
    action: u16,
    pub(crate) reason: u16,
    flags: u32,
    known: u64,
    detail: u64,
    pub(crate) sense: Vec<u8>,
}

impl Failure {
    /// A failure with a positive errno; the core decides by it what to do. What
    /// is no errno counts as EIO.
    pub fn new(errno: i32) -> Failure {
        Failure {
            errno: if (1..=4095).contains(&errno) {
                errno
            } else {
                EIO
            },
            text: String::new(),
            action: XCOPY_ACTION_DEFAULT,
            reason: XCOPY_REASON_FAILED,
            flags: 0,
            known: 0,
            detail: 0,
            sense: Vec::new(),
        }
    }

    /// In words, with what to do next: shown to the operator where the core has
    /// a place for it (open, probe).
    pub fn because(mut self, text: impl Into<String>) -> Failure {
        self.text = text.into();
        self
    }

    /// What [`because`](Self::because) said.
    pub fn words(&self) -> &str {
        &self.text
    }

    /// An XCOPY_REASON_.
    pub fn reason(mut self, reason: u16) -> Failure {
        self.reason = reason;
        self
    }

    /// Transient: the command is given again, later.
    pub fn retry(mut self) -> Failure {
        self.action = XCOPY_ACTION_RETRY;
        self
    }

    /// Too large: the command is split and given again.
    pub fn split(mut self) -> Failure {
        self.action = XCOPY_ACTION_SPLIT;
        self
    }

    /// This method cannot do it: the rest goes by the next one.
    pub fn next_method(mut self) -> Failure {
        self.action = XCOPY_ACTION_NEXT_METHOD;
        self
    }

    /// No method can: the request fails.
    pub fn fatal(mut self) -> Failure {
        self.action = XCOPY_ACTION_FATAL;
        self
    }

    /// Bytes, from the first range on, that are known to be copied all the same.
    pub fn known(mut self, bytes: u64) -> Failure {
        self.known = bytes;
        self
    }

    /// The destination was certainly not touched.
    pub fn untouched(mut self) -> Failure {
        self.flags |= XCOPY_RESULT_UNTOUCHED;
        self
    }

    /// Nothing was sent to the device: it was not touched, and no command is counted.
    pub fn unsent(mut self) -> Failure {
        self.flags |= XCOPY_RESULT_UNTOUCHED | XCOPY_RESULT_UNSENT;
        self
    }

    /// The device would not say that the command ended: it may still write. The
    /// request fails.
    pub fn unsettled(mut self) -> Failure {
        self.flags |= XCOPY_RESULT_UNSETTLED;
        self
    }

    /// The error arose reading the source.
    pub fn on_read(mut self) -> Failure {
        self.flags |= XCOPY_RESULT_ERR_ON_READ;
        self
    }

    /// The error arose writing the destination.
    pub fn on_write(mut self) -> Failure {
        self.flags |= XCOPY_RESULT_ERR_ON_WRITE;
        self
    }

    /// The device's own words: a detail word of XCOPY_DETAIL_SCSI, _NVME or the
    /// like, without the method.
    pub fn detail(mut self, detail: u64) -> Failure {
        self.detail = detail;
        self
    }

    /// A code of the vendor's own, 48 bits.
    pub fn vendor_code(self, code: u64) -> Failure {
        let code = code & 0xffff_ffff_ffff;
        self.detail(XCOPY_DETAIL_VENDOR << XCOPY_DETAIL_DOMAIN_SHIFT | code)
    }

    /// Sense data as the target sent it; what is beyond 252 bytes is left out.
    pub fn sense(mut self, sense: &[u8]) -> Failure {
        self.sense = sense.iter().take(XCOPY_SENSE_MAX).copied().collect();
        self
    }
}

/// What a failure says, to look at in a plugin's own tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Said<'a> {
    /// A positive errno.
    pub errno: i32,
    /// XCOPY_ACTION_.
    pub action: u16,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// XCOPY_RESULT_ flags.
    pub flags: u32,
    /// Bytes known to be copied.
    pub known: u64,
    /// The device's own words, or 0.
    pub detail: u64,
    /// In words.
    pub text: &'a str,
}

impl Failure {
    /// What it says.
    pub fn said(&self) -> Said<'_> {
        Said {
            errno: self.errno,
            action: self.action,
            reason: self.reason,
            flags: self.flags,
            known: self.known,
            detail: self.detail,
            text: &self.text,
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(error.raw_os_error().unwrap_or(EIO)).because(error.to_string())
    }
}

/// The C result. Sense data is pointed to: `outcome` has to outlive its use.
pub(crate) fn result_of(command: &xcopy_cmd, outcome: &Outcome) -> xcopy_result {
    let mut result = xcopy_result {
        cookie: command.cookie,
        ..xcopy_result::default()
    };
    match outcome {
        Ok(done) => {
            result.bytes = command.bytes;
            if done.through_host {
                result.flags = XCOPY_RESULT_THROUGH_HOST;
            }
            if let Some((bytes, token_type)) = done.token {
                result.token_size = bytes.min(command.token_size);
                result.token_type = token_type;
                result.token_lifetime_s = done.token_lifetime_s;
            }
        }
        Err(failure) => {
            result.status = -failure.errno;
            result.action = failure.action;
            result.reason = failure.reason;
            result.flags = failure.flags;
            result.bytes = failure.known.min(command.bytes);
            if result.bytes > 0 {
                result.flags &= !(XCOPY_RESULT_UNTOUCHED | XCOPY_RESULT_UNSENT);
            }
            if failure.detail != 0 {
                let method = u64::from(command.method) << XCOPY_DETAIL_METHOD_SHIFT;
                result.detail = failure.detail | method;
            }
            if !failure.sense.is_empty() {
                result.sense = failure.sense.as_ptr();
                result.sense_len = failure.sense.len() as u32;
            }
        }
    }
    result
}

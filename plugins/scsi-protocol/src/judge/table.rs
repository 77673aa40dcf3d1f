//! The table of sense data (SPC-4 annex F codes; what targets mean by them).
//! The first rule that fits counts.

use super::{Action, Purpose};
use crate::wire::sense::*;
use xcopy_plugin_sdk::abi::*;
use xcopy_plugin_sdk::errno::*;

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    /// Sense keys that it is about, as a mask; 0 is all.
    pub keys: u16,
    /// Additional sense code; None is any.
    pub asc: Option<u8>,
    /// Additional sense code qualifiers; none named is any.
    pub ascqs: &'static [u8],
    /// Purposes that it is about, as a mask; 0 is all.
    purposes: u8,
    /// What to do.
    pub action: Action,
    /// XCOPY_REASON_.
    pub reason: u16,
    /// errno, positive.
    pub errno: i32,
    /// Nothing was written.
    pub untouched: bool,
    /// What it means, and what helps.
    pub text: &'static str,
}

impl Rule {
    /// The row is about this sense data.
    pub fn matches(&self, key: u8, asc: u8, ascq: u8) -> bool {
        (self.keys == 0 || self.keys >> (key & 0xf) & 1 == 1)
            && self.asc.is_none_or(|own| own == asc)
            && (self.ascqs.is_empty() || self.ascqs.contains(&ascq))
    }

    /// The row is about commands of this purpose.
    pub fn is_for(&self, purpose: Purpose) -> bool {
        self.purposes == 0 || self.purposes & bit(purpose) != 0
    }

    const fn key(mut self, key: u8) -> Rule {
        self.keys |= 1 << key;
        self
    }

    const fn only(mut self, purpose: Purpose) -> Rule {
        self.purposes |= bit(purpose);
        self
    }

    const fn untouched(mut self) -> Rule {
        self.untouched = true;
        self
    }
}

const fn bit(purpose: Purpose) -> u8 {
    1 << purpose as u8
}

const fn any(
    asc: Option<u8>,
    ascqs: &'static [u8],
    action: Action,
    reason: u16,
    errno: i32,
    text: &'static str,
) -> Rule {
    Rule {
        keys: 0,
        asc,
        ascqs,
        purposes: 0,
        action,
        reason,
        errno,
        untouched: false,
        text,
    }
}

const fn row(
    asc: u8,
    ascqs: &'static [u8],
    action: Action,
    reason: u16,
    errno: i32,
    text: &'static str,
) -> Rule {
    any(Some(asc), ascqs, action, reason, errno, text)
}

const FAILED: u16 = XCOPY_REASON_FAILED;

/// All rows.
pub const TABLE: &[Rule] = &[
    // Unit attentions: the command was not carried out (SAM-5 5.14).
    row(
        0x2a,
        &[0x03, 0x04, 0x05],
        Action::Reidentify,
        FAILED,
        EBUSY,
        "reservations or registrations were changed by another host",
    )
    .key(UNIT_ATTENTION)
    .untouched(),
    row(
        0x29,
        &[],
        Action::Reidentify,
        FAILED,
        EBUSY,
        "the logical unit was reset: its tokens and list identifiers are gone",
    )
    .key(UNIT_ATTENTION)
    .untouched(),
    row(
        0x3f,
        &[0x0e],
        Action::Reidentify,
        FAILED,
        EBUSY,
        "the target's map of logical units changed",
    )
    .key(UNIT_ATTENTION)
    .untouched(),
    any(
        None,
        &[],
        Action::Reidentify,
        FAILED,
        EBUSY,
        "the logical unit has something to report (unit attention)",
    )
    .key(UNIT_ATTENTION)
    .untouched(),
    // Protected and full destinations, whatever the key.
    row(
        0x27,
        &[0x07],
        Action::Fatal,
        FAILED,
        ENOSPC,
        "the thin-provisioned logical unit is out of space: make room on the array",
    ),
    row(
        0x27,
        &[],
        Action::Fatal,
        FAILED,
        EROFS,
        "the destination is write protected",
    ),
    any(
        None,
        &[],
        Action::Fatal,
        FAILED,
        EROFS,
        "the logical unit is protected",
    )
    .key(DATA_PROTECT),
    row(
        0x21,
        &[],
        Action::Fatal,
        XCOPY_REASON_BOUNDS,
        EREMOTEIO,
        "a block address beyond the end: the logical unit is smaller than it was",
    ),
    // Third-party copies.
    row(
        0x00,
        &[0x16],
        Action::OtherListId,
        XCOPY_REASON_RESOURCES,
        EBUSY,
        "the list identifier is in use by another copy",
    )
    .key(ILLEGAL_REQUEST)
    .untouched(),
    row(
        0x0d,
        &[0x02],
        Action::OtherDesignator,
        XCOPY_REASON_CROSS_DEVICE,
        EREMOTEIO,
        "the copy manager cannot reach source or destination: another array, not mapped to \
         it, or the name is not what it knows",
    ),
    row(
        0x0d,
        &[0x03],
        Action::NextMethodForGood,
        XCOPY_REASON_BLOCK_SIZE,
        EREMOTEIO,
        "the copy manager does not copy between devices of these kinds or block sizes",
    ),
    row(
        0x0d,
        &[0x04, 0x05],
        Action::Fatal,
        FAILED,
        EREMOTEIO,
        "the copy manager transferred less or more than it should: was a logical unit resized?",
    ),
    row(
        0x0d,
        &[],
        Action::NextMethod,
        FAILED,
        EREMOTEIO,
        "source or destination failed under the copy manager",
    ),
    row(
        0x08,
        &[0x04],
        Action::OtherDesignator,
        XCOPY_REASON_CROSS_DEVICE,
        EREMOTEIO,
        "the copy manager cannot reach source or destination",
    ),
    row(
        0x08,
        &[],
        Action::Retry,
        FAILED,
        EREMOTEIO,
        "the logical unit does not communicate",
    )
    .key(NOT_READY),
    row(
        0x26,
        &[0x06, 0x08],
        Action::Split,
        XCOPY_REASON_LIMITS,
        EREMOTEIO,
        "too many descriptors for the copy manager",
    )
    .untouched(),
    row(
        0x26,
        &[0x07],
        Action::OtherDesignator,
        XCOPY_REASON_NOT_SUPPORTED,
        EREMOTEIO,
        "the copy manager does not know this kind of designator",
    )
    .untouched(),
    row(
        0x26,
        &[0x09],
        Action::NextMethodForGood,
        XCOPY_REASON_NOT_SUPPORTED,
        EREMOTEIO,
        "the copy manager does not copy from block device to block device",
    ),
    row(
        0x26,
        &[0x0a],
        Action::NextMethod,
        XCOPY_REASON_BLOCK_SIZE,
        EREMOTEIO,
        "the block sizes do not fit each other",
    ),
    row(
        0x26,
        &[0x0b],
        Action::Fatal,
        FAILED,
        EREMOTEIO,
        "the copy manager saw inline data, which was not sent",
    )
    .untouched(),
    row(
        0x26,
        &[0x0c],
        Action::NextMethod,
        XCOPY_REASON_NOT_SUPPORTED,
        EREMOTEIO,
        "the copy manager does not copy between these two",
    ),
    row(
        0x26,
        &[0x0d],
        Action::NextMethod,
        XCOPY_REASON_MISALIGNED,
        EREMOTEIO,
        "the length is not a multiple of the copy manager's granularity",
    ),
    row(
        0x26,
        &[0x15],
        Action::NextMethodForGood,
        XCOPY_REASON_PERMISSION,
        EREMOTEIO,
        "the target does not authorise this host to copy: ask its administrator",
    ),
    // Tokens.
    row(
        0x23,
        &[0x00],
        Action::RecreateToken,
        XCOPY_REASON_TOKEN,
        ESTALE,
        "the copy manager refuses this use of the token",
    ),
    row(
        0x23,
        &[0x01],
        Action::NextMethod,
        XCOPY_REASON_TOKEN,
        ESTALE,
        "the copy manager does not take tokens of this type",
    ),
    row(
        0x23,
        &[0x02, 0x03],
        Action::NextMethodForGood,
        XCOPY_REASON_CROSS_DEVICE,
        ESTALE,
        "the token is another copy manager's, and this one takes only its own",
    ),
    row(
        0x23,
        &[0x04, 0x06, 0x07, 0x08, 0x09],
        Action::RecreateToken,
        XCOPY_REASON_TOKEN,
        ESTALE,
        "the token is unknown, expired, revoked, cancelled or deleted",
    ),
    row(
        0x23,
        &[0x05, 0x0a],
        Action::Fatal,
        XCOPY_REASON_TOKEN,
        ESTALE,
        "the token is damaged",
    ),
    row(
        0x23,
        &[],
        Action::RecreateToken,
        XCOPY_REASON_TOKEN,
        ESTALE,
        "the copy manager refuses the token",
    ),
    row(
        0x55,
        &[0x0c, 0x0d],
        Action::BackOff,
        XCOPY_REASON_RESOURCES,
        EREMOTEIO,
        "the copy manager has no room for another token",
    ),
    row(
        0x55,
        &[],
        Action::BackOff,
        XCOPY_REASON_RESOURCES,
        EREMOTEIO,
        "the target is out of resources",
    ),
    // What a target does not know, or did not like.
    row(
        0x20,
        &[],
        Action::NextMethodForGood,
        XCOPY_REASON_NOT_SUPPORTED,
        ENOTSUP,
        "the target does not know the command",
    )
    .key(ILLEGAL_REQUEST)
    .only(Purpose::Copy)
    .only(Purpose::CopyStatus)
    .only(Purpose::Query)
    .untouched(),
    row(
        0x24,
        &[0x00],
        Action::Recopy,
        FAILED,
        EREMOTEIO,
        "the target forgot how the copy ended",
    )
    .key(ILLEGAL_REQUEST)
    .only(Purpose::CopyStatus),
    row(
        0x24,
        &[],
        Action::NextMethodForGood,
        XCOPY_REASON_NOT_SUPPORTED,
        ENOTSUP,
        "the target does not know this form of the command",
    )
    .key(ILLEGAL_REQUEST)
    .only(Purpose::Copy)
    .only(Purpose::CopyStatus)
    .only(Purpose::Query)
    .untouched(),
    row(
        0x25,
        &[],
        Action::Fatal,
        XCOPY_REASON_REMOVED,
        ENODEV,
        "the logical unit is not there any more",
    )
    .key(ILLEGAL_REQUEST)
    .untouched(),
    row(
        0x1a,
        &[],
        Action::NextMethod,
        XCOPY_REASON_LIMITS,
        EREMOTEIO,
        "the target refuses the length of the parameter list",
    )
    .key(ILLEGAL_REQUEST)
    .untouched(),
    row(
        0x26,
        &[],
        Action::NextMethod,
        FAILED,
        EREMOTEIO,
        "the target refuses a field of the parameter list",
    )
    .only(Purpose::Copy)
    .only(Purpose::CopyStatus)
    .only(Purpose::Query),
    // The unit itself.
    row(
        0x04,
        &[],
        Action::Retry,
        FAILED,
        EREMOTEIO,
        "the logical unit is not ready",
    )
    .key(NOT_READY),
    row(
        0x3a,
        &[],
        Action::Fatal,
        XCOPY_REASON_REMOVED,
        ENODEV,
        "there is no medium in the device",
    ),
    any(
        None,
        &[],
        Action::Retry,
        FAILED,
        EREMOTEIO,
        "the logical unit is not ready",
    )
    .key(NOT_READY),
    row(
        0x10,
        &[],
        Action::Fatal,
        FAILED,
        EILSEQ,
        "protection information does not match the data",
    )
    .only(Purpose::Io),
    any(
        None,
        &[],
        Action::Retry,
        FAILED,
        EIO,
        "the target aborted the command",
    )
    .key(ABORTED_COMMAND),
    any(
        None,
        &[],
        Action::NextMethod,
        FAILED,
        EREMOTEIO,
        "the copy manager gave up: how much it wrote is not known",
    )
    .key(COPY_ABORTED),
    any(
        None,
        &[],
        Action::NextMethod,
        FAILED,
        ENODATA,
        "a medium error under the copy manager: reading it by the host shows where",
    )
    .key(MEDIUM_ERROR)
    .only(Purpose::Copy),
    any(None, &[], Action::Fatal, FAILED, ENODATA, "a medium error").key(MEDIUM_ERROR),
    any(
        None,
        &[],
        Action::NextMethod,
        FAILED,
        EREMOTEIO,
        "a hardware error of the target",
    )
    .key(HARDWARE_ERROR)
    .only(Purpose::Copy),
    any(
        None,
        &[],
        Action::Fatal,
        FAILED,
        EREMOTEIO,
        "a hardware error of the target",
    )
    .key(HARDWARE_ERROR),
];

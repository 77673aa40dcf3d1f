//! The commands by name, as faults, service times and the trace speak of them.

/// A command, read from operation code and service action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are SPC-4's and SBC-3's")]
pub enum Kind {
    TestUnitReady,
    RequestSense,
    Inquiry,
    ModeSense,
    ReadCapacity,
    Read,
    Write,
    WriteSame,
    SynchronizeCache,
    ReportLuns,
    ReportOperationCodes,
    PersistentReserveIn,
    PersistentReserveOut,
    StartStopUnit,
    ExtendedCopyLid1,
    ExtendedCopyLid4,
    PopulateToken,
    WriteUsingToken,
    CopyOperationAbort,
    CopyStatusLid1,
    CopyDataLid1,
    OperatingParameters,
    FailureDetails,
    CopyStatusLid4,
    CopyDataLid4,
    RodTokenInformation,
    ReportAllRodTokens,
    Other,
}

/// EXTENDED COPY and the third-party copy out commands (SPC-4 table 117).
pub const THIRD_PARTY_COPY_OUT: u8 = 0x83;
/// RECEIVE COPY RESULTS and the third-party copy in commands (SPC-4 table 118).
pub const THIRD_PARTY_COPY_IN: u8 = 0x84;

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 28] = [
        Kind::TestUnitReady,
        Kind::RequestSense,
        Kind::Inquiry,
        Kind::ModeSense,
        Kind::ReadCapacity,
        Kind::Read,
        Kind::Write,
        Kind::WriteSame,
        Kind::SynchronizeCache,
        Kind::ReportLuns,
        Kind::ReportOperationCodes,
        Kind::PersistentReserveIn,
        Kind::PersistentReserveOut,
        Kind::StartStopUnit,
        Kind::ExtendedCopyLid1,
        Kind::ExtendedCopyLid4,
        Kind::PopulateToken,
        Kind::WriteUsingToken,
        Kind::CopyOperationAbort,
        Kind::CopyStatusLid1,
        Kind::CopyDataLid1,
        Kind::OperatingParameters,
        Kind::FailureDetails,
        Kind::CopyStatusLid4,
        Kind::CopyDataLid4,
        Kind::RodTokenInformation,
        Kind::ReportAllRodTokens,
        Kind::Other,
    ];

    /// By its name, e.g. `PopulateToken`.
    pub fn by_name(name: &str) -> Option<Kind> {
        Kind::ALL
            .into_iter()
            .find(|kind| format!("{kind:?}") == name)
    }

    /// Of a command descriptor block.
    pub fn of(cdb: &[u8]) -> Kind {
        let service_action = cdb.get(1).copied().unwrap_or(0) & 0x1F;
        match (cdb.first().copied().unwrap_or(0xFF), service_action) {
            (0x00, _) => Kind::TestUnitReady,
            (0x03, _) => Kind::RequestSense,
            (0x12, _) => Kind::Inquiry,
            (0x1A | 0x5A, _) => Kind::ModeSense,
            (0x25, _) | (0x9E, 0x10) => Kind::ReadCapacity,
            (0x08 | 0x28 | 0xA8 | 0x88, _) => Kind::Read,
            (0x0A | 0x2A | 0xAA | 0x8A, _) => Kind::Write,
            (0x41 | 0x93, _) => Kind::WriteSame,
            (0x35 | 0x91, _) => Kind::SynchronizeCache,
            (0xA0, _) => Kind::ReportLuns,
            (0xA3, 0x0C) => Kind::ReportOperationCodes,
            (0x5E, _) => Kind::PersistentReserveIn,
            (0x5F, _) => Kind::PersistentReserveOut,
            (0x1B, _) => Kind::StartStopUnit,
            (THIRD_PARTY_COPY_OUT, 0x00) => Kind::ExtendedCopyLid1,
            (THIRD_PARTY_COPY_OUT, 0x01) => Kind::ExtendedCopyLid4,
            (THIRD_PARTY_COPY_OUT, 0x10) => Kind::PopulateToken,
            (THIRD_PARTY_COPY_OUT, 0x11) => Kind::WriteUsingToken,
            (THIRD_PARTY_COPY_OUT, 0x1C) => Kind::CopyOperationAbort,
            (THIRD_PARTY_COPY_IN, 0x00) => Kind::CopyStatusLid1,
            (THIRD_PARTY_COPY_IN, 0x01) => Kind::CopyDataLid1,
            (THIRD_PARTY_COPY_IN, 0x03) => Kind::OperatingParameters,
            (THIRD_PARTY_COPY_IN, 0x04) => Kind::FailureDetails,
            (THIRD_PARTY_COPY_IN, 0x05) => Kind::CopyStatusLid4,
            (THIRD_PARTY_COPY_IN, 0x06) => Kind::CopyDataLid4,
            (THIRD_PARTY_COPY_IN, 0x07) => Kind::RodTokenInformation,
            (THIRD_PARTY_COPY_IN, 0x08) => Kind::ReportAllRodTokens,
            _ => Kind::Other,
        }
    }

    /// It starts a copy operation, which others can ask about while it runs.
    pub fn starts_an_operation(self) -> bool {
        matches!(
            self,
            Kind::ExtendedCopyLid1
                | Kind::ExtendedCopyLid4
                | Kind::PopulateToken
                | Kind::WriteUsingToken
        )
    }

    /// It changes the medium.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Kind::Write
                | Kind::WriteSame
                | Kind::ExtendedCopyLid1
                | Kind::ExtendedCopyLid4
                | Kind::WriteUsingToken
        )
    }

    /// It reads the medium, or asks something that a reservation of exclusive
    /// access forbids to others.
    pub(crate) fn reads(self) -> bool {
        matches!(self, Kind::Read | Kind::PopulateToken)
    }
}

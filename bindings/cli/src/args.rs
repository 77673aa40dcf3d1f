//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::size;

/// Copies by the storage itself where it can, by the host where it cannot, and
/// says which.
#[derive(Debug, Parser)]
#[command(name = "xcopy", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit status: 0 done, 1 failed, 2 wrong usage.\n\
    Environment: XCOPY_METHODS limits the methods like --method; XCOPY_PLUGIN_DIR is \
    where plugins are looked for first, before the built-in ones.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Copy a file, disk or partition
    Copy(CopyArgs),
    /// Show what each method can do for a pair, and why not
    Probe(ProbeArgs),
    /// Show what a device is
    Info(InfoArgs),
    /// List the plugins and their methods, or check one
    Plugins(PluginsArgs),
    /// Make and use tokens: representations of data that an array keeps
    #[command(subcommand)]
    Token(TokenCommand),
}

/// `xcopy copy`
#[derive(Debug, Args)]
pub struct CopyArgs {
    /// First byte to read; with this, --dst-offset or --length a piece is copied
    /// into DST, whose other bytes stay and which is never shortened
    #[arg(long = "src-offset", value_name = "N", value_parser = size::parse)]
    pub src_start: Option<u64>,
    /// First byte to write; given, it may be 0 and DST is still not shortened
    #[arg(long = "dst-offset", value_name = "N", value_parser = size::parse)]
    pub dst_start: Option<u64>,
    /// Bytes to copy [default: to the end of SRC]
    #[arg(long, value_name = "N", value_parser = size::parse)]
    pub length: Option<u64>,
    /// Use only this method; may be repeated, or a list with commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub method: Vec<String>,
    /// Fail instead of letting any byte pass through the host
    #[arg(long)]
    pub no_fallback: bool,
    /// The copy survives power loss once the command has ended
    #[arg(long)]
    pub durable: bool,
    /// Read both back and compare
    #[arg(long)]
    pub verify: bool,
    /// Write to DST although it is mounted or claimed
    #[arg(long)]
    pub force: bool,
    /// Commands in flight at once [default: adaptive]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub depth: Option<u32>,
    /// Bytes of one command [default: adaptive]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_nonzero)]
    pub chunk: Option<u64>,
    /// Copy at most this many bytes in a second
    #[arg(long, value_name = "SIZE", value_parser = size::parse_nonzero)]
    pub rate: Option<u64>,
    /// Allow NVMe feature 16h to be switched on for a copy across namespaces
    #[arg(long)]
    pub set_host_behavior: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// No progress bar and no summary
    #[arg(long)]
    pub quiet: bool,
    /// A file, a disk or partition, or NAME:SPEC of a plugin
    #[arg(value_name = "SRC")]
    pub src: PathBuf,
    /// The same, or a directory; a file that does not exist is created
    #[arg(value_name = "DST")]
    pub dst: PathBuf,
}

impl CopyArgs {
    /// First byte to read.
    pub fn src_offset(&self) -> u64 {
        self.src_start.unwrap_or(0)
    }

    /// First byte to write.
    pub fn dst_offset(&self) -> u64 {
        self.dst_start.unwrap_or(0)
    }

    /// Whether DST becomes what SRC is, and no piece of it.
    pub fn whole(&self) -> bool {
        self.src_start.is_none() && self.dst_start.is_none() && self.length.is_none()
    }
}

/// `xcopy probe`
#[derive(Debug, Args)]
pub struct ProbeArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Where a copy would read
    #[arg(value_name = "SRC")]
    pub src: PathBuf,
    /// Where a copy would write; it must exist
    #[arg(value_name = "DST")]
    pub dst: PathBuf,
}

/// `xcopy info`
#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// A file, a disk or partition, or NAME:SPEC of a plugin
    #[arg(value_name = "DEV")]
    pub device: PathBuf,
}

/// `xcopy plugins`
#[derive(Debug, Args)]
pub struct PluginsArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Check whether a plugin's file keeps the contract, in a process of its own
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
    /// A scratch device for the check, which OVERWRITES it: what stands behind
    /// NAME:, or a file or disk; given twice, a source and a destination
    /// [default: NAME:1M, or two files]
    #[arg(long, value_name = "SPEC", requires = "check")]
    pub spec: Vec<String>,
    /// Seconds that a call or a command may take in the check
    #[arg(long, value_name = "SECONDS", default_value = "5", requires = "check")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// The checking process's part
    #[arg(long, hide = true, requires = "check")]
    pub check_part: Option<Part>,
    /// The checking process's directory
    #[arg(long, hide = true, requires = "check")]
    pub scratch: Option<PathBuf>,
}

/// What a checking process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Whether the core takes the plugin.
    Accept,
    /// The plugin under a host of today.
    Today,
    /// The plugin under a host of a later version.
    Later,
}

/// `xcopy token`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Have the array of SRC make a token; FILE is a bearer secret
    Create(TokenCreateArgs),
    /// Write what a token stands for to DST
    Write(TokenWriteArgs),
    /// Tell the device that made a token to forget it, and remove FILE
    Release(TokenReleaseArgs),
    /// Show what a token is, never the token itself
    Info(TokenInfoArgs),
}

/// `xcopy token create`
#[derive(Debug, Args)]
pub struct TokenCreateArgs {
    /// First byte that the token stands for
    #[arg(long, value_name = "N", default_value = "0", value_parser = size::parse)]
    pub src_offset: u64,
    /// Bytes that the token stands for [default: to the end of SRC]
    #[arg(long, value_name = "N", value_parser = size::parse_nonzero)]
    pub length: Option<u64>,
    /// Seconds that the token should live [default: the array's]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..))]
    pub lifetime: Option<u32>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Where the data is
    #[arg(value_name = "SRC")]
    pub src: PathBuf,
    /// File for the token; must not exist, gets mode 0600
    #[arg(short = 'o', long = "output", value_name = "FILE")]
    pub output: PathBuf,
}

/// `xcopy token write`
#[derive(Debug, Args)]
pub struct TokenWriteArgs {
    /// First byte to write from, counted in what the token stands for
    #[arg(long, value_name = "N", default_value = "0", value_parser = size::parse)]
    pub src_offset: u64,
    /// First byte to write
    #[arg(long, value_name = "N", default_value = "0", value_parser = size::parse)]
    pub dst_offset: u64,
    /// Bytes to write [default: to the end of what the token stands for]
    #[arg(long, value_name = "N", value_parser = size::parse_nonzero)]
    pub length: Option<u64>,
    /// What was written survives power loss once the command has ended
    #[arg(long)]
    pub durable: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// The token's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where to write; it must exist
    #[arg(value_name = "DST")]
    pub dst: PathBuf,
}

/// `xcopy token release`
#[derive(Debug, Args)]
pub struct TokenReleaseArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// The token's file; removed once the device has forgotten the token
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The device that made the token: the SRC of its creation
    #[arg(value_name = "DEV")]
    pub device: PathBuf,
}

/// `xcopy token info`
#[derive(Debug, Args)]
pub struct TokenInfoArgs {
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// The token's file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn definitions_are_consistent() {
        super::Cli::command().debug_assert();
    }
}

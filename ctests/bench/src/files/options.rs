//! The command line.

use crate::Failure;
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
usage: xcopy-bench files [--quick] [--runs N] [--only TEXT] [--dir DIR] [--out DIR] [--minutes N] [--check] --build DIR
  --build DIR  where lib/libxcopy.so.0 and bin/xcopy are (build)
  --quick      3 runs of each contestant
  --runs N     runs of each contestant (9)
  --only TEXT  rows whose name contains TEXT
  --dir DIR    on the disk to measure; 9 GiB are used and given back (build/bench)
  --out DIR    where figures and pictures go (build/bench)
  --minutes N  no row begins after so many (18)
  --check      ends with 1 if a row is behind, or copied wrongly
";

/// What is to be measured.
pub struct Options {
    /// The built library and command.
    pub build: PathBuf,
    /// Runs of each contestant.
    pub runs: u32,
    /// Part of the names of the rows wanted.
    pub only: String,
    /// A directory on the disk.
    pub dir: PathBuf,
    /// Where figures go.
    pub out: PathBuf,
    /// No row begins after it.
    pub limit: Duration,
    /// Whether being behind is a failure.
    pub check: bool,
}

impl Options {
    /// Reads the arguments; None if help is asked for.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, Failure> {
        let mut options = Options {
            build: PathBuf::new(),
            runs: 9,
            only: String::new(),
            dir: "build/bench".into(),
            out: "build/bench".into(),
            limit: Duration::from_secs(18 * 60),
            check: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            let number = |text: String| match text.parse::<u32>() {
                Ok(n) if (1..=1000).contains(&n) => Ok(n),
                _ => Err(format!("{text}: not a number from 1 to 1,000")),
            };
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--quick" => options.runs = 3,
                "--check" => options.check = true,
                "--build" => options.build = absolute(value()?)?,
                "--only" => options.only = value()?,
                "--dir" => options.dir = absolute(value()?)?,
                "--out" => options.out = absolute(value()?)?,
                "--runs" => options.runs = number(value()?)?,
                "--minutes" => {
                    options.limit = Duration::from_secs(u64::from(number(value()?)?) * 60)
                }
                _ => return Err(format!("unknown argument {arg}\n{USAGE}")),
            }
        }
        if options.build.as_os_str().is_empty() {
            return Err(format!("--build is missing\n{USAGE}"));
        }
        Ok(Some(options))
    }
}

fn absolute(path: String) -> Result<PathBuf, Failure> {
    std::path::absolute(&path).map_err(|e| format!("{path}: {e}"))
}

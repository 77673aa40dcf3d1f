//! The command line.

use std::path::PathBuf;

pub const USAGE: &str = "\
usage: xcopy-bench [--quick | --smoke] [--runs N] [--ops N] [--only TEXT] [--json FILE] [--check] --lib DIR
  --lib DIR    where libxcopy.so.0 and xcopy/plugins are (build/lib)
  --quick      few and short runs: to see that it works, not to judge by
  --smoke      each case for a moment: every completion is looked at, no time is;
               closes with counts, and ends with 1 if a case failed
  --runs N     runs of each case (15)
  --ops N      operations of one run (1000000)
  --only TEXT  cases whose name contains TEXT
  --json FILE  writes the figures there
  --check      ends with 1 if a goal is missed
";

/// What is to be measured.
pub struct Options {
    /// Where the library is.
    pub lib: PathBuf,
    /// Runs of each case.
    pub runs: u32,
    /// Operations of one run.
    pub ops: u64,
    /// Part of the name of the cases wanted.
    pub only: String,
    /// Where the figures go.
    pub json: Option<PathBuf>,
    /// Whether a missed goal is a failure.
    pub check: bool,
    /// Whether only to see that all of it works.
    pub smoke: bool,
}

impl Options {
    /// Reads the arguments; None if help is asked for.
    pub fn parse(mut args: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
        let mut lib = None;
        let mut options = Options {
            lib: PathBuf::new(),
            runs: 15,
            ops: 1_000_000,
            only: String::new(),
            json: None,
            check: false,
            smoke: false,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "-h" | "--help" => return Ok(None),
                "--quick" => (options.runs, options.ops) = (3, 100_000),
                "--smoke" => (options.smoke, options.runs, options.ops) = (true, 1, 512),
                "--check" => options.check = true,
                "--lib" => lib = Some(PathBuf::from(value()?)),
                "--only" => options.only = value()?,
                "--json" => options.json = Some(value()?.into()),
                "--runs" => options.runs = number(&arg, &value()?)? as u32,
                "--ops" => options.ops = number(&arg, &value()?)?,
                _ => return Err(format!("unknown argument {arg}")),
            }
        }
        options.lib = lib.ok_or("--lib is missing")?;
        Ok(Some(options))
    }
}

fn number(arg: &str, text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(n) if (1..=1_000_000_000).contains(&n) => Ok(n),
        _ => Err(format!(
            "{arg} {text}: not a number from 1 to 1,000,000,000"
        )),
    }
}

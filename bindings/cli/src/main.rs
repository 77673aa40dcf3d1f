//! The `xcopy` command: copies through the public C surface of libxcopy, shows
//! what a pair of devices can do, and says why something was not offloaded.
//!
//! | module | subject |
//! |---|---|
//! | args, size | the command line |
//! | library | safe wrappers around the C calls |
//! | check | `xcopy plugins --check`, which plays the host itself |
//! | target | from a path to an open device |
//! | copy, transfer, verify, report | `xcopy copy` |
//! | probe, info, plugins, token | the other subcommands |
//! | methods | which methods the user allows |
//! | json | the shapes that scripts read |
//! | text | what others say, made safe for a terminal |
//! | progress, interrupt, streams | the terminal, and what may be missing of it |
#![deny(unsafe_code)]

mod args;
#[allow(unsafe_code)]
mod check;
mod copy;
mod failure;
mod info;
mod interrupt;
mod json;
#[allow(unsafe_code)]
mod library;
mod methods;
mod plugins;
mod probe;
mod progress;
mod report;
mod size;
#[allow(unsafe_code)]
mod streams;
mod target;
mod text;
mod token;
mod transfer;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::{Failure, Result};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Copy(args) => copy::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Info(args) => info::run(args),
        Command::Plugins(args) => plugins::run(args),
        Command::Token(command) => token::run(command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&failure.to_string());
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Prints a line on standard error; a closed one is no reason to stop.
fn say(message: &str) {
    let _ = writeln!(std::io::stderr(), "xcopy: {}", text::plain(message));
}

/// Prints lines of text on standard output.
fn print(text: &str) -> Result<()> {
    write_out(&text::plain_lines(text))
}

fn write_out(text: &str) -> Result<()> {
    if streams::output_is_closed() {
        return Err(Failure::failed(
            libc::EBADF,
            "standard output: it is closed; the result could not be shown",
        ));
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| {
            Failure::io(
                "standard output",
                &error,
                "the result could not be shown in full",
            )
        })
}

/// Prints one JSON document as a line.
fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let mut text = serde_json::to_string(value)
        .map_err(|error| Failure::failed(libc::EIO, format!("json: {error}; report this")))?;
    text.push('\n');
    write_out(&text)
}

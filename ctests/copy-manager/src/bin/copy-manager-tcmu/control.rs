//! Changes to a running copy manager, over a socket: one line, one answer.
//!
//!     fault KIND WHEN EFFECT     e.g. fault PopulateToken nth 1 check 5 55 0d
//!     clear                      takes all faults away
//!     service MS                 of every command
//!     trace FILE                 writes what was asked, and forgets it
//!     attention UNIT ASC ASCQ    for the kernel's nexus
//!     spoil UNIT LBA, reset UNIT, resize UNIT BLOCKS
//!
//! WHEN: nth N, every N, first N, always. EFFECT: check KEY ASC ASCQ, status XX,
//! within BYTES KEY ASC ASCQ, token unknown|revoked|expired|cancelled|deleted,
//! list-id-busy, lose-status, never-ends, short BYTES, other-units, granularity,
//! no-resources, nexus-loss, lie. Codes are hexadecimal, as the standards print them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use copy_manager::fault::TokenFate;
use copy_manager::{CopyManager, Effect, Entry, Kind, Refusal, ServiceTimes, When};

/// Sends a line to a running one.
pub fn tell(path: &str, line: &str) -> Result<(), String> {
    let exchange = || -> io::Result<String> {
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(line.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match exchange() {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

/// Takes lines until the process ends.
pub fn listen(path: &str, manager: Arc<CopyManager>) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let read = BufReader::new(&stream).read_line(&mut line);
            let answer = match read {
                Ok(_) => obey(&manager, &line).map_or_else(|text| text, |()| "ok".to_owned()),
                Err(error) => error.to_string(),
            };
            drop(stream.write_all(answer.as_bytes()));
        }
    });
    Ok(())
}

struct Words<'a>(std::str::SplitWhitespace<'a>);

impl<'a> Words<'a> {
    fn word(&mut self) -> Result<&'a str, String> {
        self.0.next().ok_or_else(|| "a word is missing".to_owned())
    }

    fn number(&mut self) -> Result<u64, String> {
        let word = self.word()?;
        word.parse().map_err(|_| format!("{word} is not a number"))
    }

    fn code(&mut self) -> Result<u8, String> {
        let word = self.word()?;
        u8::from_str_radix(word, 16).map_err(|_| format!("{word} is not a hexadecimal code"))
    }

    fn check(&mut self) -> Result<Refusal, String> {
        Ok(Refusal::check(self.code()?, self.code()?, self.code()?))
    }
}

fn obey(manager: &CopyManager, line: &str) -> Result<(), String> {
    let mut words = Words(line.split_whitespace());
    match words.word()? {
        "fault" => {
            let name = words.word()?;
            let kind = Kind::by_name(name).ok_or_else(|| format!("no command {name}"))?;
            let when = when(&mut words)?;
            manager.set_fault(kind, when, effect(&mut words)?);
        }
        "clear" => manager.clear_faults(),
        "service" => {
            let other = Duration::from_millis(words.number()?);
            manager.set_service(ServiceTimes {
                other,
                ..ServiceTimes::default()
            });
        }
        "trace" => {
            let text: String = manager.trace().iter().map(line_of).collect();
            manager.clear_trace();
            std::fs::write(words.word()?, text).map_err(|error| error.to_string())?;
        }
        "attention" => {
            let unit = words.number()? as usize;
            manager.raise_attention(0, unit, words.code()?, words.code()?);
        }
        "spoil" => manager.spoil(words.number()? as usize, words.number()?),
        "reset" => manager.reset_unit(words.number()? as usize),
        "resize" => manager.resize(words.number()? as usize, words.number()?),
        word => return Err(format!("no such word: {word}")),
    }
    Ok(())
}

fn when(words: &mut Words<'_>) -> Result<When, String> {
    Ok(match words.word()? {
        "nth" => When::Nth(words.number()?),
        "every" => When::Every(words.number()?),
        "first" => When::First(words.number()?),
        "always" => When::Always,
        word => return Err(format!("{word}: not nth, every, first or always")),
    })
}

fn effect(words: &mut Words<'_>) -> Result<Effect, String> {
    Ok(match words.word()? {
        "check" => Effect::Answer(words.check()?),
        "status" => Effect::Answer(Refusal::Status(words.code()?)),
        "within" => Effect::AnswerWithin(words.number()?, words.check()?),
        "token" => Effect::Token(match words.word()? {
            "unknown" => TokenFate::Unknown,
            "revoked" => TokenFate::Revoked,
            "expired" => TokenFate::Expired,
            "cancelled" => TokenFate::Cancelled,
            "deleted" => TokenFate::Deleted,
            word => return Err(format!("{word}: no fate of a token")),
        }),
        "list-id-busy" => Effect::ListIdBusy,
        "lose-status" => Effect::LoseStatus,
        "never-ends" => Effect::NeverEnds,
        "short" => Effect::Short(words.number()?),
        "other-units" => Effect::OtherUnits,
        "granularity" => Effect::Granularity,
        "no-resources" => Effect::NoResources,
        "nexus-loss" => Effect::NexusLoss,
        "lie" => Effect::Lie,
        word => return Err(format!("{word}: no such effect")),
    })
}

fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Unit, command, CDB, parameter list, status and sense of one command.
fn line_of(entry: &Entry) -> String {
    let status = entry
        .status
        .map_or("--".to_owned(), |status| format!("{status:02x}"));
    format!(
        "{} {:?} {} {} {status} {}\n",
        entry.unit,
        entry.kind,
        hex(&entry.cdb),
        hex(&entry.parameters),
        hex(&entry.sense)
    )
}

//! What was found out of a namespace, for a person.

use crate::namespace::Namespace;
use crate::pair;
use crate::system::Port;
use std::fmt::Write;

impl<P: Port> Namespace<P> {
    /// Lines of "key: value". Asks the controller again; blocks.
    pub fn describe(&self) -> String {
        self.look_again();
        let facts = self.facts();
        let mut text = String::new();
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                // Writing to a String does not fail.
                let _ = writeln!(text, "{key}: {}", value.replace('\n', " "));
            }
        };
        let (controller, data) = (facts.controller, facts.data);
        let yes = |yes| if yes { "yes" } else { "no" }.to_owned();
        line("namespace (NSID)", self.nsid.to_string());
        line("controllers", self.paths().controllers.join(", "));
        line("blocks", data.blocks.to_string());
        line("format", pair::words(data.format));
        line("copy (ONCS)", yes(controller.copies));
        line("all copies are fast (ONCS)", yes(controller.all_fast));
        line("copy formats offered (OCFS)", numbers(controller.formats));
        let on = match self.switches.read(&self.port) {
            // Formats 0h and 1h have no switch.
            Ok(()) => numbers(self.switches.formats() & !3),
            Err(errno) => format!("not known: {}", std::io::Error::from_raw_os_error(errno)),
        };
        line("copy formats switched on (CDFE)", on);
        line("largest range in blocks (MSSRL)", data.mssrl.to_string());
        line("largest copy in blocks (MCL)", data.mcl.to_string());
        line(
            "ranges of a copy (MSRC)",
            (u32::from(data.msrc) + 1).to_string(),
        );
        line(
            "in the way",
            self.port.hindrance().trim_start_matches("; ").to_owned(),
        );
        text
    }
}

/// The bits that are set: "0h 2h", or "none".
fn numbers(bits: u16) -> String {
    let set = (0..16).filter(|bit| bits >> bit & 1 == 1);
    let words: Vec<String> = set.map(|bit| format!("{bit:X}h")).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn formats_in_words() {
        assert_eq!(numbers(0), "none");
        assert_eq!(numbers(0b1101), "0h 2h 3h");
        assert_eq!(numbers(1 << 15), "Fh");
    }
}

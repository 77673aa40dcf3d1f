//! The controllers that reach a namespace, and what follows for a pair.

use crate::pair::Refusal;
use xcopy_plugin_sdk::abi::*;

/// The controllers that reach a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Paths {
    /// Their names; empty if they are not known.
    pub controllers: Vec<String>,
    /// Why commands may take one of them now and another one next, in words; None
    /// if they keep to one until it fails.
    pub alternate: Option<String>,
}

impl Paths {
    /// Why the controllers of a destination cannot copy from another namespace, if
    /// so. The format of such a copy is on or off for each controller by itself.
    pub fn refusal(&self, src: &Paths) -> Option<Refusal> {
        let known = !self.controllers.is_empty() && !src.controllers.is_empty();
        let reaches_both = |name: &String| src.controllers.contains(name);
        if known && !self.controllers.iter().any(reaches_both) {
            return Some((
                XCOPY_REASON_CROSS_DEVICE,
                format!(
                    "source and destination are on different controllers of a subsystem ({} and \
                     {}), and none reaches both",
                    src.controllers.join(", "),
                    self.controllers.join(", ")
                ),
            ));
        }
        let why = self.alternate.as_ref()?;
        (self.controllers.len() > 1).then(|| {
            let text = format!(
                "copies between namespaces are switched on for each controller by itself, and \
                 commands go to several ({}): {why}",
                self.controllers.join(", ")
            );
            (XCOPY_REASON_NOT_SUPPORTED, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(controllers: &[&str], alternate: Option<&str>) -> Paths {
        Paths {
            controllers: controllers.iter().map(|name| name.to_string()).collect(),
            alternate: alternate.map(str::to_owned),
        }
    }

    #[test]
    fn a_pair_needs_a_controller_that_reaches_both() {
        let refusal = |src: &[&str], dst: &[&str]| {
            let refused = paths(dst, None).refusal(&paths(src, None));
            refused.map(|(reason, _)| reason)
        };
        assert_eq!(
            refusal(&["nvme0"], &["nvme1"]),
            Some(XCOPY_REASON_CROSS_DEVICE)
        );
        assert_eq!(refusal(&["nvme0"], &["nvme0", "nvme1"]), None);
        assert_eq!(refusal(&["nvme0", "nvme1"], &["nvme1"]), None);
        assert_eq!(refusal(&[], &["nvme1"]), None, "not known");
        assert_eq!(refusal(&["nvme0"], &[]), None, "not known");
        let text = paths(&["nvme1"], None).refusal(&paths(&["nvme0"], None));
        assert!(text.is_some_and(|(_, text)| text.contains("nvme0 and nvme1")));
    }

    #[test]
    fn what_is_switched_on_for_one_controller_needs_all_commands_to_go_there() {
        let both = ["nvme0", "nvme1"];
        let turns = paths(&both, Some("by turns"));
        let source = paths(&both, None);
        let (reason, text) = turns.refusal(&source).expect("refused");
        assert_eq!(reason, XCOPY_REASON_NOT_SUPPORTED);
        assert!(text.contains("nvme0, nvme1") && text.ends_with("by turns"));
        assert_eq!(source.refusal(&turns), None, "the destination's");
        let single = paths(&["nvme1"], Some("by turns"));
        assert_eq!(single.refusal(&source), None);
    }
}

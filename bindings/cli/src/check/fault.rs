//! What a plugin can do wrong, and what its author does then.

macro_rules! faults {
    ($($name:ident $id:literal $advice:literal)*) => {
        /// A breach of the plugin contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Fault {
            $(#[doc = $advice] $name,)*
        }

        impl Fault {
            /// All of them.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Its name, for scripts.
            pub fn id(self) -> &'static str {
                match self {
                    $(Fault::$name => $id,)*
                }
            }

            /// What to do.
            pub fn advice(self) -> &'static str {
                match self {
                    $(Fault::$name => $advice,)*
                }
            }
        }
    };
}

faults! {
    Refused "refused" "the core does not load it; correct that first"
    NoTable "no_table" "answer the table whenever the host's major version is yours: init runs once for each context"
    BadTable "bad_table" "use the constants of xcopy_plugin.h, and leave what you do not use at zero"
    StartFails "start_fails" "start runs once for each context; it must work for several at once"
    NoDevice "no_device" "no device could be opened, so little was checked; name scratch devices with --spec"
    Panics "panics" "wrap every function that C calls in the guard, and answer -EFAULT; better, do not panic"
    Crashes "crashes" "run the command under a debugger: gdb --args xcopy plugins --check FILE"
    Exits "exits" "a plugin is a guest in the process: answer -errno instead of ending it"
    Hangs "hangs" "only open, close, probe and execute may wait, and they must end: use the device's time-outs"
    Blocks "blocks" "queue functions return at once; move the wait to a thread (THREADED) or use the model BLOCKING"
    LosesCommand "loses_command" "every command that submit took must be ended by exactly one result"
    TakesNothing "takes_nothing" "submit must take at least one command while none is in flight"
    CompletesTwice "completes_twice" "take a command off your list before you end it"
    AnswersAfterCancel "answers_after_cancel" "a cancelled command ends once: by cancel or by its own end, whichever is first"
    CompletesUnknown "completes_unknown" "give back xcopy_cmd.cookie as it came, and only of commands that submit took"
    CompletesRefused "completes_refused" "what submit did not take stays the core's: end only the first commands that you count"
    AfterDestroy "after_destroy" "stop your threads in queue_destroy, before it returns"
    WrongQueue "wrong_queue" "keep the host_queue with each queue, not in a global"
    WrongThread "wrong_thread" "complete_local belongs to the queue's owner thread; other threads call complete"
    ThreadBound "thread_bound" "an idle queue may change its owner unless XCOPY_QUEUE_PINNED is set: keep state in the queue, not in thread-local variables"
    OverReports "over_reports" "xcopy_result.bytes is at most xcopy_cmd.bytes; after a failure only the prefix that is known to be copied"
    ShortSuccess "short_success" "success means all of xcopy_cmd.bytes; answer an error with the known prefix otherwise"
    BadStatus "bad_status" "a status is 0 or -errno"
    BadCount "bad_count" "submit answers how many commands it took, at most n, or -errno for none"
    BadAnswer "bad_answer" "fill every field of xcopy_result; zero is right for what you do not use"
    BadToken "bad_token" "state the token's size, above 0 and at most xcopy_cmd.token_size"
    BadStride "bad_stride" "the stride is sizeof(struct xcopy_result) as you were compiled"
    BadEvent "bad_event" "device_event takes xcopy_device_desc.host_device of a device that is open"
    Fails "fails" "commands within the limits that probe stated must work on a healthy device"
    WrongData "wrong_data" "the bytes are not where the command put them"
    WritesOutside "writes_outside" "write the ranges of the command and nothing else"
    AltersSource "alters_source" "COPY and WRITE leave their source as it is"
    HoldsMemory "holds_memory" "core memory is yours from submit until you end the command, arguments only during the call: copy what you need later"
    Overruns "overruns" "stay within the length that the struct, the command or the table states"
    ChangesCommand "changes_command" "commands and ranges are read-only for a plugin; use private_data for what is yours"
    TouchesHost "touches_host" "host_ctx, host_queue and host_device are opaque: hand them back, do not look inside"
    Leaks "leaks" "close, queue_destroy and stop give back every descriptor and every thread"
    LeaksMemory "leaks_memory" "close, queue_destroy and stop give back all memory; run valgrind to see what stays"
    BadFree "bad_free" "free takes the size and the alignment that alloc was given, once, with the same host_ctx"
    AfterStop "after_stop" "nothing of a context may be used after stop"
    ClosesFd "closes_fd" "xcopy_device_desc.fd is the core's; duplicate it if you need your own"
    BadFd "bad_fd" "queue_fd answers one pollable descriptor, the same for the queue's life, or -errno"
    DeafFd "deaf_fd" "while armed, the descriptor becomes readable when poll has something to do; or arm answers 1"
    Spins "spins" "with nothing to do the descriptor must not be readable: drain it in poll"
    IgnoresStride "ignores_stride" "verdict i lies at i * stride bytes: a later core's are longer"
    BadVerdict "bad_verdict" "fill one verdict for each method; an unusable one says why, in reason and text"
    BadProps "bad_props" "fill block_size (a power of two) and, for native devices, size_bytes; a refusal says why in text"
    NoText "no_text" "a refusal without words leaves the operator alone: fill props.text"
}

#[cfg(test)]
mod tests {
    use super::Fault;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_advice_is_given() {
        let ids: HashSet<_> = Fault::ALL.iter().map(|fault| fault.id()).collect();
        assert_eq!(ids.len(), Fault::ALL.len());
        for fault in Fault::ALL {
            assert!(fault.advice().len() > 20, "{}", fault.id());
        }
    }
    #[test]
    fn the_vendors_page_lists_them_all() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugins/README.md");
        let page = std::fs::read_to_string(page).expect("the page");
        let listed: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
            .map(|row| row.0)
            .collect();
        for fault in Fault::ALL {
            assert!(listed.contains(&fault.id()), "{}", fault.id());
        }
    }
}

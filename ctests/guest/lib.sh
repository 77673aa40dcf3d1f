# Sourced by every test: counts, and the devices' functions. $work is a
# directory in memory of the test's own, $GUEST is ctests/guest, `xcopy` and
# `stamp` are on the PATH. What a test leaves behind, devices/clear removes.
#
#   check TEXT COMMAND...   passes if COMMAND answers 0, else prints its output
#   refuses TEXT COMMAND... passes if COMMAND answers 1: it ran and said no
#   is TEXT GOT WANT        passes if they are equal
#   ok TEXT, fail TEXT      counts one
#   skip TEXT               counts one, aloud
#   finish                  the last line of a test; without it the test failed
set -u
passed=0 failed=0 skipped=0 finished=

ok() { passed=$((passed + 1)); echo "  ok: $1"; }
fail() { failed=$((failed + 1)); echo "  FAILED: $1"; }
skip() { skipped=$((skipped + 1)); echo "SKIP: $1"; }
check() {
    local text=$1 status
    shift
    "$@" > "$work/.out" 2>&1
    status=$?
    if [ $status = 0 ]; then
        ok "$text"
    else
        fail "$text"
        echo "    status $status of: $*"
        tail -n 20 "$work/.out" | sed 's/^/    /'
    fi
    return $status
}
refuses() {
    local text=$1 status
    shift
    "$@" > "$work/.out" 2>&1
    status=$?
    if [ $status = 1 ]; then
        ok "$text: $(tail -n 1 "$work/.out" | cut -c 1-160)"
    else
        fail "$text"
        echo "    status $status, not 1, of: $*"
        tail -n 20 "$work/.out" | sed 's/^/    /'
        return 1
    fi
}
is() {
    if [ "$2" = "$3" ]; then
        ok "$1"
    else
        fail "$1: $2, not $3"
        return 1
    fi
}
# need COMMAND...: what a test cannot do without.
need() {
    "$@" > "$work/.out" 2>&1 && return
    fail "setting up: $*"
    tail -n 20 "$work/.out" | sed 's/^/    /'
    finished=yes
    exit 1
}
finish() { finished=yes; exit $((failed != 0)); }
counts() {
    if [ -z "$finished" ]; then
        fail "the test ended early"
    fi
    echo "$passed passed, $failed failed, $skipped skipped"
}
trap counts EXIT

# hold PATH...: keeps nodes open, until release: the last close of a block device writes
# and empties its cache, so that nothing is cached or dirty between two programs.
held=()
hold() {
    local path fd
    release
    for path; do
        exec {fd}< "$path"
        held+=("$fd")
    done
}
release() {
    local fd
    for fd in ${held[@]+"${held[@]}"}; do
        exec {fd}<&-
    done
    held=()
}

# json FILE EXPRESSION: of what `xcopy --json` printed, as Python: d is the document,
# by(NAME) the bytes that method moved, commands(NAME) the commands it took.
json() {
    python3 -S -c '
import json, sys
d = json.loads(open(sys.argv[1]).read())
by = lambda name: sum(m["bytes"] for m in d.get("methods", []) if m["name"] == name)
commands = lambda name: sum(m["commands"] for m in d.get("methods", []) if m["name"] == name)
print(eval(sys.argv[2]))' "$1" "$2"
}
# programs_from_memory PROGRAM...: puts xcopy, its plugins and these programs into
# memory, where a benchmark finds them first: how long the guest's way to this
# machine's files is has no place in a comparison.
programs_from_memory() {
    local program
    mkdir -p "$work/programs/bin" "$work/programs/lib" || return
    for program in xcopy "$@"; do
        cp "$(command -v "$program")" "$work/programs/bin/" || return
    done
    cp -r "$guest_root/build/lib/xcopy" "$work/programs/lib/" || return
    export PATH=$work/programs/bin:$PATH
    unset XCOPY_PLUGIN_DIR
}
# The dotted version $1 is at least $2.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }
qemu_at_least() { at_least "$guest_qemu" "$1"; }
# wait_for SECONDS COMMAND...: until it answers 0.
wait_for() {
    local end=$((SECONDS + $1))
    shift
    until "$@" > /dev/null 2>&1; do
        [ $SECONDS -lt $end ] || return 1
        sleep 0.1
    done
}

for file in "$GUEST"/devices/*.sh; do
    . "$file"
done

# Sourced by tests that break a copy off: it runs slowly, something happens, and
# what is on the disk is compared with what the copy said of itself.
#
#   start OPTION... SRC DST     begins `xcopy copy --json`, small commands at a limited rate
#   under_way DISK [N]          waits until N (4) more commands reached the disk since start
#   ended STATUS                it ends with that status, and in time; $work/copy.json is its answer
#   error, done_bytes           of its answer
#   untold DISK ...             `stamp either` with the bytes that it called done as prefix
rate=4M
chunk=256K

requests() { printf '%d' "$(cat "/sys/block/${1#/dev/}/device/iorequest_cnt")"; }

start() {
    local disk=${*: -1}
    started=$(requests "$disk")
    xcopy copy --json --rate "$rate" --chunk "$chunk" "$@" > "$work/copy.json" 2> "$work/copy.err" &
    copy=$!
}

busy() { [ "$(requests "$1")" -ge $((started + ${2:-4})) ]; }
under_way() {
    local tick
    for tick in $(seq 600); do
        busy "$@" && return
        kill -0 "$copy" 2> /dev/null || break
        sleep 0.1
    done
    fail "the copy did not get under way: $(cat "$work/copy.err")"
    return 1
}

ended() {
    local want=$1 status tick
    for tick in $(seq 1200); do
        kill -0 "$copy" 2> /dev/null || break
        sleep 0.1
    done
    if kill -0 "$copy" 2> /dev/null; then
        kill -KILL "$copy"
        wait "$copy" 2> /dev/null
        fail "$text: it did not end in two minutes"
        return 1
    fi
    wait "$copy"
    status=$?
    if [ "$status" = "$want" ]; then
        ok "$text: ends with $status; $(json "$work/copy.json" '(d["error"] or {}).get("message", "no error")[:150]')"
    else
        fail "$text: ended with $status, not $want"
        head -c 1500 "$work/copy.json" "$work/copy.err" | sed 's/^/    /'
        return 1
    fi
}

done_bytes() { json "$work/copy.json" '(d["error"] or {}).get("bytes_done", d["bytes"])'; }
untold() { # untold DISK OLD-DISK GENERATION AT COUNT DISK LBA GENERATION
    local prefix
    prefix=$(done_bytes) || return
    stamp either "$@" $((prefix / 512)) > "$work/either" || { cat "$work/either"; return 1; }
}

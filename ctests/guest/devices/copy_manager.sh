# Disks of the copy manager (ctests/copy-manager) behind the kernel's SCSI stack,
# through TCMU: they answer EXTENDED COPY and ROD tokens as FreeBSD's CTL, an
# array and others do, and fail on demand. Their process ends with the last disk.
#
#   copy_manager PERSONALITY NAME=SIZE[:BLOCK]...   serves them; lio_export NAME
#                                                   makes a LUN of one
#   copy_manager_tell WORD...     faults and the trace: src/bin/copy-manager-tcmu/control.rs
copy_manager() {
    local personality=$1
    shift
    lio_start || return
    modprobe -a uio target_core_user || return
    rm -f "$work/copy-manager.socket"
    setsid copy-manager-tcmu --personality "$personality" --control "$work/copy-manager.socket" "$@" \
        > "$work/copy-manager.log" 2>&1 < /dev/null &
    wait_for 20 grep -qx ready "$work/copy-manager.log" || { cat "$work/copy-manager.log"; return 1; }
}

copy_manager_tell() { copy-manager-tcmu --tell "$work/copy-manager.socket" "$@"; }

# A SCSI disk in memory without EXTENDED COPY, whose commands can be made to fail.
#
#   scsi_debug [MODULE-PARAMETER...]     loads it; prints the disks, e.g. dev_size_mb=64 num_tgts=2
#   scsi_debug_set PARAMETER VALUE       e.g. opts 2 and every_nth 7: each 7th command fails
#   scsi_debug_error DISK LINE           6.12: one of Documentation/scsi/scsi_debug's error rules,
#                                        "2 -3 0x2a 0 0 0x2 0x3 0x11 0x0"
scsi_debug() {
    modprobe scsi_debug "$@" || return
    wait_for 10 scsi_debug_disks || return
    scsi_debug_disks
}

scsi_debug_disks() {
    local disk found=1
    for disk in /sys/block/sd*; do
        if [ "$(cat "$disk/device/model" 2> /dev/null | tr -d ' ')" = scsi_debug ] \
            && [ -b "/dev/${disk##*/}" ]; then
            echo "/dev/${disk##*/}"
            found=0
        fi
    done
    return $found
}

scsi_debug_set() { echo "$2" > "/sys/bus/pseudo/drivers/scsi_debug/$1"; }

scsi_debug_error() {
    local place
    place=$(basename "$(readlink -f "/sys/block/${1#/dev/}/device")")
    echo "$2" > "/sys/kernel/debug/scsi_debug/$place/error"
}

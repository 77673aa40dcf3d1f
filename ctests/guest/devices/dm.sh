# Device-mapper nodes. Each prints nothing; the node is /dev/mapper/NAME.
#
#   dm_linear NAME DEVICE [FIRST-SECTOR [SECTORS]]
#   dm_delay NAME DEVICE MILLISECONDS     each read and each write waits as long
#   dm_flakey NAME DEVICE UP DOWN [FEATURE...]
#   dm_log_writes NAME DEVICE LOG-DEVICE
#   dm_message NAME WORD...
#   dm_drop NAME
#   memory_disk NAME SIZE [SECTOR]        a loop device over memory; prints it
dm_sectors() { blockdev --getsz "$1"; }

dm_make() { # dm_make NAME MODULE TABLE
    modprobe "$2" && dmsetup create "$1" --table "$3" && wait_for 5 test -b "/dev/mapper/$1"
}
dm_linear() {
    local first=${3:-0}
    dm_make "$1" dm_mod "0 ${4:-$(($(dm_sectors "$2") - first))} linear $2 $first"
}
dm_delay() { dm_make "$1" dm_delay "0 $(dm_sectors "$2") delay $2 0 $3"; }
dm_flakey() {
    local name=$1 device=$2 up=$3 down=$4
    shift 4
    dm_make "$name" dm_flakey "0 $(dm_sectors "$device") flakey $device 0 $up $down $# $*"
}
dm_log_writes() { dm_make "$1" dm_log_writes "0 $(dm_sectors "$2") log-writes $2 $3"; }
dm_message() {
    local name=$1
    shift
    dmsetup message "$name" 0 "$*"
}
dm_drop() { dmsetup remove --retry "$1"; }

memory_disk() {
    mkdir -p "$work"
    truncate -s "$2" "$work/$1.disk" && losetup --find --show --sector-size "${3:-512}" "$work/$1.disk"
}

# LUNs of the kernel's own target (LIO), seen by this same kernel through
# tcm_loop. Each backstore has a serial number of its own, from which LIO makes
# its NAA designator. lio_target makes an initiator port; `near` and `far` are
# the two that most tests want.
#
#   lio_backstore NAME SIZE [BLOCK]     in memory: fileio on tmpfs, 512 or 4096 bytes a block
#   lio_iblock NAME DEVICE              on a block device, e.g. one of `dm_delay`
#   lio_export NAME [TARGET]            a LUN of it; prints /dev/sdX
#   lio_lun NAME SIZE [BLOCK] [TARGET]  backstore and LUN
#   lio_sg /dev/sdX                     its /dev/sgN
#   lio_attribute NAME ATTRIBUTE VALUE  of the backstore, e.g. emulate_3pc 0
#   lio_remove NAME [TARGET]            takes the LUN away, mid-copy if need be
#   lio_unload                          all of it
lio=/sys/kernel/config/target
declare -A lio_ports=([near]=1 [far]=2)

lio_start() {
    [ -d "$lio/loopback" ] && return
    # Where it keeps what persistent reservations outlive a power loss.
    mkdir -p /etc/target/pr /var/target/pr
    modprobe -a target_core_mod target_core_file target_core_iblock tcm_loop || return
    mkdir -p "$lio/loopback"
}

lio_target() { # lio_target TARGET: prints its directory
    local wwn tpg
    lio_start || return
    wwn=$(printf 'naa.50014050000000%02x' "${lio_ports[$1]:?a target}")
    tpg=$lio/loopback/$wwn/tpgt_1
    if [ ! -d "$tpg" ]; then
        mkdir -p "$tpg" || return
        printf 'naa.60014050000000%02x' "${lio_ports[$1]}" > "$tpg/nexus"
    fi
    echo "$tpg"
}

lio_identity() { # lio_identity DIRECTORY NAME
    printf '%s' "$(printf 'xcopy-guest-%s' "$2" | sha256sum | cut -c 1-32)" \
        > "$1/wwn/vpd_unit_serial"
}

lio_backstore() {
    local name=$1 size=$2 block=${3:-512} dir=$lio/core/fileio_0/$1
    lio_start || return
    size=$(numfmt --from=iec "$size")
    mkdir -p "$work" "$dir" || return
    truncate -s "$size" "$work/$name.lun" || return
    echo -n "fd_dev_name=$work/$name.lun,fd_dev_size=$size" > "$dir/control" || return
    echo 1 > "$dir/enable" || return
    [ "$block" = 512 ] || echo "$block" > "$dir/attrib/block_size" || return
    lio_identity "$dir" "$name"
}

lio_iblock() {
    local name=$1 dir=$lio/core/iblock_0/$1
    lio_start || return
    mkdir -p "$dir" || return
    echo -n "udev_path=$2" > "$dir/control" || return
    echo 1 > "$dir/enable" || return
    lio_identity "$dir" "$name"
}

lio_store() { ls -d "$lio"/core/*/"$1" 2> /dev/null | head -n 1; }
lio_attribute() { echo "$3" > "$(lio_store "$1")/attrib/$2"; }

lio_lun_directory() { # lio_lun_directory NAME TPG
    local link
    for link in "$2"/lun/lun_*/"$1"; do
        [ ! -e "$link" ] || { dirname "$link"; return; }
    done
    return 1
}

lio_export() {
    local name=$1 tpg lun=0 place
    tpg=$(lio_target "${2:-near}") || return
    while [ -d "$tpg/lun/lun_$lun" ]; do
        lun=$((lun + 1))
    done
    mkdir "$tpg/lun/lun_$lun" || return
    ln -s "$(lio_store "$name")" "$tpg/lun/lun_$lun/$name" || return
    place=/sys/bus/scsi/devices/$(cat "$tpg/address"):$lun
    wait_for 10 test -d "$place/block" -a -d "$place/scsi_generic" || return
    wait_for 10 test -b "/dev/$(ls "$place/block")" || return
    echo "/dev/$(ls "$place/block")"
}

lio_lun() {
    lio_backstore "$1" "$2" "${3:-512}" && lio_export "$1" "${4:-near}"
}

lio_sg() { echo "/dev/$(ls "/sys/block/${1#/dev/}/device/scsi_generic")"; }

lio_remove() {
    local dir
    dir=$(lio_lun_directory "$1" "$(lio_target "${2:-near}")") || return
    rm "$dir/$1" && rmdir "$dir"
}

lio_unload() {
    local tpg lun link store
    [ -d "$lio" ] || return 0
    for tpg in "$lio"/loopback/naa.*/tpgt_*; do
        [ -d "$tpg" ] || continue
        for lun in "$tpg"/lun/lun_*; do
            [ -d "$lun" ] || continue
            for link in "$lun"/*; do
                [ ! -L "$link" ] || rm "$link"
            done
            rmdir "$lun" || return
        done
        echo NULL > "$tpg/nexus" 2> /dev/null
        rmdir "$tpg" "${tpg%/*}" || return
    done
    for store in "$lio"/core/*/*; do
        case $store in */hba_*) continue ;; esac
        [ ! -d "$store/wwn" ] || rmdir "$store" || return
    done
    for store in "$lio"/core/*_0; do
        [ ! -d "$store" ] || rmdir "$store" 2> /dev/null
    done
    return 0
}

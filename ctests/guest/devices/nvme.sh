# The NVMe namespaces of ctests/guest/machine, found by their controller's serial
# number: large, plain, paths, broken.
#
#   nvme_ns SERIAL NSID       its block device, /dev/nvmeXnY
#   nvme_char /dev/nvmeXnY    its character device, /dev/ngXnY
#   nvme_controller SERIAL    /dev/nvmeX
#   monitor COMMAND...        to QEMU's monitor; prints the answer
#   nvme_trace COMMAND...     runs it, then prints the Copy commands that QEMU saw meanwhile:
#                             pci_nvme_copy cid.. nsid.. nr.. format.., pci_nvme_copy_source_range slba.. nlb..
nvme_ns() {
    local disk
    for disk in /sys/block/nvme*; do
        # nvme0c1n1 is one path of a head, not a disk.
        case ${disk##*/} in *c*n*) continue ;; esac
        if [ "$(tr -d ' ' < "$disk/device/serial")" = "$1" ] && [ "$(cat "$disk/nsid")" = "$2" ]; then
            echo "/dev/${disk##*/}"
            return
        fi
    done
    return 1
}

nvme_char() { echo "${1/nvme/ng}"; }

nvme_controller() {
    local controller
    for controller in /sys/class/nvme/nvme*; do
        if [ "$(tr -d ' ' < "$controller/serial")" = "$1" ]; then
            echo "/dev/${controller##*/}"
            return
        fi
    done
    return 1
}

monitor() {
    local port line
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name")" = monitor ] && break
    done
    exec {port}<> "/dev/${port##*/}" || return
    # Everything up to the prompt that answers the end mark is the answer.
    printf '%s\nprint/d 20260000+26\n' "$*" >&"$port"
    while IFS= read -r -t 10 -u "$port" line; do
        line=${line//$'\r'/}
        case $line in
            20260026) exec {port}>&-; return ;;
            *'print/d 2026'* | "QEMU "*) ;;
            *"(qemu)"*) ;;
            *) echo "$line" ;;
        esac
    done
    exec {port}>&-
    return 1
}

nvme_trace() {
    local seen status
    seen=$(stat -c %s /run/guest/qemu.log)
    "$@" > "$work/.traced" 2>&1
    status=$?
    [ $status = 0 ] || cat "$work/.traced"
    tail -c +$((seen + 1)) /run/guest/qemu.log | grep -o 'pci_nvme_copy.*'
    return $status
}

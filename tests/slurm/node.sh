#!/bin/sh
# One node: its own network, host name, processes, /tmp and /dev/shm; everything else is shared.
# The first call sees the processes of the control machine, the second one only the node's own.
set -eu
folder=$1 name=$2 address=$3
shift 3
if [ "${inside:-}" != yes ]; then
    ip link set lo up
    ip link add eth0 type veth peer name "$name" netns 1
    ip address add "$address/24" dev eth0
    ip link set eth0 up
    nsenter --target 1 --net ip link set "$name" master bridge up
    inside=yes exec unshare --uts --mount --pid --fork --kill-child --mount-proc \
        "$0" "$folder" "$name" "$address" "$@"
fi
unset inside
hostname "$name"
mount -t tmpfs "$name" /dev/shm
# What the nodes share may lie below /tmp: it stays visible in the node's own.
mount -t tmpfs "$name" "$folder/$name/tmp"
for shared in "$@"; do
    case $shared in /tmp/*)
        mkdir -p "$folder/$name$shared"
        mount --bind "$shared" "$folder/$name$shared"
        ;;
    esac
done
mount --move "$folder/$name/tmp" /tmp
chmod 1777 /tmp
slurmd -D -N "$name" -f "$folder/slurm.conf" &
wait

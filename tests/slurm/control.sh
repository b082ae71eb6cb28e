#!/bin/sh
# The first process of the machine on which the nodes meet: its network, munge and slurmctld.
set -eu
folder=$1
hostname control
mount --bind "$folder/hosts" /etc/hosts
ip link set lo up
ip link add bridge type bridge
ip address add 10.0.0.1/24 dev bridge
ip link set bridge up
# Forced: a folder of the tests that only root can enter is all right here.
munged --foreground --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
    --pid-file="$folder/munge.pid" --seed-file="$folder/munge.seed" \
    --log-file="$folder/munge.log" &
slurmctld -D -f "$folder/slurm.conf" &
wait

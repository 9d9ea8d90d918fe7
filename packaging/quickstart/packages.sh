# The Debian 12 packages that the quickstart needs, by name, and their installation. Sourced by ./quickstart.

build_packages=(
  cmake ninja-build g++
  libboost1.81-dev libcli11-dev libcurl4-openssl-dev libgtest-dev libspdlog-dev libsqlite3-dev libsqlitecpp-dev
  libssl-dev libjs-chart.js nlohmann-json3-dev prometheus-cpp-dev
)
run_packages=(
  bible-kjv      # the text that is learnt
  gnuplot-nox    # the loss curve in the terminal
  openssl        # the certificate authority of the loopback pool
  python3 python3-rich
)
test_packages=(
  ca-certificates python3-venv                # the oracle's Python environment
  python3-numpy python3-torch                 # another framework's answer to the same mathematics
  chromium                                    # opens the pool's page
  clang libclang-rt-14-dev clang-tidy         # fuzzers; what a compiler does not look for
  clang-16 libclang-rt-16-dev llvm-16         # a fast thread sanitizer, and the names that it prints
  g++-aarch64-linux-gnu libc6-dev-arm64-cross # builds the kernels for another architecture
  qemu-user                                   # runs them
  curl python3-cryptography                   # clients that share no code with ours
  libfaketime                                 # rigs whose clock is off
  mount                                       # a disk that is soon full
)

# Prints those of its arguments that are not installed.
not_installed() {
  local installed
  # dpkg-query fails where it knows one of the names not at all; what it knows of the others counts.
  installed=" $({ dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true; } |
                awk '$2 == "installed" { print $1 }' | tr '\n' ' ') "
  local package
  for package in "$@"; do
    [[ $installed == *" $package "* ]] || printf '%s\n' "$package"
  done
}

as_root() {
  if [[ $(id -u) -eq 0 ]]; then "$@"; else sudo "$@"; fi
}

update_lists() {
  as_root apt-get -q -o DPkg::Lock::Timeout=300 update
}

# Installs those of its arguments that are missing; says what to do where it cannot.
install_missing() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    printf 'quickstart: this is no Debian system. It needs what these Debian 12 packages hold:\n  %s\n' "$*" >&2
    printf 'The quickest way is a Debian 12 container or virtual machine.\n' >&2
    exit 1
  fi
  local missing
  mapfile -t missing < <(not_installed "$@")
  [[ ${#missing[@]} -gt 0 ]] || return 0

  if [[ $(id -u) -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
      printf 'quickstart: these packages are missing:\n  apt-get install %s\n' "${missing[*]}" >&2
      printf 'Run that as root, or run ./quickstart as root, or install sudo.\n' >&2
      exit 1
    fi
    sudo -v || exit 1
  fi

  local log=$root/build/install.log
  mkdir -p "$root/build"
  printf 'Installing %d packages from Debian (%s):\n' "${#missing[@]}" "log: build/install.log"
  printf '%s\n' "${missing[*]}" | fold -s -w 100 | sed 's/^/  /'
  local install=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q
                 -o DPkg::Lock::Timeout=300 --no-install-recommends install "${missing[@]}")
  # The package lists on the machine may be missing or old; they are fetched only then.
  if ! "${install[@]}" >"$log" 2>&1; then
    { update_lists && "${install[@]}"; } >>"$log" 2>&1 || {
      tail -n 20 "$log" >&2
      printf 'quickstart: the packages above could not be installed; the whole log is %s\n' "$log" >&2
      exit 1
    }
  fi
}

# Puts promtool, which checks /metrics, into the PATH. Its package is unpacked and not installed, because that would start
# a Prometheus server on the machine.
provide_promtool() {
  local folder=$root/build/tools
  if ! command -v promtool >/dev/null && [[ ! -x $folder/usr/bin/promtool ]]; then
    mkdir -p "$folder"
    # A machine whose packages came with its image may have no package lists.
    (cd "$folder" && { apt-get -q download prometheus || { update_lists && apt-get -q download prometheus; }; } &&
      dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb) >"$root/build/promtool.log" 2>&1 || {
      tail -n 5 "$root/build/promtool.log" >&2
      printf 'quickstart: promtool (of the package prometheus) could not be fetched; see build/promtool.log\n' >&2
      exit 1
    }
  fi
  export PATH=$PATH:$folder/usr/bin
}

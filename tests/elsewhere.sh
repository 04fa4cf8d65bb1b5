#!/usr/bin/env bash
# elsewhere.sh [VARIABLE=VALUE ...]: run what `make test` leaves out: the built wheel, and where this machine has them
# real vLLM and the other Pythons that the README promises. The variables are for `make test` on those (WIDE=1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

make test-wheel

# The installer's one line says what the machine lacks where it cannot run vLLM (status 69).
deploy/vllm/install.sh .venv-vllm || status=$?
case ${status:-0} in
  0)
    # Gigabytes that are still on their way to the disk keep the write-ahead log from it for longer than it waits.
    sync
    make test-vllm
    ;;
  69) echo "tests: going on without real vLLM (tests/vllm)" >&2 ;;
  *) exit "$status" ;;
esac

# The first of the other Pythons gets the suite, a further one its quick part: they differ by little.
own=$(.venv/bin/python -c "import sys; print('%d.%d' % sys.version_info[:2])")
target=test
for version in 3.11 3.12 3.13; do
  [ "$version" != "$own" ] || continue
  python=$(deploy/setup.sh --pythons | sed -n "s/^${version//./\\.} //p")
  if [ -n "$python" ]; then
    make "$target" PYTHON="$python" VENV=".venv-$version" "$@"
    target=test-quick
  else
    echo "tests: going on without Python $version" >&2
  fi
done

#!/usr/bin/env bash
# elsewhere.sh [VARIABLE=VALUE ...]: run the suite on what `make test` leaves out, where this machine has it: real vLLM,
# and the other Pythons that the README promises. The variables are for `make test` on those (WIDE=1).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The installer's one line says what the machine lacks where it cannot run vLLM (status 69).
deploy/vllm/install.sh .venv-vllm || status=$?
case ${status:-0} in
  0) make test-vllm ;;
  69) echo "tests: going on without real vLLM (tests/vllm)" >&2 ;;
  *) exit "$status" ;;
esac

for minor in 11 12; do
  .venv/bin/python -c "import sys; sys.exit(sys.version_info[1] == $minor)" || continue
  other=
  for python in "python3.$minor" ~/.pyenv/versions/3."$minor".*/bin/python; do
    if "$python" -c 'import ensurepip' 2>/dev/null; then
      other=$python
      break
    fi
  done
  if [ -n "$other" ]; then
    make test PYTHON="$other" VENV=".venv-3.$minor" "$@"
  else
    echo "tests: going on without Python 3.$minor" >&2
  fi
done

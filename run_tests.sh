#!/usr/bin/env bash
# Installs what is missing, then runs the suite; see --help.
set -euo pipefail

usage() {
  cat <<'END'
usage: ./run_tests.sh [-j N] [UNITTEST ARGUMENT ...]

Runs the suite, N tests at once (default: one per core, as far as memory allows), and
prints last "N passed, N failed, N skipped". Exits 0 only if none failed.

  ./run_tests.sh                                            all tests
  ./run_tests.sh FxGraphRunnableTest.test_basic_tensor_add  one test
  ./run_tests.sh -k matmul                                  tests by name

The Python is $PYTHON, else an active environment's, else python3. If it has no
torch, requirements.txt is installed into .venv beside this script, once.
README.md lists the environment variables.
END
}

fail() {
  echo "run_tests.sh: $1" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      usage
      exit
      ;;
    -j*)
      jobs=${1#-j}
      if [ -z "$jobs" ]; then
        jobs=${2:-}
        shift
      fi
      case $jobs in
        '' | *[!0-9]* | 0) fail "-j needs a number, as in -j 2, not '$jobs'" ;;
      esac
      export FX_GRAPH_RUNNABLE_JOBS=$jobs
      ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

python=python3
for folder in "${CONDA_PREFIX:-}" "${VIRTUAL_ENV:-}"; do
  if [ -n "$folder" ] && [ -x "$folder/bin/python" ]; then python=$folder/bin/python; fi
done
python=${PYTHON:-$python}
command -v "$python" >/dev/null ||
  fail "there is no '$python': install Python 3.10 or newer, or set PYTHON to one"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  fail "'$python' is older than Python 3.10: set PYTHON to a newer one"

compiler=g++
if [ "$(uname)" = Darwin ]; then compiler=clang++; fi
compiler=${CXX:-$compiler}
command -v "${compiler%% *}" >/dev/null ||
  fail "there is no C++ compiler '$compiler', which torch.compile needs: install it (Debian: apt install g++), or set CXX to one"

has_torch() { # as the suite would find it, without the second that an import takes
  "$1" -c 'import sys; sys.path[0] = sys.argv[1]
from importlib.util import find_spec
sys.exit(find_spec("torch") is None)' "$here" 2>/dev/null
}

if ! has_torch "$python"; then
  venv=$here/.venv
  case $venv in
    *[[:space:]]*) fail "'$python' has no torch, and in $venv, a path with a space, torch.compile could not build C++: set PYTHON to a Python that has torch" ;;
  esac
  # The copy of requirements.txt says that what it lists is installed, whole.
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt" || ! has_torch "$venv/bin/python"; then
    echo "run_tests.sh: '$python' has no torch: installing requirements.txt into $venv" >&2
    "$python" -m venv "$venv" >&2 ||
      fail "could not make $venv: remove it, install Python's venv module (Debian: apt install python3-venv), and try again"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2 ||
      fail "could not install requirements.txt: fix the pip error above and try again, or set PYTHON to a Python that has torch"
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
  python=$venv/bin/python
fi

# -B: no bytecode is left in the checkout.
exec "$python" -B "$here/test_fx_graph_runnable.py" -v ${arguments[@]+"${arguments[@]}"} 2>&1

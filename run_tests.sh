#!/usr/bin/env bash
# Installs what is missing, then runs the suite; see --help.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: ./run_tests.sh [-j N] [UNITTEST ARGUMENT ...]

Runs the suite in N processes at once (default: one per core) and prints last
"N passed, N failed, N skipped". Exits 0 only if none failed.

  ./run_tests.sh                                            all tests
  ./run_tests.sh FxGraphRunnableTest.test_basic_tensor_add  one test
  ./run_tests.sh -k matmul                                  tests by name

The Python is $PYTHON, else an active environment's, else python3. If it has no
torch, requirements.txt is installed into .venv beside this script, once.
README.md lists the environment variables.
EOF
}

fail() {
  echo "run_tests.sh: $1" >&2
  exit 2
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
jobs=0 # one per core
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help)
      usage
      exit
      ;;
    -j)
      jobs=${2:-}
      shift
      ;;
    -j*) jobs=${1#-j} ;;
    *) arguments+=("$1") ;;
  esac
  shift || fail "-j needs a number, as in -j 2"
done
case $jobs in
  '' | *[!0-9]*) fail "-j needs a number, as in -j 2, not '$jobs'" ;;
esac

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
  # The copy of requirements.txt says that what it lists is installed, whole.
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt" || ! has_torch "$venv/bin/python"; then
    echo "run_tests.sh: '$python' has no torch: installing requirements.txt into $venv" >&2
    "$python" -m venv "$venv" >&2 ||
      fail "could not make $venv: remove it, install Python's venv module (Debian: apt install python3-venv), and try again"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt" >&2 ||
      fail "could not install requirements.txt: mend what pip says above and try again, or set PYTHON to a Python that has torch"
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
  python=$venv/bin/python
fi

# Each process runs the next test that none has run. -B: no bytecode is left in the checkout.
exec "$python" -B - "$here" "$jobs" ${arguments[@]+"${arguments[@]}"} <<'EOF'
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading

here, jobs, *arguments = sys.argv[1:]
jobs = int(jobs) or os.cpu_count()
if arguments and all("." in name and name[0] != "-" for name in arguments):
    jobs = min(jobs, len(arguments))  # single tests by name
RULE = re.compile("={70}|-{70}")
OUTCOME = re.compile(r"(?:.* \.\.\. )?(?:(ok)|(FAIL|ERROR|unexpected success)|(skipped .*|expected failure))")
lines, reports = {}, {}  # as ordered sets: what fails before the tests do, fails in each process


def start(folder):
    """Start a process that runs tests which no other one has claimed. Signals reach it from here alone."""
    python = sys.executable
    if re.search(r"\s", sys.prefix):  # Inductor cannot build C++ against a torch with a space in its path
        link = os.path.join(folder, "python")
        if not os.path.lexists(link):
            os.symlink(sys.prefix, link)
        python = os.path.join(link, os.path.relpath(python, sys.prefix))
    environ = dict(os.environ)
    environ["TORCHINDUCTOR_CACHE_DIR"] = environ.get("TORCHINDUCTOR_CACHE_DIR") or os.path.join(folder, "inductor")
    environ["FX_GRAPH_RUNNABLE_CLAIMS"] = os.path.join(folder, "claims")
    environ.setdefault("OMP_NUM_THREADS", "1")  # the processes themselves are the parallelism
    return subprocess.Popen(
        [python, "-B", os.path.join(here, "test_fx_graph_runnable.py"), *arguments, "-v"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="backslashreplace",
        start_new_session=True,
    )


def follow(process):
    """Print the line of each test as it ends; keep for the end what unittest says of the failures."""
    rest, failed = [], False
    for line in process.stdout:
        line = line.rstrip("\n")
        if rest or RULE.fullmatch(line):
            rest.append(line)
        elif line:
            outcome = OUTCOME.fullmatch(line)
            failed = failed or bool(outcome and outcome[2])
            if line not in lines:
                lines[line] = outcome
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
    report, _, _ = "\n".join(rest).rpartition("-" * 70 + "\nRan ")
    for part in re.split(f"(?m)^{'=' * 70}\n", report):
        if part.strip():
            reports[part.strip()] = "=" * 70
    code = process.wait()
    if code not in (0, 5) and not failed:  # 5: the others ran all tests
        reports[f"some tests ended with exit code {code}, and did not say how"] = "=" * 70
        lines[f"exit code {code}"] = OUTCOME.fullmatch("ERROR")


def interrupt(*_):
    raise KeyboardInterrupt


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for number in SIGNALS:  # SIGINT too: a shell that starts this in the background has it ignored
    signal.signal(number, interrupt)
parents = [path for path in (tempfile.gettempdir(), "/tmp") if not re.search(r"\s", path)]
with tempfile.TemporaryDirectory(prefix="fx_graph_runnable_", dir=parents[0], ignore_cleanup_errors=True) as folder:
    processes = []
    try:
        os.mkdir(os.path.join(folder, "claims"))
        for _ in range(jobs):
            processes.append(start(folder))
        threads = [threading.Thread(target=follow, args=[process]) for process in processes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        for process in processes:
            process.send_signal(signal.SIGINT)
        for process in processes:
            process.wait()
        sys.exit("run_tests.sh: interrupted")

for report, rule in reports.items():
    print(f"\n{rule}\n{report}")
passed, failed, skipped = (sum(bool(line and line[kind]) for line in lines.values()) for kind in (1, 2, 3))
if not lines:
    print("run_tests.sh: no test has such a name", file=sys.stderr)
print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0 or not lines)
EOF

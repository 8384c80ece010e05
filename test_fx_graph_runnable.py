# Owner(s): ["module: dynamo"]
"""Does every graph that torch.compile hands to Inductor leave an `fx_graph_runnable` artifact
that keeps its promise: a Python script that rebuilds the graph and runs it, with nothing of
the original program at hand?

A test compiles something, and has each artifact that torch then logged judged:

    torch.compile(lambda x: x + 1)(self.randn(4))
    self._exec_and_verify_payload()

In a fresh Python process an artifact must exit 0, and compile the graph that was logged
behind it: graph_lines says what makes two graphs the same. For a test that asks with
code=True, Inductor must generate the same code too (code_lines). A test that fails for what
torch does has a mark, as in `@nan_is_undefined`: a Gap, with the error and the releases that
show it. While it is open, the test counts as skipped.
"""

import ast
import atexit
import contextlib
import difflib
import faulthandler
import functools
import hashlib
import inspect
import io
import itertools
import json
import logging
import logging.handlers
import math
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import multiprocessing.spawn
import os
import re
import shlex
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from pathlib import Path
from typing import NamedTuple
from unittest import mock

# So that helpers is found however this file was: as a script, a module, or a path.
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from helpers import (  # noqa: E402
    ACCELERATOR,
    HAS_TRITON,
    free_accelerator_memory,
    release,
    requires_accelerator,
    requires_distributed,
    requires_triton,
    skip_if_compile_disabled,
    skip_in_fbcode,
    usable_cores,
    usable_memory,
)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

# Options that test/run_test.py of a fork of PyTorch passes: only its own run_tests knows
# them, and that wants its own TestCase. It needs packages that torch does not bring.
FORK_OPTION = re.compile(
    r"--(discover-tests|import-(disabled|slow)-tests|log-suffix|pytest-single-test|run-parallel"
    r"|rerun-disabled-tests|save-xml|shard-id|subprocess|use-pytest)(=.*)?"
)
STARTED_BY_FORK = __name__ == "__main__" and any(map(FORK_OPTION.fullmatch, sys.argv[1:]))
if STARTED_BY_FORK:
    from torch.testing._internal.common_utils import TestCase, run_tests
else:
    from unittest import TestCase

    def run_tests():
        """Run what the command line says, as unittest.main does, and exit."""
        passed = unittest.main(testRunner=Runner, exit=False).result.wasSuccessful()
        atexit._run_exitfuncs()  # all of an exit but to tear torch down, for a second
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(not passed)


# Capture: torch logs each artifact as a record of its structured trace, and right after
# it the graph that the artifact is to rebuild: before Inductor's passes, and after them.
# Where a graph cache replays the artifact, there is but the second. Then comes the code
# that Inductor generated; compiling ahead of time logs none.

trace_log = logging.getLogger("torch.__trace")
ARTIFACT = "fx_graph_runnable"
GRAPHS = ("before_post_grad_graph", "inductor_post_grad_graph")
CODE = "inductor_output_code"


def artifact_name(record):
    """Return the name of the artifact that a record of the trace is, or None."""
    metadata = getattr(record, "metadata", {})
    name = (metadata.get("artifact") or {}).get("name")
    # A graph cache logs it as a record of its own; in 2.9 a compile had another name for it.
    if GRAPHS[1] in metadata or name == "after_post_grad_graph":
        return GRAPHS[1]
    return CODE if CODE in metadata else name


class FxGraphRunnableArtifactFilter(logging.Filter):
    """Lets through the records of the trace that are `fx_graph_runnable` artifacts."""

    def filter(self, record):
        return artifact_name(record) == ARTIFACT


class StructuredTracePayloadFormatter(logging.Formatter):
    """Formats a record of the trace as its payload alone: the script, or the graph."""

    def format(self, record):
        return record.payload


def with_graphs(records):
    """Yield each artifact among the records, with the first record of its graph, and of its
    code, or None; and each broken record, with None and None.
    """
    artifact = graph = None
    for record in records:
        name = artifact_name(record)
        problem = getattr(record, "problem", None)
        if problem:
            yield record, None, None
        if name == ARTIFACT or (problem and record.matters):
            if artifact:
                yield artifact, graph, None
            artifact, graph = None if problem else record, None
        elif name in GRAPHS:
            graph = graph or record
        elif name == CODE and artifact:
            yield artifact, graph, record
            artifact = None
    if artifact:
        yield artifact, graph, None


def read_trace(path, offset=0, lineno=1):
    """Yield the records of a log that TORCH_TRACE wrote, with metadata, payload and lineno.

    The format is that of TorchLogsFormatter in torch/_logging/_internal.py: a line
    `V<date> <time> <pid> <file>:<line>] {json}`, then the lines of the payload, each
    behind a tab; "has_payload" in the json is its md5. Takes where to start. A broken
    record has a `problem` that says how, in others it is None; one that is `changed` has
    another payload than was written. Reads as a stream: memory does not grow with the log.
    """
    head, payload = None, []
    with open(path, "rb") as log:
        log.seek(offset)
        for number, line in enumerate(log, start=lineno):
            if head and line.startswith(b"\t"):
                payload.append(line[1:])
            else:
                if head:
                    yield trace_record(*head, payload)
                head, payload = (line, number, offset), []
            offset += len(line)
    if head:
        yield trace_record(*head, payload, is_last=True)


def trace_record(head, lineno, offset, payload, is_last=False):
    """Return a record of a trace from its lines in the log, as bytes: see read_trace."""
    # Where it came by way of Windows, each line ends with a carriage return.
    payload = b"".join(payload).replace(b"\r\n", b"\n").removesuffix(b"\n")
    text = payload.decode(errors="backslashreplace")
    metadata, problem, changed = {}, "is no record of a trace", False
    if match := re.match(rb"[A-Z]\d{4} [\d:.]+ \d+ [^]]*\] (?=\{)", head):
        try:
            metadata, problem = json.loads(head[match.end() :]), None
        except ValueError as error:  # json, or UTF-8
            problem = f"is cut off or garbled: {error}"
    fields = {"lineno": lineno, "offset": offset, "metadata": metadata, "payload": text}
    record = logging.makeLogRecord(fields)
    if artifact_name(record) in (ARTIFACT, *GRAPHS):
        md5 = hashlib.md5(payload, usedforsecurity=False).hexdigest()
        changed = metadata.get("has_payload", md5) != md5
        is_cut = is_last or artifact_name(record) == ARTIFACT and isinstance(parse(text), Exception)
        problem = "is cut short" if changed and is_cut else problem
    # Whether it is, or might have been, an artifact or its graph.
    hint = rb'fx_graph_runnable|post_grad_graph|run_repro\(|"artifact": \{[^}]*$'
    record.matters = changed or not metadata and bool(re.search(hint, head + payload))
    record.problem, record.changed = problem, changed
    return record


def parse(script):
    """Return the syntax tree of a script, or the exception that says why it is no Python."""
    try:
        return ast.parse(script)
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        return error


# Faithfulness: two graphs are the same if they do the same, whatever their names are.


class Line(str):
    """A line of a graph, or of code, that equals any other of the same `normal` form."""

    def __new__(cls, own, normal):
        line = super().__new__(cls, own)
        line.normal = normal
        return line

    def __eq__(self, other):
        return self.normal == other.normal

    def __hash__(self):
        return hash(self.normal)


def normal_type(text):
    """Return a type as a graph prints it, "f32[s77, 3][3, 1]cpu", with stars for symbols."""

    def normal_sizes(match):
        sizes = ast.parse(match[0], mode="eval").body.elts
        return str([s.value if isinstance(s, ast.Constant) else "*" for s in sizes])

    text = re.sub(r"Sym\(.*\D.*\)", "Sym(*)", text)
    return re.sub(r"\[[^\]]*\]", normal_sizes, text)


class Renamer(ast.NodeTransformer):
    """Replaces a graph's names in expressions with `names`, given as they are first seen."""

    def __init__(self):
        self.names = {}

    def name(self, own, prefix=""):
        return self.names.setdefault(own, f"{prefix}v{len(self.names)}")

    def visit_Name(self, node):
        return ast.Name(self.names.get(node.id, node.id))

    def visit_Attribute(self, node):  # of self: a constant or a subgraph
        own = ast.unparse(node)
        is_own = own.startswith("self.")
        return ast.Name(self.name(own, "self.")) if is_own else self.generic_visit(node)


def scope_lines(scope, source):
    """Yield the Lines of one class of a graph, and of its subgraphs, the classes in it."""
    renamer = Renamer()
    (forward,) = (node for node in scope.body if isinstance(node, ast.FunctionDef))
    names = [node for node in ast.walk(forward) if isinstance(node, ast.Name)]
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    for node in forward.args.args[1:]:
        kind = node.annotation.value if node.annotation else ""
        yield Line(f"{node.arg}: {kind}", f"{renamer.name(node.arg)}: {normal_type(kind)}")
    for node in forward.body:
        own = source[node.lineno - 1].strip().split(";  ")[0]
        match node:
            case ast.Assign(value=ast.Constant(value=None)):
                pass  # a clean-up
            case ast.Assign(targets=[target]) | ast.AnnAssign(target=target):
                # Tracing anew reads all outputs of an operator, used or not.
                if target.id in used or isinstance(node.value, ast.Call):
                    kind = node.annotation.value if isinstance(node, ast.AnnAssign) else ""
                    value = ast.unparse(renamer.visit(node.value))
                    yield Line(own, f"{renamer.name(target.id)}: {normal_type(kind)} = {value}")
            case _:
                yield Line(own, ast.unparse(renamer.visit(node)))
    subgraphs = {f"self.{node.name}": node for node in scope.body if isinstance(node, ast.ClassDef)}
    for name in filter(subgraphs.get, renamer.names):
        yield Line(f"class {subgraphs[name].name}", f"class {renamer.names[name]}")
        yield from scope_lines(subgraphs[name], source)


def graph_lines(text):
    """Return the inputs and statements of a graph as Lines.

    Takes what torch.fx.GraphModule.print_readable returns. In the normal form, names are
    replaced in the order of their first appearance, and what is symbolic is a star. Left
    out are comments, `x = None`, and what is read out of another value but not used.
    """
    # The class of a lambda prints as "<lambda>".
    tree = parse(re.sub(r"(?m)^( *class )<(\w+)>", r"\1_\2", text))
    if isinstance(tree, Exception):  # a value prints as no Python: each line counts as it is
        lines = map(str.strip, text.split("\n"))
        return [Line(line, line) for line in lines if line[:1] not in ("", "#")]
    return list(scope_lines(tree.body[0], text.split("\n")))


# In generated code: a name or a string; a comment, where it is none of a string; and what
# is spelled arbitrarily, besides the names of kernels and of a graph's inputs.
CODE_TOKEN = re.compile(
    r"""(?P<comment>(?:^|;)\s*//.*|(?:^|\s+)\#(?:\ .*)?$)"""
    r"""|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![.\w])[^\W\d]\w*"""
)
ARBITRARY = re.compile(
    r"buf\d+\w*|(?:arg|primals_|tangents_)\d+\w*|[su]\d+|(?:cpp|triton)_\w*fused\w*"
)
KERNEL = re.compile(r"(?ms)^(\w+) = async_compile\.\w+\('(\w+)', '{3}.*?^'{3}")


def code_lines(text):
    """Return the lines of the code that Inductor generated as Lines.

    In the normal form, the names of kernels, buffers, arguments and symbols are replaced in
    the order of their first appearance, and a hash is a "#". Left out are comments and blank
    lines.
    """
    arbitrary = {kernel[1] for kernel in KERNEL.finditer(text)}
    for inputs in re.findall(r"(?m)^ *(\w.*) = args$", text):
        arbitrary.update(re.findall(r"\w+", inputs))
    names = {}

    def normal_name(match):
        if match[0] in arbitrary or ARBITRARY.fullmatch(match[0]):
            return names.setdefault(match[0], f"v{len(names)}")
        return match[0]

    def normal(match):
        if match["comment"]:
            return match[0][: match[0].startswith(";")]
        token = re.sub(r"[0-9A-Fa-f]{32,}", "#", match[0])
        return re.sub(r"(?<![.\w])[^\W\d]\w*", normal_name, token)

    def in_one_name(kernel):
        """Return a kernel's code, which names it in its own way, with its outer name."""
        return re.sub(rf"\b{kernel[2]}\b", kernel[1], kernel[0])

    lines = KERNEL.sub(in_one_name, text).split("\n")
    lines = [CODE_TOKEN.sub(normal, line).rstrip() for line in lines]
    if release() < (2, 15):
        # In each kernel for a GPU the role is lost: see test_role_of_an_inference_graph.
        lines = [re.sub("'optimize_mem': [A-Z].*?,", "", line) for line in lines]
    return [Line(own, line) for own, line in zip(text.split("\n"), lines, strict=True) if line]


def difference(compiled, rebuilt, lines=graph_lines):
    """Return the first 50 lines of how two graphs differ, "" if they are the same.

    Takes both as torch.fx.GraphModule.print_readable returns them, or the code that
    Inductor generated and code_lines; returns a unified diff of their own lines.
    """
    old, new = lines(compiled), lines(rebuilt)
    if old == new:
        return ""
    # Each size is a token, a symbolic one a star.
    texts = ("\n".join(line.normal for line in part) for part in (old, new))
    tokens = (re.findall(r"'\*'|\w+|.", text, re.S) for text in texts)
    changed = {pair for pair in itertools.zip_longest(*tokens, fillvalue="") if pair[0] != pair[1]}
    note = ""
    if all(a.isdigit() and b == "'*'" for a, b in changed):
        note = ", with symbols for sizes that were static, and no other difference"
    if all(a == "'*'" and b.isdigit() for a, b in changed):
        note = ", with static sizes for symbols, and no other difference"
    diff = difflib.unified_diff(old, new, "compiled", f"rebuilt{note}", n=1, lineterm="")
    return "\n".join(itertools.islice(diff, 50))


# Verdict: run one artifact in a fresh process, and compare the graph that it compiles.

# What would send the output of a child elsewhere. torch copies its variables into each
# artifact, where they win over the environment of the child.
REDIRECTING = ("TORCH_TRACE", "TORCH_DTRACE", "TORCH_LOGS", "TORCH_LOGS_OUT")
REDIRECTING += ("TORCH_COMPILE_DEBUG", "TORCH_COMPILE_DEBUG_DIR")
# An artifact is to compile its graph, not to take it from where its program left it.
NO_GRAPH_CACHES = {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0", "TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}


class BadArtifact(AssertionError):
    """Artifacts do not keep their promise: `messages` has one for each, by its number in the
    test or None, and `paths` the places where their scripts are kept.
    """

    def __init__(self, messages, paths):
        super().__init__("\n\n".join(map(str, messages.values())))
        self.messages, self.paths = messages, paths


@functools.cache
def run_folder():
    """Return the folder (a Path) for all that this process writes; it is gone at exit."""
    # Inductor cannot build C++ where the path has a space in it.
    parent = tempfile.gettempdir()
    if re.search(r"\s", parent) and os.path.isdir("/tmp"):
        parent = "/tmp"
    folder = tempfile.mkdtemp(prefix="fx_graph_runnable_", dir=parent)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def cache_folder():
    """Return the path of Inductor's cache: what is built once serves all tests and children."""
    return os.path.abspath(os.environ.get("TORCHINDUCTOR_CACHE_DIR") or run_folder() / "inductor")


def time_limit():
    """Return how many seconds an artifact may take: FX_GRAPH_RUNNABLE_TIMEOUT, or 300.
    Raises ValueError if that is no positive number.
    """
    text = os.environ.get("FX_GRAPH_RUNNABLE_TIMEOUT", "300")
    with contextlib.suppress(ValueError):
        if 0 < float(text) < threading.TIMEOUT_MAX:
            return float(text)
    raise ValueError(f"FX_GRAPH_RUNNABLE_TIMEOUT={text!r}: give a number of seconds, such as 300")


def child_python_path():
    """Return the PYTHONPATH with which a child imports the torch that is tested here."""
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.abspath(path) for path in paths if path]
    root = str(Path(torch.__file__).absolute().parents[1])
    if root not in [*site.getsitepackages(), site.getusersitepackages(), *paths]:
        # Found through the working directory: a fork built in place.
        paths.insert(0, root)
    return os.pathsep.join(paths)


def end_of(path):
    """Return the last 8000 bytes of a file as text, whatever they are."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 8000))
        text = file.read().decode(errors="backslashreplace").rstrip()
    return f"(the last 8000 of {size} bytes)\n{text}" if size > 8000 else text


def end_process(pid):
    """End a process that leads a group, and its group: compile workers, for one."""
    with contextlib.suppress(OSError):  # it has ended
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:  # Windows has no groups, and ends a process at once
            os.kill(pid, signal.SIGTERM)


def run_script(path, environ):
    """Run a script in a fresh Python process, in the folder that it lies in.

    What it prints goes to the files stdout and stderr there, its process id to pid.
    Returns its exit code, as subprocess does, or None if it did not end within the time
    limit. Whatever it started ends with it.
    """
    folder = path.parent
    with open(folder / "stdout", "wb") as stdout, open(folder / "stderr", "wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, path],
            cwd=folder,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            (folder / "pid").write_text(str(child.pid))
            return child.wait(time_limit())
        except subprocess.TimeoutExpired:
            return None
        finally:
            end_process(child.pid)
            child.wait()


def how_it_ended(code):
    """Return an exit code of subprocess in words; None says that it did not end."""
    if code is None:
        return f"did not end within {time_limit():g} s (FX_GRAPH_RUNNABLE_TIMEOUT)"
    if code < 0:
        name = {s.value: s.name for s in signal.Signals}.get(-code, f"signal {-code}")
        return f"was killed by {name}"
    return f"exited with code {code}"


def what_is_wrong(script, exit_code, compiled, rebuilt):
    """Return what is wrong with an artifact, or None.

    Takes its script, its exit code (None: it did not end), and two lists of records: the
    graph that was compiled, and the code that was generated, as far as it is to be
    compared; and all that the artifact logged when it ran.
    """
    end = how_it_ended(exit_code)
    tree = parse(script)
    if not script.strip():
        return f"is empty and {end}"
    if isinstance(tree, Exception):
        return f"is no Python ({tree}) and {end}"
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    if "forward" not in functions:
        return f"has no forward, so that it rebuilds no graph, and {end}"
    if exit_code != 0:
        return end
    for record in compiled:
        name = artifact_name(record)
        is_code = name == CODE
        again = [r.payload for r in rebuilt if artifact_name(r) == name]
        if len(again) != 1:
            what = "generated code {} times" if is_code else "compiled {} graphs"
            return f"is unfaithful: it ran, but {what.format(len(again))}, not 1"
        if diff := difference(record.payload, again[0], code_lines if is_code else graph_lines):
            what = "generated other code" if is_code else "compiled another graph"
            return f"is unfaithful: it ran, but {what}\n{diff}"


def judge(script, graph, name, code=None):
    """Run one artifact, in a fresh Python process and a folder of its own, and judge it.

    Takes the script, the record of the graph that was compiled (None: judge by exit code
    alone), the name under which the script is kept if FX_GRAPH_RUNNABLE_KEEP asks for
    all or if it is bad, and the record of the code that was generated if that is to be
    the same. Raises BadArtifact if it is bad.
    """
    compiled = [record for record in (graph, code) if record]
    keep = os.environ.get("FX_GRAPH_RUNNABLE_KEEP")
    with tempfile.TemporaryDirectory(dir=run_folder(), ignore_cleanup_errors=True) as folder:
        path = Path(folder, re.sub(r"[^\w.\[\]-]+", "_", name) + ".py")
        path.write_text(script, encoding="utf-8", errors="backslashreplace")
        trace = path.with_name("trace")
        python_path = {"PYTHONPATH": child_python_path()}
        environ = python_path | NO_GRAPH_CACHES | {"TORCH_TRACE": str(trace)}
        exit_code = run_script(path, os.environ | environ)
        logs = map(read_trace, trace.glob("*") if compiled else ())
        problem = what_is_wrong(script, exit_code, compiled, [*itertools.chain(*logs)])
        stdout, stderr = end_of(path.with_name("stdout")), end_of(path.with_name("stderr"))
        if exit_code and exit_code > 0 and stderr:
            problem += f": {stderr.splitlines()[-1]}"
        if problem and not keep:
            keep = tempfile.mkdtemp(prefix="fx_graph_runnable_failed_", dir=run_folder().parent)
        kept = keep and shutil.copy(path, os.path.abspath(keep))
    if problem:
        again = [f"{k}={v}" for k, v in python_path.items() if v]
        message = (
            f"the artifact {problem}\n---- its stdout\n{stdout}\n---- its stderr\n{stderr}\n"
            f"---- kept as {kept}; to run it again:\n{shlex.join([*again, sys.executable, kept])}"
        )
        raise BadArtifact({None: message}, [kept])


# The test case: wires the capture, keeps what torch does inside the test, and judges.


@contextlib.contextmanager
def torch_at_home(folder):
    """Make torch log an artifact for every compile, forget other tests, and stay at home.

    Takes the folder for what torch writes while tracing. What is private to torch is
    here, in one place: none of it has a public way.
    """
    import torch._dynamo.config as dynamo_config
    import torch._functorch.config as functorch_config
    import torch._inductor.config as inductor_config
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
    from torch._inductor.cpu_vec_isa import valid_vec_isa_list
    from torch._logging.structured import INTERN_TABLE
    from torch.compiler._cache import CacheArtifactManager

    def reset():
        torch.compiler.reset()
        kernel_side_table.reset_table()  # written into each artifact, whole
        INTERN_TABLE.clear()
        CacheArtifactManager.clear()  # what save_cache_artifacts saves
        valid_vec_isa_list.cache_clear()  # found with cpp.vec_isa_ok, or without it

    with (
        # A hit in a graph cache replays the artifact of an earlier compile, or logs none.
        functorch_config.patch(enable_autograd_cache=False, enable_remote_autograd_cache=False),
        inductor_config.patch(
            {
                "fx_graph_cache": False,
                "fx_graph_remote_cache": False,
                # TORCH_COMPILE_DEBUG switched it on if it was set when torch was imported.
                "trace.enabled": False,
                # Else each process builds C++ to probe the CPU, which no artifact depends on.
                "cpp.vec_isa_ok": False,
                # To start workers takes longer than to compile a small graph.
                "compile_threads": 1,
            }
        ),
        dynamo_config.patch(debug_dir_root=folder),
    ):
        reset()
        try:
            yield
        finally:
            reset()


@skip_in_fbcode
class ArtifactTestCase(TestCase):
    """Captures the artifacts of what a test compiles, and judges them."""

    device = "cpu"
    # A fork's own takes numbers for equal that are close.
    assertEqual = unittest.TestCase.assertEqual
    assertNotEqual = unittest.TestCase.assertNotEqual

    def setUp(self):
        super().setUp()
        self.wiring = wiring = contextlib.ExitStack()
        self.addCleanup(wiring.close)  # where setUp fails
        folder = wiring.enter_context(
            tempfile.TemporaryDirectory(dir=run_folder(), ignore_cleanup_errors=True)
        )

        wiring.enter_context(mock.patch.dict(os.environ))
        for name in REDIRECTING:
            os.environ.pop(name, None)
        cache = cache_folder()
        os.makedirs(cache, exist_ok=True)
        # Inductor's precompiled headers go to the folder for temporary files.
        os.environ.update(TORCHINDUCTOR_CACHE_DIR=cache, TMPDIR=cache)
        wiring.enter_context(mock.patch.object(tempfile, "tempdir", cache))
        for name in ("TRITON_CACHE_DIR", "PYTORCH_KERNEL_CACHE_PATH"):
            os.environ.setdefault(name, cache)  # else in the home folder
        wiring.enter_context(torch_at_home(folder))
        # init_process_group puts the rank in front of each line of it.
        wiring.enter_context(mock.patch.object(sys, "excepthook", sys.excepthook))

        self.handler = logging.handlers.BufferingHandler(capacity=sys.maxsize)
        self.handler.addFilter(FxGraphRunnableArtifactFilter())
        self.handler.setFormatter(StructuredTracePayloadFormatter())
        graphs = logging.handlers.BufferingHandler(capacity=sys.maxsize)
        graphs.addFilter(lambda record: artifact_name(record) in (*GRAPHS, CODE))
        # One buffer for both, so that each comes behind its artifact.
        graphs.buffer = self.handler.buffer
        # Alone, since torch's own handler would put the test into a trace of the user's.
        handlers = [self.handler, graphs]
        wiring.enter_context(mock.patch.object(trace_log, "handlers", handlers))
        wiring.callback(trace_log.setLevel, trace_log.level)
        trace_log.setLevel(logging.DEBUG)

    def tearDown(self):
        self.wiring.close()
        super().tearDown()

    def run(self, result=None):
        try:
            return super().run(result)
        except KeyboardInterrupt:
            self.doCleanups()  # unittest leaves an interrupted test as it is
            raise

    def randn(self, *size, **options):
        """Return a random tensor of this size on the device under test."""
        return torch.randn(*size, device=self.device, **options)

    def scripts(self):
        """Return the artifacts that were captured."""
        records = filter(FxGraphRunnableArtifactFilter().filter, self.handler.buffer)
        return [self.handler.format(record) for record in records]

    def _exec_and_verify_payload(self, artifacts=1, code=False):
        """Judge each artifact that was captured. Returns their scripts.

        Takes how many there must be, and whether each must generate the very code that its
        program generated. Raises BadArtifact or AssertionError.
        """
        found = list(with_graphs(self.handler.buffer))
        self.assertEqual(len(found), artifacts, "the number of artifacts that torch logged")
        test = f"{type(self).__name__}.{self._testMethodName}"
        messages, paths = {}, []
        for number, (artifact, graph, generated) in enumerate(found, start=1):
            try:
                script = self.handler.format(artifact)
                judge(script, graph, f"{test}.{number}", generated if code else None)
            except BadArtifact as bad:
                (messages[number],) = bad.args
                paths += bad.paths
        if messages:
            raise BadArtifact(messages, paths)
        if code and not all(generated for *_, generated in found):
            self.skipTest("torch logged no code: only the graph was compared")
        return self.scripts()


# Known gaps: tests that fail for what torch does, not for what the suite does.


class Gap(NamedTuple):
    """Something that torch does for which a test fails. As a decorator it marks such a test,
    which counts as skipped while the gap is open and the test fails with its error; another
    error is a failure, and so is success. Where it is not open, the test must simply pass.

    Has the reason, a regular expression for the error, the upstream issue, the releases that
    opened and closed it, and which artifact of the test shows it: its number, or None for
    all that are bad. A test may have several such marks, but one for each artifact on each
    release.
    """

    reason: str
    error: str
    upstream: str = "unreported"
    opened: str = "0.0"
    closed: str = "9999.0"
    artifact: int | None = None

    def shown(self, **fields):
        """Return it as a certain test shows it: by one `artifact`, or on fewer releases."""
        return self._replace(**fields)

    def __str__(self):
        return f"known gap: {self.reason} ({self.upstream})"

    def __call__(self, test):
        if hasattr(test, "gaps"):
            test.gaps.append(self)
            return test

        @functools.wraps(test)
        def marked(case):
            open_gaps = (
                g for g in marked.gaps if release(g.opened) <= release() < release(g.closed)
            )
            gaps = {gap.artifact: gap for gap in open_gaps}
            if not gaps:
                return test(case)
            shown = []
            try:
                test(case)
            except unittest.SkipTest:
                raise
            except Exception as failure:
                messages = getattr(failure, "messages", {None: failure})
                for number, message in messages.items():
                    gap = gaps.get(number, gaps.get(None))
                    if not gap or not re.search(gap.error, str(message)):
                        raise
                    shown.append(gap)
                if not os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
                    for path in getattr(failure, "paths", ()):
                        shutil.rmtree(os.path.dirname(path))
            if closed := [gap for gap in gaps.values() if gap not in shown]:
                advice = f"drop the mark, or give the gap closed={torch.__version__!r}"
                case.fail(f"the {closed[0]} is closed: {advice}")
            raise unittest.SkipTest(" and ".join(dict.fromkeys(map(str, gaps.values()))))

        marked.gaps = [self]
        return marked


# The gaps, each in one place: by what was lost, with the error, the issue and the releases.
# fmt: off

# Symbolic sizes.
symbols_become_static = Gap("an artifact compiles the hints of its symbolic sizes",
    "with static sizes for symbols, and no other difference", closed="2.13")
symbols_are_expressions = Gap("a symbol is defined by an expression",
    "is no Python .cannot assign to expression here", "pytorch/pytorch#166529", closed="2.10")
symbols_are_function_calls = symbols_are_expressions._replace(
    error="is no Python .cannot assign to function call here")
symbols_are_undefined = Gap("a symbol that is no input's size is an undefined name",
    r"NameError: name 's\d+' is not", "pytorch/pytorch#180298", closed="2.13")
static_sizes_become_symbolic = Gap("an artifact with any symbolic size makes all of its inputs' sizes symbolic",
    "with symbols for sizes that were static, and no other difference", opened="2.13")
max_is_undefined = Gap("the size of a storage needs Max, which the artifact does not import",
    "NameError: name 'Max' is not defined", "pytorch/pytorch#190838", opened="2.10", closed="2.14")
functions_are_undefined = Gap("shapes and strides use functions that the artifact does not import",
    "NameError: name 'TruncToInt' is not", "pytorch/pytorch#194827", opened="2.10", closed="2.15")
math_trunc_is_undefined = functions_are_undefined._replace(
    error="NameError: name 'math_trunc' is not", closed="9999.0", artifact=1)
items_cannot_be_traced = Gap("an unbacked symbol cannot be traced again",
    r"aten\._local_scalar_dense")
nonzero_cannot_be_traced = items_cannot_be_traced._replace(
    error=r"DynamicOutputShapeException: aten\.nonzero")
unbacked_sizes_are_undefined = Gap("unbacked sizes are undefined names",
    "NameError: name 'u0' is not")
jagged_sizes_are_undefined = Gap("jagged sizes are undefined names",
    "NameError: name 'j\\d+' is not")
repeats_are_random = Gap("the repeats of an artifact do not sum to the output size",
    r"allocated size does not match required size|result_size == cumsum_ptr\[size - 1\]", closed="2.12")
repeats_are_out_of_bounds = repeats_are_random._replace(
    error="IndexError: index 3 is out of bounds for dimension 0 with size 3", closed="2.10")

# Constants, inputs and weights.
nan_is_undefined = Gap("NaN literals are undefined names",
    "NameError: name 'nan' is not")
constants_lose_digits = Gap("small tensor constants are recorded with four decimals",
    r"\[3\.14\d+\] != \[3\.14159\d+\]")
large_constants_are_random = Gap("tensor constants of more than four elements come back random",
    r"'torch\.randint\(.*' != 'tensor", "pytorch/pytorch#100468")
no_inputs_are_no_body = Gap("the artifact of a graph without inputs has a function without a body",
    "is no Python .expected an indented block after function definition")
opaque_inputs_are_none = Gap("an input that is an opaque object, the device mesh here, is loaded as None",
    r"@@.*\n.*\n-return .*primals_\d+.*\n\+return .*None.*\n---- its stdout", opened="2.12")
random_states_are_random = Gap("a checkpoint's state of the random number generator is loaded as random data",
    "RuntimeError: Invalid mt19937 state", opened="2.14")
attention_gets_a_random_seed = Gap("attention's backward takes a random seed and offset for what the forward drew",
    "was killed by SIGSEGV")
parameters_were_refused = Gap("weights in the graph become parameters, which no artifact may have",
    r"assert not any\(mod\.named_parameters", "pytorch/pytorch#111678", closed="2.13")
parameters_are_refused = parameters_were_refused._replace(
    error="Repro graph should not have any parameters", opened="2.13", closed="9999.0")
exported_graphs_take_nothing = Gap("the artifact of an exported program takes no inputs",
    r"Repro\.forward\(\) takes 1 positional argument but 2 were given")
replayed_sizes_are_old = Gap("a replayed artifact has the sizes of the run that filled the cache",
    r"\(6,\) != \(9,\)")
empty_where_nobody_listened = Gap("an artifact is empty if the run that filled the cache was not traced",
    "the artifact is empty", "pytorch/pytorch#192818", opened="2.14")

# Subgraphs and operators.
subgraphs_cannot_be_printed = Gap("a subgraph prints as a lambda, which is a syntax error",
    r"(?s)is no Python .invalid syntax.* = <lambda>\(\)", "pytorch/pytorch#150062, closed by #186804", closed="2.14")
while_loops_cannot_be_traced = Gap("a while_loop cannot be traced again",
    "'NoneType' object has no attribute 'ignore_fresh_unbacked_symbols'", "pytorch/pytorch#150062", opened="2.14")
counters_cannot_be_traced = Gap("a loop's counter cannot be traced again",
    r"DataDependentOutputException: aten\._local_scalar_dense", "pytorch/pytorch#150062", opened="2.14")
regions_are_doubled = Gap("a region used twice becomes two",
    r"\+class repeated_subgraph1\n", "pytorch/pytorch#150062", opened="2.14")
flex_attention_loses_arguments = Gap("flex attention loses its arguments",
    "InductorError: IndexError: tuple index out of range", "pytorch/pytorch#150062", opened="2.14")
custom_operators_are_missing = Gap("custom operators are not importable",
    "object has no attribute 'twice'", "pytorch/pytorch#138355")

# Process groups.
groups_are_of_two_ranks = Gap("every process group is taken to be of two ranks",
    "'size': 4, 'rank': 1\" not found in", closed="2.11")
groups_are_but_one = Gap("there is but one process group",
    "Could not resolve the process group registered under the name 1", "pytorch/pytorch#173932", closed="2.11")
names_are_taken = Gap("a group's name is taken before it is registered",
    "already registered under the name1", opened="2.11")
split_sizes_are_not_static = Gap("an artifact compiles the hints of its symbolic sizes, but for split sizes",
    "(?s)LoweringException: AssertionError.*target: _c10d_functional.all_to_all_single", closed="2.10")

# State that decides the code.
quotes_are_not_escaped = Gap("apostrophes and backslashes in environment variables are not escaped",
    "^invalid syntax", closed="2.11")
quotes_are_doubled = quotes_are_not_escaped._replace(
    error=r"""'it"s C:\\new' != "it's C:""", opened="2.11", closed="9999.0")
roles_are_lost = Gap("an artifact compiles an inference graph as one for training",
    r"\n-.*aten\.randint\.low_out", "pytorch/pytorch#193557", closed="2.15")
determinism_is_lost = Gap("deterministic algorithms are not in force",
    r"(?s)generated other code\n.*\n-.*index")
threads_are_lost = Gap("the number of threads is not recorded",
    r"\n-.*#pragma omp parallel num_threads\(3\)\n")
precision_is_lost = Gap("the precision of matmuls is not recorded",
    r"\n-    ALLOW_TF32 : tl\.constexpr = True\n\+    ALLOW_TF32 : tl\.constexpr = False\n")
cpp_wrapper_is_lost = Gap("the C++ wrapper is not generated",
    r"\n-from torch\._inductor\.codecache import CppWrapperCodeCache\n")
outputs_are_padded = Gap("outputs that the user sees are padded",
    r"\n-.*r0_1 \+ 2000\*x0(?s:.*)\n\+.*r0_1 \+ 2016\*x0")

# Triton kernels of one's own.
imports_are_missing = Gap("what a Triton kernel imports is not imported",
    r"NameError\('(libdevice|exp|tl_math) is not defined'\)", closed="2.14")
false_constexprs_are_missing = Gap("a global constexpr that is 0 or False is left out",
    r"NameError\('(ZERO|FALSE) is not defined'\)")
strings_are_not_quoted = Gap("a global constexpr that is a string is written without quotes",
    "NameError: name 'relu' is not defined")
dtypes_are_short_names = Gap("a global constexpr that is a dtype is written as its short name",
    "NameError: name 'fp32' is not defined")
heuristics_are_not_written = Gap("heuristics under autotune cannot be written",
    "(?s)is no Python.*ERROR: Repro will not work as intended")

# fmt: on


class ToyModel(torch.nn.Module):
    """Linear, relu, dropout, linear: (batch, input_size) to (batch, output_size)."""

    def __init__(self, input_size=10, hidden_size=20, output_size=5):
        super().__init__()
        self.linear1 = torch.nn.Linear(input_size, hidden_size)
        self.relu = torch.nn.ReLU()
        self.dropout = torch.nn.Dropout(0.1)
        self.linear2 = torch.nn.Linear(hidden_size, output_size)

    def forward(self, x):
        return self.linear2(self.dropout(self.relu(self.linear1(x))))


def dynamic(x, *dims):
    """Return a tensor with these dimensions, or all, marked as dynamic."""
    torch._dynamo.mark_dynamic(x, dims or tuple(range(x.dim())))
    return x


@contextlib.contextmanager
def fake_process_group(world_size=2, rank=0):
    """Be in a process group that does not communicate, for a with block: behind it, where
    artifacts run, there is none, so that an artifact has to bring its own.
    """
    try:
        from torch.testing._internal.distributed.fake_pg import FakeStore
    except ImportError as error:
        raise unittest.SkipTest(f"this torch has no fake process group: {error}") from None
    dist.init_process_group(backend="fake", rank=rank, world_size=world_size, store=FakeStore())
    try:
        yield
    finally:
        dist.destroy_process_group()


@skip_if_compile_disabled
class FxGraphRunnableTest(ArtifactTestCase):
    """The documented tests: the graphs that PyTorch's own test of these artifacts compiles."""

    # basic graphs

    def test_basic_tensor_add(self):
        torch.compile(lambda x: x + 1)(torch.randn(4))
        self._exec_and_verify_payload()

    def test_scalar_multiply(self):
        torch.compile(lambda x: x * 2)(torch.randn(5))
        self._exec_and_verify_payload()

    def test_two_inputs_matmul(self):
        torch.compile(lambda a, b: torch.relu(a @ b))(torch.randn(2, 3), torch.randn(3, 4))
        self._exec_and_verify_payload()

    # dynamic shapes

    @symbols_become_static
    def test_dynamic_shapes_run(self):
        torch.compile(lambda x: torch.relu(x @ x.transpose(0, 1)))(dynamic(torch.randn(10, 12)))
        self._exec_and_verify_payload()

    @symbols_become_static
    def test_broadcast_add_dynamic(self):
        x, y = dynamic(torch.randn(5, 1), 0), dynamic(torch.randn(1, 8), 1)
        torch.compile(lambda x, y: x + y * 2)(x, y)
        self._exec_and_verify_payload()

    @symbols_are_expressions
    @symbols_become_static.shown(opened="2.10")
    def test_dynamic_expression(self):
        # Once defined a symbol by an expression, "s27*s53**2 = 36": pytorch/pytorch#166529.
        pool = torch.ops.aten._adaptive_avg_pool2d
        f = torch.compile(lambda x: (pool(x, (6, 6)), pool(x + 1, (2, 5))))
        with torch._dynamo.config.patch(assume_static_by_default=False):
            f(torch.randn(2, 4, 16, 16))
        self._exec_and_verify_payload()

    # modules

    def test_toy_model_basic(self):
        torch.compile(ToyModel(8, 16, 4).eval())(torch.randn(3, 8))
        self._exec_and_verify_payload()

    def test_toy_model_batch_processing(self):
        torch.compile(ToyModel(12, 24, 6).eval())(torch.randn(16, 12))
        self._exec_and_verify_payload()

    @symbols_become_static
    @static_sizes_become_symbolic
    def test_toy_model_dynamic_batch(self):
        torch.compile(ToyModel(10, 20, 5).eval())(dynamic(torch.randn(7, 10), 0))
        # The backward saves a symbolic size, for which AOTAutograd compiles it at once.
        self._exec_and_verify_payload(artifacts=2)

    # collectives

    @requires_distributed
    def test_all_reduce_collective(self):
        def f(x):
            dist.all_reduce(x)
            return x * 2

        with fake_process_group():
            torch.compile(f)(torch.randn(4, 4))
        self._exec_and_verify_payload()

    @requires_distributed
    def test_all_gather_collective(self):
        def f(x):
            gathered = [torch.empty_like(x), torch.empty_like(x)]
            dist.all_gather(gathered, x)
            return gathered[0] + gathered[1]

        with fake_process_group():
            torch.compile(f)(torch.randn(3, 3))
        self._exec_and_verify_payload()

    @requires_distributed
    def test_broadcast_collective(self):
        def f(x):
            dist.broadcast(x, src=0)
            return x.sum()

        with fake_process_group():
            torch.compile(f)(torch.randn(5, 5))
        self._exec_and_verify_payload()

    @requires_distributed
    def test_reduce_scatter_collective(self):
        def f(x):
            output = torch.empty_like(x)
            dist.reduce_scatter(output, [x, x.clone()])
            return output

        with fake_process_group():
            torch.compile(f)(torch.randn(4, 4))
        self._exec_and_verify_payload()

    @requires_distributed
    def test_dtensor_compile_redistribute(self):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor import DTensor, Replicate, Shard

        with fake_process_group():
            mesh = init_device_mesh("cpu", (2,))

            def f(x, y):
                x = DTensor.from_local(x.view(2, 4), mesh, [Shard(0)], run_check=False)
                y = DTensor.from_local(y.view(4, 2), mesh, [Shard(1)], run_check=False)
                return (x @ y).redistribute(mesh, [Replicate()]).to_local()

            x, y = (torch.arange(8, dtype=torch.float32) for _ in range(2))
            torch.compile(f)(x, y)
        self._exec_and_verify_payload()

    # configs

    def test_metrics_context(self):
        # Once died for want of a MetricsContext: pytorch/pytorch#166432.
        options = {"trace.enabled": True, "trace.provenance_tracking_level": 1}
        with torch._inductor.config.patch(options):
            torch.compile(lambda x: x * 2 + 1)(torch.randn(4, 4))
        self._exec_and_verify_payload()

    # Triton kernels

    @requires_triton
    def test_user_defined_triton_kernel(self):
        def f(x, y):
            out = torch.ones_like(x)
            n_elements = out.numel()
            add_kernel[(n_elements,)](x, y, out, n_elements, BLOCK_SIZE=4)
            return out

        x, y = (torch.ones(4096, device=ACCELERATOR, dtype=torch.float16) for _ in range(2))
        torch.compile(f)(x, y)
        self._exec_and_verify_payload(code=True)

    @requires_triton
    def test_user_defined_triton_kernel_autotune(self):
        def f(x, y):
            out = torch.ones_like(x)
            n_elements = out.numel()
            grid = lambda meta: (triton.cdiv(n_elements, meta["BLOCK_SIZE"]),)
            add_kernel_autotune[grid](x, y, out, n_elements)
            return out

        x, y = (torch.ones(4096, device=ACCELERATOR, dtype=torch.float16) for _ in range(2))
        # Hooks of a kernel are arbitrary code, which Dynamo refuses unless told to ignore it.
        with torch._inductor.config.patch(unsafe_ignore_unsupported_triton_autotune_args=True):
            torch.compile(f)(x, y)
        self._exec_and_verify_payload(code=True)


def environment_of(script):
    """Return the environment variables that an artifact sets."""
    return {
        ast.literal_eval(node.targets[0].slice): ast.literal_eval(node.value)
        for node in ast.parse(script).body
        if isinstance(node, ast.Assign) and ast.unparse(node).startswith("os.environ[")
    }


def inputs_of(script):
    """Return the calls with which an artifact loads its inputs; its storages are 0, 1, ..."""
    nodes = [
        node
        for node in ast.parse(script).body
        if (isinstance(node, ast.FunctionDef) and node.name == "load_args")
        or re.fullmatch(r"\w+ = \d+", ast.unparse(node))  # a symbol: s77 = 10
    ]
    names = {"torch": torch, "device": torch.device, "load_args": None}
    exec(compile(ast.Module(nodes, []), "load_args", "exec"), names)
    reader = mock.Mock()
    reader.storage.side_effect = itertools.count()
    names["load_args"](reader)
    return reader.mock_calls


@skip_if_compile_disabled
class RecordedStateTest(ArtifactTestCase):
    """What an artifact must record of the state it was compiled in: its graph does not show it."""

    def test_graph_is_logged(self):
        torch.compile(lambda x: x + 1)(torch.randn(3))
        ((_, graph, _),) = with_graphs(self.handler.buffer)
        if graph is None:  # logged by all releases from 2.9 on
            self.skipTest("no before_post_grad_graph: judging by exit code alone")

    def test_small_constants(self):
        def f(x):
            return x + torch.tensor([1, -2, 3]), x * torch.tensor([0.5, float("inf"), -1.25])

        torch.compile(f)(torch.randn(3))
        (script,) = self.scripts()
        texts = re.findall(r"register_buffer\('\w+', tensor\((.*)\)\)", script)
        constants = [torch.tensor(ast.literal_eval(text.replace("inf", "1e999"))) for text in texts]
        self.assertEqual([c.tolist() for c in constants], [[1, -2, 3], [0.5, float("inf"), -1.25]])
        self.assertEqual([c.dtype for c in constants], [torch.int64, torch.float32])
        self.assertIn("tracing_mode='real'", script)

    @constants_lose_digits
    def test_digits_of_small_constants(self):
        torch.compile(lambda x: x * torch.tensor([3.14159274]))(torch.randn(3))
        (script,) = self.scripts()
        (text,) = re.findall(r"register_buffer\('\w+', tensor\((.*)\)\)", script)
        self.assertEqual(torch.tensor(ast.literal_eval(text)).tolist(), [3.1415927410125732])

    def test_configs_and_environment(self):
        quoted = 'a "quoted" \\ value'
        os.environ.update(TORCH_PLAIN="plain", DYNAMO_QUOTED=quoted, NOT_RECORDED_PLAIN="plain")
        with (
            torch._dynamo.config.patch(recompile_limit=3),
            torch._inductor.config.patch({"size_asserts": False, "cpp.threads": 3}),
            torch._functorch.config.patch(activation_memory_budget=0.5),
        ):
            torch.compile(lambda x: x.sin() + 1)(torch.randn(2**16))
        (script,) = self._exec_and_verify_payload(code=True)
        for line in (  # what decides no code
            "torch._dynamo.config.recompile_limit = 3",
            "torch._functorch.config.activation_memory_budget = 0.5",
            "os.environ['TORCH_PLAIN'] = 'plain'",
        ):
            self.assertIn(f"\n{line}\n", script)
        self.assertNotIn("NOT_RECORDED_PLAIN", script)
        self.assertEqual(environment_of(script)["DYNAMO_QUOTED"], quoted)

    @quotes_are_not_escaped
    @quotes_are_doubled
    def test_environment_with_apostrophe(self):
        os.environ["TORCH_QUOTED"] = r"it's C:\new"
        torch.compile(lambda x: x + 1)(torch.randn(3))
        (script,) = self.scripts()
        self.assertEqual(environment_of(script)["TORCH_QUOTED"], r"it's C:\new")

    def test_sizes_of_dynamic_inputs(self):
        torch.compile(lambda x: x.t() * x.shape[0])(dynamic(torch.randn(6, 5), 0))
        (script,) = self.scripts()
        (symint,) = [call for call in inputs_of(script) if call[0] == "symint"]
        self.assertEqual(symint.args, (6,))
        if release() >= (2, 13):  # else an artifact compiles static sizes anyhow
            self.assertIn(f", ({symint.kwargs['expr']}, 5), ", script)
        sizes = [call.args[1] for call in inputs_of(script) if call[0] == "tensor"]
        self.assertEqual(sizes, [(6, 5)])
        self.assertIn("tracing_mode='symbolic'", script)

    @groups_are_of_two_ranks
    def test_process_group(self):
        with fake_process_group(world_size=4, rank=1):
            torch.compile(lambda x: dist.all_reduce(x))(torch.randn(4))
        (script,) = self.scripts()
        self.assertIn("'size': 4, 'rank': 1", script)


@skip_if_compile_disabled
class InputsTest(ArtifactTestCase):
    """What a graph takes: dtypes, layouts, storages, mutation, and things that are no tensors."""

    def test_dtypes(self):
        names = "float64 bfloat16 float16 float8_e4m3fn float8_e5m2 complex64"
        names += " int64 int32 int16 int8 uint8 bool"
        xs = [self.randn(3).to(getattr(torch, name)) for name in names.split()]
        torch.compile(lambda *xs: [x.to(torch.complex64) + 1 for x in xs])(*xs)
        (script,) = self._exec_and_verify_payload()
        storages = [call for call in inputs_of(script) if call[0] == "storage"]
        hints = [c.kwargs.get("dtype_hint", torch.float32) for c in storages]
        self.assertEqual(hints, [x.dtype for x in xs])

    def test_layouts_and_storages(self):
        storage = self.randn(20)
        views = (storage[:10], storage[5:15])
        x = self.randn(6, 4)
        layouts = (x.t(), x[1:5:2, 1:].t(), x[0].expand(3, 4), x[0, 0], x[:0])
        image = self.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
        torch.compile(lambda *xs: [x * 2 for x in xs])(*views, *layouts, image)
        (script,) = self._exec_and_verify_payload()
        tensors = [call for call in inputs_of(script) if call[0] == "tensor"]
        self.assertTrue(all(call.kwargs["is_leaf"] for call in tensors))
        storages = [call.args[0] for call in tensors]
        self.assertEqual(storages, [0, 0, 1, 1, 1, 1, 1, 2])
        offsets = [call.kwargs.get("storage_offset", 0) for call in tensors]
        self.assertEqual(offsets, [0, 5, 0, 5, 0, 0, 0, 0])
        sizes = [call.args[1] for call in inputs_of(script) if call[0] == "storage"]
        self.assertEqual(sizes, [80, 96, 480])

    def test_mutation_aliasing_and_none(self):
        def f(x, nothing, y):
            x.mul_(2)
            return None, x + y if nothing is None else x

        storage = self.randn(10)
        torch.compile(f)(storage[:6], None, storage[4:])
        self._exec_and_verify_payload()

    @no_inputs_are_no_body
    def test_no_input(self):
        torch.compile(lambda: torch.ones(3, device=self.device) + 1)()
        self._exec_and_verify_payload()

    @symbols_become_static
    def test_scalars(self):
        f = torch.compile(lambda x, i, r, b: x * i + r if b else x, dynamic=True)
        f(self.randn(5), 7, 2.5, True)
        self._exec_and_verify_payload()

    @jagged_sizes_are_undefined
    def test_jagged_nested_tensor(self):
        x = torch.nested.nested_tensor([self.randn(2, 3), self.randn(4, 3)], layout=torch.jagged)
        torch.compile(lambda x: x * 2)(x)
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class ConstantsTest(ArtifactTestCase):
    """Values that a graph holds itself."""

    def test_scalars_and_buffers(self):
        lifted = self.randn(4)

        class Model(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("scale", torch.randn(4))
                self.register_buffer("count", torch.zeros(()))

            def forward(self, x):
                self.count += 1
                x = torch.clamp(x * 0.12345678901234567, -float("inf"), 1e-300)
                x = x + torch.tensor([1, -2, 3, 4], dtype=torch.int16, device=x.device)
                return (x + lifted).masked_fill(x > 1e30, float("inf")) * self.scale

        torch.compile(Model().to(self.device).eval())(self.randn(4))
        self._exec_and_verify_payload()

    @nan_is_undefined
    def test_nan(self):
        torch.compile(lambda x: x.masked_fill(x > 0, float("nan")))(self.randn(4))
        self._exec_and_verify_payload()

    @large_constants_are_random
    def test_large_tensor(self):
        torch.compile(lambda x: x + torch.tensor([1, 2, 3, 4, 5, 6]).to(x.device))(self.randn(6))
        (script,) = self.scripts()
        (text,) = re.findall(r"register_buffer\('\w+', (.*)\)\n", script)
        self.assertEqual(text, "tensor([1, 2, 3, 4, 5, 6])")


@skip_if_compile_disabled
class TrainingTest(ArtifactTestCase):
    """Forward and backward graphs, each with its artifact."""

    def train(self, f, *inputs):
        """Compile a function or module, and run it forward and backward."""
        torch.compile(f)(*inputs).sum().backward()

    def test_convolutions(self):
        layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
        model = torch.nn.Sequential(*layers, torch.nn.Dropout(0.5))
        self.train(model.to(self.device), self.randn(2, 3, 8, 8))
        self._exec_and_verify_payload(artifacts=2)

    @random_states_are_random
    def test_autocast_and_checkpoint(self):
        from torch.utils.checkpoint import checkpoint

        class Twice(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * 2

            @staticmethod
            def backward(ctx, grad):
                (x,) = ctx.saved_tensors
                return grad * x.cos()

        linear = torch.nn.Linear(4, 4).to(self.device)
        noise = torch.nn.functional.dropout

        def f(x):
            with torch.autocast(x.device.type, dtype=torch.bfloat16):
                x = checkpoint(lambda x: torch.sin(linear(x)), x, use_reentrant=False)
            x = checkpoint(lambda x: noise(x.exp(), 0.5), x, use_reentrant=False)
            return Twice.apply(x.float())

        self.train(f, self.randn(2, 4, requires_grad=True))
        self._exec_and_verify_payload(artifacts=2)

    def test_optimizer(self):
        model = ToyModel().to(self.device)
        model(self.randn(3, 10)).sum().backward()
        optimizer = torch.optim.AdamW(model.parameters())
        torch.compile(optimizer.step)()
        self._exec_and_verify_payload()

    def test_compiled_autograd(self):
        loss = ToyModel().to(self.device)(self.randn(3, 10)).sum()
        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(torch.Tensor.backward)(loss)
        self.assertIn("compiled_autograd_id", self.handler.buffer[0].metadata)
        self._exec_and_verify_payload()

    def test_embedding_and_transformer_layer(self):
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = torch.nn.Sequential(torch.nn.Embedding(10, 8), layer)
        self.train(model.to(self.device), torch.randint(10, (2, 5), device=self.device))
        self._exec_and_verify_payload(artifacts=2)

    def test_gru(self):
        gru = torch.nn.GRU(3, 4).to(self.device)
        with torch.no_grad():
            torch.compile(lambda x: gru(x))(self.randn(2, 3))
            self.assertEqual(self.scripts(), [])  # Dynamo leaves recurrent layers alone
            with torch._dynamo.config.patch(allow_rnn=True):
                torch.compile(lambda x: gru(x))(self.randn(2, 3))
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class ProgramsTest(ArtifactTestCase):
    """Operators and ways of compiling that people use."""

    def test_graph_break_and_recompilation(self):
        def f(x):
            x = x.sin().sum()
            torch._dynamo.graph_break()
            return x.cos()

        compiled = torch.compile(f, dynamic=False)
        compiled(self.randn(3))
        compiled(self.randn(4))
        self._exec_and_verify_payload(artifacts=3)

    def test_operators(self):
        def f(x, y, index):
            sort = torch.sort(x, dim=1)
            top = torch.topk(x, 2)[1]
            maps = (torch.vmap(lambda row: row @ y)(x), torch.func.grad(lambda x: (x**2).sum())(x))
            scattered = torch.zeros_like(x).scatter_add(1, index, x)
            indexed = x[index[:, 0], 1:3], torch.index_put(y, (index[0, :2],), y[0])
            sums = torch._foreach_add([x, y], 2.0), x.cumsum(1), torch.var_mean(x, 0)
            noise = torch.rand_like(x), torch.randint(5, (3,), device=x.device)
            algebra = torch.linalg.qr(y)[0], torch.linalg.solve(y, y), torch.linalg.det(y)
            kv = y[None, None]
            attention = torch.nn.functional.scaled_dot_product_attention(x[None, None], kv, kv)
            values = sort, top, None, maps, scattered, indexed, sums, noise, algebra, attention
            return values, torch.fft.rfft(x)

        index = torch.randint(3, (3, 4), device=self.device)
        torch.compile(f)(self.randn(3, 4), self.randn(4, 4), index)
        self._exec_and_verify_payload()

    def test_max_autotune_and_int8_matmul(self):
        f = lambda x, y: torch._int_mm(x, x) * torch.relu(y @ y)
        x = torch.randint(-9, 9, (32, 32), dtype=torch.int8, device=self.device)
        torch.compile(f, mode="max-autotune-no-cudagraphs")(x, self.randn(32, 32))
        self._exec_and_verify_payload()

    @parameters_were_refused
    @parameters_are_refused
    def test_frozen(self):
        with torch._inductor.config.patch(freezing=True), torch.no_grad():
            torch.compile(ToyModel().to(self.device).eval())(self.randn(3, 10))
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class DynamicShapesTest(ArtifactTestCase):
    """Symbolic sizes, backed by a hint or not."""

    @symbols_become_static
    def test_dynamic_true(self):
        f = torch.compile(lambda x, y: torch.cat([x @ y, y]).relu(), dynamic=True)
        f(self.randn(5, 7), self.randn(7, 9))
        self._exec_and_verify_payload()

    @symbols_are_expressions
    @symbols_are_undefined.shown(opened="2.10")
    def test_derived_sizes(self):
        def f(x, y):
            n, m = x.shape[0], y.shape[0]
            return (x[: n // 2], x[:-1] + y, torch.cat([x, y]), x.new_zeros(n * m), x.reshape(-1))

        x, y = dynamic(self.randn(9)), dynamic(self.randn(8))
        torch.compile(lambda x, y: f(x, y) if x.shape[0] == y.shape[0] + 1 else x)(x, y)
        self._exec_and_verify_payload()

    @symbols_become_static
    @static_sizes_become_symbolic
    def test_static_beside_dynamic(self):
        torch.compile(lambda x: x * 2)(dynamic(self.randn(6, 5), 0))
        self._exec_and_verify_payload()

    @symbols_become_static.shown(artifact=1)
    @symbols_are_function_calls.shown(artifact=2)
    @max_is_undefined.shown(artifact=2)
    def test_storage_size_with_max(self):
        # A backward graph takes the result of exp, whose rows may be empty.
        f = torch.compile(lambda x: x[:, 1:].exp(), dynamic=True)
        f(self.randn(5, 4, requires_grad=True)).sum().backward()
        self._exec_and_verify_payload(artifacts=2)

    @symbols_are_expressions.shown(artifact=1)
    @symbols_are_function_calls.shown(artifact=2)
    @math_trunc_is_undefined
    @functions_are_undefined.shown(artifact=2)
    def test_sizes_that_are_functions(self):
        # Sizes and strides of a backward graph's inputs: pytorch/pytorch#194827.
        def f(x, y):
            return (torch.nn.functional.interpolate(x, scale_factor=0.5) @ y).relu()

        x = self.randn(2, 3, 8, 10, requires_grad=True)
        torch.compile(f, dynamic=True)(x, self.randn(5, 7)).sum().backward()
        self._exec_and_verify_payload(artifacts=2)

    @symbols_are_undefined.shown(closed="2.11")
    @symbols_become_static.shown(opened="2.11")
    def test_views_of_a_larger_storage(self):
        # The storage and the shape have different symbols: pytorch/pytorch#174038.
        def f(x, n):
            return x + 1, torch.as_strided(x, (n, 2), (2, 1)) + 1

        torch.compile(f, dynamic=True)(dynamic(self.randn(10, 12)[:, 2:8]), 6)
        self._exec_and_verify_payload()

    @repeats_are_random
    @symbols_become_static.shown(opened="2.12")
    def test_repeat_interleave(self):
        repeats = torch.tensor([1, 2, 3], device=self.device)
        f = torch.compile(lambda x, r, n: x.repeat_interleave(r, 0, output_size=n), dynamic=True)
        f(self.randn(3, 4), repeats, 6)
        self._exec_and_verify_payload()

    @repeats_are_out_of_bounds
    def test_repeat_interleave_to_a_constant(self):
        f = torch.compile(lambda x, repeats: x.repeat_interleave(repeats, 0, output_size=6))
        f(self.randn(3, 4), torch.tensor([1, 2, 3], device=self.device))
        self._exec_and_verify_payload()

    @items_cannot_be_traced
    def test_item(self):
        def f(x, n):
            return x * n.item(), torch.zeros(n.item(), device=x.device) + 1

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            torch.compile(f)(self.randn(9), torch.tensor(4, device=self.device))
        self._exec_and_verify_payload()

    @nonzero_cannot_be_traced
    def test_nonzero(self):
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            torch.compile(lambda x: torch.nonzero(x > 0) * 2)(self.randn(9))
        self._exec_and_verify_payload()

    @unbacked_sizes_are_undefined
    def test_mark_unbacked(self):
        x = self.randn(6, 5)
        torch._dynamo.decorators.mark_unbacked(x, 0)
        torch.compile(lambda x: x * 2)(x)
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class HigherOrderOperatorsTest(ArtifactTestCase):
    """Operators that take subgraphs."""

    @subgraphs_cannot_be_printed
    def test_cond(self):
        y = self.randn(4)
        add, subtract = lambda x: x + y, lambda x: x - 1
        torch.compile(lambda x: torch.cond(x.sum() > 0, add, subtract, (x,)))(self.randn(4))
        self._exec_and_verify_payload()

    @subgraphs_cannot_be_printed
    @while_loops_cannot_be_traced
    def test_while_loop(self):
        from torch._higher_order_ops.while_loop import while_loop

        def f(i, x):
            return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 2), (i, x))

        torch.compile(f)(torch.tensor(0, device=self.device), self.randn(4))
        self._exec_and_verify_payload()

    @subgraphs_cannot_be_printed
    @counters_cannot_be_traced
    def test_scan(self):
        from torch._higher_order_ops.scan import scan

        f = torch.compile(lambda x: scan(lambda carry, x: (carry + x, carry * x), x[0], x))
        # Inductor makes a while_loop of it, and reads the loop's counter.
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            f(self.randn(4, 3))
        self._exec_and_verify_payload()

    def test_associative_scan(self):
        from torch._higher_order_ops.associative_scan import associative_scan

        scan = functools.partial(associative_scan, dim=0, combine_mode="generic")
        torch.compile(lambda x: scan(lambda a, b: a * b, x))(self.randn(4, 3))
        self._exec_and_verify_payload()

    @subgraphs_cannot_be_printed
    @counters_cannot_be_traced
    def test_map(self):
        from torch._higher_order_ops.map import map as map_

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            torch.compile(lambda x: map_(lambda row: row.sin() + 1, x))(self.randn(4, 3))
        self._exec_and_verify_payload()

    @subgraphs_cannot_be_printed
    @regions_are_doubled
    def test_nested_compile_region(self):
        @torch.compiler.nested_compile_region
        def region(x):
            return x.sin() + 1

        torch.compile(lambda x: region(region(x)))(self.randn(4))
        self._exec_and_verify_payload()

    @subgraphs_cannot_be_printed
    @flex_attention_loses_arguments
    def test_flex_attention(self):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        qkv = [self.randn(1, 2, 128, 16) for _ in range(3)]
        mask = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 128, 128, device=self.device)

        def f(*qkv):
            scored = flex_attention(*qkv, score_mod=lambda score, b, h, i, j: score + i - j)
            return scored, flex_attention(*qkv, block_mask=mask)

        # Flex attention has no code for a CPU without vector instructions.
        with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
            torch.compile(f)(*qkv)
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class CustomOperatorsTest(ArtifactTestCase):
    """Operators of one's own: an artifact has to bring or import them."""

    @custom_operators_are_missing
    def test_custom_op(self):
        @torch.library.custom_op("fx_graph_runnable::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        twice.register_fake(torch.empty_like)
        torch.compile(lambda x: twice(x) + 1)(self.randn(4))
        self._exec_and_verify_payload()


@requires_distributed
@skip_if_compile_disabled
class DistributedTest(ArtifactTestCase):
    """Collectives, and the parallelisms made of them, on fake process groups."""

    @names_are_taken
    @groups_are_but_one
    def test_two_groups(self):
        # As in tensor and data parallel at once: pytorch/pytorch#173932.
        with fake_process_group(world_size=4):
            pair = dist.new_group([0, 2])

            def f(x):
                dist.all_reduce(x)
                dist.all_reduce(x, group=pair)
                return x + 1

            torch.compile(f)(self.randn(4))
        (script,) = self._exec_and_verify_payload()
        self.assertIn("'size': 4", script)
        self.assertIn("'size': 2", script)

    @split_sizes_are_not_static
    @symbols_are_undefined.shown(opened="2.10")
    def test_all_to_all_with_dynamic_shapes(self):
        def f(x):
            output = torch.empty_like(x)
            dist.all_to_all_single(output, x)
            return output * 2

        with fake_process_group():
            torch.compile(f)(dynamic(self.randn(4, 6)))
        self._exec_and_verify_payload()

    def test_collective_in_backward(self):
        from torch.distributed._functional_collectives import all_gather_tensor_autograd

        with fake_process_group():
            group = dist.group.WORLD
            f = torch.compile(lambda x: all_gather_tensor_autograd(x * 2, 0, group).sin())
            f(self.randn(4, requires_grad=True)).sum().backward()
        self._exec_and_verify_payload(artifacts=2)

    def test_data_parallel(self):
        from torch.nn.parallel import DistributedDataParallel

        # Two buckets of gradients, for which Dynamo splits the graph.
        model = ToyModel(10, 600, 600).to(self.device)
        with fake_process_group(), torch.no_grad():
            torch.compile(DistributedDataParallel(model, bucket_cap_mb=1))(self.randn(3, 10))
        self._exec_and_verify_payload(artifacts=2)

    def test_data_parallel_backward(self):
        from torch.nn.parallel import DistributedDataParallel

        with (
            fake_process_group(),
            torch._dynamo.config.patch(optimize_ddp="python_reducer", compiled_autograd=True),
        ):
            model = DistributedDataParallel(ToyModel().to(self.device))
            torch.compile(torch.Tensor.backward)(model(self.randn(3, 10)).sum())
        (script,) = self._exec_and_verify_payload()
        self.assertIn("_c10d_functional.all_reduce.default(", script)

    @opaque_inputs_are_none
    def test_tensor_parallel(self):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.tensor.parallel import (
            ColwiseParallel,
            RowwiseParallel,
            parallelize_module,
        )

        with fake_process_group():
            mesh = init_device_mesh(self.device, (2,))
            plan = {"linear1": ColwiseParallel(), "linear2": RowwiseParallel()}
            model = parallelize_module(ToyModel().to(self.device), mesh, plan)
            torch.compile(model)(self.randn(3, 10)).sum().backward()
        self._exec_and_verify_payload(artifacts=2)


@skip_if_compile_disabled
class WarmCachesTest(ArtifactTestCase):
    """Artifacts that a graph cache replays: what a program logs in every run but its first."""

    def setUp(self):
        super().setUp()
        self.take_folder()
        self.weight = self.randn(3, requires_grad=True)

    def take_folder(self):
        """Have an empty folder for the caches."""
        folder = tempfile.mkdtemp(dir=run_folder())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder

    def train(self):
        """Run a program with a forward and a backward graph."""
        torch.compile(lambda x: (x.sin() * self.weight).sum())(self.randn(3)).backward()

    def run_anew(self, program, *inputs, autograd_cache=True, traced=True):
        """Run a program as if in a new process, of which nothing but the caches is known."""
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        self.handler.buffer.clear()
        with (
            torch._functorch.config.patch(enable_autograd_cache=autograd_cache),
            torch._inductor.config.patch(fx_graph_cache=True),
            mock.patch.object(trace_log, "handlers", trace_log.handlers if traced else []),
        ):
            program(*inputs)

    def verify_replayed(self, autograd_cache=True):
        """Judge the artifacts of train; a cache must have had both graphs."""
        counters = torch._dynamo.utils.counters  # the only sign of an AOTAutograd cache's hit
        self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 2)
        self.assertEqual(counters["aot_autograd"]["autograd_cache_hit"], int(autograd_cache))
        self._exec_and_verify_payload(artifacts=2)

    def test_fx_graph_cache(self):
        self.run_anew(self.train, autograd_cache=False)
        self.run_anew(self.train, autograd_cache=False)
        self.verify_replayed(autograd_cache=False)

    def test_autograd_cache(self):
        self.run_anew(self.train)
        self.run_anew(self.train)
        self.verify_replayed()

    @empty_where_nobody_listened
    def test_fx_graph_cache_filled_untraced(self):
        self.run_anew(self.train, autograd_cache=False, traced=False)
        self.run_anew(self.train, autograd_cache=False)
        self.verify_replayed(autograd_cache=False)

    @empty_where_nobody_listened
    def test_autograd_cache_filled_untraced(self):
        self.run_anew(self.train, traced=False)
        self.run_anew(self.train)
        self.verify_replayed()

    def test_caches_from_another_folder(self):
        self.run_anew(self.train)
        data, _ = torch.compiler.save_cache_artifacts()
        self.take_folder()
        torch.compiler.load_cache_artifacts(data)
        self.run_anew(self.train)
        self.verify_replayed()

    @replayed_sizes_are_old
    def test_other_sizes_than_those_of_the_cache(self):
        def program(size):
            torch.compile(lambda x: x * x.shape[0])(dynamic(self.randn(size)))

        self.run_anew(program, 6)
        self.run_anew(program, 9)
        ((_, graph, _),) = with_graphs(self.handler.buffer)
        self.assertEqual(artifact_name(graph), "inductor_post_grad_graph")  # a hit
        (symint,) = [c for c in inputs_of(*self.scripts()) if c[0] == "symint"]
        self.assertEqual(symint.args, (9,))


@skip_if_compile_disabled
class AheadOfTimeTest(ArtifactTestCase):
    """Exported programs, compiled ahead of time."""

    def package(self, model, *inputs, **options):
        """Export a module, and compile it into a package."""
        program = torch.export.export(model.to(self.device), inputs, **options)
        configs = {"aot_inductor.package_cpp_only": True}  # what C++ compiles to is not asked for
        with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
            path = os.path.join(folder, "model.pt2")
            torch._inductor.aoti_compile_and_package(
                program, package_path=path, inductor_configs=configs
            )

    @exported_graphs_take_nothing
    def test_function(self):
        class Function(torch.nn.Module):
            def forward(self, x):
                return x.sin() * 2

        self.package(Function(), self.randn(5))
        self._exec_and_verify_payload()

    @parameters_were_refused
    @parameters_are_refused
    def test_weights(self):
        self.package(torch.nn.Linear(10, 5), self.randn(3, 10))
        self._exec_and_verify_payload()

    @exported_graphs_take_nothing
    def test_dynamic_batch(self):
        batch = torch.export.Dim("batch", min=2, max=64)
        self.package(ToyModel().eval(), self.randn(3, 10), dynamic_shapes=[{0: batch}])
        self._exec_and_verify_payload()


@skip_if_compile_disabled
class DebugFolderTest(ArtifactTestCase):
    """The copy of an artifact that TORCH_COMPILE_DEBUG=1 has Inductor write."""

    def debug_copy(self, **config):
        """Compile a program that writes its debug folder; return its inputs, and the copy."""
        xs = torch.arange(6.0, device=self.device), self.randn(6)
        config = {f"trace.{name}": value for name, value in config.items()}
        with torch._inductor.config.patch({"trace.enabled": True} | config):
            torch.compile(lambda x, y: x.sin() * 2 + y)(*xs)
        folder = Path(torch._dynamo.config.debug_dir_root)
        (path,) = folder.glob("run_*/torchinductor/*/fx_graph_runnable.py")
        return xs, path.read_text(encoding="utf-8")

    def test_copy(self):
        _, script = self.debug_copy()
        ((_, graph, _),) = with_graphs(self.handler.buffer)
        judge(script, graph, self.id())

    def test_real_tensors(self):
        xs, script = self.debug_copy(save_real_tensors=True)
        ((_, graph, _),) = with_graphs(self.handler.buffer)
        judge(script, graph, self.id())
        args, _ = self.get_args(script)
        for x, arg in zip(xs, args, strict=True):
            self.assertTrue(torch.equal(x, arg))

    def get_args(self, script):
        """Do what the last lines of an artifact say; return args and mod(*args)."""
        result = os.path.join(torch._dynamo.config.debug_dir_root, "result.pt")
        script, runs = re.subn(r"(?m)^ +run_repro\(.*\n", "", script)
        script, told = re.subn(r"(?m)^( +)# (mod, args = .*|mod\(.*)", r"\1\2", script)
        self.assertEqual((runs, told), (1, 2), script)
        script = script.replace("mod(*args)", f"torch.save((args, mod(*args)), {result!r})")
        judge(script, None, f"{self.id()}.get_args")
        return torch.load(result)

    def test_what_an_artifact_says_of_itself(self):
        torch.compile(lambda x, y: (x @ y).relu())(self.randn(2, 3), self.randn(3, 4))
        (x, y), (output,) = self.get_args(*self.scripts())
        self.assertTrue(torch.allclose(output, (x @ y).relu()))


@skip_if_compile_disabled
class GeneratedCodeTest(ArtifactTestCase):
    """Whether an artifact makes Inductor generate the very code that its program ran."""

    def verify_code(self, function, *inputs, artifacts=1, **options):
        """Compile a function with these options of torch.compile, and compare the code."""
        torch.compile(function, **options)(*inputs)
        self._exec_and_verify_payload(artifacts, code=True)

    def test_plain(self):
        f = lambda x, y: torch.relu(x @ y).sum(0)
        self.verify_code(f, self.randn(3, 4), self.randn(4, 5))

    def test_backward(self):
        f = torch.compile(lambda x: x.sin())
        f(self.randn(9, requires_grad=True)).sum().backward()
        self._exec_and_verify_payload(artifacts=2, code=True)

    def test_options(self):
        options = {"size_asserts": False, "cpp.threads": 3}
        self.verify_code(lambda x: x.sin() + 1, self.randn(2**16), options=options)

    @roles_are_lost
    def test_role_of_an_inference_graph(self):
        # Operators change places for the sake of locality in these alone.
        with torch.no_grad():
            self.verify_code(ToyModel().to(self.device), self.randn(3, 10))

    def test_inference_mode(self):
        with torch.inference_mode():
            self.verify_code(ToyModel().to(self.device).eval(), self.randn(3, 10))

    def test_reduce_overhead(self):
        self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4), mode="reduce-overhead")

    @cpp_wrapper_is_lost
    def test_cpp_wrapper(self):
        with torch._inductor.config.patch(cpp_wrapper=True):
            self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4))

    @determinism_is_lost
    def test_deterministic_algorithms(self):
        index = torch.tensor([0, 2, 0], device=self.device)
        self.addCleanup(torch.use_deterministic_algorithms, False)
        torch.use_deterministic_algorithms(True)
        self.verify_code(lambda x, y: x.index_add(0, index, y), self.randn(4, 5), self.randn(3, 5))

    @threads_are_lost
    def test_number_of_threads(self):
        os.environ["OMP_NUM_THREADS"] = "1"  # of the artifact
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(3)
        self.verify_code(lambda x: x.sin() + 1, torch.randn(2**16))


# The same graphs on an accelerator.

for case in (
    InputsTest,
    ConstantsTest,
    ProgramsTest,
    DynamicShapesTest,
    HigherOrderOperatorsTest,
    CustomOperatorsTest,
    WarmCachesTest,
    AheadOfTimeTest,
    DebugFolderTest,
    DistributedTest,
):
    name = case.__name__.replace("Test", "AcceleratorTest")
    case = type(name, (case,), {"device": ACCELERATOR, "__module__": __name__})
    globals()[name] = requires_accelerator(case)
del case  # or it is loaded as one more


@requires_accelerator
class TrainingAcceleratorTest(TrainingTest):
    device = ACCELERATOR

    @attention_gets_a_random_seed
    def test_embedding_and_transformer_layer(self):
        super().test_embedding_and_transformer_layer()


@requires_accelerator
class GeneratedCodeAcceleratorTest(GeneratedCodeTest):
    device = ACCELERATOR

    @outputs_are_padded
    def test_padded_output(self):
        f = lambda x: torch.softmax(x, -1) * x.sum(0)
        self.verify_code(f, self.randn(64, 2000))

    @precision_is_lost
    def test_matmul_precision(self):
        precision = torch.get_float32_matmul_precision()
        self.addCleanup(torch.set_float32_matmul_precision, precision)
        torch.set_float32_matmul_precision("high")
        # A template, and but one choice of it.
        options = {
            "max_autotune_gemm": True,
            "max_autotune_gemm_backends": "TRITON",
            "test_configs.max_mm_configs": 1,
        }
        xs = self.randn(256, 256), self.randn(256, 256)
        self.verify_code(torch.matmul, *xs, options=options)


# Triton kernels: at module level, since torch.compile looks them up by name.

if HAS_TRITON:
    import triton
    import triton.language as tl
    from triton.language import exp
    from triton.language import math as tl_math
    from triton.language.extra import libdevice

    def zero_output(args, *unused, **also_unused):
        """Fill out_ptr with zeros; fits the hooks of triton.Config and triton.autotune."""
        args["out_ptr"].zero_()

    @triton.jit
    def add_kernel(x_ptr, y_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        mask = offsets < n_elements
        x = tl.load(x_ptr + offsets, mask=mask)
        y = tl.load(y_ptr + offsets, mask=mask)
        tl.atomic_add(out_ptr + offsets, x + y, mask=mask)

    add_kernel_autotune = triton.autotune(
        [triton.Config({"BLOCK_SIZE": 1024}, num_warps=4, num_stages=2, pre_hook=zero_output)],
        key=["n_elements"],
        pre_hook=zero_output,
        post_hook=zero_output,
    )(add_kernel)

    @triton.jit
    def plain_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr" = 64):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        mask = offsets < n_elements
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * 2, mask=mask)

    def other_kernel():
        @triton.jit
        def plain_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
            offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
            mask = offsets < n_elements
            tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=mask) * 3, mask=mask)

        return plain_kernel

    other_plain_kernel = other_kernel()

    @triton.jit
    def outer_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        plain_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE)

    SMALL = triton.Config({"BLOCK_SIZE": 64}, num_warps=2, num_stages=3)
    LARGE = triton.Config({"BLOCK_SIZE": 128}, num_warps=8, num_stages=1)
    autotuned_kernel = triton.autotune([SMALL, LARGE], key=["n_elements"])(plain_kernel)
    tuned_kernel = triton.autotune(
        [SMALL, LARGE, triton.Config({"BLOCK_SIZE": 32}, maxnreg=64)],
        key=["n_elements"],
        reset_to_zero=["out_ptr"],
        restore_value=["x_ptr"],
        prune_configs_by={"early_config_prune": lambda configs, *args, **kwargs: configs[1:]},
    )(plain_kernel)
    heuristic_kernel = triton.heuristics({"BLOCK_SIZE": lambda args: 64})(plain_kernel)
    tuned_heuristic_kernel = triton.autotune([triton.Config({})], key=["n_elements"])(
        heuristic_kernel
    )

    @triton.jit
    def mutating_kernel(x_ptr, BLOCK_SIZE: "tl.constexpr"):
        x_ptrs = x_ptr + tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(x_ptrs, tl.load(x_ptrs) + 1)

    SCALE = tl.constexpr(3)
    OFFSET = 5

    @triton.jit
    def scaled(x):
        return x * SCALE + OFFSET

    @triton.jit
    def calling_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, scaled(tl.load(x_ptr + offsets)))

    @triton.jit
    def libdevice_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.extra.libdevice.asinh(tl.load(x_ptr + offsets)))

    @triton.jit
    def imported_libdevice_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, libdevice.asinh(tl.load(x_ptr + offsets)))

    @triton.jit
    def imported_function_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, exp(tl.load(x_ptr + offsets)))

    @triton.jit
    def module_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl_math.exp(tl.load(x_ptr + offsets)))

    ZERO = tl.constexpr(0)
    FALSE = tl.constexpr(False)
    NAME = tl.constexpr("relu")
    DTYPE = tl.constexpr(tl.float32)

    @triton.jit
    def zero_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets) + ZERO)

    @triton.jit
    def false_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets) * (2 if FALSE else 3))

    @triton.jit
    def string_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets) * (2 if NAME == "relu" else 3))

    @triton.jit
    def dtype_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets).to(DTYPE))

    @triton.jit
    def constexpr_kernel(x_ptr, out_ptr, BLOCK_SIZE: "tl.constexpr", MODE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        scale: tl.constexpr = 2 if MODE == "relu" else 3 if MODE else 4
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets) * scale)

    @triton.jit(noinline=True)
    def first_offset(block, size):
        return block * size

    @triton.jit(do_not_specialize=["n_elements"])
    def documented_kernel(
        x_ptr,
        out_ptr: "*fp32",  # noqa: F722
        n_elements: int,
        BLOCK_SIZE: tl.constexpr,
    ) -> None:
        """Says "copy", 'copy' and \\"copy\\"."""
        offsets = first_offset(tl.program_id(axis=0), BLOCK_SIZE) + tl.arange(0, BLOCK_SIZE)
        x = tl.load(x_ptr + offsets, mask=offsets < n_elements)
        tl.store(out_ptr + offsets, x, mask=offsets < n_elements)

    @triton.jit
    def descriptor_kernel(x, out, BLOCK_SIZE: "tl.constexpr"):
        offset = tl.program_id(axis=0) * BLOCK_SIZE
        out.store([offset], x.load([offset]) * 2)


@requires_triton
@skip_if_compile_disabled
class TritonTest(ArtifactTestCase):
    """Kernels of one's own, written in Triton."""

    device = ACCELERATOR

    def launch(self, *kernels, dynamic=None, **options):
        """Compile a function that launches each kernel on the same input, and judge it."""

        def f(x):
            outs = []
            for kernel in kernels:
                outs.append(torch.empty_like(x))
                kernel[lambda meta: (triton.cdiv(x.numel(), meta["BLOCK_SIZE"]),)](
                    x, outs[-1], x.numel(), **options
                )
            return outs

        torch.compile(f, dynamic=dynamic)(self.randn(1024))
        self._exec_and_verify_payload(code=True)

    def test_nested_function_and_globals(self):
        # pytorch/pytorch#174035, #174102
        os.environ["TRITON_ALLOW_NON_CONSTEXPR_GLOBALS"] = "1"
        self.launch(calling_kernel, BLOCK_SIZE=64)

    def test_one_kernel_plain_and_autotuned_and_called(self):
        # pytorch/pytorch#174533
        def f(x):
            out = torch.empty_like(x)
            plain_kernel[(16,)](x, out, 1024, BLOCK_SIZE=64)
            tuned = torch.empty_like(x)
            autotuned_kernel[lambda meta: (triton.cdiv(1024, meta["BLOCK_SIZE"]),)](
                out, tuned, 1024
            )
            outer_kernel[(16,)](tuned, out, 1024, BLOCK_SIZE=64)
            return out

        torch.compile(f)(self.randn(1024))
        self._exec_and_verify_payload(code=True)

    def test_autotune_configs(self):
        self.launch(autotuned_kernel)

    def test_autotune_options(self):
        self.launch(tuned_kernel)

    def test_decorators_annotations_and_docstrings(self):
        self.launch(documented_kernel, BLOCK_SIZE=64)

    def test_launch_options(self):
        self.launch(plain_kernel, BLOCK_SIZE=64, num_warps=8)

    def test_two_kernels_of_one_name(self):
        self.launch(plain_kernel, other_plain_kernel, BLOCK_SIZE=64)

    def test_heuristics(self):
        self.launch(heuristic_kernel)

    @heuristics_are_not_written
    def test_heuristics_under_autotune(self):
        self.launch(tuned_heuristic_kernel)

    def test_libdevice(self):
        self.launch(libdevice_kernel, BLOCK_SIZE=64)

    @imports_are_missing
    def test_imported_libdevice(self):
        self.launch(imported_libdevice_kernel, BLOCK_SIZE=64)

    @imports_are_missing
    def test_imported_function(self):
        self.launch(imported_function_kernel, BLOCK_SIZE=64)

    @imports_are_missing
    def test_function_of_a_module(self):
        self.launch(module_kernel, BLOCK_SIZE=64)

    def test_constexpr_arguments(self):
        def f(x):
            outs = []
            for mode in (0, False, "relu"):
                outs.append(torch.empty_like(x))
                constexpr_kernel[(16,)](x, outs[-1], BLOCK_SIZE=64, MODE=mode)
            return outs

        torch.compile(f)(self.randn(1024))
        self._exec_and_verify_payload(code=True)

    @false_constexprs_are_missing
    def test_constexpr_zero(self):
        self.launch(zero_kernel, BLOCK_SIZE=64)

    @false_constexprs_are_missing
    def test_constexpr_false(self):
        self.launch(false_kernel, BLOCK_SIZE=64)

    @strings_are_not_quoted
    def test_constexpr_string(self):
        self.launch(string_kernel, BLOCK_SIZE=64)

    @dtypes_are_short_names
    def test_dtype_of_ones_own_name(self):
        self.launch(dtype_kernel, BLOCK_SIZE=64)

    @symbols_are_undefined
    def test_dynamic_grid(self):
        self.launch(plain_kernel, dynamic=True, BLOCK_SIZE=64)

    def test_mutated_input(self):
        def f(x):
            mutating_kernel[(16,)](x, BLOCK_SIZE=64)
            return x * 2

        torch.compile(f)(self.randn(1024))
        self._exec_and_verify_payload(code=True)

    def test_tensor_descriptor(self):
        try:
            from torch.utils._triton import has_triton_tensor_descriptor_host_tma
            from triton.tools.tensor_descriptor import TensorDescriptor
        except ImportError as error:
            self.skipTest(f"no tensor descriptors here: {error}")
        if not has_triton_tensor_descriptor_host_tma():
            self.skipTest("needs an accelerator that has tensor descriptors")

        def f(x):
            out = torch.empty_like(x)
            descriptors = [TensorDescriptor.from_tensor(t, [64]) for t in (x, out)]
            descriptor_kernel[(16,)](*descriptors, BLOCK_SIZE=64)
            return out

        torch.compile(f)(self.randn(1024))
        self._exec_and_verify_payload(code=True)

    def test_backward(self):
        class Twice(torch.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                return x * 2

            @staticmethod
            def backward(ctx, grad):
                out = torch.empty_like(grad)
                plain_kernel[(16,)](grad, out, 1024, BLOCK_SIZE=64)
                return out

        f = torch.compile(lambda x: Twice.apply(x).sin())
        f(self.randn(1024, requires_grad=True)).sum().backward()
        self._exec_and_verify_payload(artifacts=2, code=True)

    def test_triton_op(self):
        @torch.library.triton_op("fx_graph_runnable::twice_by_triton", mutates_args={})
        def twice(x: torch.Tensor) -> torch.Tensor:
            out = torch.empty_like(x)
            torch.library.wrap_triton(plain_kernel)[(16,)](x, out, 1024, BLOCK_SIZE=64)
            return out

        torch.compile(lambda x: twice(x) + 1)(self.randn(1024))
        self._exec_and_verify_payload(code=True)


# A trace of one's own: the artifacts that a real program left behind.


def compile_id(metadata):
    """Return the compile id of a record of the trace, as tlparse shows it: [0/0], [1/0_1]."""
    frame = [metadata.get(key) for key in ("frame_id", "frame_compile_id")]
    parts = [str(number) for number in frame if number is not None]
    if (autograd := metadata.get("compiled_autograd_id")) is not None:
        parts.insert(0, f"!{autograd}")
    attempt = metadata.get("attempt")
    return f"[{'/'.join(parts) or '-'}{f'_{attempt}' if attempt else ''}]"


def number_of(path):
    """Return the number that tlparse gave a file, infinity if it has none."""
    match = re.search(r"_(\d+)\.\w+$", path.name)
    return int(match[1]) if match else math.inf


def read_files(path):
    """Yield as records an artifact that is a file by itself, and its graph and code beside it.

    Such are the copy in the folder that TORCH_COMPILE_DEBUG writes, and what tlparse makes
    of a log: a folder for each compile id ("-_0_0_0" for [0/0]) with files NAME_N.txt, or
    .html, numbered in the order of the log.
    """
    kinds = rf"({'|'.join((ARTIFACT, *GRAPHS, CODE))})\w*?_\d+\.\w+"
    matches = [(re.fullmatch(kinds, file.name), file) for file in path.parent.iterdir()]
    files = [(number_of(file), match[1], file) for match, file in matches if match]
    files = sorted(file for file in files if file[0] >= number_of(path))
    ids = re.fullmatch(r"(?:-|(\d+))_(\d+)_(\d+)_(\d+)", path.parent.name)
    ids = [number and int(number) for number in ids.groups()] if ids else []
    keys = ("compiled_autograd_id", "frame_id", "frame_compile_id", "attempt")
    for index, (_, name, file) in enumerate(files or [(0, ARTIFACT, path)]):
        if index and name == ARTIFACT:
            return
        metadata = {"artifact": {"name": name}, **dict(zip(keys, ids, strict=False))}
        fields = {"metadata": metadata, "payload": file.read_text("utf-8", "replace")}
        fields |= {"lineno": 1, "offset": 0, "problem": None, "changed": False}
        yield logging.makeLogRecord(fields)


def read_source(path, offset=0, lineno=1):
    """Yield the records of a log, or of an artifact that is a file by itself."""
    is_file = path.name.startswith(ARTIFACT)
    return read_files(path) if is_file else read_trace(path, offset, lineno)


def sources(path):
    """Return what there is to read in a log or artifact, or in a folder: see read_source."""
    if not path.is_dir():
        return [path]
    if logs := sorted(path.rglob("raw.log")):  # tlparse's copy of its input
        return logs
    scripts = path.rglob(f"{ARTIFACT}*")
    scripts = sorted(scripts, key=lambda file: (file.parent, number_of(file)))
    is_of_logs = path not in {script.parent for script in scripts}
    return scripts + [log for log in sorted(path.iterdir()) if log.is_file() and is_of_logs]


# Lines of an artifact that name folders of the machine that it was recorded on.
FOLDERS = (*REDIRECTING, *NO_GRAPH_CACHES, "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
ELSEWHERE = re.compile(
    rf"(?m)^(?:os\.environ\['(?:{'|'.join(FOLDERS)})'\]"
    r"|torch\._dynamo\.config\.debug_dir_root) = .*\n"
)
# More that differs from rank to rank, and decides nothing: paths, and an address.
OF_A_RANK = re.compile(r"(?m)^os\.environ\['\w+_PTR'\] = .*\n|^os\.environ\[.* = '.*[/\\].*\n")


class Recorded(NamedTuple):
    """An artifact of somebody's trace: the `places` where it was recorded, as (position, text),
    and its `source` as read_source takes it; or what is broken there, its `problem`.
    """

    places: list
    source: tuple = ()
    problem: str = ""

    def __str__(self):
        more = len(self.places) - 1
        return f"{self.places[0][1]}{f' and {more} more places' if more else ''}"


def recorded_artifacts(path):
    """Return what there is to judge, as a list of Recorded, in a log that TORCH_TRACE wrote, or
    in a folder of them; in what tlparse makes of one, or a part of it; or in what
    TORCH_COMPILE_DEBUG writes. What is recorded many times is one. Raises FileNotFoundError
    if there is no such path.
    """
    path = Path(path)
    found, noise = {}, {"broken records of other kinds": [], "no traces": []}
    for number, source in enumerate(sources(path)):
        where = source.relative_to(path if path.is_dir() else path.parent)
        # A file of another kind may be large.
        if not any(record.metadata for record in itertools.islice(read_source(source), 1000)):
            noise["no traces"] += [where] if source.stat().st_size else []
            continue
        for artifact, graph, code in with_graphs(read_source(source)):
            position = number, artifact.lineno
            line = f"{where} line {artifact.lineno}"
            if artifact.problem and artifact.matters:
                found[position] = Recorded([(position, line)], problem=artifact.problem)
            elif artifact.problem:
                noise["broken records of other kinds"].append(line)
            else:
                script = OF_A_RANK.sub("", ELSEWHERE.sub("", artifact.payload))
                key = hash((script, graph and graph.payload))
                here = source, artifact.offset, artifact.lineno
                text = f"{where} {compile_id(artifact.metadata)}"
                text += "" if source.name.startswith(ARTIFACT) else f" line {artifact.lineno}"
                role = code and re.search(r"AOT ID: \S+_([a-z]+)", code.payload)
                text += f" {role[1]}" if role else ""
                found.setdefault(key, Recorded([], here)).places.append((position, text))
    for what, places in noise.items():
        if places:
            place = (math.inf, what), f"{what}: {len(places)}"
            found[what] = Recorded([place], problem=f"the first is {places[0]}")
    return sorted(found.values(), key=lambda recorded: recorded.places[0])


class RecordedTraceTest(ArtifactTestCase):
    """The artifacts of the trace that FX_GRAPH_RUNNABLE_TRACE names, a test for each."""

    def judge_recorded(self, recorded):
        """Judge a Recorded; its `verdict` is then faithful, runs, unfaithful, fails, ..."""
        if recorded.problem:
            self.verdict = "broken"
            self.skipTest(recorded.problem)
        found = with_graphs(read_source(*recorded.source))
        artifact, graph = next((a, graph) for a, graph, _ in found if not a.problem)
        script = ELSEWHERE.sub("", artifact.payload)
        if elsewhere := devices_elsewhere(script):
            self.verdict = "not here"
            self.skipTest(f"needs {', '.join(elsewhere)}, which is not here")
        writer = re.search(r"(?m)^# torch version: (\S+)$", script)
        note = ""
        if writer and writer[1] != torch.__version__:
            note += f"recorded by torch {writer[1]} and run on {torch.__version__}, "
        if artifact.changed or (graph and graph.changed):
            note += "changed after it was written, "
        try:
            judge(script, graph, f"{type(self).__name__}.{recorded}")
        except BadArtifact as bad:
            message = str(bad)
            is_run = message.startswith("the artifact is unfaithful")
            self.verdict = "unfaithful" if is_run else "fails"
            if note:
                message = message.replace("the artifact ", f"the artifact, {note}", 1)
            places = "".join(f"\n{place}" for _, place in recorded.places)
            message += f"\n---- recorded in{places}"
            raise BadArtifact({None: message}, bad.paths) from None
        self.verdict = "faithful" if graph else "runs"
        self.verdict += f" ({note[:-2]})" if note else ""
        if not graph:
            self.skipTest("runs (nothing to compare with: no graph was logged beside it)")

    def test_trace(self):
        path = os.environ.get("FX_GRAPH_RUNNABLE_TRACE")
        if not path:
            self.skipTest("set FX_GRAPH_RUNNABLE_TRACE to a log or folder that TORCH_TRACE wrote")
        problem = f"FX_GRAPH_RUNNABLE_TRACE={path}: there is no "
        if not os.path.exists(path):
            self.fail(problem + "such log or folder")
        if all(recorded.problem for recorded in recorded_artifacts(path)):
            self.fail(problem + "artifact in it; run the program with TORCH_TRACE=FOLDER")


def devices_elsewhere(script):
    """Return the devices that a script names and that are not here: ["cuda:3"]."""
    count = torch.accelerator.device_count() if ACCELERATOR else 0
    devices = re.findall(r"device\(type='(\w+)'(?:, index=(\d+))?", script)
    devices += re.findall(r"['\"](cuda|xpu|mps|hpu|npu|mtia):(\d+)['\"]", script)
    return sorted(
        f"{kind}:{index}" if index else kind
        for kind, index in set(devices)
        if kind not in ("cpu", "meta") and (kind != ACCELERATOR or int(index or 0) >= count)
    )


def add_recorded_tests(path):
    """Give RecordedTraceTest a test for each artifact of a trace, numbered in its order."""
    for number, recorded in enumerate(recorded_artifacts(path), start=1):

        def test(self, recorded=recorded):
            self.judge_recorded(recorded)

        test.recorded = recorded
        setattr(RecordedTraceTest, f"test_{number:04} {recorded}", test)


if os.path.exists(os.environ.get("FX_GRAPH_RUNNABLE_TRACE", "")):
    add_recorded_tests(os.environ["FX_GRAPH_RUNNABLE_TRACE"])


requires_posix = unittest.skipUnless(os.name == "posix", "needs POSIX signals and pipes")


class HarnessTest(ArtifactTestCase):
    """The harness itself, on scripts written by hand: what it must catch, say and clean up."""

    GOOD = "def forward(): pass\n"

    def setUp(self):
        super().setUp()
        self.kept = tempfile.mkdtemp(dir=run_folder())
        self.addCleanup(shutil.rmtree, self.kept)
        os.environ["FX_GRAPH_RUNNABLE_KEEP"] = self.kept
        for name in ("TEST_TOTAL_SHARDS", "TEST_SHARD_INDEX", "TEST_SHARD_STATUS_FILE"):
            os.environ.pop(name, None)  # those of this run: the toys' runs are whole

    def log(self, script, name=ARTIFACT):
        """Log a script the way torch logs an artifact."""
        metadata = {"artifact": {"name": name, "encoding": "string"}}
        trace_log.debug("", extra={"metadata": metadata, "payload": script})

    def failure(self, *scripts, head=GOOD):
        """Log these artifacts, expect that they fail the test, and return the message."""
        for script in scripts:
            self.log(head + script)
        with self.assertRaises(self.failureException) as caught:
            self._exec_and_verify_payload(artifacts=len(scripts))
        return str(caught.exception)

    def pipe(self, name):
        """Make a named pipe. Returns its path, and a descriptor of the end that reads."""
        path = os.path.join(self.kept, name)
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        return path, reader

    def test_exit_code(self):
        message = self.failure(
            "import sys; print('to', 'stdout'); print('to', 'stderr', file=sys.stderr); sys.exit(3)"
        )
        self.assertIn("exited with code 3", message)
        self.assertRegex(message, "(?s)its stdout\nto stdout\n.*its stderr\nto stderr\n")
        again = shlex.split(message.splitlines()[-1])
        self.assertEqual(again[-1], os.path.join(self.kept, "HarnessTest.test_exit_code.1.py"))
        again = ["env", *again] if "=" in again[0] else again
        self.assertEqual(subprocess.run(again, check=False, capture_output=True).returncode, 3)

    @requires_posix
    def test_signal(self):
        message = self.failure("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
        self.assertIn("was killed by SIGTERM", message)

    @requires_posix
    def test_time_limit(self):
        os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = "1.5"
        path, reader = self.pipe("pipe")
        message = self.failure(
            f"import os, subprocess, time; writer = os.open({path!r}, os.O_WRONLY)\n"
            "subprocess.Popen(['sleep', '600'], pass_fds=[writer])\n"
            "os.write(writer, b'started'); time.sleep(600)"
        )
        self.assertIn("did not end within 1.5 s (FX_GRAPH_RUNNABLE_TIMEOUT)", message)
        self.assertEqual(os.read(reader, 100), b"started")
        os.set_blocking(reader, True)
        # At its end: nobody holds the other side any more.
        self.assertEqual(os.read(reader, 100), b"")

    def test_output_that_is_no_text(self):
        output = r"import sys; sys.stdout.buffer.write(b'a\xff\xfeb\0' * 2000); sys.exit(1)"
        self.assertRegex(self.failure(output), r"the last 8000 of 10000 bytes\)\n.*a\\xff\\xfeb")

    def test_no_python(self):
        wrong = r"is no Python \(invalid syntax .*line 2\)\) and exited with code 1"
        self.assertRegex(self.failure("mod = <lambda>()"), wrong)

    def test_empty(self):
        self.assertIn("is empty and exited with code 0", self.failure("\n", head=""))

    def test_no_forward(self):
        self.assertIn("has no forward", self.failure("print('Hello')", head=""))

    def test_one_bad_artifact_of_two(self):
        self.assertIn("exited with code 1", self.failure("", "raise SystemExit(1)"))

    def test_number_of_artifacts(self):
        for count in (0, 2):
            wrong = f"{count} != 1 : the number of artifacts"
            with self.assertRaisesRegex(self.failureException, wrong):
                self._exec_and_verify_payload()
            self.log(self.GOOD)
            self.log(self.GOOD)

    def test_other_records_are_no_artifacts(self):
        self.log("payload", name="before_post_grad_graph")
        trace_log.debug("", extra={"metadata": {"chromium_event": {}}, "payload": "{}"})
        trace_log.debug("not from torch")
        self.log(self.GOOD)
        self._exec_and_verify_payload()
        (kept,) = os.listdir(self.kept)
        self.assertEqual(kept, "HarnessTest.test_other_records_are_no_artifacts.1.py")

    def test_child_imports_the_torch_that_is_tested(self):
        where = "import importlib.util; print(importlib.util.find_spec('torch').origin); 1 / 0"
        message = self.failure(where)
        self.assertIn(f"its stdout\n{os.path.abspath(torch.__file__)}\n", message)

    def test_wrong_time_limit(self):
        for wrong in ("soon", "0", "-1", "inf", "nan", ""):
            os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = wrong
            with self.assertRaisesRegex(ValueError, "_TIMEOUT=.*give a number of seconds"):
                time_limit()

    GRAPH = """
class <lambda>(torch.nn.Module):
    def forward(self, arg0_1: "Sym(s77)", arg1_1: "f32[s77, 3][3, 1]cpu", arg2_1: "f32[s77, 3][3, 1]cpu"):
        # File: /home/user/program.py:7 in f, code: return cond(x - y)
        sub: "f32[s77, 3][3, 1]cpu" = torch.ops.aten.sub.Tensor(arg1_1, arg2_1, alpha = 2.5);  arg1_1 = arg2_1 = None
        topk = torch.ops.aten.topk.default(sub, 2);  sub = None
        getitem: "f32[s77, 2][2, 1]cpu" = topk[0];  topk = None
        true_graph_0 = self.true_graph_0
        cond = torch.ops.higher_order.cond(True, true_graph_0, (getitem, arg0_1));  true_graph_0 = None
        getitem_1: "f32[s77 + 1, 2][2, 1]cpu" = cond[0];  cond = None
        copy_: "f32[s77, 3][3, 1]cpu" = torch.ops.aten.copy_.default(getitem, 0);  getitem = copy_ = None
        return (getitem_1, arg0_1)

    class true_graph_0(torch.nn.Module):
        def forward(self, arg0_1: "f32[s77, 2][2, 1]cpu", arg1_1: "Sym(s77)"):
            mul: "f32[s77, 2][2, 1]cpu" = torch.ops.aten.mul.Tensor(arg0_1, arg1_1);  arg0_1 = arg1_1 = None
            return (mul,)
"""

    def altered(self, text, old, new):
        """Return a text with a regular expression replaced everywhere."""
        altered = re.sub(old, new, text)
        self.assertNotEqual(altered, text)
        return altered

    def test_graphs_that_differ(self):
        for what, old, new in (
            ("dtype", r'mul: "f32', r'mul: "f64'),
            ("dtype of an input", r'arg2_1: "f32', r'arg2_1: "f16'),
            ("shape", r"\[s77, 3\]\[3, 1\]", r"[s77, 4][3, 1]"),
            ("stride", r'(sub: "f32\[s77, 3\])\[3, 1\]', r"\1[1, 3]"),
            ("device", r'(arg1_1: ".*?)cpu', r"\1cuda:0"),
            ("argument", r"sub, 2\)", r"sub, 1)"),
            ("constant", r"alpha = 2\.5", r"alpha = 2.25"),
            ("operator", r"aten\.sub\.Tensor", r"aten.add.Tensor"),
            ("overload", r"aten\.mul\.Tensor", r"aten.mul.Scalar"),
            ("order of arguments", r"Tensor\(arg1_1, arg2_1", r"Tensor(arg2_1, arg1_1"),
            ("swapped inputs", r'(arg1_1: "\S+ \S+ \S+"), (arg2_1.*)\)', r"\2, \1)"),
            ("order of outputs", r"\(getitem_1, arg0_1\)", r"(arg0_1, getitem_1)"),
            ("another output", r"topk\[0\]", r"topk[1]"),
            ("dropped operator", r" +copy_.*\n", ""),
            ("added operator", r"( +)return \(mul,", r"\1add = torch.add(mul, 1)\n\1return (mul,"),
            ("dropped input", r'arg0_1: "Sym\(s77\)", ', ""),
            ("subgraph", r"mul\.Tensor\(arg0_1, arg1_1\)", r"mul.Tensor(arg1_1, arg0_1)"),
            ("static size made symbolic", r"\[s77, 2\]", r"[s77, s20]"),
            ("symbolic size made static", r"\[s77, 2\]", r"[6, 2]"),
            ("symbolic input made static", r"Sym\(s77\)", r"Sym(6)"),
        ):
            other = self.altered(self.GRAPH, old, new)
            self.assertNotEqual(difference(self.GRAPH, other), "", what)

    def test_graphs_that_are_the_same(self):
        unused = r'\1\2\n\1unused: "i64[s77, 2][2, 1]cpu" = topk[1]'
        for what, old, new in (
            ("values", r"\b(arg0_1|sub|mul|topk)\b(?!\.)", r"\1_renamed"),
            ("symbols", r"s77", r"s0"),
            ("comments", r"# File.*", r"# No stacktrace found"),
            ("clean-ups", r";  .*", ""),
            ("unused output", r"( +)(getitem:.*)", unused),
            ("spelling of a size", r"\[s77 \+ 1, 2\]", r"[1 + Max(1, s77), 2]"),
            ("name of a subgraph", r"true_graph_0", r"repeated_subgraph0"),
            ("name of the class", r"<lambda>", r"GraphModule"),
        ):
            self.assertEqual(difference(self.GRAPH, self.altered(self.GRAPH, old, new)), "", what)

    def test_difference_in_nothing_but_symbols(self):
        symbolic = self.GRAPH.replace("Sym(s77)", "Sym(6)")
        static = self.altered(self.GRAPH, "s77", "6").replace("6 + 1", "7")
        for compiled, rebuilt, note in (
            (static, symbolic, "with symbols for sizes that were static"),
            (symbolic, static, "with static sizes for symbols"),
        ):
            first = difference(compiled, rebuilt).splitlines()[1]
            self.assertEqual(first, f"+++ rebuilt, {note}, and no other difference")
            worse = rebuilt.replace("mul.Tensor", "add.Tensor")
            self.assertEqual(difference(compiled, worse).splitlines()[1], "+++ rebuilt")

    def test_difference_shows_the_lines_in_their_own_names(self):
        other = self.altered(self.GRAPH, r"alpha = 2\.5", "alpha = 2")
        expected = """
            --- compiled
            +++ rebuilt
            @@ -3,3 +3,3 @@
             arg2_1: f32[s77, 3][3, 1]cpu
            -sub: "f32[s77, 3][3, 1]cpu" = torch.ops.aten.sub.Tensor(arg1_1, arg2_1, alpha = 2.5)
            +sub: "f32[s77, 3][3, 1]cpu" = torch.ops.aten.sub.Tensor(arg1_1, arg2_1, alpha = 2)
             topk = torch.ops.aten.topk.default(sub, 2)"""
        self.assertEqual("\n" + difference(self.GRAPH, other), textwrap.dedent(expected))

    @skip_if_compile_disabled
    def test_altered_artifact(self):
        torch.compile(lambda x: x * 2.5)(torch.randn(4, 3, dtype=torch.float64).t())
        ((artifact, graph, _),) = with_graphs(self.handler.buffer)
        script = self.altered(artifact.payload, r"\(3, 4\), \(1, 3\)", "(3, 4), (4, 1)")
        script = self.altered(script, r"arg0_1, 2\.5\)", "arg0_1, 2.25)")
        with self.assertRaisesRegex(BadArtifact, "is unfaithful") as caught:
            judge(script, graph, "altered")
        for line in (
            "-arg0_1: f64[3, 4][1, 3]cpu",
            "+arg0_1: f64[3, 4][4, 1]cpu",
            'mul: "f64[3, 4][1, 3]cpu" = torch.ops.aten.mul.Tensor(arg0_1, 2.5)',
            'mul: "f64[3, 4][4, 1]cpu" = torch.ops.aten.mul.Tensor(arg0_1, 2.25)',
        ):
            self.assertIn(line, str(caught.exception))

    CODE_OF_A_GPU = """
# AOT ID: ['0_inference']
from torch._inductor.select_algorithm import extern_kernels

# kernel path: /tmp/torchinductor_user/ab/cabcd.py
triton_poi_fused_add_relu_0 = async_compile.triton('triton_poi_fused_add_relu_0', '''
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_ptr0': '*fp32'}, 'configs': [{'num_warps': 4}]},
    inductor_meta={'kernel_name': 'triton_poi_fused_add_relu_0', 'optimize_mem': True, 'backend_hash': 'B01020984EF46027F076428F681AC854C238F082'},
)
@triton.jit
def triton_poi_fused_add_relu_0(in_ptr0, ks0, BLOCK : tl.constexpr):
    tmp0 = tl.load(in_ptr0 + (x0 // 2))  # half of it
    tl.device_assert(tmp0 < 5, 'index # out of bounds')
''', device_str='cuda')

scale_0 = async_compile.triton('scale', '''
@triton.jit
def scale(x_ptr, BLOCK : tl.constexpr):
    tl.store(x_ptr, tl.load(x_ptr) * 2)
''', device_str='cuda')

scale_1 = async_compile.triton('scale', '''
@triton.jit
def scale(x_ptr, BLOCK : tl.constexpr):
    tl.store(x_ptr, tl.load(x_ptr) * 3)
''', device_str='cuda')

cpp_fused_add_2 = async_compile.cpp_pybinding(['const float*'], r'''
extern "C"  void  kernel(const float* in_ptr0)
{
    // Topologically Sorted Source Nodes: [add]
    auto tmp1 = static_cast<float>(1.0);  // one
}
''')

def call(args):
    relu, primals_2, arg2_1 = args
    s77 = arg2_1
    # Topologically Sorted Source Nodes: [add, relu], Original ATen: [aten.add]
    buf0 = empty_strided_cuda((s77, 3), (3, 1), torch.float32)
    extern_kernels.relu(relu, primals_2, out=buf0)
    triton_poi_fused_add_relu_0.run(buf0, s77, stream=raw_stream0)
    scale_0.run(buf0, 64, stream=raw_stream0)
    scale_1.run(buf0, 64, stream=raw_stream0)
    del primals_2
    buf1 = buf0; del buf0  # reuse
    return (buf1, )
"""

    def test_codes_that_differ(self):
        run = r"    scale_0(\.run\(.*\n)    scale_1(.*\n)"
        stores = r"\* 2(\)(?s:.*))\* 3\)"  # of the two kernels of one name
        for what, old, new in (
            ("constant", r"float>\(1\.0\)", "float>(2.0)"),
            ("operator", r"extern_kernels\.relu", "extern_kernels.gelu"),
            ("floor division", r"x0 // 2", "x0 // 4"),
            ("string", "index # out", "index # far out"),
            ("warps", "'num_warps': 4", "'num_warps': 8"),
            ("stride", r"\(3, 1\), torch", r"(4, 1), torch"),
            ("dtype", r"torch\.float32", "torch.float16"),
            ("order of arguments", r"\(relu, primals_2, out", "(primals_2, relu, out"),
            ("order of two calls", run, r"    scale_1\1    scale_0\2"),
            ("kernel of another name", r"\) \* (2|3)\)", r") * 5\1)"),
            ("kernels under each other's name", stores, r"* 3\1* 2)"),
            ("launch option", r"buf0, 64, stream", "buf0, 32, stream"),
            ("lost line", r"    scale_1.*\n", ""),
            ("preprocessor", r"extern .*\n", r"\g<0>#pragma omp parallel\n"),
        ):
            code = self.altered(self.CODE_OF_A_GPU, old, new)
            self.assertNotEqual(difference(self.CODE_OF_A_GPU, code, code_lines), "", what)

    def test_codes_that_are_the_same(self):
        for what, old, new in (
            ("kernel", r"triton_poi_fused_add_relu_0", "triton_poi_fused_0"),
            ("kernel of C++", "cpp_fused_add_2", "cpp_fused_2"),
            ("kernel of one's own", r"(['\s])scale_?(\d?)\b", r"\1scale_5\2"),
            ("argument", r"(?<![_.])\brelu\b(?=, [p(])", "arg0_1"),
            ("buffers", r"buf", "buf1"),
            ("symbol", "s77", "s0"),
            ("comments", r"(# |// )(Topo|AOT|kernel path|reuse|half|one).*", r"\1nothing"),
            ("hash", "B01020984", "91D1D1166"),
            ("blank lines", r"\n\n", r"\n"),
        ):
            code = self.altered(self.CODE_OF_A_GPU, old, new)
            self.assertEqual(difference(self.CODE_OF_A_GPU, code, code_lines), "", what)

    def test_role_in_code(self):
        code = self.altered(self.CODE_OF_A_GPU, "'optimize_mem': True", "'optimize_mem': False")
        is_seen = difference(self.CODE_OF_A_GPU, code, code_lines) != ""
        self.assertEqual(is_seen, release() >= (2, 15))

    @skip_if_compile_disabled
    def test_artifact_that_generates_other_code(self):
        torch.compile(lambda x: x.sin())(torch.randn(3))
        ((artifact, graph, code),) = with_graphs(self.handler.buffer)
        code.payload = code.payload.replace("std::sin", "std::cos")
        message = r"generated other code(?s:.*)\n-.*std::cos.*\n\+.*std::sin"
        with self.assertRaisesRegex(BadArtifact, message):
            judge(artifact.payload, graph, "other code", code)

    def test_code_that_is_not_logged(self):
        self.log(self.GOOD)
        with self.assertRaisesRegex(unittest.SkipTest, "torch logged no code"):
            self._exec_and_verify_payload(code=True)

    def test_artifact_that_compiles_nothing(self):
        self.log(self.GOOD)
        self.log(self.GRAPH, name=GRAPHS[0])
        with self.assertRaisesRegex(BadArtifact, "compiled 0 graphs, not 1"):
            self._exec_and_verify_payload()

    def outcome(self, messages, *gaps):
        """Return how a test ends that has these gaps, and fails with these messages."""

        def test(_):
            if messages:
                raise BadArtifact(messages, [])

        for gap in gaps:
            test = gap(test)
        try:
            test(self)
        except Exception as failure:
            return f"{type(failure).__name__}: {failure}"

    def test_known_gap(self):
        gap = Gap("a reason", "expected", "pytorch/pytorch#1")
        is_gap = f"SkipTest: {gap}"
        self.assertEqual(is_gap, "SkipTest: known gap: a reason (pytorch/pytorch#1)")
        is_closed = f"AssertionError: the {gap} is closed"
        for message, fields, expected in (
            ("expected error", {}, is_gap),
            ("another error", {}, "BadArtifact: another error"),
            (None, {}, is_closed),
            (None, {"closed": "2.9"}, "None"),
            ("expected error", {"closed": "2.9"}, "BadArtifact: expected error"),
            ("expected error", {"closed": "99.0"}, is_gap),
            ("expected error", {"opened": "2.9"}, is_gap),
            ("expected error", {"opened": "99.0"}, "BadArtifact: expected error"),
            ("expected error", {"artifact": 1}, is_gap),
            ("expected error", {"artifact": 2}, "BadArtifact: expected error"),
        ):
            end = str(self.outcome(message and {1: message}, gap.shown(**fields)))
            self.assertTrue(end.startswith(expected), f"{message}, {fields}: {end}")

    def test_gaps_of_two_artifacts(self):
        gaps = Gap("one", "error 1", artifact=1), Gap("two", "error 2", artifact=2)
        skip = f"SkipTest: {gaps[0]} and {gaps[1]}"
        self.assertEqual(self.outcome({1: "error 1", 2: "error 2"}, *gaps), skip)
        for messages in ({1: "error 2", 2: "error 1"}, {1: "error 1", 2: "error 1"}):
            self.assertEqual(self.outcome(messages, *gaps)[:11], "BadArtifact")
        closed = "known gap: two (unreported) is closed"
        self.assertIn(closed, self.outcome({1: "error 1"}, *gaps))

    def test_marks(self):
        # A mark has an error, and on each release an artifact has but one.
        module = vars(sys.modules[__name__]).values()
        cases = [c for c in module if isinstance(c, type) and issubclass(c, ArtifactTestCase)]
        tests = [test for case in cases for test in vars(case).values() if hasattr(test, "gaps")]
        self.assertGreater(len(tests), 40)
        for test in tests:
            for gap, other in itertools.product(test.gaps, test.gaps):
                self.assertTrue(gap.reason and gap.upstream and gap.error, test)
                self.assertIsNone(re.search(gap.error, ""), f"{test}: anything shows {gap}")
                self.assertLess(release(gap.opened), release(gap.closed), test)
                if gap is not other and gap.artifact == other.artifact:
                    first = max(release(gap.opened), release(other.opened))
                    last = min(release(gap.closed), release(other.closed))
                    self.assertGreaterEqual(first, last, f"{test}: {gap} or {other}")

    def trace_line(self, metadata, payload=None):
        """Return a record as torch writes it into a log, as bytes."""
        if payload is not None:
            md5 = hashlib.md5(payload.encode(), usedforsecurity=False).hexdigest()
            metadata = metadata | {"has_payload": md5}
        text = f"V1123 05:00:00.123000 42 torch/a/b.py:7] {json.dumps(metadata)}\n"
        lines = [] if payload is None else payload.split("\n")
        return (text + "".join(f"\t{line}\n" for line in lines)).encode()

    def artifact_log(self, script, frame=0, **ids):
        """Return a log of an artifact, a line more than its script has."""
        ids = {"frame_id": frame, "frame_compile_id": 0, "attempt": 0} | ids
        return self.trace_line({"artifact": {"name": ARTIFACT, "encoding": "string"}} | ids, script)

    def graph_log(self):
        """Return a log of the graph behind an artifact."""
        return self.trace_line({"artifact": {"name": GRAPHS[0]}}, self.GRAPH)

    def write_log(self, *parts, name="rank_0.log"):
        """Write a log of these records; return its path."""
        path = Path(self.kept, "trace", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(parts))
        return path

    def judged(self, path):
        """Return the verdicts on what is recorded there, a line each, and all messages."""
        lines, messages = [], []
        for recorded in recorded_artifacts(path):
            test = RecordedTraceTest("test_trace")
            try:
                test.judge_recorded(recorded)
            except (AssertionError, unittest.SkipTest) as error:
                messages.append(str(error))
            lines += [f"{test.verdict}: {place}" for _, place in recorded.places]
        return lines, "\n".join(messages)

    def test_trace_that_is_good(self):
        other = self.trace_line({"chromium_event": {}}, "{\n}")
        script = "# torch version: 1.0\n" + self.GOOD + "x = '\u00e9'"
        code = self.trace_line({CODE: {}}, "# AOT ID: ['0_forward']\n")
        again = self.artifact_log(self.GOOD, 1, attempt=1)
        replayed = self.trace_line({GRAPHS[1]: {}}, self.GRAPH)
        first = self.artifact_log(script) + self.graph_log()
        log = self.write_log(other, first, other, code, again, replayed)
        self.write_log(self.artifact_log(self.GOOD, 2), name="rank_1.log")
        found = recorded_artifacts(log.parent)
        expected = ["rank_0.log [0/0] line 4 forward", "rank_0.log [1/0_1] line 33"]
        self.assertEqual([*map(str, found)], [*expected, "rank_1.log [2/0] line 1"])
        for recorded, expected in zip(found, (script, self.GOOD), strict=False):
            artifact, graph, _ = next(with_graphs(read_source(*recorded.source)))
            self.assertEqual((artifact.payload, graph.payload), (expected, self.GRAPH))

    def test_trace_from_windows(self):
        good = self.artifact_log(self.GOOD) + self.artifact_log(self.GOOD + "1", 1)
        lines, _ = self.judged(self.write_log(good.replace(b"\n", b"\r\n")))
        self.assertEqual(lines, ["runs: rank_0.log [0/0] line 1", "runs: rank_0.log [1/0] line 4"])

    def test_trace_that_was_changed(self):
        artifact = self.artifact_log(self.GOOD + "'/home/me'")
        script = "# torch version: 2.6.0\n" + self.GOOD + "raise AttributeError('/home/me')"
        changed = (artifact + self.artifact_log(script, 1)).replace(b"/me", b"/you")
        lines, message = self.judged(self.write_log(changed, self.artifact_log(self.GOOD, 2)))
        expected = ["runs (changed after it was written): rank_0.log [0/0] line 1"]
        expected += ["fails: rank_0.log [1/0] line 4", "runs: rank_0.log [2/0] line 8"]
        self.assertEqual(lines, expected)
        first = f"recorded by torch 2.6.0 and run on {torch.__version__}, changed after it"
        self.assertIn(f"the artifact, {first} was written, exited with code 1", message)
        self.assertIn("AttributeError: /home/you", message)

    def test_trace_that_is_broken(self):
        whole = self.artifact_log(self.GOOD)
        other = self.trace_line({"chromium_event": {}}, "{}")
        log = self.write_log(
            whole[:70] + b"\n",  # cut off, and the program goes on
            self.artifact_log(self.GOOD + "f(x)", 1).replace(b"(x)", b"("),
            whole.replace(b'"artifact"', b'"\xff"'),
            b"a line of something else\n",
            other.replace(b"chromium", b"\xff"),
            other.replace(b"}", b""),
            whole,
            whole[:-9],
        )
        for number in range(3):
            self.write_log(b"these are\nno traces\n", name=f"{number}.txt")
        lines, message = self.judged(log.parent)
        expected = [f"broken: rank_0.log line {number}" for number in (1, 2, 5, 16)]
        expected.insert(3, "runs: rank_0.log [0/0] line 13")
        expected += ["broken: broken records of other kinds: 3", "broken: no traces: 3"]
        self.assertEqual(lines, expected)
        self.assertRegex(message, "(?s)cut off.*cut short.*cut off.*cut short")
        self.assertRegex(message, "(?s)the first is rank_0.log line 8.*the first is 0.txt")

    def test_trace_with_a_broken_graph(self):
        log = self.write_log(self.artifact_log(self.GOOD), self.graph_log()[:-9])
        expected = ["runs: rank_0.log [0/0] line 1", "broken: rank_0.log line 4"]
        self.assertEqual(self.judged(log)[0], expected)

    def test_trace_of_many_ranks(self):
        for rank in range(3):
            environ = f"os.environ['TORCHELASTIC_ERROR_FILE'] = '/tmp/{rank}/error'\n"
            script = f"{self.GOOD}import os\n{environ}"
            self.write_log(self.artifact_log(script), self.graph_log(), name=f"rank_{rank}.log")
        folder = self.write_log(name="empty.log").parent
        (recorded,) = recorded_artifacts(folder)
        self.assertEqual(str(recorded), "rank_0.log [0/0] line 1 and 2 more places")
        lines, message = self.judged(folder)
        places = [f"rank_{rank}.log [0/0] line 1" for rank in range(3)]
        self.assertEqual(lines, [f"unfaithful: {place}" for place in places])
        self.assertTrue(message.endswith("\n".join(places)), message)

    def test_trace_that_is_a_debug_folder(self):
        root = "torch._dynamo.config.debug_dir_root = 'elsewhere'\n"
        copy = Path(self.kept, "run_1", "model_0", "fx_graph_runnable.py")
        copy.parent.mkdir(parents=True)
        copy.write_text(root + self.GOOD)
        copy.with_name("output_code.py").write_text("")
        for path in (Path(self.kept), copy.parent, copy):
            place = copy.relative_to(path if path.is_dir() else copy.parent)
            self.assertEqual(self.judged(path)[0], [f"runs: {place} [-]"])

    def test_trace_that_tlparse_read(self):
        folder = Path(self.kept, "-_1_0_2")
        folder.mkdir()
        for name, text in (
            ("fx_graph_runnable_9.txt", self.GOOD),
            ("fx_graph_runnable_10.txt", self.GOOD + "1"),
            ("before_post_grad_graph_12.txt", self.GRAPH),
            ("inductor_output_code_ab12cd_13.html", "AOT ID: ['0_backward']"),
            ("dynamo_output_graph_1.txt", "other"),
        ):
            (folder / name).write_text(text)
        for path, beside in ((folder.parent, "-_1_0_2/"), (folder, "")):
            expected = [f"runs: {beside}fx_graph_runnable_9.txt [1/0_2]"]
            expected += [f"unfaithful: {beside}fx_graph_runnable_10.txt [1/0_2] backward"]
            self.assertEqual(self.judged(path)[0], expected)
        lines, message = self.judged(folder / "fx_graph_runnable_9.txt")
        self.assertEqual(lines, ["runs: fx_graph_runnable_9.txt [1/0_2]"])
        self.assertIn("nothing to compare with", message)
        Path(self.kept, "raw.log").write_bytes(self.artifact_log(self.GOOD))
        self.assertEqual(self.judged(self.kept)[0], ["runs: raw.log [0/0] line 1"])

    def test_verdicts_in_the_order_of_the_logs(self):
        os.environ["FX_GRAPH_RUNNABLE_JOBS"] = "1"
        scripts = self.GOOD, self.GOOD + "raise SystemExit(1)", self.GOOD
        log = self.write_log(*(self.artifact_log(s, n) for n, s in enumerate(scripts)))
        recorded = type("RecordedTraceTest", (RecordedTraceTest,), {"__module__": __name__})
        with mock.patch.dict(globals(), RecordedTraceTest=recorded):
            add_recorded_tests(log)
        tests = unittest.defaultTestLoader.loadTestsFromTestCase(recorded)
        stream = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            Runner(stream, verbosity=2).run(ParallelSuite(tests))
        line = r"\] \d\.\d s fails: test_0002 rank_0.log \[1/0\] line 4 "
        self.assertRegex(stream.getvalue(), line)
        expected = ["runs: rank_0.log [0/0] line 1", "fails: rank_0.log [1/0] line 4"]
        expected.append("runs: rank_0.log [2/0] line 7")
        self.assertEqual(stdout.getvalue().splitlines()[:3], expected)

    def test_trace_that_is_not_there(self):
        log = self.write_log(self.trace_line({"chromium_event": {}}, "{}"))
        empty = os.path.join(self.kept, "empty")
        os.mkdir(empty)
        for path, error, message in (
            ("/no/such/trace", self.failureException, "there is no such log or folder"),
            (empty, self.failureException, "there is no artifact in it"),
            (str(log), self.failureException, "there is no artifact in it"),
            ("", unittest.SkipTest, "set FX_GRAPH_RUNNABLE_TRACE"),
        ):
            os.environ["FX_GRAPH_RUNNABLE_TRACE"] = path
            with self.assertRaisesRegex(error, message):
                RecordedTraceTest("test_trace").test_trace()

    def test_trace_with_an_empty_artifact(self):
        lines, message = self.judged(self.write_log(self.artifact_log("")))
        self.assertEqual(lines, ["fails: rank_0.log [0/0] line 1"])
        self.assertTrue(message.startswith("the artifact is empty"), message)

    def test_trace_from_another_device(self):
        for device, name in (
            ("device(type='abacus', index=0)", "abacus:0"),
            (f"device(type='{ACCELERATOR or 'cuda'}', index=99)", ":99"),
            ("x = 'cuda:99'", "cuda:99"),
        ):
            log = self.write_log(self.artifact_log(f"{self.GOOD}# {device}"))
            lines, message = self.judged(log)
            self.assertEqual(lines, ["not here: rank_0.log [0/0] line 1"], device)
            self.assertIn(f"{name}, which is not here", message)

    @skip_if_compile_disabled
    def test_trace_of_a_program(self):
        program = "import torch; torch.compile(lambda x: x.sin() * 2)(torch.randn(3))"
        trace = Path(self.kept, "trace")
        os.environ.update(NO_GRAPH_CACHES, PYTHONPATH=child_python_path(), TORCH_TRACE=str(trace))
        os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "0"  # saves a probe of the CPU
        subprocess.run([sys.executable, "-c", program], check=True)
        before = [path.stat().st_size for path in trace.iterdir()]
        ((line,), _) = self.judged(trace)
        self.assertRegex(line, r"^faithful: \S+ \[0/0\] line \d+ inference$")
        self.assertEqual([path.stat().st_size for path in trace.iterdir()], before)

    def test_release(self):
        versions = ("2.13.0a0+git123abc", "2.13.0+cpu", "2.13", "2.13.0.dev20261101")
        self.assertEqual({release(version) for version in versions}, {(2, 13, 0)})
        self.assertLess(release("2.9.1"), release("2.10"))

    def test_without_what_windows_lacks(self):
        lacking = [(os, name) for name in ("killpg", "mkfifo", "sched_getaffinity")]
        lacking += [(signal, name) for name in ("SIGKILL", "SIGHUP", "pthread_sigmask")]
        os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = "2"
        with contextlib.ExitStack() as stack:
            for module, name in lacking:
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name))
                    delattr(module, name)
            judge(self.GOOD, None, "good")
            with self.assertRaisesRegex(BadArtifact, "did not end within 2 s"):
                judge(self.GOOD + "import time; time.sleep(600)", None, "hanging")
            with interruptible():
                self.assertGreaterEqual(worker_count(), 1)

    class Toys(ArtifactTestCase):
        """A test for each way in which one can end, without torch.compile."""

        def setUp(self):
            pass

        tearDown = setUp

        def test_1_passes(self):
            print("unseen")

        def test_2_fails(self):
            print("seen")
            self.assertEqual(1, 2)

        def test_3_has_an_error(self):
            raise KeyError("key")

        def test_4_skips(self):
            self.skipTest("known gap: a toy")

        @unittest.expectedFailure
        def test_5_fails_as_expected(self):
            self.fail()

        @unittest.expectedFailure
        def test_6_passes_unexpectedly(self):
            pass

        def test_7_fails_twice(self):
            self.addCleanup(self.fail, "in a cleanup")
            self.fail("in the test")

    class DeadlyToys(Toys):
        """These are for a process of their own, with a named pipe in PIPE."""

        SCRIPT = "import os, signal, time\ndef forward(): pass\n"
        SCRIPT += "pipe = os.open(os.environ['PIPE'], os.O_WRONLY)\n"

        def test_0_process_is_killed(self):
            kill = "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)"
            judge(self.SCRIPT + kill, None, "kills")

        def test_8_artifact_hangs(self):
            hang = "os.write(pipe, b'started'); time.sleep(600)"
            judge(self.SCRIPT + hang, None, "hangs")

    def test_results_are_those_of_unittest(self):
        os.environ["FX_GRAPH_RUNNABLE_JOBS"] = "1"
        names = unittest.defaultTestLoader.getTestCaseNames(self.Toys)

        def printed(suite_class, **options):
            stderr = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                Runner(stderr, verbosity=2, **options).run(suite_class(map(self.Toys, names)))
            text = re.sub(r"(?m)^\[\d/7\] \d\.\d s ", "", stderr.getvalue())
            return re.sub(r"in \d\.\d+s|0x[0-9a-f]+", "", text) + stdout.getvalue()

        for options in ({}, {"failfast": True}, {"buffer": True}, {"tb_locals": True}):
            theirs = printed(unittest.TestSuite, **options)
            self.assertIn("\nFAIL: test_2_fails", theirs)
            self.assertEqual(printed(ParallelSuite, **options), theirs)
        self.assertIn("\n1 of the skipped are known gaps\n", theirs)
        self.assertEqual(theirs.splitlines()[-1], "2 passed, 4 failed, 1 skipped")

    def interrupted(self, number, jobs, toys, ended):
        """Run these of DeadlyToys, with a signal to all once so many have ended and one hangs.
        Returns what was printed.
        """
        folder = tempfile.mkdtemp(dir=self.kept)
        pipe, reader = self.pipe(f"pipe_{jobs}")
        environ = {"TMPDIR": folder, "PIPE": pipe, "PYTHONPATH": child_python_path()}
        process = subprocess.Popen(
            [sys.executable, __file__, "-v", f"HarnessTest.DeadlyToys{toys}"],
            env=os.environ | environ | {"FX_GRAPH_RUNNABLE_JOBS": str(jobs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        timer = threading.Timer(time_limit(), end_process, [process.pid])
        timer.start()
        with process, contextlib.suppress(ProcessLookupError):
            text = ""
            while f"[{ended}/" not in text and ended and process.poll() is None:
                text += process.stdout.readline()
            os.set_blocking(reader, True)
            while not os.read(reader, 100) and process.poll() is None:
                time.sleep(0.05)
            os.killpg(process.pid, number)
            text += process.stdout.read()
        timer.cancel()
        self.assertNotEqual(process.returncode, 0, text)
        self.assertRegex(text, "(?s)ERROR: interrupted\n.* tests did not end\n")
        self.assertEqual(os.listdir(folder), [], text)
        os.set_blocking(reader, False)
        self.assertEqual(os.read(reader, 1), b"")  # nobody holds the other side any more
        return text

    @requires_posix
    def test_interrupted_processes(self):
        text = self.interrupted(signal.SIGINT, jobs=2, toys="", ended=8)
        self.assertEqual(text.splitlines()[-1], "2 passed, 5 failed, 1 skipped")
        self.assertEqual(text.count("Traceback"), 3)
        killed = r"ERROR: test_0_.*\n-+\nthe process that ran this test was killed by SIGKILL"
        self.assertRegex(text, killed)
        self.assertRegex(text, r": 1 != 2\n---- printed by the test itself\nseen\n")
        self.assertNotIn("unseen", text)

    @requires_posix
    def test_interrupted_alone(self):
        toy = ".test_8_artifact_hangs"
        text = self.interrupted(signal.SIGTERM, jobs=1, toys=toy, ended=0)
        self.assertEqual(text.splitlines()[-1], "0 passed, 0 failed, 0 skipped")
        self.assertNotIn("Traceback", text)

    def test_shares(self):
        names = unittest.defaultTestLoader.getTestCaseNames(self.Toys)
        os.environ.update(FX_GRAPH_RUNNABLE_JOBS="1", TEST_TOTAL_SHARDS="3")
        os.environ["TEST_SHARD_STATUS_FILE"] = os.path.join(self.kept, "status")
        shares = []
        for index in range(3):
            os.environ["TEST_SHARD_INDEX"] = str(index)
            result = unittest.TestResult()
            result.startTest = lambda test: shares.append(test._testMethodName)
            ParallelSuite(map(self.Toys, names)).run(result)
        self.assertTrue(os.path.exists(os.environ["TEST_SHARD_STATUS_FILE"]))
        self.assertEqual(sorted(shares), names)
        self.assertNotEqual(shares, names)
        for wrong in ("3", "-1", "one", ""):
            os.environ["TEST_SHARD_INDEX"] = wrong
            with self.assertRaisesRegex(ValueError, "TEST_SHARD_INDEX=.*give an index"):
                this_share()

    def test_number_of_processes(self):
        os.environ.pop("FX_GRAPH_RUNNABLE_JOBS", None)
        for cores, gib, gib_of_accelerator, count in (
            (16, 64, math.inf, 16),
            (16, 8, math.inf, 8),
            (16, 0.5, math.inf, 1),
            (16, 64, 8, 5),
        ):
            machine = {
                "usable_cores": mock.Mock(return_value=cores),
                "usable_memory": mock.Mock(return_value=gib * 2**30),
                "free_accelerator_memory": mock.Mock(return_value=gib_of_accelerator * 2**30),
            }
            with mock.patch.dict(globals(), machine):
                self.assertEqual(worker_count(), count)
        os.environ["FX_GRAPH_RUNNABLE_JOBS"] = "3"
        self.assertEqual(worker_count(), 3)
        for wrong in ("0", "-1", "two", ""):
            os.environ["FX_GRAPH_RUNNABLE_JOBS"] = wrong
            with self.assertRaisesRegex(ValueError, "JOBS=.*give a number"):
                worker_count()

    def test_nothing_of_a_test_stays(self):
        from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table

        def state():
            """All that a test changes."""
            configs = torch._dynamo.config, torch._inductor.config, torch._functorch.config
            return (
                [trace_log.level, sys.excepthook, tempfile.tempdir, *trace_log.handlers],
                [dict(os.environ), dict(kernel_side_table.id_to_kernel), os.listdir(run_folder())],
                [config.get_config_copy() for config in configs],
            )

        class Interrupted(ArtifactTestCase):
            def test(self):
                sys.excepthook = print
                os.environ["TORCH_LOGS"] = "+dynamo"
                kernel_side_table.add_kernel(print)
                raise KeyboardInterrupt

        before = state()
        case = Interrupted("test")
        case.setUp()
        self.assertNotEqual(state(), before)
        case.tearDown()
        self.assertEqual(state(), before)
        with self.assertRaises(KeyboardInterrupt):
            case.run()
        self.assertEqual(state(), before)


# How tests are spread over processes: a suite that runs its tests in several of them, and
# reports what came of each into the result that unittest gave it.

# Inductor cannot build C++ against a torch that lies under such a path.
SPACE_IN_PATH = os.name == "posix" and bool(re.search(r"\s", sys.prefix))
# What ends a run, from a terminal or from other programs; Windows has no SIGHUP.
INTERRUPTS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def worker_count():
    """Return in how many processes to run tests: FX_GRAPH_RUNNABLE_JOBS, or as many as there
    are cores and memory for. Raises ValueError if that is no number of processes.
    """
    text = os.environ.get("FX_GRAPH_RUNNABLE_JOBS")
    if text is None:
        # What a test and its artifact took together at most, the second on an NVIDIA H100.
        of_memory = usable_memory() / (0.9 * 2**30)
        of_accelerator = free_accelerator_memory() / (1.5 * 2**30)
        return max(1, int(min(usable_cores(), of_memory, of_accelerator)))
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"FX_GRAPH_RUNNABLE_JOBS={text!r}: give a number of processes, such as 2")


def this_share():
    """Return which share of the tests this process runs, as (index, total).

    Reads the variables of Bazel's test sharding. Raises ValueError if they are no share.
    """
    total = os.environ.get("TEST_TOTAL_SHARDS", "1")
    index = os.environ.get("TEST_SHARD_INDEX", "0")
    if total.isdecimal() and index.isdecimal() and int(index) < int(total):
        return int(index), int(total)
    raise ValueError(
        f"TEST_SHARD_INDEX={index!r}, TEST_TOTAL_SHARDS={total!r}: "
        "give an index from 0 to total - 1"
    )


def setUpModule():
    time_limit()
    this_share()
    if status := os.environ.get("TEST_SHARD_STATUS_FILE"):
        Path(status).touch()
    if keep := os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        os.makedirs(keep, exist_ok=True)


def outcome(test, **options):
    """Run one test, with these options of a TestResult (buffer, tb_locals). Returns its
    seconds, what came of it: (list of the TestResult, text) for each entry there, none if
    it passed; and its verdict in a word, if it has one.
    """
    result = unittest.TestResult()
    vars(result).update(options)
    start = time.perf_counter()
    unittest.TestSuite([test]).run(result)
    seconds = time.perf_counter() - start
    entries = [("skipped", reason) for _, reason in result.skipped]
    entries += [("unexpectedSuccesses", "") for _ in result.unexpectedSuccesses]
    for kind in ("failures", "errors", "expectedFailures"):
        for source, text in getattr(result, kind):
            # Another source than the test is a subtest, or what sets up its class.
            entries.append((kind, text if source is test else f"{source}\n{text}"))
    return seconds, entries, getattr(test, "verdict", "")


def report(result, test, seconds, entries):
    """Report what came of a test, as `outcome` returns it, into a result of unittest's."""
    result.startTest(test)
    for kind, text in entries:
        if kind == "skipped":
            result.addSkip(test, text)
        elif kind == "unexpectedSuccesses":
            result.addUnexpectedSuccess(test)
        else:
            add = {"failures": result.addFailure, "errors": result.addError}
            add = add.get(kind, result.addExpectedFailure)
            add(test, (RuntimeError, RuntimeError(text), None))
            # Its traceback is part of the text.
            reported = getattr(result, kind)
            reported[-1] = (reported[-1][0], text)
    if not entries:
        result.addSuccess(test)
    if hasattr(result, "addDuration"):  # from Python 3.12 on
        result.addDuration(test, seconds)
    result.stopTest(test)


@contextlib.contextmanager
def interrupts_held():
    """Have INTERRUPTS come behind a with block, not in it. A process that is started in it
    has them blocked, and lets them in itself.
    """
    came, handlers = [], {}
    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTS:
            handlers[number] = signal.signal(number, lambda n, _: came.append(n))
    if hasattr(signal, "pthread_sigmask"):
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def work(connection):
    """Run the tests that come through a connection, as (class, name, tb_locals), until None
    comes. Sends the folder of this process first, then what came of each test.
    """

    def interrupt(number, _):
        signal.signal(number, signal.SIG_IGN)  # once: what follows cleans up
        raise KeyboardInterrupt

    if hasattr(os, "setsid"):
        os.setsid()  # what a terminal sends is for the first process, which ends the others
    for number in INTERRUPTS:  # those that came before
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGTERM, interrupt)
    # Without a word: it was told to end, or the first process is gone.
    with contextlib.suppress(KeyboardInterrupt, EOFError, ConnectionError):
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
        connection.send(run_folder())
        printed = run_folder() / "printed"
        with open(printed, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        faulthandler.enable()
        for case, name, tb_locals in iter(connection.recv, None):
            seconds, entries, verdict = outcome(case(name), tb_locals=tb_locals)
            sys.stdout.flush()
            sys.stderr.flush()
            if text := printed.read_text("utf-8", "backslashreplace"):
                os.truncate(printed, 0)
                note = f"---- printed by the test itself\n{text}"
                bad = ("failures", "errors")
                entries = [(k, t + note if k in bad else t) for k, t in entries]
            connection.send((seconds, entries, verdict))
    shutil.rmtree(run_folder(), ignore_errors=True)
    os._exit(0)  # without the seconds that it takes to tear torch down


@contextlib.contextmanager
def python_without_spaces():
    """Have multiprocessing start Python through a link, for a with block, if SPACE_IN_PATH."""
    if not SPACE_IN_PATH:
        yield
        return
    link = run_folder() / "python"
    if not link.exists():
        link.symlink_to(sys.prefix)
    change = sys.prefix + os.sep, str(link) + os.sep
    executable = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable(sys.executable.replace(*change))
    try:
        with mock.patch.object(sys, "path", [p.replace(*change) for p in sys.path]):
            yield
    finally:
        multiprocessing.set_executable(executable)


class Worker:
    """A process that runs tests; `test` is the one that it runs now, None if it is to end."""

    def __init__(self, test, tb_locals):
        context = multiprocessing.get_context("spawn")
        self.connection, other_end = context.Pipe()
        self.process = context.Process(target=work, args=[other_end])
        self.folder = None
        environ = {
            "TORCHINDUCTOR_CACHE_DIR": cache_folder(),
            # The processes themselves are the parallelism.
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        }
        if os.name == "posix":
            # Else the first start does this, and lets interrupts in. Without warnings, since
            # it has a line for each semaphore that it removes behind a process.
            with mock.patch.dict(os.environ, PYTHONWARNINGS="ignore"):
                multiprocessing.resource_tracker.ensure_running()
        with mock.patch.dict(os.environ, environ), python_without_spaces():
            self.process.start()
        other_end.close()
        self.give(test, tb_locals)

    def give(self, test, tb_locals):
        """Have it run a test, or end if that is None."""
        self.test = test
        with contextlib.suppress(ConnectionError):  # it died: nothing will come back
            self.connection.send(test and (type(test), test._testMethodName, tb_locals))

    def end(self):
        """Wait until it has ended, 10 s at most. Returns how it did and what it printed."""
        self.process.join(10)
        self.process.kill()
        self.process.join()
        end_process(self.process.pid)  # a compiler that it was waiting for
        self.connection.close()
        text = f"the process that ran this test {how_it_ended(self.process.exitcode)}\n"
        if self.folder and self.folder.exists():
            for pid in self.folder.rglob("pid"):  # its artifact is still running
                end_process(int(pid.read_text()))
            if printed := end_of(self.folder / "printed"):
                text += f"---- printed by it\n{printed}\n"
            shutil.rmtree(self.folder, ignore_errors=True)
        return text


def outcomes_of_workers(tests, count, result):
    """Run tests in this many processes, until result.shouldStop. Yields each as it ends, as
    (test, seconds, what came of it).
    """
    tests = iter(tests)
    workers = []

    def start(test):
        with interrupts_held():
            workers.append(Worker(test, result.tb_locals))

    try:
        for test in itertools.islice(tests, count):
            start(test)
        while busy := {w.connection: w for w in workers if w.test}:
            # With a timeout: a signal that another thread of torch's takes wakes nobody here.
            for connection in multiprocessing.connection.wait(list(busy), timeout=1):
                worker = busy[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError):  # it died
                    message = 0, [("errors", worker.end())], ""
                if isinstance(message, Path):
                    worker.folder = message
                    continue
                yield worker.test, *message
                test = None if result.shouldStop else next(tests, None)
                if worker.process.is_alive():
                    worker.give(test, result.tb_locals)
                else:
                    worker.test = None
                    if test:
                        start(test)
    finally:
        for worker in workers:
            if worker.test:
                worker.process.terminate()
        for worker in workers:
            worker.end()


@contextlib.contextmanager
def interruptible():
    """Have each of INTERRUPTS raise KeyboardInterrupt in a with block, once for all of them."""
    handlers = {}

    def interrupt(*_):
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTS:
            replaced = [signal.SIG_DFL, signal.default_int_handler]  # not --catch's
            if number == signal.SIGINT:
                # As a shell has it for what it starts in the background.
                replaced.append(signal.SIG_IGN)
            if signal.getsignal(number) in replaced:
                handlers[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def flat(suite):
    """Yield the tests of a suite, and of the suites in it."""
    for test in suite:
        yield from flat(test) if isinstance(test, unittest.TestSuite) else [test]


def cost(test):
    """Return what a test costs beside others: its artifacts, and the operators it names."""
    if getattr(test, "__unittest_skip__", False):
        return 0, 0
    source = inspect.getsource(getattr(test, test._testMethodName))
    artifacts = 2 if re.search(r"verify_replayed|super\(\)\.test", source) else 1
    for number in re.findall(r"artifacts=(\d)", source):
        artifacts = max(artifacts, int(number))
    return artifacts, len(re.findall(r"\btorch\.|self\.launch", source))


def slowest_first(tests):
    """Return tests in the order in which processes finish them together, and soonest: what is
    slow comes first, but for one test what needs no compiled C++. For until one process has
    built the header that Inductor precompiles, all others that compile wait for it.
    """
    tests = sorted(tests, key=cost)
    compiled = [test for test in reversed(tests) if not isinstance(test, HarnessTest)]
    others = [test for test in tests if isinstance(test, HarnessTest)]  # the last compile
    return compiled[:1] + others + compiled[1:]


class ParallelSuite(unittest.TestSuite):
    """Runs its tests in as many processes as worker_count says; one at a time, or one alone,
    in this process. Of the tests it takes the share that Bazel's variables name.
    """

    def run(self, result, debug=False):
        tests = list(flat(self))
        if debug or not all(isinstance(test, ArtifactTestCase) for test in tests):
            return super().run(result, debug)  # with the tests of other modules in it
        try:
            setUpModule()
            index, total = this_share()
            tests = tests[index::total]
            count = worker_count() if len(tests) > 1 else 1
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        stream = result.stream if getattr(result, "showAll", False) else io.StringIO()
        done = 0
        try:
            with interruptible(), contextlib.ExitStack() as stack:
                if count > 1 or SPACE_IN_PATH:
                    outcomes = outcomes_of_workers(slowest_first(tests), count, result)
                    stack.callback(outcomes.close)
                else:
                    options = {"buffer": result.buffer, "tb_locals": result.tb_locals}
                    outcomes = ((test, *outcome(test, **options)) for test in tests)
                for test, seconds, entries, test.verdict in outcomes:
                    with interrupts_held():
                        done += 1
                        verdict = test.verdict and f"{test.verdict}: "
                        stream.write(f"[{done}/{len(tests)}] {seconds:.1f} s {verdict}")
                        report(result, test, seconds, entries)
                    if result.shouldStop and (result.failfast or count == 1):
                        break
        except KeyboardInterrupt:
            left = len(tests) - done
            error = KeyboardInterrupt(f"{left} of {len(tests)} tests did not end")
            # In unittest, what stands for a failure that is of no test.
            holder = unittest.suite._ErrorHolder("interrupted")
            result.addError(holder, (type(error), error, None))
        return result


if not STARTED_BY_FORK:
    # The loader of `python FILE` and `python -m unittest`. load_tests would do for whole
    # modules only, not for the names of classes.
    unittest.defaultTestLoader.suiteClass = ParallelSuite


class Runner(unittest.TextTestRunner):
    """Prints the verdicts on recorded artifacts, and the counts, behind unittest's summary."""

    def run(self, test):
        tests = list(flat(test))  # which unittest's own suite forgets
        result = super().run(test)
        places = []
        for t in tests:
            method = getattr(t, getattr(t, "_testMethodName", ""), None)
            verdict = getattr(t, "verdict", "") or "no verdict"
            if recorded := getattr(method, "recorded", None):
                places += [(*place, verdict) for place in recorded.places]
        for _, place, verdict in sorted(places):
            print(f"{verdict}: {place}")
        bad = {t for t, _ in result.failures + result.errors if isinstance(t, TestCase)}
        bad.update(result.unexpectedSuccesses)
        reasons = {t: reason for t, reason in result.skipped if t not in bad}
        gaps = sum(reason.startswith("known gap: ") for reason in reasons.values())
        passed = result.testsRun - len(bad) - len(reasons)
        print(f"{gaps} of the skipped are known gaps\n" if gaps else "")
        print(f"{passed} passed, {len(bad)} failed, {len(reasons)} skipped", flush=True)
        if not result.testsRun and result.wasSuccessful():
            sys.exit(5)  # as unittest itself does from Python 3.12 on
        return result


if __name__ == "__main__":
    run_tests()

# Owner(s): ["module: dynamo"]
"""Check that every graph which torch.compile hands to Inductor leaves an `fx_graph_runnable`
artifact that keeps its promise: a Python script that rebuilds the graph and runs it, without the
original program.

A test compiles something, then checks each artifact that torch logged:

    torch.compile(lambda x: x + 1)(self.randn(4))
    self._exec_and_verify_payload()

In a fresh Python process an artifact must exit 0 and compile the graph that torch logged after
it (graph_difference), with the same inputs and the same user-defined Triton kernels or, with
code=True, all of the same code (code_lines). A test that fails because of torch carries a Gap,
as in `@known_gaps(symbols_become_static)`, and counts as skipped for as long as that is open.

The parts, in order:

    Capture          the records of torch's structured trace, and which of them belong together
    Known gaps       what torch gets wrong, and how a test is marked with it
    Test case        ArtifactTestCase: captures artifacts, and undoes what a test changes in torch
    Documented tests those of PyTorch's own test of these artifacts
    Verdict          runs an artifact, compares what it did, and keeps what a failure rests on
    Graphs           when two graphs are the same
    Code             when two codes, inputs and constants are the same
    Families         a class of tests for each family of graphs, then those on an accelerator
    Traces           the artifacts of a program of your own, each as a test
    Processes        how the tests are spread over processes, and the main block
"""

import ast
import atexit
import collections
import contextlib
import difflib
import enum
import faulthandler
import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import logging.handlers
import math
import multiprocessing.connection
import operator
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import types
import unittest
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple
from unittest import mock

# helpers.py is beside this file, whether that is started as a script, a module, or by its path.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from helpers import (  # noqa: E402
    ACCELERATOR,
    HAS_TRITON,
    default_jobs,
    is_published,
    number_from,
    release,
    requires_distributed,
    requires_triton,
    skip_if_compile_disabled,
    skip_in_fbcode,
)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

# Options that a fork's test/run_test.py passes. Only PyTorch's own run_tests knows them, and it
# needs PyTorch's own TestCase, which imports packages that torch does not depend on.
FORK_OPTIONS = ("--shard-id", "--import-", "--save-xml", "--subprocess", "--use-pytest", "--rerun-")
STARTED_BY_FORK = __name__ == "__main__" and any(a.startswith(FORK_OPTIONS) for a in sys.argv)
if STARTED_BY_FORK:
    from torch.testing._internal.common_utils import TestCase, run_tests
else:
    from unittest import TestCase


# Capture: torch logs each artifact to its structured trace and, right after it, the graph that
# the artifact must rebuild: before Inductor's passes, and after them. (On a graph-cache hit, it
# logs the artifact again, followed only by the second graph.) The code that Inductor generated
# comes next, except when compiling ahead of time.

trace_log = logging.getLogger("torch.__trace")
ARTIFACT = "fx_graph_runnable"
GRAPHS = ("before_post_grad_graph", "inductor_post_grad_graph")
CODE = "inductor_output_code"
# These say how a compile failed, if it did; the last one, that of a backward which was compiled
# with its forward, as it is with dynamic sizes. torch compiles such a backward again when it is called.
METRICS, BACKWARD_METRICS = "compilation_metrics", "bwd_compilation_metrics"
BACKWARD_FAILURE = "eager_compile_backwards_failure"


def record_name(record):
    """Return what a record of the trace holds: CODE, METRICS, BACKWARD_METRICS, the name of its
    artifact, or None.
    """
    metadata = getattr(record, "metadata", {})
    name = (metadata.get("artifact") or {}).get("name")
    # On a graph-cache hit, the graph after the passes has a key of its own; 2.9 has another name.
    if GRAPHS[1] in metadata or name == "after_post_grad_graph":
        return GRAPHS[1]
    keys = (CODE, METRICS, BACKWARD_METRICS)
    return next((key for key in keys if key in metadata), name)


class FxGraphRunnableArtifactFilter(logging.Filter):
    """Passes the artifacts, and the graphs and the code that torch logs after them."""

    def filter(self, record):
        return record_name(record) in (ARTIFACT, *GRAPHS, CODE)


class StructuredTracePayloadFormatter(logging.Formatter):
    """Formats a record of the trace as its payload alone: the script, graph or code."""

    def format(self, record):
        return record.payload


IDS = ("compiled_autograd_id", "frame_id", "frame_compile_id", "attempt")


def compile_id(record):
    """Return the compile id of a record as tlparse shows it, [0/0], [1/0_1] or [!2/0/0], with the
    name of the region, if a region was compiled by itself; [-] if the record has none.
    """
    autograd, *frame, attempt, region = map(record.metadata.get, (*IDS, "subgraph_name"))
    parts = [f"!{autograd}"] * (autograd is not None) + [str(n) for n in frame if n is not None]
    attempt, region = f"_{attempt}" if attempt else "", f" {region}" if region else ""
    return f"[{'/'.join(parts) or '-'}{attempt}{region}]"


def with_logged(records):
    """Yield each graph among the records that has no artifact, with None; and each artifact, with a
    dict of what was logged after it for the same compile, by name.
    """
    artifacts, current, logged, missing = [], None, {}, None
    for record in records:
        name, compiled = record_name(record), compile_id(record)
        if name == ARTIFACT:
            current, logged, missing = compiled, {}, None
            artifacts.append((record, logged))
        elif compiled == current and name not in logged:
            logged[name] = record
        elif name in GRAPHS:
            # The graph after the passes comes second.
            if name == GRAPHS[0] or compiled != missing:
                yield record, None
            missing = compiled
    yield from artifacts


# Known gaps: a test that fails because of torch, not because of the suite, is marked as such.


class Gap(NamedTuple):
    """Something that torch gets wrong: the reason that a skipped test shows, a regular expression
    for each part of what its failure says, the upstream issue, and the releases that opened and
    closed it.
    """

    reason: str
    error: str
    upstream: str = "unreported"
    opened: str = "0.0"
    closed: str = "99.0"

    def can_reproduce(self):
        """Return whether a test may fail because of it: while it is open and, in a build that was
        not published, also in the release that closes it, whose fix the build may lack.
        """
        opened, closed = release(self.opened), release(self.closed)
        return opened <= release() < closed or release() == closed and not is_published()

    def matches(self, part):
        return bool(re.search(self.error, part))

    def __str__(self):
        return f"known gap: {self.reason} ({self.upstream})"


def parts_of(problem):
    """Return the parts of an artifact's problem, each of which a gap must match: the lines that
    differ between two graphs or, if only sizes do, the kinds of changes. Others have one part: of
    codes, which may differ in many lines, a gap names but one.
    """
    what, is_diff, diff = problem.partition("\n--- compiled\n+++ rebuilt")
    if changes := re.match(f"{ONLY_SIZES}(.*)", diff):
        return changes[1].split("; ")
    lines = re.findall(r"(?m)^[-+].*", diff)
    return lines if is_diff and "graph" in what else ["\n".join(lines) or problem]


def known_gaps(*gaps):
    """Mark a test with the gaps that make it fail.

    While one is open, the test counts as skipped if open gaps match all that is wrong with its
    artifacts, and each of them matches some of it: it fails if it fails differently, or passes. In
    a build that was not published, which may have a fix early, it may also pass. With
    FX_GRAPH_RUNNABLE_GAPS=fail it fails as it would without the mark.
    """

    def mark(test):
        @functools.wraps(test)
        def marked(case):
            is_off = os.environ.get("FX_GRAPH_RUNNABLE_GAPS") == "fail"
            expected = [] if is_off else [gap for gap in gaps if gap.can_reproduce()]
            verdicts, parts = [], []
            try:
                test(case)
            except unittest.SkipTest:
                raise
            except Exception as failure:
                verdicts = getattr(failure, "verdicts", [Verdict(str(failure))])
                parts = [part for verdict in verdicts for part in parts_of(verdict.problem)]
                unexplained = [part for part in parts if not any(g.matches(part) for g in expected)]
                if unexplained:
                    raise
            seen = [gap for gap in expected if any(map(gap.matches, parts))]
            stale = [gap for gap in expected if gap not in seen and is_published()]
            for verdict in verdicts:
                delete_kept(verdict)
            if stale:
                advice = f"remove the decorator, or give the gap closed={torch.__version__!r}"
                case.fail(f"the {stale[0]} no longer reproduces: {advice}")
            if seen:
                raise unittest.SkipTest(" and ".join(dict.fromkeys(map(str, seen))))

        marked.gaps = gaps  # for tools that list them
        return marked

    return mark


def known_gap(*fields, **releases):
    """Mark a test with one Gap, given its fields."""
    return known_gaps(Gap(*fields, **releases))


# Test case: captures artifacts, has them judged, and undoes what a test changes in torch.

# An artifact must compile its graph, not load it from a cache that its program filled.
NO_GRAPH_CACHES = {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0", "TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}
# Variables that would send a child's trace and logs elsewhere, or change its caches. torch copies
# them into each artifact, where they would override the environment of the child.
REDIRECTING = (
    *("TORCH_TRACE", "TORCH_DTRACE", "TORCH_LOGS", "TORCH_LOGS_OUT"),
    *("TORCH_COMPILE_DEBUG", "TORCH_COMPILE_DEBUG_DIR", *NO_GRAPH_CACHES),
    *("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "TORCH_COMPILE_FORCE_DISABLE_CACHES"),
)


def reset_torch():
    """Make torch forget what it compiled, and its cached checks of CPU features. What this needs is
    private: torch has no public way to do it.
    """
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
    from torch._inductor.cpu_vec_isa import supported_vec_isa_list, valid_vec_isa_list
    from torch._logging.structured import INTERN_TABLE
    from torch.compiler._cache import CacheArtifactManager

    torch.compiler.reset()
    kernel_side_table.reset_table()  # torch writes all of it into every artifact
    INTERN_TABLE.clear()  # torch logs each string once, and then its number
    CacheArtifactManager.clear()  # what save_cache_artifacts saves
    # These checks depend on cpp.vec_isa_ok.
    for check in (valid_vec_isa_list, *(type(isa).__bool__ for isa in supported_vec_isa_list)):
        if hasattr(check, "cache_clear"):
            check.cache_clear()


@contextlib.contextmanager
def neutral_environment():
    """Drop the variables that would send traces and logs elsewhere, for the body of a with
    statement; what compilers and Python print, which is compared, is in English and has no colors.
    """
    with mock.patch.dict(os.environ, LC_ALL="C.UTF-8", LANGUAGE="", PYTHON_COLORS="0"):
        for name in REDIRECTING:
            os.environ.pop(name, None)
        yield


@contextlib.contextmanager
def shared_cache():
    """Have Inductor and Triton use one cache for the whole run, for the body of a with statement.
    It is for this run alone by default: a process killed while it links leaves half a library
    behind, which a later run would load.
    """
    cache = os.path.abspath(os.environ.get("TORCHINDUCTOR_CACHE_DIR", run_folder() / "cache"))
    os.makedirs(cache, exist_ok=True)
    folders = dict.fromkeys(("TRITON_CACHE_DIR", "PYTORCH_KERNEL_CACHE_PATH"), cache)  # else home
    # Inductor's precompiled headers go to TMPDIR.
    environ = folders | os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache, "TMPDIR": cache}
    with mock.patch.dict(os.environ, environ), mock.patch.object(tempfile, "tempdir", cache):
        yield


@contextlib.contextmanager
def own_configs(folder):
    """Have torch log an artifact for each compile, compile fast, write its debug files into this
    folder, and forget afterwards what it compiled, for the body of a with statement.
    """
    import torch._inductor.compile_fx  # has all configs, and registers operators, for effect_of

    # On a hit in a graph cache torch logs the artifact of an earlier compile.
    caches = {"fx_graph_cache": False, "fx_graph_remote_cache": False}
    # No C++ to probe the CPU, which no artifact depends on, and no workers for a small graph.
    faster = {"cpp.vec_isa_ok": False, "compile_threads": 1}
    autograd = {"enable_autograd_cache": False, "enable_remote_autograd_cache": False}
    with (
        torch._functorch.config.patch(**autograd),
        torch._inductor.config.patch(caches | faster),
        torch._dynamo.config.patch(debug_dir_root=folder),
    ):
        reset_torch()
        try:
            yield
        finally:
            reset_torch()


@skip_in_fbcode
@skip_if_compile_disabled
class ArtifactTestCase(TestCase):
    """Captures the artifacts of what a test compiles, and judges them."""

    device = "cpu"
    is_slow = False  # slow ones begin first
    maxDiff = None
    # PyTorch's TestCase would treat numbers that are close as equal.
    assertEqual = unittest.TestCase.assertEqual
    assertNotEqual = unittest.TestCase.assertNotEqual

    def setUp(self):
        super().setUp()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        temporary = tempfile.TemporaryDirectory(dir=run_folder(), ignore_cleanup_errors=True)
        folder = stack.enter_context(temporary)
        stack.enter_context(neutral_environment())
        stack.enter_context(shared_cache())
        stack.enter_context(own_configs(folder))
        # torch's own handlers would write to a trace that the user asked for.
        stack.enter_context(mock.patch.object(trace_log, "handlers", []))
        self.handler = logging.handlers.BufferingHandler(capacity=sys.maxsize)
        self.handler.addFilter(FxGraphRunnableArtifactFilter())
        self.handler.setFormatter(StructuredTracePayloadFormatter())
        self.old_level = trace_log.level
        trace_log.addHandler(self.handler)
        trace_log.setLevel(logging.DEBUG)

    def tearDown(self):
        trace_log.removeHandler(self.handler)
        trace_log.setLevel(self.old_level)
        super().tearDown()

    @property
    def name(self):
        return f"{type(self).__qualname__}.{self._testMethodName}"

    @property
    def again(self):
        """The command that runs the test again."""
        return [sys.executable, sys.modules[type(self).__module__].__file__, self.name]

    def randn(self, *size, **options):
        """Return a random tensor of this size on the device under test."""
        return torch.randn(*size, device=self.device, **options)

    def verify(self, function, *inputs, backward=False, artifacts=1, code=False, **options):
        """Compile a function with these options of torch.compile, call it on the inputs and, with
        backward=True, run its backward, which makes one more artifact; then judge all artifacts.

        Returns their scripts. Raises AssertionError.
        """
        output = torch.compile(function, **options)(*inputs)
        if backward:
            output.sum().backward()
        return self._exec_and_verify_payload(artifacts + backward, code)

    def run_program(self, program, exit_code=0, **environ):
        """Run a program, which may use `torch` and a tensor `x`, in its own process: it must exit
        with this code. Then judge the artifact in its trace, which must fail the same way.
        """
        path = Path(torch._dynamo.config.debug_dir_root, "program.py")
        header = (
            "import torch, torch._inductor.config\ntorch._inductor.config.cpp.vec_isa_ok = False\n"
        )
        main = f"if __name__ == '__main__':\n    x = torch.randn(8, device='{self.device}')\n"
        path.write_text(header + main + textwrap.indent(program, "    "))
        ended, output, records = run_script(path, **environ)
        self.assertEqual(ended, exit_code, output)
        for artifact, _ in with_logged(records):
            artifact.payload = strip_machine_paths(artifact.payload)
        self.handler.buffer += records
        self._exec_and_verify_payload(failure=final_exception(output) if exit_code else None)

    def scripts(self):
        """Return the artifacts that were captured, as a list of scripts."""
        records = self.handler.buffer
        return [self.handler.format(r) for r in records if record_name(r) == ARTIFACT]

    def _exec_and_verify_payload(self, artifacts=1, code=False, failure=None):
        """Judge each artifact that was captured.

        artifacts: how many there must be
        code: whether each must generate the same code as its program
        failure: how the program failed, as `judge` takes it

        Returns their scripts. Raises AssertionError: a BadArtifact if one is bad.
        """
        found, bad = list(with_logged(self.handler.buffer)), []
        for record, logged in found:
            if logged is None:
                self.fail(f"torch logged a graph, but no artifact for it:\n{record.payload}")
        self.assertEqual(len(found), artifacts, "the number of artifacts that torch logged")
        for number, (artifact, logged) in enumerate(found, start=1):
            script, name = self.handler.format(artifact), f"{self.name}.{number}"
            verdict = judge(script, logged, name, code, failure, again=self.again)
            if not (verdict.problem or verdict.is_compared or failure):
                seen = ", ".join(logged) or "nothing"
                problem = f"torch logged too little after artifact {number} to compare it: {seen}"
                verdict = verdict._replace(problem=problem, report=problem)
            if verdict.problem:
                bad.append(verdict)
        if bad:
            raise BadArtifact(bad)
        return self.scripts()

    def verify_script(self, script, *arguments, failure=None, folder=None):
        """Run a script with these arguments, and judge only how it ends: see `judge`.

        Raises BadArtifact.
        """
        verdict = judge(script, {}, self.name, False, failure, arguments, folder, self.again)
        if verdict.problem:
            raise BadArtifact([verdict])


# A gap that several tests share stands above the first of their classes.
symbols_become_static = Gap(
    "the symbolic sizes of a graph become static", "^a symbol became a number ", closed="2.13"
)
symbols_are_expressions = Gap(
    "a symbol is defined by assigning to an expression",
    "^is not valid Python .cannot assign to expression here",
    "pytorch/pytorch#166529",
    closed="2.10",
)
static_sizes_become_symbolic = Gap(
    "one symbolic size makes all sizes of the inputs symbolic",
    "^a number became a symbol ",
    opened="2.13",
)


# Documented tests.


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
    """Set up a process group that does not communicate, for the body of a with statement; artifacts
    run after it, and have to set up their own.
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


if HAS_TRITON:
    import triton
    import triton.language as tl

    def zero_output(args, *unused, **also_unused):
        """Fill out_ptr with zeros; a hook for triton.Config and triton.autotune."""
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


class FxGraphRunnableTest(ArtifactTestCase):
    """The graphs that PyTorch's own test of these artifacts compiles."""

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

    @known_gaps(symbols_become_static)
    def test_dynamic_shapes_run(self):
        torch.compile(lambda x: torch.relu(x @ x.transpose(0, 1)))(dynamic(torch.randn(10, 12)))
        self._exec_and_verify_payload()

    @known_gaps(symbols_become_static)
    def test_broadcast_add_dynamic(self):
        x, y = dynamic(torch.randn(5, 1), 0), dynamic(torch.randn(1, 8), 1)
        torch.compile(lambda x, y: x + y * 2)(x, y)
        self._exec_and_verify_payload()

    @known_gaps(symbols_are_expressions, symbols_become_static._replace(opened="2.10"))
    def test_dynamic_expression(self):
        # The artifact once assigned to an expression, "s27*s53**2 = 36": pytorch/pytorch#166529.
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

    @known_gaps(symbols_become_static, static_sizes_become_symbolic)
    def test_toy_model_dynamic_batch(self):
        torch.compile(ToyModel(10, 20, 5).eval())(dynamic(torch.randn(7, 10), 0))
        # The forward saves a symbolic size, so AOTAutograd compiles the backward at once.
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
        # The artifact once failed outside of a MetricsContext: pytorch/pytorch#166432.
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


# Verdict: run an artifact in a fresh process, and compare what it compiles with what was logged.


class Verdict(NamedTuple):
    """What was found out about one artifact."""

    problem: str  # what is wrong, with the error or the lines that differ; "" if nothing is
    is_compared: bool = False  # else it was judged only by how it ended
    has_compiled: bool = False  # whether it got as far as generating code
    constants: tuple = ()  # those that could not be verified, if nothing else is wrong
    report: str = ""  # the problem, what the script printed, and how to run it again
    kept: str = ""  # the folder that it was kept in


class BadArtifact(AssertionError):
    """Raised for artifacts that break their promise; `verdicts` has their Verdicts."""

    def __init__(self, verdicts):
        super().__init__("\n\n".join(verdict.report for verdict in verdicts))
        self.verdicts = verdicts


def delete_kept(verdict):
    """Remove what was kept for a verdict, unless the user keeps all."""
    if verdict.kept and not os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        shutil.rmtree(verdict.kept)


@functools.cache
def run_folder():
    """Return the folder (a Path) for all that this run writes; it is removed at exit."""
    if sys.argv[1:2] == ["--serve"]:
        return Path(sys.argv[2])  # that of the first process
    # Inductor cannot build C++ in a path with a space.
    is_bad = re.search(r"\s", tempfile.gettempdir()) and os.path.isdir("/tmp")
    folder = tempfile.mkdtemp(prefix="fx_graph_runnable_", dir="/tmp" if is_bad else None)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def time_limit():
    """Return how many seconds an artifact may take."""
    return number_from("FX_GRAPH_RUNNABLE_TIMEOUT", 300)


def child_environ():
    """Return the environment of a child, which imports the torch that is tested here."""
    root = Path(torch.__file__).absolute().parents[1]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [os.path.abspath(path) for path in paths if path]
    if not root.name.endswith("-packages"):  # a fork that was built in place
        paths.insert(0, str(root))
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    if not os.path.exists(importlib.util.cache_from_source(torch.__file__)):
        # torch came without bytecode: only the first child of a run compiles its 2,300 files.
        environ["PYTHONPYCACHEPREFIX"] = str(run_folder() / "bytecode")
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def end_process(process):
    """Kill a process and its process group, which it leads."""
    with contextlib.suppress(OSError):  # they have ended
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:  # Windows
            process.kill()
    process.wait()


MOST_OUTPUT = 2**24  # in bytes; a process that prints more is ended


def run_script(path, *arguments, **environ):
    """Run a script in a fresh Python process, in its own folder, with these variables besides those
    of child_environ; whatever it starts ends with it.

    Returns its exit code, as subprocess does, or None if it did not end within the time limit, or
    printed too much; what it printed; and the records that it logged.
    """
    restart_watchdog()
    trace, log = path.with_name("trace"), path.with_name("output")
    with open(log, "wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-u", path, *arguments],
            cwd=path.parent,
            env=child_environ() | NO_GRAPH_CACHES | environ | {"TORCH_TRACE": str(trace)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        exit_code, deadline = None, time.monotonic() + time_limit()
        try:
            while exit_code is None and time.monotonic() < deadline:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    exit_code = child.wait(0.2)
                if log.stat().st_size > MOST_OUTPUT:
                    break
        finally:
            end_process(child)
    with open(log, "rb") as output:
        output.seek(max(0, log.stat().st_size - MOST_OUTPUT))
        text = output.read().decode("utf-8", "backslashreplace")
    return exit_code, text, [record for log in trace.glob("*") for record in read_trace(log)]


def final_exception(output):
    """Return the exception that a process ended with, from what it printed: the first line after
    its last traceback, and what is indented below that; without a traceback, its last line. To an
    exception without a message, the line of code that raised it is added.
    """
    output = re.sub(r"(?m)^\[rank\d+\]: ?", "", output)
    _, traceback, rest = output.rpartition("Traceback (most recent call last):\n")
    match = re.search(r"(?m)^\S.*(?:\n[ \t].*)*", rest) if traceback else None
    if not match:
        return "".join(output.splitlines()[-1:])
    code = re.findall(r"(?m)^ {4}\w.*", rest[: match.start()])
    is_bare = re.fullmatch(r"[\w.]+", match[0]) and code
    return f"{match[0]} from {code[-1].strip()}" if is_bare else match[0]


def compiler_error(output):
    """Return the last line in which a compiler or Inductor names an error, "" if none does."""
    found = re.findall(r"(?m)(?:\berror: |^\w+Error\(|^  target: ).*", output)
    return found[-1] if found else ""


def has_same_error(output, failure):
    """Return whether a process that printed this failed with the same error as its program: the same
    first line, and the same compiler_error. Modules, paths and wrapping exceptions do not count.
    """
    wrappers = r"^(?:[\w.]*(?:InductorError: |BackendCompilerFailed: backend=.* raised:\n))+"

    def essence(error, text):
        """Return what counts of an error, and of the text that names it."""
        line = re.sub(wrappers, "", error).partition("\n")[0]
        line = re.sub(r"^([\w.]+) from .*", r"\1", line)  # as final_exception adds it
        line = re.sub(r"^[\w.]+\.(?=\w)", "", line).rstrip(": ")
        # Paths and addresses are those of a process.
        process = r"(?<![\w.])/[^/\s]+/\S+|\b0x[0-9a-f]+"
        return re.sub(process, "", f"{line}\n{compiler_error(text)}")

    return essence(final_exception(output), output) == essence(failure, failure)


def difference(compiled, rebuilt):
    """Return a diff of two lists of lines, "" if they are the same."""
    return "\n".join(
        difflib.unified_diff(compiled, rebuilt, "compiled", "rebuilt", n=1, lineterm="")
    )


def cut(text, most, last=False):
    """Return the first lines of a text, or the last ones, each no longer than 300 characters, and
    say what was left out.
    """
    lines = [line[:300] + "..." * (len(line) > 300) for line in text.split("\n")]
    if len(lines) > most:
        note = [f"... {len(lines) - most} more lines"]
        lines = note + lines[-most:] if last else lines[:most] + note
    return "\n".join(lines)


def code_difference(compiled, rebuilt, code):
    """Return a diff of two codes that Inductor generated, "" if they are the same: of all lines, if
    `code` says so, else of the user-defined kernels and of the inputs, where both codes show them.
    """
    if code:
        return difference(code_lines(compiled), code_lines(rebuilt))
    inputs = input_lines(compiled), input_lines(rebuilt)
    inputs = inputs if all(inputs) else ([], [])
    return difference(user_kernels(compiled) + inputs[0], user_kernels(rebuilt) + inputs[1])


def compare(logged, rebuilt, code):
    """Compare what was logged after an artifact, as a dict of records by name, with a list of the
    records that the artifact itself logged, and all of the code if `code` says so.

    Returns the problem, "" if there is none, and whether everything to compare was there.
    """
    part = "" if code else " for its inputs or its user-defined Triton kernels"
    compared = {
        GRAPHS[0]: ("compiled a different graph", graph_difference),
        GRAPHS[1]: ("compiled a different graph, after Inductor's passes", graph_difference),
        CODE: (f"generated different code{part}", functools.partial(code_difference, code=code)),
    }
    for name, (what, difference_of) in compared.items():
        again = [record.payload for record in rebuilt if record_name(record) == name]
        if name in logged and len(again) != 1:
            return f"{what}: {len(again)} of them, not 1", True
        if name in logged and (diff := difference_of(logged[name].payload, again[0])):
            return f"{what}\n{diff}", True
    graphs = "".join(logged[name].payload for name in GRAPHS if name in logged)
    needs_code = code or "triton_kernel_wrapper" in graphs
    lines = code_lines if code else user_kernels
    has_code = CODE in logged and bool(lines(logged[CODE].payload))
    return "", bool(graphs) and (has_code or not needs_code)


def end_of(script, exit_code, output):
    """Return how a script ended, given what run_script returns: "exited with code 0", say."""
    if exit_code is None and len(output) >= MOST_OUTPUT:
        return f"printed more than {MOST_OUTPUT / 2**20:g} MiB, and was ended"
    if exit_code is None:
        was_told = "command='minify'" in script
        note = ": it was told to minify, by command='minify' in its last lines" if was_told else ""
        return f"did not end within {time_limit():g} s (FX_GRAPH_RUNNABLE_TIMEOUT){note}"
    if exit_code < 0:
        names = {number.value: number.name for number in signal.Signals}
        return f"was killed by {names.get(-exit_code, -exit_code)}"
    error, named = final_exception(output), compiler_error(output)
    error = f": {error}" + (f"\n{named}" if named not in error else "")
    return f"exited with code {exit_code}{error if exit_code else ''}"


def problem_of_text(script):
    """Return why the text of an artifact can rebuild no graph, "" if it can."""
    tree = parse(script)
    if not script.strip():
        return "is empty"
    if isinstance(tree, Exception):
        line = f": {tree.text.strip()}" if getattr(tree, "text", None) else ""
        return f"is not valid Python ({getattr(tree, 'msg', tree)}{line})"
    if "forward" not in [getattr(node, "name", "") for node in ast.walk(tree)]:
        return "has no forward, so it rebuilds no graph,"
    return ""


def problem_of_end(end, exit_code, output, failure):
    """Return what is wrong with how an artifact ended, as end_of says it; "" if its program ended
    like that, too.
    """
    if not failure:
        return end if exit_code != 0 else ""
    is_same = exit_code and exit_code > 0 and has_same_error(output, failure)
    return "" if is_same else f"{end}, but should have failed with {failure}"


def verdict_on(script, exit_code, output, failure, logged, rebuilt, code):
    """Return the Verdict on an artifact, without a report.

    exit_code, output, rebuilt: what run_script returns
    failure: how its program failed, None if it did not
    logged, code: as `compare` takes them
    """
    end = end_of(script, exit_code, output)
    if problem := problem_of_text(script):
        return Verdict(f"{problem} and {end}")
    if problem := problem_of_end(end, exit_code, output, failure):
        return Verdict(problem)
    if failure:  # the code may not have been generated
        logged, code = {name: logged[name] for name in GRAPHS if name in logged}, False
    problem, is_compared = compare(logged, rebuilt, code)
    if problem:
        return Verdict(f"{'failed as its program did' if failure else 'ran'}, but {problem}")
    codes = [r.payload for r in [logged.get(CODE), *rebuilt] if r and record_name(r) == CODE]
    graph = next((logged[name].payload for name in GRAPHS if name in logged), "")
    if not failure and (names := unverified_constants(script, graph, *codes)):
        problem = f"may have random or rounded values for the constants {', '.join(names)}"
        problem += " (pytorch/pytorch#100468)"
        return Verdict(problem, is_compared, constants=tuple(names))
    return Verdict("", is_compared)


def write_trace(path, records):
    """Write records of a trace, as read_trace reads them."""
    with open(path, "wb") as log:
        for record in records:
            payload = record.payload.encode("utf-8", "backslashreplace")
            md5 = hashlib.md5(payload, usedforsecurity=False).hexdigest()
            metadata = json.dumps(record.metadata | ({"has_payload": md5} if payload else {}))
            log.write(f"V0101 00:00:00.000000 0 {ARTIFACT}.py:1] {metadata}\n".encode())
            log.writelines(b"\t%b\n" % line for line in payload.split(b"\n") if payload)


def keep_artifact(name, script, logged, rebuilt, output, failure):
    """Keep what the verdict on an artifact rests on in a folder of its own. Returns its path.

    It has the script, what that printed, what was compared, as torch logged it for the program
    (compiled_*) and for the artifact (rebuilt_*), and the trace of the program, which
    FX_GRAPH_RUNNABLE_TRACE and tlparse read.
    """
    if root := os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        name = re.sub(r"[^\w.\[\]-]+", "_", name)[-200:]
        names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        folder = next(p for n in names if not (p := Path(root, n).absolute()).exists())
        folder.mkdir(parents=True)
    else:
        folder = tempfile.mkdtemp(prefix="fx_graph_runnable_failed_", dir=run_folder().parent)
    texts = {f"{ARTIFACT}.py": script, "output.txt": output}
    for who, records in (("compiled", logged.values()), ("rebuilt", rebuilt)):
        records = [record for record in records if record_name(record) in (*GRAPHS, CODE)]
        for number, record in enumerate(records, start=1):
            texts[f"{who}_{number}_{record_name(record)}.txt"] = record.payload
    for file, text in texts.items():
        Path(folder, file).write_text(text, encoding="utf-8", errors="backslashreplace")
    first = next((record.metadata for record in logged.values()), {})
    ids = {key: first[key] for key in (*IDS, "subgraph_name") if key in first}
    records = [(ids | {"artifact": {"name": ARTIFACT}}, script)]
    records += [(record.metadata, record.payload) for name, record in logged.items() if name]
    if failure and not failure_in(logged):
        records.append(
            (ids | {METRICS: {"fail_type": "InductorError", "fail_reason": failure}}, "")
        )
    make = lambda metadata, payload: logging.makeLogRecord(
        {"metadata": metadata, "payload": payload}
    )
    write_trace(Path(folder, "trace.log"), itertools.starmap(make, records))
    return str(folder)


def judge(script, logged, name, code=False, failure=None, arguments=(), folder=None, again=()):
    """Run one artifact in a fresh Python process and a folder of its own. Returns a Verdict.

    script: the artifact
    logged: what was logged after it, as with_logged yields it
    name: what to call the folder that it is kept in, if FX_GRAPH_RUNNABLE_KEEP is set
    code: whether it must generate the same code as its program
    failure: how its program failed, as in "KeyError: 'a'"; None if it did not
    arguments: command line arguments for the script
    folder: the folder to run it in, if the caller wants what it writes there
    again: the command that judges it again; by default one that judges what was kept
    """
    with tempfile.TemporaryDirectory(dir=run_folder(), ignore_cleanup_errors=True) as own:
        path = Path(folder or own, f"{ARTIFACT}.py")
        path.write_text(script, encoding="utf-8", errors="backslashreplace")
        exit_code, output, rebuilt = run_script(path, *arguments)
    verdict = verdict_on(script, exit_code, output, failure, logged, rebuilt, code)
    verdict = verdict._replace(has_compiled=CODE in map(record_name, rebuilt))
    if not (verdict.problem or os.environ.get("FX_GRAPH_RUNNABLE_KEEP")):
        return verdict
    kept = keep_artifact(name, script, logged, rebuilt, output, failure)
    python_path = child_environ()["PYTHONPATH"]
    environ = [f"PYTHONPATH={python_path}"] if python_path else []
    run = [*environ, sys.executable, f"{kept}/{ARTIFACT}.py", *arguments]
    if not again:
        environ += [f"FX_GRAPH_RUNNABLE_TRACE={kept}"]
        again = [sys.executable, os.path.abspath(__file__), "RecordedTraceTest"]
    commands = [shlex.join(["env", *command]) for command in (run, [*environ, *again])]
    report = (
        f"the artifact {cut(verdict.problem, 50)}\n"
        f"---- what it printed\n{cut(output.rstrip(), 30, last=True)}\n"
        f"---- all of it is in {kept}\n"
        f"to run the script:\n{commands[0]}\nto judge it again:\n{commands[1]}"
    )
    return verdict._replace(report=report, kept=kept)


# Graphs: two are the same if they compute the same values from the same inputs, in whatever order
# and under whatever names. Each is written out in one canonical form: a statement comes where it
# is first needed, values are named after their operators, a statement that reads memory names
# the last write to it, and sizes are compared by their values.

SIZE = re.compile("\0(.*?)\0")  # how a size stands in a line
SYMBOL = re.compile(r"\b[a-z]+\d+\b")  # s77, u0
UNUSED = "unused"
NOT_VALUES = {"torch", "device", "inf", "nan"}  # names in a graph that are not values of its own


def parse(script):
    """Return the syntax tree of a script, or the exception that says why there is none."""
    try:
        return ast.parse(script)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        return error


def names_in(node, context=ast.Load):
    """Return the names that a statement reads (ast.Load) or assigns (ast.Store): x, and self.x for
    a constant or a subgraph.
    """
    found = []
    for part in ast.walk(node):
        if isinstance(getattr(part, "ctx", None), context):
            if isinstance(part, ast.Name) and part.id != "self":
                found.append(part.id)
            elif isinstance(part, ast.Attribute) and getattr(part.value, "id", "") == "self":
                found.append(f"self.{part.attr}")
    return found


def operator_of(node):
    """Return the name of the operator that a statement calls, "" if none, and its arguments."""
    call = getattr(node, "value", None)
    if not isinstance(call, ast.Call):
        return "", []
    name, arguments = ast.unparse(call.func), [*call.args, *call.keywords]
    if name == "torch.ops.higher_order.with_effects":  # (token, operator, its arguments)
        name, arguments = ast.unparse(arguments[1]), arguments[2:]
    return name, arguments


def overload_of(name):
    """Return the overload of an operator that has this name, None if it is not known here. Its
    schema is private, but what torch itself goes by.
    """
    try:
        op = functools.reduce(getattr, name.split(".")[1:], torch)
    except (AttributeError, RuntimeError):
        return None
    return op if hasattr(op, "_schema") else None


# Operators that write more than their schema says, or concern all that runs before and after them.
UNSTATED = re.compile(
    r"torch\.ops\.(c10d|symm_mem|streams|profiler|inductor|inductor_prims|fsdp\.all_gather_copy_in"
    r"|_?c10d_functional\.(irecv|batch_p2p_ops)|aten\.set_|aten\.(native|cudnn|miopen)_batch_norm"
    r"|aten\.batch_norm_(gather_stats\w*|update_stats))\."
)


def effect_of(node, is_used):
    """Return what a statement does besides computing its result, given whether that is used.

    Returns whether it must stay in order with all others that must, since it writes, draws random
    numbers, or communicates; the arguments that it may write to, None if it may do anything; and whether its
    result has memory of its own.
    """
    name, arguments = operator_of(node)
    is_wait = ".wait_tensor." in name
    only_orders = is_wait and is_used or re.search(r"\.(_sink_tokens|control_deps)\b", name)
    if only_orders or computes_size(node) or not name.startswith("torch.ops."):
        return False, [], False
    if re.search(r"\.(auto_functionalized\w*|triton_kernel_wrapper_functional)$", name):
        return False, [], True  # it writes to copies
    # If nothing uses its result, a wait is for a collective that writes in place.
    if is_wait or name.startswith("torch.ops.higher_order."):
        return True, arguments, False
    op = overload_of(name)
    if not op or UNSTATED.match(name):
        return True, None, False
    schema, draws = op._schema, torch.Tag.nondeterministic_seeded in op.tags
    if "_scaled_dot_product" in name:  # it draws only for dropout
        draws = any(isinstance(getattr(arg, "value", 0), float) and arg.value for arg in arguments)
    names = [arg.name for arg in schema.arguments]
    written = {a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write}
    pairs = zip(arguments, names, strict=False)
    writes = [argument for argument, name in pairs if getattr(argument, "arg", name) in written]
    is_view = any(result.alias_info for result in schema.returns) or "unsafe_" in name
    communicates = bool(re.search("c10d|_dtensor", name))
    keeps_order = bool(writes) or draws or communicates or not schema.returns
    return keeps_order, writes, not is_view and "c10d" not in name


def is_size(node):
    """Return whether a value or an input is a size: "Sym(s77)"."""
    return "Sym(" in ast.unparse(getattr(node, "annotation", None) or [])


def computes_size(node):
    """Return whether a statement only reads a size of a tensor, or computes one from others."""
    is_computed = isinstance(getattr(node, "value", None), (ast.BinOp, ast.UnaryOp, ast.Call))
    plain = r"(?!torch\.ops\.)|torch\.ops\.aten\.sym_(size|stride|numel|storage_offset)\b"
    return is_size(node) and is_computed and bool(re.match(plain, operator_of(node)[0]))


def canonical_order(forward):
    """Return the statements of a graph in the order in which they are needed: by those with an
    effect, which keep their order, by those that nothing uses, and by the return. As class_lines
    then writes them, before and after:

        cos = aten.cos.default(b)               add__0 = aten.add_.Tensor(input_0, 1)
        sin = aten.sin.default(a)               sin_0 = aten.sin.default(input_0)
        add_ = aten.add_.Tensor(a, 1)           cos_0 = aten.cos.default(input_1)
        exp = aten.exp.default(a)               exp_0 = aten.exp.default(input_0) after add__0
        return (sin, cos, exp)                  return [sin_0, cos_0, exp_0]

    Each comes with the last statements that wrote to memory that it reads. A value has memory of
    its own if its operator's schema says so, else that of all its arguments; sizes have none. Each
    input and each constant has its own: AOTAutograd merges inputs that overlap if one is written.
    """
    memory = {arg.arg: set() if is_size(arg) else {arg.arg} for arg in forward.args.args}
    used = {name for node in forward.body for name in names_in(node)}
    made_by, wrote, needs, after, roots = {}, {}, {}, {}, []
    memory_of = lambda names: set().union(
        *(memory.get(name, {name}) for name in names if name not in NOT_VALUES)
    )
    for node in forward.body:
        made, read = names_in(node, ast.Store), names_in(node)
        is_used = bool(used.intersection(made))
        keeps_order, writes, is_new = effect_of(node, is_used)
        touched = memory_of(memory if writes is None else read)
        written = touched
        if writes is None:  # its arguments may share their memory from here on
            memory.update(dict.fromkeys(read, memory_of(read)))
        else:
            written = memory_of(name for arg in writes for name in names_in(arg))
        shared = () if is_size(node) else touched or made
        memory.update((name, {name} if is_new else set(shared)) for name in made)
        after[node] = {wrote[m] for m in touched if m in wrote}
        needs[node] = [*(made_by[name] for name in read if name in made_by), *after[node]]
        made_by.update(dict.fromkeys(made, node))
        wrote.update(dict.fromkeys(written, node))
        # Retracing adds a read of every output of an operator, used or not, and drops that of a
        # constant that Inductor has folded.
        is_read = isinstance(getattr(node, "value", None), (ast.Subscript, ast.Attribute))
        is_needless = is_read or computes_size(node) or "_sink_tokens" in operator_of(node)[0]
        if keeps_order or not (is_used or is_needless):
            roots.append(node)
    done, stack = {}, roots[::-1]
    while stack:
        if missing := next((n for n in needs[stack[-1]] if n not in done), None):
            stack.append(missing)
        else:
            done.setdefault(stack.pop(), len(done))
    return [(node, sorted(after[node], key=done.get)) for node in done]


def type_in(annotation):
    """Return the type that a graph gives a value, "f32[s77, 3][3, 1]cpu" or "Sym(s77)", with each
    size and stride marked as SIZE.
    """
    text = getattr(annotation, "value", None) or ast.unparse(annotation or [])

    def marked(match):
        tree = parse(match[0])
        if isinstance(tree, Exception):
            return match[0]
        sizes = getattr(tree.body[0].value, "elts", [tree.body[0].value])
        sizes = ", ".join(f"\0{ast.unparse(size)}\0" for size in sizes)
        return f"{match[0][0]}{sizes}{match[0][-1]}"

    return re.sub(r"\[[^]]*\]|(?<=^Sym)\(.*\)$", marked, str(text))


class Renamer(ast.NodeTransformer):
    """Gives the values of a graph canonical names: those that are sizes are written out."""

    def __init__(self):
        self.names, self.counts = {}, collections.Counter()

    def name(self, old, base):
        """Return the canonical name of what the graph calls `old`: the base, with a number."""
        if old not in self.names:
            self.names[old] = f"{base}_{self.counts[base]}"
            self.counts[base] += 1
        return self.names[old]

    def visit_Name(self, node):
        return ast.Name(self.names.get(node.id, node.id), node.ctx)

    def visit_Attribute(self, node):
        if getattr(node.value, "id", "") == "self":  # a constant, or a subgraph
            return ast.Name(self.name(f"self.{node.attr}", "self.attribute"), node.ctx)
        return self.generic_visit(node)

    def visit_Constant(self, node):  # a number may be a size
        return ast.Name(f"\0{node.value}\0") if type(node.value) is int else node

    def visit_Tuple(self, node):  # operators take tuples and lists alike
        return self.visit(ast.List(node.elts, node.ctx))

    def visit_Call(self, node):
        if "_assert" in ast.unparse(node.func):  # its message names symbols
            is_text = lambda arg: isinstance(getattr(arg, "value", None), str)
            node.args = [ast.Constant("") if is_text(arg) else arg for arg in node.args]
        return self.generic_visit(node)


def name_arguments_alike(forward):
    """Give the result of each operator in place the name of its first argument, which it is."""
    same = {}
    for node in forward.body:
        for name in (part for part in ast.walk(node) if isinstance(part, ast.Name)):
            name.id = same.get(name.id, name.id)
        call = getattr(node, "value", None)
        op = overload_of(ast.unparse(call.func)) if isinstance(call, ast.Call) else None
        writes = lambda value: value.alias_info and value.alias_info.is_write
        is_in_place = op and len(op._schema.returns) == 1 and writes(op._schema.returns[0])
        if is_in_place and writes(op._schema.arguments[0]) and isinstance(call.args[0], ast.Name):
            same.update(dict.fromkeys(names_in(node, ast.Store), call.args[0].id))


def class_lines(scope):
    """Yield the lines of one class of a graph, and of the classes in it."""
    renamer = Renamer()
    for forward in (node for node in scope.body if isinstance(node, ast.FunctionDef)):
        for call in (node for node in ast.walk(forward) if isinstance(node, ast.Call)):
            call.keywords.sort(key=operator.attrgetter("arg"))  # their order means nothing
        name_arguments_alike(forward)
        used = {name for node in forward.body for name in names_in(node)}
        for node in forward.args.args[1:]:
            name, text = renamer.name(node.arg, "input"), type_in(node.annotation)
            if size := re.fullmatch("Sym\\((\0.*\0)\\)", text):
                renamer.names[node.arg] = size[1]
            if node.arg not in used and (not text or size and not SYMBOL.search(text)):
                text = f"\0{UNUSED}\0"  # a number, written out where it is used
            yield f"{name}: {text}"
        for node, after in canonical_order(forward):
            text = type_in(getattr(node, "annotation", None))
            if computes_size(node):
                renamer.names[node.target.id] = text[len("Sym(") : -1]
                continue
            # torch.ops.aten.mul.Tensor makes mul_0, mul_1, ...
            func = getattr(node.value, "func", None)
            base = re.findall(r"\w+", ast.unparse(func))[-2:][0] if func else "value"
            value = ast.unparse(renamer.visit(node.value))
            if isinstance(node, ast.Return):
                yield f"return {value}"
                continue
            name = renamer.name((names_in(node, ast.Store) or [node])[0], base)
            renamer.names[node] = name
            after = f" after {', '.join(renamer.names[n] for n in after)}" if after else ""
            yield f"{name}{text and ': '}{text} = {value}{after}"
    classes = {f"self.{node.name}": node for node in scope.body if isinstance(node, ast.ClassDef)}
    for old in dict.fromkeys([*renamer.names, *classes]):
        if old in classes:
            yield f"class {renamer.names.get(old, old)}"
            yield from class_lines(classes[old])


def classes_in(text):
    """Return the syntax trees of the classes in a graph, as torch.fx.GraphModule.print_readable
    prints it, or in an artifact.
    """
    source = re.sub(r"(?m)^( *class )<(\w+)>", r"\1_\2", text)  # class <lambda>
    source = re.sub(r"(?m);  [\w =]+ = None$", "", source)  # clean-ups
    source = source.replace("torch.ops.aten.true_divide.", "torch.ops.aten.div.")
    tree = parse(re.sub(r'getattr\(self, "(\w+)"\)', r"self.\1", source))
    return [node for node in getattr(tree, "body", ()) if isinstance(node, ast.ClassDef)]


def graph_lines(text):
    """Return the lines of a graph in one form, with each size marked as SIZE."""
    classes = classes_in(text)
    if not classes:  # some values do not print as Python: then each line is compared as it is
        lines = (line.strip() for line in text.split("\n"))
        return [line for line in lines if line[:1] not in ("", "#")]
    return [line for scope in classes for line in class_lines(scope)]


def power(a, b):
    """Return a to the power of b, unless that would fill the memory."""
    if a.numerator.bit_length() * b > 4096:
        raise OverflowError
    return a**b


# What sizes are written with: Python's operators, by the names of the module ast, and functions of
# torch.utils._sympy.functions and sympy. Numbers are exact: a float is a Fraction.
SIZE_FUNCTIONS = {
    **{"Add": operator.add, "Sub": operator.sub, "Mult": operator.mul, "USub": operator.neg},
    **dict.fromkeys(("Mod", "PythonMod"), operator.mod),
    **dict.fromkeys(("FloorDiv", "CleanDiv"), operator.floordiv),
    **dict.fromkeys(("Div", "IntTrueDiv", "FloatTrueDiv"), lambda a, b: Fraction(a) / b),
    **dict.fromkeys(("Pow", "PowByNatural", "FloatPow"), power),
    **dict.fromkeys(("CeilToInt", "ceiling"), math.ceil),
    **dict.fromkeys(("FloorToInt", "floor"), math.floor),
    **dict.fromkeys(("TruncToInt", "trunc"), math.trunc),
    **{"Max": max, "Min": min, "Abs": abs, "ToFloat": Fraction, "Identity": lambda a: a},
    **{"RoundToInt": round, "RoundDecimal": round, "CeilDiv": lambda a, b: -(-a // b)},
    **{"ModularIndexing": lambda a, b, c: a // b % c, "LShift": lambda a, b: a * power(2, b)},
    **{"RShift": operator.rshift, "Invert": operator.invert, "Not": operator.not_},
    **dict.fromkeys(("BitAnd", "BitwiseFn_bitwise_and"), operator.and_),
    **dict.fromkeys(("BitOr", "BitwiseFn_bitwise_or"), operator.or_),
    **dict.fromkeys(("BitXor", "BitwiseFn_bitwise_xor"), operator.xor),
    **{"Eq": operator.eq, "Ne": operator.ne, "NotEq": operator.ne, "Lt": operator.lt},
    **{"LtE": operator.le, "Gt": operator.gt, "GtE": operator.ge},
    **dict.fromkeys(("Where", "IfExp"), lambda condition, a, b: a if condition else b),
    **{"Tuple": lambda *parts: parts, "Piecewise": lambda *rows: next(a for a, b in rows if b)},
}


def value_of(node, symbols):
    """Return the value of a size, given as a syntax tree, for these values of its symbols. What has
    none, as 1 // 0 and an unknown function, stands for itself: by a number that depends on it.
    """
    arguments = []
    match node:
        case ast.Constant(value=float()):
            return Fraction(str(node.value))
        case ast.Constant(value=int()):
            return node.value
        case ast.Name() if node.id in symbols:
            return symbols[node.id]
        case ast.Call():
            name, arguments = ast.unparse(node.func), node.args
        case ast.Compare(ops=[op]) | ast.BinOp(op=op) | ast.UnaryOp(op=op):
            name, arguments = type(op).__name__, ast.iter_child_nodes(node)
        case ast.Tuple() | ast.IfExp():
            name, arguments = type(node).__name__, ast.iter_child_nodes(node)
        case _:
            name = ast.unparse(node)
    values = [value_of(part, symbols) for part in arguments if isinstance(part, ast.expr)]
    try:
        return SIZE_FUNCTIONS[name](*values)
    except (KeyError, ArithmeticError, TypeError, ValueError, StopIteration):
        return Fraction(random.Random(f"{name} {values}").randint(-(10**6), 10**6), 8)


@functools.cache
def value_in_trial(symbol, trial, is_dimension):
    """Return the value of a symbol in one of 104 trials.

    A backed one that is a dimension of a tensor is at least 2, an unbacked one may be 0 or 1, and
    any other is an argument, which may be negative. All are small and equal in the first trials,
    then random, up to 8, 64, ... 8**12.
    """
    most = 8 ** (1 + trial % 12)
    least = 0 if symbol[0] == "u" else 2 if is_dimension else -most
    drawn = random.Random(f"{symbol} {trial}").randint(least, most)
    value = max(least, -4) + trial if trial < 8 else drawn
    return Fraction(value, 8) if symbol[0] == "z" else value  # zf0 is a float


@functools.cache
def sample_values(size, dimensions=frozenset()):
    """Return what sizes are compared by: the types and values of one in 104 trials, given which of
    its symbols are dimensions.
    """
    tree, found = ast.parse(size, mode="eval").body, []
    names = set(SYMBOL.findall(size))
    for trial in range(104 if names else 1):
        values = {name: value_in_trial(name, trial, name in dimensions) for name in names}
        found.append(value_of(tree, values))
    return tuple((type(value), value) for value in found)


def translation(graphs, pairs):
    """Return what each symbol of the second graph is in the first, as a dict: {"s1": "s77"} for
    f32[s1, 5] opposite f32[s77, 5].

    Takes the lines of both graphs, and the pairs of sizes in the same place. A symbol becomes the
    one first found in its place; the rest are taken in the order in which they appear, and those
    that still have no counterpart become x0, x1, ...
    """
    sizes = [" ".join(SIZE.findall("".join(graph))) for graph in graphs]
    own, others = (dict.fromkeys(SYMBOL.findall(text)) for text in sizes)
    names = {}
    for a, b in [*pairs, *itertools.product(own, others)]:
        is_open = a in own and b in others and b not in names and a[0] == b[0]
        if is_open and a not in names.values():
            names[b] = a
    for b in others:
        names.setdefault(b, f"x{len(names)}")
    return names


ONLY_SIZES = ", where only sizes differ: "  # in the second line of a diff


def size_changes(types, pairs, values_of):
    """Return in what two graphs differ that have the same operators on the same values, but other
    sizes: a phrase with an example for each kind of change; [] if they differ in more.

    Takes the sizes in the same place in the types of inputs and values, all sizes in the same
    place, in the symbols of the first graph, and a function that returns their values. A symbol of
    either graph must stand for one size of the other wherever it is.
    """
    kinds, stands_for, opposite, unknown, shapes = {}, {}, {}, set(), {}
    declared = {b for _, b, _ in types}  # up to torch 2.12 arguments may have symbols of their own
    types = types + [(a, b, False) for a, b in pairs if SYMBOL.fullmatch(b) and b not in declared]
    types = sorted(types, key=lambda row: UNUSED in row)  # the best examples come first
    for a, b, is_shape in types:
        if SYMBOL.fullmatch(b):
            opposite.setdefault(b, {}).setdefault(values_of(a), a)
        elif SYMBOL.fullmatch(a) and not SYMBOL.search(b) and b != UNUSED:
            stands_for.setdefault(a, b)
        is_derived = SYMBOL.search(b) and not SYMBOL.fullmatch(b)
        if is_shape and SYMBOL.fullmatch(a) and not is_derived and shapes.setdefault(a, b) != b:
            return []
    for a, b, _ in types:
        symbols = set(SYMBOL.findall(a)) if not SYMBOL.search(b) else set()
        if SYMBOL.fullmatch(a) and symbols:
            kinds.setdefault("a symbol became a number", f"{a} is {stands_for.get(a, b)}")
        elif symbols - stands_for.keys():
            kinds.setdefault("a derived size became a number", f"{a} is {b}")
            unknown |= symbols - stands_for.keys()
    rebuilt_as = {}
    for b, sizes in ((b, [*sizes.values()]) for b, sizes in opposite.items()):
        symbols = [a for a in sizes if SYMBOL.fullmatch(a)]
        # A symbol that becomes the same as a number is a dimension, and so more than 1.
        others = [a for a in sizes if a not in ("0", "1") and a not in symbols]
        others = [a for a in others if not set(SYMBOL.findall(a)).intersection(symbols)]
        others.sort(key=lambda a: bool(SYMBOL.search(a)))  # numbers first
        a = rebuilt_as[b] = [*others, *symbols, *sizes][0]
        if len(sizes) > 1:
            kinds.setdefault("two sizes became one symbol", f"{sizes[0]} and {sizes[1]} are {b}")
            stands_for.update((symbol, a) for symbol in symbols if symbol != a)
        elif not SYMBOL.search(a):
            kinds.setdefault("a number became a symbol", f"{a} is {b}")
        elif not SYMBOL.fullmatch(a):
            kinds.setdefault("a derived size became a symbol", f"{a} is {b}")
        elif a != b:
            return []
    put = lambda size, names: SYMBOL.sub(lambda m: f"({names.get(m[0], m[0])})", size)
    known = [(a, put(b, rebuilt_as)) for a, b in pairs if UNUSED not in (a, b)]
    # If only sizes that derive from a symbol became numbers, it stands for some number, too.
    candidates = [stands_for]
    for symbol in unknown:
        candidates += [stands_for | {symbol: n} for n in range(100)]
    for names in candidates:
        meant = lambda size, names=names: values_of(put(put(size, names), names))
        if all(meant(a) == meant(b) for a, b in known):
            return [f"{kind} ({example})" for kind, example in kinds.items()]
    return []


def graph_difference(compiled, rebuilt):
    """Return a diff of two graphs, "" if they are the same. If only sizes differ, its second line
    says so, and how; then each line that differs comes with its counterpart.
    """
    graphs = graph_lines(compiled), graph_lines(rebuilt)
    split = lambda line: SIZE.split(re.sub("Sym\\((\0.*?\0)\\)", r"\1", line))
    rows = [[*map(split, row)] for row in zip(*graphs, strict=False)]
    alike = [*itertools.takewhile(lambda row: row[0][::2] == row[1][::2], rows)]
    pairs = dict.fromkeys(pair for a, b in alike for pair in zip(a[1::2], b[1::2], strict=True))
    names, spelling = translation(graphs, pairs), {}
    translate = lambda size: SYMBOL.sub(lambda symbol: names[symbol[0]], size)
    translated = [SIZE.sub(lambda size: f"\0{translate(size[1])}\0", line) for line in graphs[1]]
    types = ["\n".join(line.partition(" = ")[0] for line in g) for g in (graphs[0], translated)]
    is_dimension = r"(?:\[|, )\0([a-z]+\d+)(?=\0[],])"
    own, others = (frozenset(re.findall(is_dimension, text)) for text in types)

    def values_of(size, dimensions=own & others):
        return sample_values(size, dimensions.intersection(SYMBOL.findall(size)))

    # Each size as the first one with the same values.
    spelled = lambda size: spelling.setdefault(values_of(size[1]), size[1])
    lines, others = ([SIZE.sub(spelled, line) for line in g] for g in (graphs[0], translated))
    changes = []
    if lines != others and len(alike) == max(map(len, graphs)):
        pairs = [(a, translate(b)) for a, b in pairs]
        of_type = lambda line: "" if line.startswith("return ") else line.partition(" = ")[0]
        types = [
            (old, new, "[" in one)
            for one, other in (
                [*map(of_type, row)] for row in zip(graphs[0], translated, strict=True)
            )
            for old, new in zip(split(one)[1::2], split(other)[1::2], strict=True)
        ]
        changes = size_changes(types, pairs, functools.partial(values_of, dimensions=own))
    if not changes:
        return difference(lines, others)
    differ = [row for row in zip(lines, others, strict=True) if row[0] != row[1]]
    differ = [f"{sign}{line}" for row in differ for sign, line in zip("-+", row, strict=True)]
    return "\n".join(["--- compiled", f"+++ rebuilt{ONLY_SIZES}{'; '.join(changes)}", *differ])


# Code: it is the same if it has the same kernels and calls, under whatever names.

KERNEL = re.compile(r"(?ms)^(\w+) = async_compile\.\w+\('(\w+)', '{3}.*?^'{3}")
# Arbitrary names, besides those of kernels, inputs and symbols.
ARBITRARY = r"buf\d+\w*|(?:arg|primals_|tangents_)\d+\w*|(?:cpp|triton)_\w*fused\w*"


def code_lines(text):
    """Return the lines of code that Inductor generated, without blank ones and comments: the names
    of kernels, buffers, arguments and symbols are replaced in the order in which they appear.
    """
    inputs = " ".join(re.findall(r"(?m)^ *(\w.*) = args$", text))
    symbols = re.findall(r"(?m)^ +([su]\d+) = ", text)
    kernels = [kernel[1] for kernel in KERNEL.finditer(text)]
    # In its own code a kernel may have another name.
    text = KERNEL.sub(lambda match: re.sub(rf"\b{match[2]}\b", match[1], match[0]), text)
    text = re.sub("'backend_hash': '[0-9A-F]+'", "", text)
    if release() < (2, 15):
        # GPU kernels show the role of a graph, which is lost: see test_role_of_an_inference_graph.
        text = re.sub("'optimize_mem': (True|False)", "'optimize_mem': ''", text)
    text = re.sub(r"(?m)^\s*(//|#(?!\w)).*\n", "", text)  # comments
    arbitrary, names = {*kernels, *symbols, *re.findall(r"\w+", inputs)}, {}

    def new_name(match):
        is_arbitrary = match[0] in arbitrary or re.fullmatch(ARBITRARY, match[0])
        return names.setdefault(match[0], f"v{len(names)}") if is_arbitrary else match[0]

    lines = re.sub(r"(?<![.\w])(?<!::)[^\W\d]\w*", new_name, text).split("\n")
    return [line.rstrip() for line in lines if line.strip()]


def user_kernels(text):
    """Return the lines of the user-defined Triton kernels, with their constants and configs, in
    code that Inductor generated, and the lines that launch them, with "_" for each name. A graph
    only has numbers for kernels and constants.
    """
    kernels = [kernel for kernel in KERNEL.finditer(text) if ".user_autotune(" in kernel[0]]
    names = [kernel[1] for kernel in kernels]
    # What depends on the configs that are in force, or the machine; the graph shows the grid.
    unrelated = r"(?m)^ *inductor_meta=.*\n|'device': DeviceProperties\(.*?\)"
    lines = [re.sub(unrelated, "", kernel[0]) for kernel in kernels]
    for kernel, arguments in re.findall(r"(?m)^ +(\w+)(\.run\(.*)", text):
        if kernel in names:
            name = r"(?<![.\w])(?!(?:True|False|None|run)\b)[^\W\d]\w*"
            lines.append(kernel + re.sub(name, "_", arguments))
    return code_lines("\n".join(lines))


def input_lines(text):
    """Return how code that Inductor generated makes inputs to benchmark itself with, a line for
    each: its sizes and strides, as numbers, and the storage that it shares with others. The size of
    a shared storage may have symbols that no input has: it counts where those of its views have none.
    """
    start = r"(?ms)^def (?:get_args|benchmark_compiled_module)\(.*?(?=^\S|\Z)"
    makes = r"(?m)^ +(\w+) = (rand_strided\(.*|torch\.as_strided\(.*|-?\d[\d.e+-]*|True|False)$"
    made = {
        name: ast.parse(value, mode="eval").body
        for name, value in re.findall(makes, "".join(re.findall(start, text)))
    }
    symbols = {  # s77 = arg0_1
        symbol: value_of(made[name], {})
        for symbol, name in re.findall(r"(?m)^ +([a-z]+\d+) = (\w+)$", text)
        if name in made
    }
    views = [ast.unparse(value) for value in made.values() if "as_strided" in ast.unparse(value)]
    is_dynamic = bool(SYMBOL.search(" ".join(views)))
    names, lines = {}, []
    for name, value in made.items():
        names[name] = f"made_{len(names)}"
        if is_dynamic and name.startswith("_shared"):
            value.args[0] = ast.Constant("some size")
        for argument in getattr(value, "args", []):
            if isinstance(argument, ast.Name):
                argument.id = names.get(argument.id, argument.id)
            for n, size in enumerate(getattr(argument, "elts", [])):
                argument.elts[n] = ast.Constant(value_of(size, symbols))
        lines.append(f"{names[name]} = {ast.unparse(value)}")
    return lines


def constants_needed(text):
    """Return the constants of a graph or an artifact, as self.x, in the order of canonical_order."""
    forwards = [
        node
        for scope in classes_in(text)
        for node in ast.walk(scope)
        if getattr(node, "name", "") == "forward"
    ]
    needed = [node for forward in forwards for node, _ in canonical_order(forward)]
    return [name for node in needed for name in names_in(node) if name.startswith("self.")]


def unverified_constants(script, graph, *codes):
    """Return the names of the constants that may have other values in a script than in its program;
    no graph shows them.

    Torch writes small ones with four decimals, and random numbers for others. These are exact:
    - integers, if the script needs its constants in the order in which the program's graph does;
    - those of at most one dimension, if the codes that Inductor generated for the program and for
      the artifact, given as two texts, are the same, and show their values.
    """
    registered = re.findall(r"(self\.)register_buffer\('(\w+)'", script)
    known = {"".join(name) for name in registered}.intersection(constants_needed(graph))
    orders = [[n for n in constants_needed(text) if n in known] for text in (graph, script)]
    # See static_inputs_are_lost, and backward_becomes_forward: neither concerns a constant.
    lost = re.compile("misaligned|'optimize_mem'")
    lines = [[n for n in code_lines(code) if not lost.search(n)] for code in codes]
    is_same = len(codes) == 2 and lines[0] == lines[1]
    literals = re.findall(r"(?<![\w.])\d+\.?\d*(?:e[-+]?\d+)?", codes[1] if is_same else "")
    is_shown = lambda n: any(math.isclose(n, float(text), rel_tol=0.01) for text in literals)
    unverified = []
    for call in (node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) != "self.register_buffer":
            continue
        name, value = call.args
        while isinstance(getattr(value, "func", None), ast.Attribute):
            value = value.func.value  # of tensor(...).cuda(), say
        is_tensor = getattr(getattr(value, "func", None), "id", "") == "tensor"
        values = ast.walk(value.args[0] if is_tensor else value)
        numbers = [node.value for node in values if isinstance(node, ast.Constant)]
        is_right = is_tensor and all(isinstance(number, int) for number in numbers)
        is_right = is_right and orders[0] == orders[1]
        if is_tensor and len(codes) == 2 and ast.unparse(value.args[0]).count("[") < 2:
            is_real = not any(isinstance(number, complex) for number in numbers)
            is_right = is_same and (is_right or is_real and all(map(is_shown, numbers)))
        unverified += [] if is_right else [name.value]
    return unverified


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


# Families: a class for each. A gap that a class shares stands above it.

constants_are_lost = Gap(
    "constants are recorded with four decimals or, beyond four elements, as random numbers",
    "^may have random or rounded values for the constants _tensor_constant0 ",
    "pytorch/pytorch#100468",
)


class RecordedStateTest(ArtifactTestCase):
    """State that an artifact must record, since its graph does not show it."""

    is_slow = True

    def test_small_constants(self):
        def f(x):
            return x + torch.tensor([1, -2, 3]), x * torch.tensor([0.5, float("inf"), -1.25])

        (script,) = self.verify(f, torch.randn(3))
        self.assertIn("tracing_mode='real'", script)

    @known_gaps(constants_are_lost)
    def test_digits_of_small_constants(self):
        self.verify(lambda x: x * torch.tensor([3.14159274, 1, 2]), torch.randn(3))

    def recorded_environment(self, **variables):
        """Compile under these environment variables. Returns those that the artifact sets."""
        os.environ.update(variables)
        torch.compile(lambda x: x + 1)(torch.randn(3))
        return {
            ast.literal_eval(node.targets[0].slice): ast.literal_eval(node.value)
            for node in ast.parse(*self.scripts()).body
            if isinstance(node, ast.Assign) and ast.unparse(node).startswith("os.environ[")
        }

    @known_gaps(
        Gap(
            "apostrophes in environment variables are not escaped", "^invalid syntax", closed="2.11"
        ),
        Gap(
            "apostrophes in environment variables become quotes, and backslashes are doubled",
            r"""'it"s C:\\new' != "it's C:""",
            opened="2.11",
        ),
    )
    def test_environment_with_apostrophe(self):
        value = r"it's C:\new"
        self.assertEqual(self.recorded_environment(TORCH_QUOTED=value)["TORCH_QUOTED"], value)

    @known_gap("newlines in environment variables are not escaped", "^unterminated string literal")
    def test_environment_of_two_lines(self):
        value = "one\ntwo"
        self.assertEqual(self.recorded_environment(TORCH_LINES=value)["TORCH_LINES"], value)

    @known_gap(
        "an artifact starts dumping and minifying if its program did",
        "^'TORCHDYNAMO_REPRO_AFTER' unexpectedly found in",
        "pytorch/pytorch#156437",
        closed="2.13",
    )
    def test_environment_of_the_minifier(self):
        variables = {"TORCHDYNAMO_REPRO_AFTER": "aot", "TORCHDYNAMO_REPRO_LEVEL": "4"}
        self.assertNotIn("TORCHDYNAMO_REPRO_AFTER", self.recorded_environment(**variables))

    def test_configs_and_environment(self):
        os.environ["NOT_RECORDED_PLAIN"] = "plain"
        variables = {"TORCH_PLAIN": "plain", "DYNAMO_QUOTED": 'a "quoted" \\ value'}
        environment = self.recorded_environment(**variables)
        self.assertEqual(environment, environment | variables)
        self.assertNotIn("NOT_RECORDED_PLAIN", environment)

    def test_sizes_of_dynamic_inputs(self):
        torch.compile(lambda x: x.t() * x.shape[0])(dynamic(torch.randn(6, 5), 0))
        (script,) = self.scripts()
        (symint,) = [call for call in inputs_of(script) if call[0] == "symint"]
        self.assertEqual(symint.args, (6,))
        if release() >= (2, 13):  # else an artifact compiles static sizes anyway
            self.assertIn(f", ({symint.kwargs['expr']}, 5), ", script)
        sizes = [call.args[1] for call in inputs_of(script) if call[0] == "tensor"]
        self.assertEqual(sizes, [(6, 5)])
        self.assertIn("tracing_mode='symbolic'", script)

    def test_vector_instructions_and_threads(self):
        # As users run programs: the other tests use neither.
        os.environ["OMP_NUM_THREADS"] = "2"  # of the artifact
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(2)
        with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
            self.verify(lambda x: x.sin().sum(1) + 1, torch.randn(2**10, 2**6), code=True)

    @known_gap(
        "the number of threads is not recorded", r"(?m)^-.*#pragma omp parallel num_threads\(3\)$"
    )
    def test_number_of_threads(self):
        os.environ["OMP_NUM_THREADS"] = "1"  # of the artifact
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(3)
        self.verify(lambda x: x.sin() + 1, torch.randn(2**16), code=True)


def configs_in_force(only_changed=False):
    """Return the configs of Dynamo, functorch and Inductor, or only those that differ from their
    defaults, as a dict of texts by name.
    """
    found = {}
    for config in (torch._dynamo.config, torch._functorch.config, torch._inductor.config):
        for name, value in config.get_config_copy().items():
            # torch has no public way to get at defaults.
            if not only_changed or value != config._config[name].default:
                text = repr(sorted(map(str, value)) if isinstance(value, set) else value)
                found[f"{config.__name__}.{name}"] = re.sub(" at 0x[0-9a-f]+", "", text)
    return found


class ConfigsTest(ArtifactTestCase):
    """Whether the configs that a program was compiled with are in force in its artifact."""

    def verify_configs(self, function=lambda x: x.sin() + 1):
        torch.compile(function)(self.randn(4, 4))
        changed = configs_in_force(only_changed=True)
        path = run_folder() / f"{self.id()}.json"
        probe = (
            f"\nimport json, sys\nsys.path.append({os.path.dirname(os.path.abspath(__file__))!r})\n"
            f"from {Path(__file__).stem} import configs_in_force\n"
            f"with open({str(path)!r}, 'w') as file:\n    json.dump(configs_in_force(), file)\n"
        )
        for artifact, _ in with_logged(self.handler.buffer):
            artifact.payload = artifact.payload.replace("\nclass Repro(", f"{probe}class Repro(")
        self._exec_and_verify_payload()
        in_artifact = json.loads(path.read_text())
        path.unlink()
        self.assertEqual({name: in_artifact[name] for name in changed}, changed)

    def test_values(self):
        classes = {torch.Tensor}
        options = {"post_grad_fusion_options": {"batch_linear_post_grad": {}}, "cpp.threads": 3}
        with (
            torch._dynamo.config.patch(recompile_limit=3, traceable_tensor_subclasses=classes),
            torch._functorch.config.patch(activation_memory_budget=0.5),
            torch._inductor.config.patch(options),
        ):
            self.verify_configs()

    def test_set_of_functions(self):
        with torch._dynamo.config.patch(reorderable_logging_functions={print, logging.warning}):
            self.verify_configs()

    @known_gap(
        "a config that is a functools.partial is not written as Python",
        r"^is not valid Python .invalid syntax: .*functools\.partial\(",
        "pytorch/pytorch#189899",
        closed="2.14",
    )
    @unittest.skipIf(release() < (2, 10), "before 2.10 there is no such config")
    def test_partial(self):
        from torch._inductor.choices import InductorChoices

        choices = functools.partial(InductorChoices)
        with torch._inductor.config.patch(inductor_choices_class=choices):
            self.verify_configs()

    @known_gap(
        "a function of the program in a config is looked up in the artifact",
        "AttributeError: module '__main__' has no attribute 'say'",
        "pytorch/pytorch#186406",
    )
    def test_function_of_main(self):
        say = lambda *args: None
        say.__module__, say.__name__ = "__main__", "say"
        with torch._dynamo.config.patch(reorderable_logging_functions={say}):
            self.verify_configs()

    @known_gap(
        "a config that is a list of functions becomes a list of strings",
        "AttributeError: 'str' object has no attribute '__name__'",
        "pytorch/pytorch#186406",
    )
    def test_list_of_functions(self):
        with torch._inductor.config.patch(external_matmul=[torch.matmul]):
            self.verify_configs(lambda x: x @ x)

    @known_gap(
        "a config that is a list with a function in it is not written as Python",
        "^is not valid Python .invalid syntax: .*<function ",
        "pytorch/pytorch#190728",
    )
    def test_names_and_functions(self):
        passes = ["sink_waits", lambda nodes: nodes]
        with torch._inductor.config.patch(reorder_for_compute_comm_overlap_passes=passes):
            self.verify_configs()

    @known_gap(
        "a user-defined pass is left out",
        r"^(-cos|\+sin)_0: f32\[4, 4\]\[4, 1\]cpu = torch\.ops\.aten\.(cos|sin)\.default\(input_0\)$"
        r"|^[-+]add_0: f32\[4, 4\]\[4, 1\]cpu = torch\.ops\.aten\.add\.Tensor\((cos|sin)_0, 1\)$",
        "pytorch/pytorch#153243",
    )
    def test_custom_pass(self):
        def sine_to_cosine(graph):
            for node in graph.find_nodes(op="call_function", target=torch.ops.aten.sin.default):
                node.target = torch.ops.aten.cos.default

        with torch._inductor.config.patch(post_grad_custom_post_pass=sine_to_cosine):
            self.verify_configs()


views_get_an_alias = Gap(
    "a view as another dtype gets an extra alias",
    r"^\+(alias|detach)_(\d): u8\[\d+\]\[1\]\S+ = torch\.ops\.aten\.\1\.default\(view_\2\)$"
    r"|^[-+]add_(\d): u8\[\d+\]\[1\]\S+ = torch\.ops\.aten\.add\.Tensor\((view|alias|detach)_\3, 1\)$",
)


class InputsTest(ArtifactTestCase):
    """What a graph takes: dtypes, layouts, storages, mutation, and inputs that are not tensors."""

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
        self.verify(f, storage[:6], None, storage[4:])

    @known_gap(
        "a graph without inputs becomes a function without a body",
        "^is not valid Python .expected an indented block after function definition",
    )
    def test_no_input(self):
        self.verify(lambda: torch.ones(3, device=self.device) + 1)

    @known_gaps(symbols_become_static)
    def test_scalars(self):
        f = lambda x, i, r, b: x * i + r if b else x
        self.verify(f, self.randn(5), 7, 2.5, True, dynamic=True)

    @known_gap("jagged sizes are undefined names", r"NameError: name 'j\d+' is not")
    def test_jagged_nested_tensor(self):
        x = torch.nested.nested_tensor([self.randn(2, 3), self.randn(4, 3)], layout=torch.jagged)
        self.verify(lambda x: x * 2, x)

    @known_gap(
        "a conjugated input gets an extra clone",
        r"^[-+]mul_0: c64\[4\]\[1\]\S+ = torch\.ops\.aten\.mul\.Tensor\((input|clone)_0, 2\)$"
        r"|^\+clone_0: c64\[4\]\[1\]\S+ = torch\.ops\.aten\.clone\.default\(input_0\)$"
        r"|^[-+]clone_\d: f32\[4\]\[1\]\S+ = torch\.ops\.aten\.clone\.default\(input_1\)$"
        r"|^[-+]mul_1: f32\[4\]\[1\]\S+ = torch\.ops\.aten\.mul\.Tensor\(clone_\d, 2\)$",
        closed="2.11",
    )
    def test_conjugate_and_negative(self):
        x = self.randn(4, dtype=torch.complex64)
        self.verify(lambda x, y: (torch.view_as_real(x * 2), y * 2), x.conj(), x.conj().imag)

    @known_gaps(views_get_an_alias)
    def test_rare_dtypes(self):
        names = "uint16 uint32 uint64 complex128"
        names += " float8_e4m3fnuz float8_e5m2fnuz" if self.device == "cpu" else ""
        names += " float8_e8m0fnu" if release() >= (2, 14) else ""
        zeros = functools.partial(torch.zeros, 4, device=self.device)
        xs = [zeros(dtype=getattr(torch, name)) for name in names.split()]
        self.verify(lambda *xs: [x.view(torch.uint8) + 1 for x in xs], *xs)

    def test_meta_tensors(self):
        self.verify(lambda x: x.sin() + 1, torch.randn(4, 5, device="meta"))

    @known_gap(
        "indices computed from inputs are out of bounds for random inputs",
        r"IndexError: index -?\d+ is out of bounds|device-side assert",
        "pytorch/pytorch#154592",
    )
    def test_indices_from_floats(self):
        table = self.randn(5, 3)
        zeros = torch.zeros(64, device=self.device)
        self.verify(lambda x, table: table[x.abs().mul(100).long()] + 1, zeros, table)

    @known_gap(
        "a mask is loaded as all False, so that values given for its places do not fit",
        r"shape mismatch: value tensor of shape \[3\] cannot be broadcast to indexing result of shape",
    )
    def test_values_for_a_mask(self):
        def f(x, mask, values):
            x = x.clone()
            x[mask] = values
            return x

        mask = torch.arange(6, device=self.device) % 2 == 0
        self.verify(f, self.randn(6), mask, self.randn(3))

    @known_gap(
        "what a program asserts about its data does not hold for random inputs",
        "RuntimeError: a negative probability|device-side assert",
        "pytorch/pytorch#147282",
    )
    def test_assertion_about_data(self):
        # pytorch/pytorch#106006
        def f(p):
            torch._assert_async((p >= 0).all(), "a negative probability")
            return p.sqrt()

        self.verify(f, torch.rand(64, device=self.device))


class ConstantsTest(ArtifactTestCase):
    """Values that are part of the graph."""

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

        self.verify(Model().to(self.device).eval(), self.randn(4))

    @known_gap("NaN literals are undefined names", "NameError: name 'nan' is not")
    def test_nan(self):
        self.verify(lambda x: x.masked_fill(x > 0, float("nan")), self.randn(4))

    @known_gaps(constants_are_lost)
    def test_large_tensor(self):
        self.verify(lambda x: x + torch.tensor([1, 2, 3, 4, 5, 6]).to(x.device), self.randn(6))

    @known_gap(
        "a complex infinity is an undefined name",
        "^'infj' unexpectedly found in",
        "pytorch/pytorch#188596",
        closed="2.14",
    )
    def test_complex_infinity(self):
        with contextlib.suppress(NameError):  # the code that Inductor generates has it, too
            torch.compile(lambda x: x * complex(1, math.inf))(torch.randn(4).to(torch.complex64))
        (script,) = self.scripts()
        self.assertNotIn("infj", script)


items_cannot_be_traced = Gap(
    "an unbacked symbol cannot be traced again",
    r"value out of a tracing tensor with aten\._local_scalar_dense",
)
inputs_are_none = Gap(
    "an input that is neither a tensor nor a size is loaded as None",
    r"^-input_\d: $|^\+input_\d: unused$"
    r"|^[-+]return \[wait_tensor_0, input_0, gt_0, mul_1, permute_2, le_0, (input_1|None)\]$"
    r"|^[-+]return \[None, None, (?:mm|slice)_1, (\w+), reshape_0, \2, mm_2, \2, reshape_1, \2\]$",
    "pytorch/pytorch#175765",
)


class TrainingTest(ArtifactTestCase):
    """Forward and backward graphs, each with its artifact."""

    is_slow = True

    def test_convolutions(self):
        layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
        model = torch.nn.Sequential(*layers, torch.nn.Dropout(0.5))
        self.verify(model.to(self.device), self.randn(2, 3, 8, 8), backward=True)

    @known_gap(
        "a view fails where Inductor made the inputs of a convolution channels-last",
        "RuntimeError: view size is not compatible with input tensor's size and stride",
    )
    def test_view_before_a_convolution(self):
        # As after the max pool of a ResNet. In a graph to compile, Inductor makes it a reshape.
        conv = torch.nn.Conv2d(3, 4, 3).to(self.device)
        x = self.randn(2, 48, requires_grad=True)
        with torch._inductor.config.patch(force_layout_optimization=True):
            self.verify(lambda x: conv(x.view(2, 3, 4, 4)), x, backward=True)

    @known_gap(
        "the random number generator's state, which a checkpoint saves, is loaded as random data",
        "RuntimeError: Invalid mt19937 state",
        opened="2.14",
    )
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

        self.verify(f, self.randn(2, 4, requires_grad=True), backward=True)

    def test_optimizer(self):
        model = ToyModel().to(self.device)
        model(self.randn(3, 10)).sum().backward()
        optimizer = torch.optim.AdamW(model.parameters())
        self.verify(optimizer.step)

    def test_compiled_autograd(self):
        loss = ToyModel().to(self.device)(self.randn(3, 10)).sum()
        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(torch.Tensor.backward)(loss)
        self.assertIn("compiled_autograd_id", self.handler.buffer[0].metadata)
        self._exec_and_verify_payload()

    def test_embedding_and_transformer_layer(self):
        layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        model = torch.nn.Sequential(torch.nn.Embedding(10, 8), layer).to(self.device)
        self.verify(model, torch.randint(10, (2, 5), device=self.device), backward=True)

    def test_gru(self):
        gru = torch.nn.GRU(3, 4).to(self.device)
        with torch.no_grad():
            torch.compile(lambda x: gru(x))(self.randn(2, 3))
            self.assertEqual(self.scripts(), [])  # Dynamo leaves recurrent layers alone
            with torch._dynamo.config.patch(allow_rnn=True):
                self.verify(lambda x: gru(x), self.randn(2, 3))

    @known_gap(
        "the artifact of a graph that takes a BackwardState is an error message, not a script",
        "^is not valid Python .invalid syntax: Repro is not generated due to existence of BackwardState",
        "pytorch/pytorch#120382",
    )
    def test_hook_in_compiled_autograd(self):
        def train(x):
            y = x.sin()
            y.register_hook(lambda grad: grad * 2)
            (y * 2).sum().backward()

        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(train)(self.randn(4, requires_grad=True))
        self._exec_and_verify_payload(artifacts=2)

    @known_gaps(items_cannot_be_traced, inputs_are_none._replace(error="operand type.* '?NoneType"))
    @unittest.skipIf(release() < (2, 10), "before 2.10 the program itself fails")
    def test_items_that_the_backward_saves(self):
        def f(x, whole, real):
            return (x * (whole.item() / 3) * real.item()).sin()

        numbers = torch.tensor(4, device=self.device), torch.tensor(2.5, device=self.device)
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(f, self.randn(5, requires_grad=True), *numbers, backward=True)


parameters_were_refused = Gap(
    "weights in the graph become parameters, which no artifact may have",
    r"assert not any\(mod\.named_parameters",
    "pytorch/pytorch#111678",
    closed="2.13",
)
parameters_are_refused = parameters_were_refused._replace(
    error="Repro graph should not have any parameters", opened="2.13", closed="99.0"
)


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
        self.verify(f, self.randn(3, 4), self.randn(4, 4), index)

    def test_max_autotune_and_int8_matmul(self):
        f = lambda x, y: torch._int_mm(x, x) * torch.relu(y @ y)
        x = torch.randint(-9, 9, (32, 32), dtype=torch.int8, device=self.device)
        self.verify(f, x, self.randn(32, 32), mode="max-autotune-no-cudagraphs")

    def test_low_precision_matmuls(self):
        # pytorch/pytorch#153384, #138715
        def f(x, w, ends, a, b, one):
            grouped = torch._grouped_mm(x, w, offs=ends)
            return grouped, torch._scaled_mm(a, b.t(), one, one, out_dtype=torch.bfloat16)

        ends = torch.tensor([4, 12, 16], dtype=torch.int32, device=self.device)
        x, w = self.randn(16, 16).bfloat16(), self.randn(3, 16, 32).bfloat16()
        a, b = (self.randn(32, 32).to(torch.float8_e4m3fn) for _ in range(2))
        self.verify(f, x, w, ends, a, b, torch.ones((), device=self.device))

    def test_quantized_weights(self):
        # pytorch/pytorch#138254, #99131, #104150
        import torch.ao.quantization.fx._decomposed  # noqa: F401  # registers operators

        def f(x, packed, scales, y):
            range_of_int8 = (0.1, 3, -128, 127, torch.int8)
            y = torch.ops.quantized_decomposed.quantize_per_tensor(y, *range_of_int8)
            y = torch.ops.quantized_decomposed.dequantize_per_tensor(y, *range_of_int8)
            return torch._weight_int4pack_mm_for_cpu(x, packed, 32, scales), y

        weight = torch.randint(16, (64, 64), dtype=torch.int32)
        packed = torch._convert_weight_to_int4pack_for_cpu(weight, 1)
        x, scales = torch.randn(4, 64).bfloat16(), torch.randn(2, 64, 2).bfloat16()
        self.verify(f, x, packed, scales, self.randn(4, 5))

    def test_fft_and_views(self):
        # pytorch/pytorch#100086, #102898
        z = self.randn(4, 6, dtype=torch.complex64)[:, ::2]
        torch.compile(lambda x, z: (torch.fft.ifft(z.t(), dim=0), x.t()[1:]))(self.randn(4, 6), z)
        torch.compile(lambda x: (x.t()[1:], x.view(-1)))(self.randn(4, 6))
        self._exec_and_verify_payload(artifacts=2)

    def test_fft_of_a_transpose(self):
        self.verify(lambda x: torch.fft.fft2(x.t()), self.randn(4, 6))

    @unittest.skipIf(release() < (2, 11), "before 2.11 a graph records no such range")
    def test_profiler_range(self):
        # pytorch/pytorch#167787
        def f(x):
            with torch.profiler.record_function("sine"):
                return x.sin() + 1

        with torch._dynamo.config.patch(capture_profiler_record_function=True):
            (script,) = self.verify(f, self.randn(8))
        self.assertIn("_record_function_enter", script)

    def test_writes_in_place(self):
        def f(cache, x, position, index):
            cache.index_copy_(1, position, x)
            count = x.new_zeros(6).index_put_((index,), x[0, 0, 0], accumulate=True)
            return (cache * 2).sum(1), count.clamp_(min=1), cache[:, :3].cos()

        position, index = torch.tensor([5]), torch.randint(6, (8,))
        inputs = self.randn(2, 8, 4), self.randn(2, 1, 4), position, index
        with torch.no_grad():
            self.verify(f, *(x.to(self.device) for x in inputs))

    @known_gap(
        "retracing frees the artifact's inputs where the graph frees their storage",
        "was killed by SIGSEGV|illegal memory access",  # a crash says no more
        "pytorch/pytorch#119749",
    )
    def test_freed_storage(self):
        # As FSDP2 frees a parameter: pytorch/pytorch#122434, #194054.
        def f(x):
            result = x.cos()
            x.untyped_storage().resize_(0)
            return result

        with torch.no_grad():
            self.verify(f, self.randn(4, 3))

    def test_allocated_storage(self):
        def f(full, shard):
            full.untyped_storage().resize_(48)
            full.copy_(torch.cat([shard, shard]))
            return full.sin()

        full = self.randn(4, 3)
        full.untyped_storage().resize_(0)
        with torch.no_grad():
            self.verify(f, full, self.randn(2, 3))

    @known_gaps(parameters_were_refused, parameters_are_refused)
    def test_frozen(self):
        with torch._inductor.config.patch(freezing=True), torch.no_grad():
            self.verify(ToyModel().to(self.device).eval(), self.randn(3, 10))


symbols_are_undefined = Gap(
    "a symbol that is not an input's size is undefined",
    r"NameError: name 's\d+' is not",
    "pytorch/pytorch#180298",
    closed="2.13",
)


class WaysToCompileTest(ArtifactTestCase):
    """Other ways into Inductor than calling a compiled function."""

    is_slow = True

    def test_subprocess(self):
        # Its records have no compile ids: pytorch/pytorch#146134.
        program = "torch.compile(lambda x: x.sin() * 2)(x)"
        self.run_program(program, TORCHINDUCTOR_FX_COMPILE_MODE="SUBPROCESS")

    def compile_standalone(self, tracing_mode, dynamic_shapes):
        """Trace a function, and compile the graph by itself: pytorch/pytorch#150670, #169133."""
        from torch.fx.experimental.proxy_tensor import make_fx

        x = self.randn(6)
        graph = make_fx(lambda x: (x * 3 + x.size(0),), tracing_mode=tracing_mode)(x)
        if tracing_mode == "symbolic":
            (x,) = [node.meta["val"] for node in graph.graph.find_nodes(op="placeholder")]
        context = torch._guards.TracingContext(getattr(x, "fake_mode", None))
        with torch._guards.tracing(context):
            torch._inductor.standalone_compile(graph, [x], dynamic_shapes=dynamic_shapes)
        self._exec_and_verify_payload()

    def test_standalone_compile(self):
        self.compile_standalone("real", "from_example_inputs")

    @known_gaps(
        symbols_are_undefined,
        Gap(
            "a dynamic graph without a size among its inputs becomes static",
            r"^[-+]input_0: f32\[(s\d+|6)\]\[1\]\S+$"
            r"|^[-+]mul_0: f32\[(s\d+|6)\]\[1\]\S+ = torch\.ops\.aten\.mul\.Tensor\(input_0, 3\)$"
            r"|^\+sym_size_0 = torch\.ops\.aten\.sym_size\.int\(input_0, 0\)$"
            r"|^[-+]add_0: f32\[(s\d+|6)\]\[1\]\S+ = torch\.ops\.aten\.add\.Tensor\(mul_0, (s\d+|sym_size_0)\)$",
            "pytorch/pytorch#150670",
            opened="2.13",
        ),
    )
    @unittest.skipIf(release() < (2, 11), "before 2.11 the program itself fails")
    def test_standalone_compile_with_dynamic_sizes(self):
        self.compile_standalone("symbolic", "from_graph")

    @known_gaps(symbols_become_static)
    @unittest.skipIf(release() < (2, 11), "before 2.11 the program itself fails")
    def test_standalone_compile_within_dynamo(self):
        # As vLLM does it.
        def backend(module, inputs):
            nodes = module.graph.find_nodes(op="placeholder")
            inputs = [node.meta["example_value"] for node in nodes]
            compile = torch._inductor.standalone_compile
            return compile(module, inputs, dynamic_shapes="from_tracing_context")

        self.verify(lambda x: x * 3 + x.size(0), dynamic(self.randn(6)), backend=backend)

    def test_traced_training_step(self):
        # As torchtitan's graph trainer and autoparallel compile theirs: pytorch/pytorch#183575.
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.decomposition import select_decomp_table
        from torch.fx.experimental.proxy_tensor import make_fx

        def step(x, weight):
            loss = (x @ weight).relu().sum()
            return loss, *torch.autograd.grad(loss, weight)

        inputs = self.randn(3, 4), self.randn(4, 5, requires_grad=True)
        module = make_fx(step, select_decomp_table(), tracing_mode="fake")(*inputs)
        nodes = module.graph.find_nodes(op="placeholder")
        compile_fx_inner(module, [node.meta["val"] for node in nodes])
        self._exec_and_verify_payload()

    def test_repeated_blocks(self):
        # pytorch/pytorch#164776: the first has no gradient to its input, the rest share a graph.
        model = torch.nn.Sequential(*(ToyModel(5, 4, 5) for _ in range(3))).to(self.device)
        for block in model:
            block.compile()
        model(self.randn(2, 5)).sum().backward()
        self._exec_and_verify_payload(artifacts=4)

    def test_aot_compile(self):
        # pytorch/pytorch#161383, #174607
        compiled = torch.compile(lambda x: x.sin() * 2, fullgraph=True)
        if not hasattr(compiled, "aot_compile"):
            self.skipTest("this torch has no aot_compile")
        compiled.aot_compile(((self.randn(4, requires_grad=True),), {}))
        self._exec_and_verify_payload(artifacts=2)

    @unittest.skipIf(release() < (2, 15), "before 2.15 there is no precompile")
    def test_precompile(self):
        # Precompiled to Python: pytorch/pytorch#187258.
        folder = Path(torch._dynamo.config.debug_dir_root)
        paths = {"artifact_path": folder / "f.py", "cache_path": folder / "f.cache"}
        step = lambda model, x: model(x).sum().backward()
        with torch.compiler.precompile.capture(step, **paths) as captured:
            captured(ToyModel().to(self.device), self.randn(3, 10))
        self._exec_and_verify_payload()


symbols_are_function_calls = symbols_are_expressions._replace(
    error="^is not valid Python .cannot assign to function call here"
)
arguments_are_not_static = Gap(
    "symbolic sizes become static, but not those among the arguments of operators",
    "(?s)LoweringException: AssertionError.*target: (_c10d_functional.all_to_all_single|aten.slice.Tensor)",
    closed="2.10",
)
functions_are_not_imported = Gap(
    "shapes and strides use functions that the artifact does not import",
    "NameError: name 'math_trunc' is not",
    "pytorch/pytorch#194827",
    opened="2.10",
)
derived_sizes_become_independent = Gap(
    "a size that a backward derives from others becomes a symbol of its own",
    "^a derived size became a symbol ",
    opened="2.13",
)
equal_sizes_become_one = Gap(
    "sizes that happen to be equal become one symbol", "^two sizes became one symbol "
)
sizes_of_one_become_static = Gap(
    "a dynamic size that is 1 becomes static",
    r"^a symbol became a number \(s\d+ is 1\)$",
    "pytorch/pytorch#114296",
)


class DynamicShapesTest(ArtifactTestCase):
    """Symbolic sizes, backed by a hint or not."""

    @known_gaps(symbols_become_static)
    def test_dynamic_true(self):
        f = lambda x, y: torch.cat([x @ y, y]).relu()
        self.verify(f, self.randn(5, 7), self.randn(7, 9), dynamic=True)

    @known_gaps(symbols_are_expressions, symbols_are_undefined._replace(opened="2.10"))
    def test_derived_sizes(self):
        def f(x, y):
            n, m = x.shape[0], y.shape[0]
            return (x[: n // 2], x[:-1] + y, torch.cat([x, y]), x.new_zeros(n * m), x.reshape(-1))

        x, y = dynamic(self.randn(9)), dynamic(self.randn(8))
        self.verify(lambda x, y: f(x, y) if x.shape[0] == y.shape[0] + 1 else x, x, y)

    @known_gaps(symbols_become_static, static_sizes_become_symbolic)
    def test_static_beside_dynamic(self):
        self.verify(lambda x: x * 2, dynamic(self.randn(6, 5), 0))

    @known_gaps(
        symbols_become_static,
        symbols_are_function_calls,
        Gap(
            "the size of a storage needs Max, which the artifact does not import",
            "NameError: name 'Max' is not defined",
            "pytorch/pytorch#190838",
            opened="2.10",
            closed="2.14",
        ),
        derived_sizes_become_independent._replace(opened="2.14"),
    )
    def test_storage_size_with_max(self):
        # A backward graph takes the result of exp, whose rows may be empty.
        x = self.randn(5, 4, requires_grad=True)
        self.verify(lambda x: x[:, 1:].exp(), x, backward=True, dynamic=True)

    @known_gaps(
        symbols_are_expressions,
        symbols_are_function_calls,
        functions_are_not_imported,
        functions_are_not_imported._replace(
            error="NameError: name 'TruncToInt' is not", closed="2.15"
        ),
        derived_sizes_become_independent._replace(opened="2.15"),
        equal_sizes_become_one._replace(opened="2.15"),
    )
    def test_sizes_that_are_functions(self):
        # Sizes and strides of a backward graph's inputs: pytorch/pytorch#194827.
        def f(x, y):
            return (torch.nn.functional.interpolate(x, scale_factor=0.5) @ y).relu()

        x = self.randn(2, 3, 8, 10, requires_grad=True)
        self.verify(f, x, self.randn(5, 7), backward=True, dynamic=True)

    @known_gaps(
        symbols_are_undefined._replace(closed="2.11"),
        symbols_become_static._replace(opened="2.11"),
        equal_sizes_become_one._replace(opened="2.11"),
    )
    def test_views_of_a_larger_storage(self):
        # The storage and the shape have different symbols: pytorch/pytorch#174038.
        def f(x, n):
            return x + 1, torch.as_strided(x, (n, 2), (2, 1)) + 1

        self.verify(f, dynamic(self.randn(10, 12)[:, 2:8]), 6, dynamic=True)

    @known_gaps(
        Gap(
            "the random repeats of an artifact do not sum to the output size",
            r"allocated size does not match required size|result_size == cumsum_ptr\[size - 1\]|CUDA error: device-side assert",
            closed="2.12",
        ),
        symbols_become_static._replace(opened="2.12"),
    )
    def test_repeat_interleave(self):
        f = lambda x, repeats, n: x.repeat_interleave(repeats, 0, output_size=n)
        repeats = torch.tensor([1, 2, 3], device=self.device)
        self.verify(f, self.randn(3, 4), repeats, 6, dynamic=True)

    @known_gaps(
        symbols_are_expressions,
        symbols_are_undefined,
        symbols_become_static,
        derived_sizes_become_independent._replace(opened="2.10"),
    )
    def test_backwards_of_derived_sizes(self):
        programs = (
            (lambda x, y: torch.cat([x, y]).softmax(0)[1:-1], ((6, 4), (3, 4))),
            (lambda x: x.unfold(0, 3, 1).exp().sum(-1), ((9,),)),
            (lambda x, y: (x[:, None] * y[None]).reshape(-1).exp()[2:], ((6,), (5,))),
            (lambda x: torch.nn.functional.pad(x, (1, 2)).sin(), ((6, 5),)),
        )
        for function, sizes in programs:
            inputs = [self.randn(*size, requires_grad=True) for size in sizes]
            torch.compile(function, dynamic=True)(*inputs).sum().backward()
        self._exec_and_verify_payload(artifacts=8)

    @known_gaps(symbols_are_expressions, symbols_are_undefined._replace(opened="2.10"))
    def test_convolution_and_interpolation(self):
        # pytorch/pytorch#104301, #163833
        def f(x, w, y):
            resize = functools.partial(torch.nn.functional.interpolate, x, mode="bilinear")
            return torch.nn.functional.conv2d(x, w, stride=2, padding=1), resize(y.shape[2:])

        inputs = self.randn(2, 3, 8, 10), self.randn(4, 3, 5, 7), self.randn(2, 3, 16, 11)
        self.verify(f, *inputs, dynamic=True)

    @known_gaps(symbols_are_undefined)
    def test_size_written_into_a_buffer(self):
        # pytorch/pytorch#108095
        seen = torch.zeros(2, dtype=torch.int64, device=self.device)

        def f(x):
            seen[0] += x.size(0)
            return x * seen.fill_(x.size(0) * 2)[1]

        self.verify(f, dynamic(self.randn(6)))

    @known_gaps(items_cannot_be_traced)
    def test_item(self):
        def f(x, n):
            return x * n.item(), torch.zeros(n.item(), device=x.device) + 1

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(f, self.randn(9), torch.tensor(4, device=self.device))

    @known_gaps(
        items_cannot_be_traced._replace(error=r"DynamicOutputShapeException: aten\.nonzero")
    )
    def test_nonzero(self):
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            self.verify(lambda x: torch.nonzero(x > 0) * 2, self.randn(9))

    @known_gaps(items_cannot_be_traced)
    @unittest.skipIf(release() < (2, 10), "before 2.10 the program itself fails")
    def test_slice_up_to_an_item(self):
        # As a mixture of experts takes the tokens of each: pytorch/torchtitan#2978.
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            n = torch.tensor(4, device=self.device)
            self.verify(lambda x, n: x[: n.item()] * 2, self.randn(9), n)

    @known_gaps(symbols_become_static)
    def test_checks_of_sizes(self):
        # pytorch/pytorch#183908, #185588
        def f(x, y):
            torch._check(x.size(0) < 2 * y.size(0))
            return x.view(3, -1) + 1, y * 2

        with torch._dynamo.config.patch(prefer_deferred_runtime_asserts_over_guards=True):
            torch.compile(f)(dynamic(self.randn(9)), dynamic(self.randn(8)))
        (script,) = self.scripts()
        self.assertEqual(script.count("aten._assert_scalar.default("), 2)  # not guards
        self._exec_and_verify_payload()

    @known_gap("unbacked sizes are undefined names", "NameError: name 'u0' is not")
    def test_mark_unbacked(self):
        x = self.randn(6, 5)
        torch._dynamo.decorators.mark_unbacked(x, 0)
        self.verify(lambda x: x * 2, x)

    @known_gaps(sizes_of_one_become_static)
    def test_size_of_one(self):
        with torch.fx.experimental._config.patch(backed_size_oblivious=True):
            self.verify(lambda x: x * 2, dynamic(self.randn(1)))

    @known_gaps(
        arguments_are_not_static,
        symbols_are_expressions,
        symbols_are_undefined._replace(opened="2.10"),
        symbols_become_static._replace(opened="2.10"),
        sizes_of_one_become_static._replace(
            error="^a derived size became a number ", opened="2.13"
        ),
    )
    def test_derived_size_of_one(self):
        def f(x):
            n = x.size(0) // 3
            return x[n:].sin().view(-1, 1).expand(-1, n + 1).sum(0)

        self.verify(f, self.randn(3, requires_grad=True), backward=True, dynamic=True)


subgraphs_cannot_be_printed = Gap(
    "a subgraph prints as a lambda, which is a syntax error",
    r"^is not valid Python .invalid syntax: \S+ = <lambda>\(\)",
    "pytorch/pytorch#150062, closed by #186804",
    closed="2.14",
)


class HigherOrderOperatorsTest(ArtifactTestCase):
    """Operators that take subgraphs."""

    @known_gaps(subgraphs_cannot_be_printed)
    def test_cond(self):
        y = self.randn(4)
        add, subtract = lambda x: x + y, lambda x: x - 1
        self.verify(lambda x: torch.cond(x.sum() > 0, add, subtract, (x,)), self.randn(4))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "a while_loop cannot be traced again",
            "'NoneType' object has no attribute 'ignore_fresh_unbacked_symbols'",
            "pytorch/pytorch#150062",
            opened="2.14",
        ),
    )
    def test_while_loop(self):
        from torch._higher_order_ops.while_loop import while_loop

        def f(i, x):
            return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 2), (i, x))

        self.verify(f, torch.tensor(0, device=self.device), self.randn(4))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "a loop's counter cannot be traced again",
            r"DataDependentOutputException: aten\._local_scalar_dense",
            "pytorch/pytorch#150062",
            opened="2.14",
        ),
    )
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
        self.verify(lambda x: scan(lambda a, b: a * b, x), self.randn(4, 3))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "a region used twice becomes two",
            r"^[-+]value_1 = self\.attribute_\d( after higher_order_0)?$|^\+class self\.attribute_1$"
            r"|^\+input_0: f32\[4\]\[1\]\S+$|^\+return \[add_0\]$"
            r"|^\+sin_0: f32\[4\]\[1\]\S+ = torch\.ops\.aten\.sin\.default\(input_0\)$"
            r"|^\+add_0: f32\[4\]\[1\]\S+ = torch\.ops\.aten\.add\.Tensor\(sin_0, 1\)$",
            "pytorch/pytorch#150062",
            opened="2.14",
        ),
    )
    def test_nested_compile_region(self):
        @torch.compiler.nested_compile_region
        def region(x):
            return x.sin() + 1

        self.verify(lambda x: region(region(x)), self.randn(4))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "flex attention loses its arguments",
            "InductorError: IndexError: tuple index out of range",
            "pytorch/pytorch#150062",
            opened="2.14",
        ),
    )
    def test_flex_attention(self):
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        qkv = [self.randn(1, 2, 128, 16) for _ in range(3)]
        mask = create_block_mask(lambda b, h, i, j: i >= j, 1, 1, 128, 128, device=self.device)

        def f(*qkv):
            scored = flex_attention(*qkv, score_mod=lambda score, b, h, i, j: score + i - j)
            return scored, flex_attention(*qkv, block_mask=mask)

        # Flex attention has no code for a CPU without vector instructions.
        with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
            self.verify(f, *qkv)

    @known_gap(
        "the options of a nested region are lost",
        r"(?m)^-.* = torch\.ops\.aten\.sin\.default\(",
        "pytorch/pytorch#186945",
        opened="2.14",
    )
    @unittest.skipIf(release() < (2, 14), "before 2.14 a region has no such options")
    def test_options_of_a_region(self):
        from torch._higher_order_ops.invoke_subgraph import get_invoke_subgraph_compile_options

        with torch._dynamo.config.patch(enable_invoke_subgraph_regional_compile=True):
            configs = {"fallback_by_default": True}
            options = get_invoke_subgraph_compile_options(configs, partitioner=None)
            mark = torch.compiler.nested_compile_region(options=options)
            region = mark(lambda x: x.sin() + x.cos())
            self.verify(lambda x: region(x) * 2, self.randn(64), code=True)

    @known_gap(
        "the token of an effect is used before it is set",
        "UnboundLocalError: cannot access local variable|UnboundLocalError: local variable",
        "pytorch/pytorch#173024",
        opened="2.10",
        closed="2.15",
    )
    def test_effects(self):
        def f(x):
            torch.ops.aten._print("before")
            y = x.sin() + 1
            torch.ops.aten._print("after")
            return y

        self.verify(f, self.randn(4))

    def test_check_of_a_result(self):
        self.verify(lambda x: torch.linalg.inv(x) + 1, torch.eye(3, device=self.device))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "invoke_quant cannot be traced again",
            "RuntimeError: invoke_quant: when calling this API without torch.compile",
            "pytorch/pytorch#138873",
            opened="2.14",
        ),
    )
    def test_invoke_quant(self):
        from torch._higher_order_ops import InvokeQuant

        quantized = lambda x, y: InvokeQuant()(torch.mul, x, y, scheme="nf4")
        self.verify(lambda x, y: quantized(x, y) + 1, self.randn(8), self.randn(8))

    @unittest.skipIf(release() < (2, 10), "before 2.10 there are no wrapped regions")
    def test_wrapped_region(self):
        with torch._inductor.config.patch(wrap_inductor_compiled_regions=True):
            self.verify(lambda x: x.sin() + 1, self.randn(4))


custom_operators_are_missing = Gap(
    "custom operators are not importable",
    "object has no attribute '(twice|add_to|takes_foo)'",
    "pytorch/pytorch#138355",
)


class CustomOperatorsTest(ArtifactTestCase):
    """User-defined operators: an artifact has to bring or import them."""

    @known_gaps(custom_operators_are_missing)
    def test_custom_op(self):
        @torch.library.custom_op("fx_graph_runnable::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        twice.register_fake(torch.empty_like)
        self.verify(lambda x: twice(x) + 1, self.randn(4))

    @known_gaps(custom_operators_are_missing)
    def test_mutating_custom_op(self):
        # As vLLM's: pytorch/pytorch#153389. It becomes an argument of auto_functionalized.
        @torch.library.custom_op("fx_graph_runnable::add_to", mutates_args={"out"})
        def add_to(out: torch.Tensor, x: torch.Tensor) -> None:
            out.add_(x)

        def f(x):
            out = x.sin()
            add_to(out, x)
            return out + 1

        self.verify(f, self.randn(4))

    @known_gaps(custom_operators_are_missing)
    def test_higher_order_operator(self):
        # Of another package, such as pytorch/helion#1383.
        from torch._higher_order_ops.utils import autograd_not_implemented
        from torch._inductor.compile_fx import compile_fx_inner
        from torch._inductor.lowering import lowerings

        class Twice(torch._ops.HigherOrderOperator):
            def __call__(self, x):
                return super().__call__(x)

        twice, graph = Twice("twice"), torch.fx.Graph()
        without_gradient = autograd_not_implemented(twice, deferred_error=True)
        twice.py_impl(torch._C.DispatchKey.Autograd)(without_gradient)
        twice.py_impl(torch._subclasses.FakeTensorMode)(lambda mode, x: torch.empty_like(x))
        graph.output((graph.call_function(twice, (graph.placeholder("x"),)),))
        add = lowerings[torch.ops.aten.add.Tensor]
        with mock.patch.dict(lowerings, {twice: lambda x: add(x, x)}):
            compile_fx_inner(torch.fx.GraphModule({}, graph), [self.randn(4)])
        self._exec_and_verify_payload()

    @known_gaps(custom_operators_are_missing)
    def test_script_object(self):
        library = Path(torch.__file__).with_name("lib") / "libtorchbind_test.so"
        if not library.exists():
            self.skipTest("this torch comes without its own library of ScriptObjects for tests")
        torch.ops.load_library(library)
        name, meta = "_TorchScriptTesting::_Foo", torch._C.DispatchKey.Meta
        fake = type("Foo", (types.SimpleNamespace,), {})
        fake.__obj_unflatten__ = classmethod(lambda cls, state: cls(**dict(state)))
        torch._library.register_fake_class(name, fake)
        self.addCleanup(torch._library.fake_class_registry.deregister_fake_class, name)
        op = torch.ops._TorchScriptTesting.takes_foo
        op.default.py_impl(meta)(lambda foo, x: torch.empty_like(x))
        self.addCleanup(op.default.py_kernels.pop, meta)
        foo = torch.classes._TorchScriptTesting._Foo(3, 4)
        self.verify(lambda foo, x: op(foo, x) + 1, foo, self.randn(4))

    @unittest.skipIf(release() < (2, 13), "before 2.13 an operator takes no such value")
    @known_gap(
        "the class of an argument is not imported", "^Regex didn't match", "pytorch/pytorch#167768"
    )
    def test_custom_class_as_an_argument(self):
        from torch._library.opaque_object import register_opaque_type

        mode = enum.Enum("Mode", "SUM MEAN")
        register_opaque_type(mode, typ="value")

        def reduce(x: torch.Tensor, how: mode) -> torch.Tensor:
            return x.sum() if how is mode.SUM else x.mean()

        reduce = torch.library.custom_op("fx_graph_runnable::reduce", reduce, mutates_args=())
        reduce.register_fake(lambda x, how: x.new_empty(()))
        torch.compile(lambda x: reduce(x, mode.SUM) + 1)(self.randn(4))
        (script,) = self.scripts()  # cannot run: see test_custom_op
        self.assertRegex(script, r"(?m)^from .* import .*\bMode\b")


def all_reduce(x, operation, group):
    """Reduce a tensor within a group, or one dimension of a mesh; gives a new tensor."""
    from torch.distributed._functional_collectives import all_reduce

    return all_reduce(x, operation, group)


role_is_lost = Gap(
    "an inference graph is compiled as one for training",
    r"^[-+]wait_tensor_0: f32\[8\]\[1\]\S+ = torch\.ops\._c10d_functional\.wait_tensor\.default"
    r"\(all_gather_into_tensor_0\)( after all_reduce__0)?$",
    "pytorch/pytorch#193557",
    closed="2.15",
)
only_one_group_is_recreated = Gap(
    "only one process group is recreated",
    "Could not resolve the process group registered under the name ",
    "pytorch/pytorch#173932",
    closed="2.11",
)


@requires_distributed
class DistributedTest(ArtifactTestCase):
    """Collectives, and the parallelisms made of them, on fake process groups."""

    @known_gaps(
        Gap(
            "a group's name is taken before the artifact registers it",
            "already registered under the name1",
            opened="2.11",
        ),
        only_one_group_is_recreated,
    )
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

    @known_gaps(arguments_are_not_static, symbols_are_undefined._replace(opened="2.10"))
    def test_all_to_all_with_dynamic_shapes(self):
        def f(x):
            output = torch.empty_like(x)
            dist.all_to_all_single(output, x)
            return output * 2

        with fake_process_group():
            self.verify(f, dynamic(self.randn(4, 6)))

    @known_gaps(items_cannot_be_traced)
    def test_all_to_all_with_sizes_from_data(self):
        # As a mixture of experts sends tokens to each: pytorch/torchtitan#1940.
        from torch.distributed._functional_collectives import all_to_all_single

        def f(x, counts):
            sizes = counts.tolist()
            return all_to_all_single(x, sizes, sizes, dist.group.WORLD) * 2

        counts = torch.tensor([2, 4], device=self.device)
        with fake_process_group(), torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(f, self.randn(6, 3), counts)

    def test_collective_in_backward(self):
        from torch.distributed._functional_collectives import all_gather_tensor_autograd

        with fake_process_group():
            group, x = dist.group.WORLD, self.randn(4, requires_grad=True)
            f = lambda x: all_gather_tensor_autograd(x * 2, 0, group).sin()
            self.verify(f, x, backward=True)

    @known_gaps(role_is_lost)
    @unittest.skipIf(release() < (2, 10), "before 2.10 Dynamo does not compile these")
    def test_coalesced_collectives(self):
        # pytorch/pytorch#97157, #161213
        def f(x, y, xs, ys):
            with dist._coalescing_manager():
                dist.all_gather_into_tensor(xs, x)
                dist.all_gather_into_tensor(ys, y)
            with dist._coalescing_manager():
                dist.all_reduce(x)
                dist.all_reduce(y)
            return xs + 1, ys, x + 1, y

        with fake_process_group():
            self.verify(f, self.randn(4), self.randn(6), self.randn(8), self.randn(12))

    def test_buckets_of_collectives(self):
        # pytorch/pytorch#175812
        from torch.distributed._functional_collectives import (
            all_gather_tensor,
            reduce_scatter_tensor,
        )

        def f(x, y):
            group = dist.group.WORLD
            gathered = [all_gather_tensor(t, 0, group) for t in (x, y)]
            return gathered, [reduce_scatter_tensor(t * 2, "sum", 0, group) for t in (x, y)]

        configs = {"bucket_all_gathers_fx": "all", "bucket_reduce_scatters_fx": "all"}
        with fake_process_group(), torch._inductor.config.patch(configs):
            self.verify(f, self.randn(4), self.randn(6))
        ((_, logged),) = with_logged(self.handler.buffer)
        waits = logged[GRAPHS[1]].payload.count("_c10d_functional.wait_tensor.default(")
        self.assertEqual(waits, 2)  # one for each bucket

    def test_data_parallel(self):
        from torch.nn.parallel import DistributedDataParallel

        # Two buckets of gradients, for which Dynamo splits the graph.
        model = ToyModel(10, 600, 600).to(self.device)
        with fake_process_group(), torch.no_grad():
            model = DistributedDataParallel(model, bucket_cap_mb=1)
            self.verify(model, self.randn(3, 10), artifacts=2)

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

    @known_gaps(inputs_are_none._replace(opened="2.12"))
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
            self.verify(model, self.randn(3, 10), backward=True)

    @known_gaps(
        Gap(
            "every process group is recreated with two ranks",
            "'size': 4, 'rank': 3\" not found in",
            closed="2.11",
        ),
        Gap(
            "a group is recreated with the ranks 0, 1, ..., whatever its ranks are",
            r"TypeError: _register_process_group\(\): incompatible function arguments",
            "pytorch/pytorch#173584",
            opened="2.11",
        ),
    )
    def test_last_rank(self):
        with fake_process_group(world_size=4, rank=3):
            pair = dist.new_group([1, 3])

            def f(x):
                x = all_reduce(x, "sum", dist.group.WORLD)
                return all_reduce(x * 2, "sum", pair)

            torch.compile(f)(self.randn(4))
        (script,) = self.scripts()
        self.assertIn("'size': 4, 'rank': 3", script)
        self._exec_and_verify_payload()

    @known_gaps(only_one_group_is_recreated)
    def test_mesh_dimension(self):
        from torch.distributed.device_mesh import init_device_mesh

        with fake_process_group(world_size=6, rank=4):
            mesh = init_device_mesh(self.device, (2, 3), mesh_dim_names=("rows", "columns"))
            self.verify(lambda x: all_reduce(x, "sum", mesh["columns"]) + 1, self.randn(4))

    @known_gaps(only_one_group_is_recreated)
    def test_named_groups(self):
        # As in pytorch/pytorch#173584
        with fake_process_group(world_size=4):
            for name in ("tensor", "data"):
                torch._C._distributed_c10d._register_process_group(name, dist.new_group([0, 1]))
            ops = torch.ops._c10d_functional
            reduce = lambda x, name: ops.wait_tensor(ops.all_reduce(x, "sum", name))
            self.verify(lambda x: reduce(x, "tensor") + reduce(x, "data"), self.randn(4))

    @known_gaps(
        subgraphs_cannot_be_printed,
        Gap(
            "a group that only a subgraph uses is not recreated",
            "Could not resolve the process group registered under the name 0",
            opened="2.14",
        ),
    )
    def test_collective_in_a_region(self):
        reduce = lambda x: all_reduce(x, "sum", dist.group.WORLD)
        region = torch.compiler.nested_compile_region(reduce)
        with fake_process_group():
            self.verify(lambda x: region(region(x).sin()), self.randn(4))

    @unittest.skipIf(release() < (2, 13), "before 2.13 no graph takes a mesh")
    @known_gaps(inputs_are_none._replace(error="'NoneType' object has no attribute 'get_group'"))
    def test_mesh_as_an_input(self):
        from torch.distributed.device_mesh import init_device_mesh

        with fake_process_group(), torch.distributed.config.patch(compile_on_one_rank=True):
            mesh = init_device_mesh(self.device, (2,))
            self.verify(lambda x: all_reduce(x, "sum", mesh) + 1, self.randn(4))


untraced_caches_have_no_artifacts = Gap(
    "an artifact is empty if the run that filled the cache was not traced",
    "^is empty",
    "pytorch/pytorch#192818",
    opened="2.14",
)


class WarmCachesTest(ArtifactTestCase):
    """Artifacts that a graph cache replays: what a program logs in every run but its first."""

    is_slow = True

    def setUp(self):
        super().setUp()
        self.use_new_folder()
        self.weight = self.randn(3, requires_grad=True)

    def use_new_folder(self):
        """Use an empty folder for the caches."""
        folder = tempfile.mkdtemp(dir=run_folder())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder

    def train(self):
        """Run a program with a forward and a backward graph."""
        torch.compile(lambda x: (x.sin() * self.weight).sum())(self.randn(3)).backward()

    def run_with_caches(self, program, *inputs, autograd_cache=True, traced=True):
        """Run a program as if in a new process, which has nothing but the caches."""
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
        """Judge the artifacts of train; both graphs must have come from a cache."""
        counters = torch._dynamo.utils.counters  # the only sign of an AOTAutograd cache's hit
        self.assertEqual(counters["inductor"]["fxgraph_cache_hit"], 2)
        self.assertEqual(counters["aot_autograd"]["autograd_cache_hit"], int(autograd_cache))
        self._exec_and_verify_payload(artifacts=2)

    def test_caches(self):
        for autograd_cache in (False, True):
            self.use_new_folder()
            self.run_with_caches(self.train, autograd_cache=autograd_cache)
            self.run_with_caches(self.train, autograd_cache=autograd_cache)
            self.verify_replayed(autograd_cache)

    @known_gaps(untraced_caches_have_no_artifacts)
    def test_fx_graph_cache_filled_untraced(self):
        self.run_with_caches(self.train, autograd_cache=False, traced=False)
        self.run_with_caches(self.train, autograd_cache=False)
        self.verify_replayed(autograd_cache=False)

    @known_gaps(untraced_caches_have_no_artifacts)
    def test_autograd_cache_filled_untraced(self):
        self.run_with_caches(self.train, traced=False)
        self.run_with_caches(self.train)
        self.verify_replayed()

    def test_caches_from_another_folder(self):
        self.run_with_caches(self.train)
        data, _ = torch.compiler.save_cache_artifacts()
        self.use_new_folder()
        torch.compiler.load_cache_artifacts(data)
        self.run_with_caches(self.train)
        self.verify_replayed()

    @known_gap(
        "a replayed artifact has the sizes of the run that filled the cache", r"\(6,\) != \(9,\)"
    )
    def test_cache_hit_with_other_sizes(self):
        def program(size):
            torch.compile(lambda x: x * x.shape[0])(dynamic(self.randn(size)))

        self.run_with_caches(program, 6)
        self.run_with_caches(program, 9)
        ((_, logged),) = with_logged(self.handler.buffer)
        self.assertNotIn("before_post_grad_graph", logged)  # a hit
        (symint,) = [c for c in inputs_of(*self.scripts()) if c[0] == "symint"]
        self.assertEqual(symint.args, (9,))


class AheadOfTimeTest(ArtifactTestCase):
    """Exported programs, compiled ahead of time."""

    def package(self, model, *inputs, **options):
        """Export a module, and compile it into a package."""
        program = torch.export.export(model.to(self.device), inputs, **options)
        # Compiling the C++ would take long, and show nothing.
        configs = {"aot_inductor.package_cpp_only": True}
        make_package = torch._inductor.aoti_compile_and_package
        with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
            make_package(program, package_path=f"{folder}/model.pt2", inductor_configs=configs)

    @known_gap(
        "the artifact of an exported program takes no inputs",
        r"Repro\.forward\(\) takes 1 positional argument but 2 were given",
    )
    def test_function(self):
        class Function(torch.nn.Module):
            def forward(self, x):
                return x.sin() * 2

        self.package(Function(), self.randn(5))
        self._exec_and_verify_payload()

    @known_gaps(parameters_were_refused, parameters_are_refused)
    def test_weights(self):
        self.package(torch.nn.Linear(10, 5), self.randn(3, 10))
        self._exec_and_verify_payload()


class DebugFolderTest(ArtifactTestCase):
    """The copy of an artifact that TORCH_COMPILE_DEBUG=1 has Inductor write."""

    def debug_copy(self, **config):
        """Compile a program that writes its debug folder, and put the copy in place of the
        artifact that torch logged. Returns the inputs, and the copy.
        """
        xs = torch.arange(6.0, device=self.device), self.randn(6)
        config = {f"trace.{name}": value for name, value in config.items()}
        with torch._inductor.config.patch({"trace.enabled": True} | config):
            torch.compile(lambda x, y: x.sin() * 2 + y)(*xs)
        folder = Path(torch._dynamo.config.debug_dir_root)
        (path,) = folder.glob("run_*/torchinductor/*/fx_graph_runnable.py")
        ((artifact, _),) = with_logged(self.handler.buffer)
        artifact.payload = path.read_text(encoding="utf-8")
        return xs, artifact.payload

    def test_copy(self):
        self.debug_copy()
        self._exec_and_verify_payload()

    def test_real_tensors(self):
        xs, script = self.debug_copy(save_real_tensors=True)
        self._exec_and_verify_payload()
        args, _ = self.get_args(script)
        for x, arg in zip(xs, args, strict=True):
            self.assertTrue(torch.equal(x, arg))

    def get_args(self, script):
        """Do what the last lines of an artifact say; return args and mod(*args)."""
        result = os.path.join(torch._dynamo.config.debug_dir_root, "result.pt")
        script, runs = re.subn(r"(?m)^ +run_repro\(.*\n", "", script)
        script, lines = re.subn(r"(?m)^( +)# (mod, args = .*|mod\(.*)", r"\1\2", script)
        self.assertEqual((runs, lines), (1, 2), script)
        script = script.replace("mod(*args)", f"torch.save((args, mod(*args)), {result!r})")
        self.verify_script(script)
        return torch.load(result)

    def test_mod_and_args(self):
        torch.compile(lambda x, y: (x @ y).relu())(self.randn(2, 3), self.randn(3, 4))
        (x, y), (output,) = self.get_args(*self.scripts())
        self.assertTrue(torch.allclose(output, (x @ y).relu()))


# How an artifact that computes wrong numbers ends with --accuracy.
BAD_ACCURACY = "AccuracyError: Bad accuracy detected"


class FailuresTest(ArtifactTestCase):
    """Programs that fail in Inductor, or whose code fails; their artifacts must fail likewise."""

    def inject(self, bug):
        """Have Inductor generate bad code for a relu; the config for it is in the artifact."""
        backend = "cpp" if self.device == "cpu" else "triton"
        return torch._inductor.config.patch({f"{backend}.inject_relu_bug_TESTING_ONLY": bug})

    def verify_failure(self, function, *inputs):
        with self.assertRaises(Exception) as caught:
            torch.compile(function)(*inputs)
        failure = f"{type(caught.exception).__name__}: {caught.exception}"
        self._exec_and_verify_payload(failure=failure)

    def test_compile_error(self):
        with self.inject("compile_error"):
            self.verify_failure(lambda x: x.sin().relu(), self.randn(8))

    def test_compile_error_with_warnings(self):
        # With vector code, thousands of lines of warnings follow the error: pytorch/pytorch#95195.
        with self.inject("compile_error"), torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
            self.verify_failure(lambda x: x.relu() + 1, self.randn(6, 5))

    def test_runtime_error(self):
        # In a process of its own: such an error makes a GPU useless to the process.
        backend = "cpp" if self.device == "cpu" else "triton"
        config = f"torch._inductor.config.{backend}.inject_relu_bug_TESTING_ONLY = 'runtime_error'"
        self.run_program(f"{config}\ntorch.compile(lambda x: x.sin().relu())(x).cpu()", exit_code=1)

    def test_wrong_numbers(self):
        with self.inject("accuracy"):
            (script,) = self.verify(lambda x: x.sin().relu(), self.randn(8))
        self.verify_script(script, "run", "--accuracy", failure=BAD_ACCURACY)

    @unittest.skipIf(release() < (2, 13), "before 2.13 a float4 has a lowering, or fails elsewhere")
    @known_gaps(views_get_an_alias)
    def test_lowering_that_raises(self):
        if self.device != "cpu":
            self.skipTest("an accelerator has code for a float4")
        x = torch.zeros(8, dtype=torch.uint8, device=self.device).view(torch.float4_e2m1fn_x2)
        self.verify_failure(lambda x: x.view(torch.uint8) + 1, x)

    @known_gap(
        "leaf functions are missing", "'Repro' object has no attribute '_", "pytorch/pytorch#170471"
    )
    def test_leaf_function(self):
        try:
            from torch._dynamo.decorators import leaf_function
        except ImportError as error:
            self.skipTest(f"no leaf functions here: {error}")
        leaf = leaf_function(lambda x: (x.cos(),))
        leaf.register_fake(lambda x: (x.cos(),))
        self.verify_failure(lambda x: leaf(x)[0] + 1, self.randn(4))


class CommandsTest(ArtifactTestCase):
    """The commands of an artifact, as its --help lists them, and the function that writes one."""

    is_slow = True

    def artifact(self, bug=None):
        """Return the artifact of a sine and a relu, the latter with a bug as in FailuresTest, and
        how its program failed.
        """
        failure = ""
        with torch._inductor.config.patch({"cpp.inject_relu_bug_TESTING_ONLY": bug}):
            try:
                torch.compile(lambda x: x.sin().relu())(torch.randn(8))
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
        (script,) = self.scripts()
        return script, failure

    def verify_minified(self, script, failure, *arguments, minify=("minify",)):
        """Have an artifact minified: only the relu is left, and it fails when run with these."""
        with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
            self.verify_script(script, *minify, *arguments, folder=folder)
            script = Path(folder, "repro.py").read_text(encoding="utf-8")
        operators = re.findall(r" = torch\.ops\.(\S+)\(", script)
        self.assertEqual(operators, ["aten.relu.default"], script)
        self.verify_script(script, "run", *arguments, failure=failure)

    def test_minify_compile_error(self):
        self.verify_minified(*self.artifact("compile_error"))

    def test_minify_in_one_process(self):
        self.verify_minified(*self.artifact("compile_error"), minify=("minify", "--no-isolate"))

    def test_minify_accuracy(self):
        script, _ = self.artifact("accuracy")
        self.verify_minified(script, BAD_ACCURACY, "--accuracy")

    def test_accuracy(self):
        script, _ = self.artifact()
        self.verify_script(script, "run", "--accuracy")

    @known_gap(
        "run --accuracy exits 0 although the compiled graph raises",
        "^exited with code 0, but",  # it prints the exception as a warning
    )
    def test_accuracy_of_a_graph_that_raises(self):
        script, failure = self.artifact("runtime_error")
        self.verify_script(script, "run", "--accuracy", failure=failure)

    @known_gap(
        "analyze refuses an artifact that names no folder to save to",
        "RuntimeError: analyze requires a save_dir",
        opened="2.14",
    )
    def test_analyze(self):
        script, _ = self.artifact()
        self.verify_script(script, "analyze")

    @unittest.skipIf(release() < (2, 12), "before 2.12 there is no such function")
    def test_standalone_repro(self):
        # Written for any graph, even one that is not compiled: pytorch/pytorch#173584.
        from torch._dynamo.repro.after_aot import generate_standalone_repro
        from torch._inductor.compile_fx import compile_fx_inner
        from torch.fx.experimental.proxy_tensor import make_fx

        x = torch.randn(4)
        module = make_fx(lambda x: (x.sin() + 1,))(x)
        path = Path(torch._dynamo.config.debug_dir_root, "repro.py")
        script = generate_standalone_repro(module, [x], save_path=path)
        self.assertEqual(script, path.read_text(encoding="utf-8"))
        compile_fx_inner(module, [x])
        ((artifact, _),) = with_logged(self.handler.buffer)
        artifact.payload = script
        self._exec_and_verify_payload()


class GeneratedCodeTest(ArtifactTestCase):
    """Whether Inductor generates the same code for an artifact as for its program."""

    verify_code = functools.partialmethod(ArtifactTestCase.verify, code=True)

    def test_plain(self):
        f = lambda x, y: torch.relu(x @ y).sum(0)
        self.verify_code(f, self.randn(3, 4), self.randn(4, 5))

    def test_backward(self):
        x = self.randn(9, requires_grad=True)
        self.verify_code(lambda x: x.sin(), x, backward=True)

    def test_options(self):
        from torch._inductor.compile_fx import compile_fx

        options = {"size_asserts": False, "cpp.threads": 3}
        x, f = self.randn(2**16), lambda x: x.sin() + 1
        with torch._inductor.config.patch(options):
            torch.compile(f)(x)
        torch.compile(f, options=options)(x)
        torch.compile(f, backend=functools.partial(compile_fx, config_patches=options))(x)
        self._exec_and_verify_payload(artifacts=3, code=True)

    @known_gaps(role_is_lost._replace(error=r"(?m)^-.*aten\.randint\.low_out"))
    def test_role_of_an_inference_graph(self):
        # Inductor reorders operators for locality only in inference graphs.
        with torch.no_grad():
            self.verify_code(ToyModel().to(self.device), self.randn(3, 10))

    def test_inference_mode(self):
        with torch.inference_mode():
            self.verify_code(ToyModel().to(self.device).eval(), self.randn(3, 10))

    def test_reduce_overhead(self):
        self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4), mode="reduce-overhead")

    @known_gap(
        "the C++ wrapper is not generated",
        r"(?m)^-from torch\._inductor\.codecache import CppWrapperCodeCache$",
    )
    def test_cpp_wrapper(self):
        with torch._inductor.config.patch(cpp_wrapper=True):
            self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4))

    @known_gap("deterministic algorithms are not in force", r"(?m)^-.* aten\.index_put_\(")
    def test_deterministic_algorithms(self):
        index = torch.tensor([0, 2, 0], device=self.device)
        self.addCleanup(torch.use_deterministic_algorithms, False)
        torch.use_deterministic_algorithms(True)
        self.verify_code(lambda x, y: x.index_add(0, index, y), self.randn(4, 5), self.randn(3, 5))


# The same graphs on an accelerator, where there is one.

static_inputs_are_lost = Gap(
    "which inputs are static, and so are not checked for alignment, is lost",
    r"\A(\+(from torch\._C\._dynamo\.guards import| +v\d+ =) copy_(if_)?misaligned.*\n?)+\Z",
    opened="2.12",
)
# A backward takes the saved inputs of its forward, which 2.15 checks as well.
saved_inputs_are_lost = static_inputs_are_lost._replace(closed="2.15")
backward_becomes_forward = Gap(
    "a backward graph is compiled as a forward",
    r"\A-( +inductor_meta=.*'optimize_mem': )True(.*)\n\+\1False\2\Z",
    opened="2.15",  # before, code_lines ignores it
)

MATRIX = r": f32\[256, 256\]\[256, 1\]\S+"
WAIT = MATRIX + r" = torch\.ops\._c10d_functional\.wait_tensor\.default"
CONTROL_DEPS = MATRIX + r" = torch\.ops\.higher_order\.control_deps"
order_is_lost = role_is_lost._replace(
    reason="the overlap scheduler starts from the order of a graph for training",
    # From that order, the product that does not need the collective runs beside it.
    error=rf"^(-wait_tensor_0{WAIT}\(all_reduce_0\)"
    rf"|-higher_order_0{CONTROL_DEPS}\(\[wait_tensor_0\], value_0, wait_tensor_0, input_1\)"
    rf"|-higher_order_1{CONTROL_DEPS}\(\[higher_order_0\], value_1, input_0, input_1\)"
    r"|-return \[higher_order_0, higher_order_1\]"
    r"|\+value_2 = self\.attribute_2"
    rf"|\+higher_order_0{CONTROL_DEPS}\(\[all_reduce_0\], value_2, input_0, input_1\)"
    rf"|\+higher_order_1{CONTROL_DEPS}\(\[higher_order_0\], value_1, all_reduce_0\)"
    rf"|\+higher_order_2{CONTROL_DEPS}\(\[higher_order_1\], value_0, higher_order_1, input_1\)"
    r"|\+return \[higher_order_2, higher_order_0\]"
    rf"|\+class self\.attribute_2|\+input_0{MATRIX}"
    rf"|\+wait_tensor_0{WAIT}\(input_0\)|\+return wait_tensor_0)$",
)

if ACCELERATOR:
    for case in (
        InputsTest,
        ConstantsTest,
        DynamicShapesTest,
        CustomOperatorsTest,
        WarmCachesTest,
        AheadOfTimeTest,
        DebugFolderTest,
        FailuresTest,
    ):
        name = case.__name__.replace("Test", "AcceleratorTest")
        globals()[name] = type(name, (case,), {"device": ACCELERATOR, "__module__": __name__})
    del case  # else unittest would load it as one more class

    class ProgramsAcceleratorTest(ProgramsTest):
        device = ACCELERATOR
        test_fft_of_a_transpose = known_gap(
            "Inductor fails to generate code for complex numbers",
            "^KeyError: 'complex64'",
            opened="2.12",
            closed="2.14",
        )(ProgramsTest.test_fft_of_a_transpose)

    class HigherOrderOperatorsAcceleratorTest(HigherOrderOperatorsTest):
        device = ACCELERATOR
        # Without the gaps that only code for the CPU has.
        test_effects = HigherOrderOperatorsTest.test_effects.__wrapped__
        test_flex_attention = known_gaps(subgraphs_cannot_be_printed)(
            HigherOrderOperatorsTest.test_flex_attention.__wrapped__
        )

    class DistributedAcceleratorTest(DistributedTest):
        device = ACCELERATOR

        @unittest.skipIf(release() < (2, 10), "before 2.10 there is no such scheduler")
        @known_gaps(order_is_lost)
        def test_overlap_scheduler(self):
            # pytorch/pytorch#186084
            def f(x, y, weight):
                early = x @ weight
                return all_reduce(y, "sum", dist.group.WORLD) @ weight, early

            overlap = "aten_distributed_optimizations"
            configs = {f"{overlap}.enable_overlap_scheduling": True}
            if release() >= (2, 12):
                configs[f"{overlap}.compute_estimator"] = "analytical"
                configs[f"{overlap}.spmd_check"] = False
            with (
                fake_process_group(),
                torch._inductor.config.patch(configs),
                # What nvidia-smi says of the clock is decoded with the encoding of stdout.
                contextlib.redirect_stdout(sys.__stdout__),
            ):
                torch.compile(f)(*(self.randn(256, 256) for _ in range(3)))
            ((_, logged),) = with_logged(self.handler.buffer)
            self.assertIn("control_deps(", logged[GRAPHS[1]].payload)  # the scheduler's
            self._exec_and_verify_payload()

    class TrainingAcceleratorTest(TrainingTest):
        device = ACCELERATOR
        # Without the gap: only the CPU's random number generator refuses a random state.
        test_autocast_and_checkpoint = TrainingTest.test_autocast_and_checkpoint.__wrapped__

        @known_gap(
            "attention's backward gets a random seed and offset, not those of the forward",
            "was killed by SIGSEGV",  # a crash says no more
        )
        def test_embedding_and_transformer_layer(self):
            super().test_embedding_and_transformer_layer()

        @known_gaps(
            Gap(
                "an input that is a generator is left out",
                "missing 1 required positional argument: '[fb]wd_rng_state_0'",
                closed="2.12",
            ),
            Gap(
                "an input that is a generator cannot be traced",
                "NotImplementedError: argument of type: <class 'torch._C.Generator'>",
                opened="2.12",
                closed="2.13",
            ),
        )
        def test_generator(self):
            # What a checkpoint draws again: both graphs take the generator.
            from torch.utils.checkpoint import checkpoint

            attend = torch.nn.functional.scaled_dot_product_attention
            draw = lambda x: attend(x.sin(), x.cos(), x, dropout_p=0.5)
            x = self.randn(1, 2, 64, 32, dtype=torch.half, requires_grad=True)
            f = lambda x: checkpoint(draw, x, use_reentrant=False)
            self.verify(f, x, backward=True)

    streams_are_indices = Gap(
        "streams and events are indices into a table that no artifact has",
        "AssertionError: Index not registered in index_to_user_object_weakref",
        "pytorch/pytorch#182084",
    )

    class StreamsAcceleratorTest(ArtifactTestCase):
        """Streams and events, of the program and of torch itself."""

        device = ACCELERATOR

        @known_gaps(
            streams_are_indices._replace(closed="2.12"),
            # Since 2.12 subgraphs use them.
            subgraphs_cannot_be_printed._replace(
                reason="a subgraph prints as a GraphModule, which the script does not import",
                error="NameError: name 'GraphModule' is not defined",
                opened="2.12",
            ),
            streams_are_indices._replace(opened="2.14"),
        )
        def test_streams_and_events(self):
            side = torch.Stream(self.device)

            def f(x):
                done = torch.Event(self.device)
                with side:
                    y = x.sin()
                    done.record()
                done.wait()
                return y + x

            self.verify(f, self.randn(64))

        def test_activation_offloading(self):
            def offload(module, _):
                sines = {"op": "call_function", "target": torch.ops.aten.sin.default}
                for node in module.graph.find_nodes(**sines):
                    node.meta["should_offload"] = True
                return module

            x = self.randn(64, requires_grad=True)
            configs = {
                "enable_activation_offloading": True,
                "activation_offload_separate_stream": True,
                "joint_custom_pass": offload,
            }
            with torch._functorch.config.patch(configs):
                self.verify(lambda x: x.sin().exp(), x, backward=True)

    class GeneratedCodeAcceleratorTest(GeneratedCodeTest):
        device = ACCELERATOR
        test_backward = known_gaps(saved_inputs_are_lost, backward_becomes_forward)(
            GeneratedCodeTest.test_backward
        )
        test_inference_mode = known_gaps(static_inputs_are_lost)(
            GeneratedCodeTest.test_inference_mode
        )
        # Before 2.15 the role changes the same lines.
        test_role_of_an_inference_graph = known_gaps(
            static_inputs_are_lost._replace(opened="2.15")
        )(GeneratedCodeTest.test_role_of_an_inference_graph)

        @known_gap(
            "outputs that the user sees are padded",
            r"(?m)^-.*r0_1 \+ 2000\*x0(?s:.*)^\+.*r0_1 \+ 2016\*x0",
        )
        def test_padded_output(self):
            f = lambda x: torch.softmax(x, -1) * x.sum(0)
            self.verify_code(f, self.randn(64, 2000))

        @known_gap(
            "the precision of matmuls is not recorded",
            r"(?m)^-    ALLOW_TF32 : tl\.constexpr = True\n\+    ALLOW_TF32 : tl\.constexpr = False$",
        )
        def test_matmul_precision(self):
            precision = torch.get_float32_matmul_precision()
            self.addCleanup(torch.set_float32_matmul_precision, precision)
            torch.set_float32_matmul_precision("high")
            # A Triton template, with one config to choose from.
            options = {
                "max_autotune_gemm": True,
                "max_autotune_gemm_backends": "TRITON",
                "test_configs.max_mm_configs": 1,
            }
            xs = self.randn(512, 512), self.randn(512, 512)  # smaller ones may never use TF32
            self.verify_code(torch.matmul, *xs, options=options)


# Triton kernels stand at module level: torch.compile looks them up by name.

if HAS_TRITON:
    from triton.language import exp
    from triton.language.extra import libdevice

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

    ZERO = tl.constexpr(0)
    NAME = tl.constexpr("relu")
    DTYPE = tl.constexpr(tl.float32)

    @triton.jit
    def zero_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets) + ZERO)

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

    @triton.jit
    def cast_kernel(x_ptr, out_ptr, n_elements, BLOCK_SIZE: "tl.constexpr", TYPE: "tl.constexpr"):
        offsets = tl.program_id(axis=0) * BLOCK_SIZE + tl.arange(0, BLOCK_SIZE)
        tl.store(out_ptr + offsets, tl.load(x_ptr + offsets).to(TYPE))

    HALF = triton.Config({"BLOCK_SIZE": 64, "TYPE": tl.float16})
    tuned_cast_kernel = triton.autotune([HALF], key=["n_elements"])(cast_kernel)

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


imports_are_missing = Gap(
    "what a Triton kernel imports is not imported",
    r"NameError\('(libdevice|exp) is not defined'\)",
    closed="2.14",
)


@requires_triton
class TritonTest(ArtifactTestCase):
    """User-defined Triton kernels."""

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

        self.verify(f, self.randn(1024), code=True, dynamic=dynamic)

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

        self.verify(f, self.randn(1024), code=True)

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

    @known_gap(
        "heuristics under autotune cannot be written",
        "^is not valid Python .*ERROR: Repro will not work as intended",
    )
    def test_heuristics_under_autotune(self):
        self.launch(tuned_heuristic_kernel)

    def test_libdevice(self):
        self.launch(libdevice_kernel, BLOCK_SIZE=64)

    @known_gaps(imports_are_missing)
    def test_imported_libdevice(self):
        self.launch(imported_libdevice_kernel, BLOCK_SIZE=64)

    @known_gaps(imports_are_missing)
    def test_imported_function(self):
        self.launch(imported_function_kernel, BLOCK_SIZE=64)

    def test_constexpr_arguments(self):
        def f(x):
            outs = []
            for mode in (0, False, "relu"):
                outs.append(torch.empty_like(x))
                constexpr_kernel[(16,)](x, outs[-1], BLOCK_SIZE=64, MODE=mode)
            return outs

        self.verify(f, self.randn(1024), code=True)

    @known_gap("a global constexpr that is 0 is left out", r"NameError\('ZERO is not defined'\)")
    def test_constexpr_zero(self):
        self.launch(zero_kernel, BLOCK_SIZE=64)

    @known_gap(
        "a global constexpr that is a string is written without quotes",
        "NameError: name 'relu' is not defined",
    )
    def test_constexpr_string(self):
        self.launch(string_kernel, BLOCK_SIZE=64)

    @known_gap(
        "a global constexpr that is a dtype is written as its short name",
        "NameError: name 'fp32' is not defined",
    )
    def test_constexpr_dtype(self):
        self.launch(dtype_kernel, BLOCK_SIZE=64)

    def test_dtype_as_an_argument(self):
        self.launch(cast_kernel, BLOCK_SIZE=64, TYPE=tl.float16)

    def test_dtype_in_a_config(self):
        # torch fails to log the kernel's metrics, and would try again at the next compile.
        name = "torch._inductor.async_compile._triton_kernel_metrics"
        logging_error = contextlib.suppress(torch._inductor.exc.InductorError)
        with mock.patch(name, None), logging_error:
            self.launch(tuned_cast_kernel)
        (script,) = self.scripts()
        self.assertNotIn("'TYPE': fp16", script)

    def test_kernel_defined_in_a_function(self):
        self.launch(other_kernel(), BLOCK_SIZE=64)

    @known_gaps(symbols_are_undefined, static_sizes_become_symbolic)
    def test_dynamic_grid(self):
        self.launch(plain_kernel, dynamic=True, BLOCK_SIZE=64)

    def test_mutated_input(self):
        def f(x):
            mutating_kernel[(16,)](x, BLOCK_SIZE=64)
            return x * 2

        self.verify(f, self.randn(1024), code=True)

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

        self.verify(f, self.randn(1024), code=True)

    @known_gaps(saved_inputs_are_lost, backward_becomes_forward)
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

        x = self.randn(1024, requires_grad=True)
        self.verify(lambda x: Twice.apply(x).sin(), x, backward=True, code=True)

    def test_triton_op(self):
        @torch.library.triton_op("fx_graph_runnable::twice_by_triton", mutates_args={})
        def twice(x: torch.Tensor) -> torch.Tensor:
            out = torch.empty_like(x)
            torch.library.wrap_triton(plain_kernel)[(16,)](x, out, 1024, BLOCK_SIZE=64)
            return out

        self.verify(lambda x: twice(x) + 1, self.randn(1024), code=True)


# Traces: each artifact that a real program left behind is a test.


# The types that torch gives to what is read here of a record's metadata.
TYPES = dict.fromkeys(("artifact", METRICS, BACKWARD_METRICS), dict) | dict.fromkeys(
    IDS, int | None
)


def is_record(metadata):
    """Return whether metadata is that of a record of the trace."""
    if not isinstance(metadata, dict) or not metadata:
        return False
    is_sound = all(isinstance(metadata[key], TYPES[key]) for key in TYPES if key in metadata)
    return is_sound and isinstance(metadata.get("artifact", {}).get("name", ""), str)


def read_trace(path):
    """Yield the records of a log that TORCH_TRACE wrote, with their metadata, payload and lineno;
    a line outside any record comes as a record without metadata.

    The format is that of TorchLogsFormatter in torch/_logging/_internal.py: a line
    `V<date> <time> <pid> <file>:<line>] {json}`, then the lines of the payload, each after a tab;
    "has_payload" in the json is its md5. A payload that is cut off at the end is no record.
    """
    record, payload, end = None, [], ""
    with open(path, encoding="utf-8", errors="backslashreplace", newline="\n") as log:
        for lineno, line in enumerate(itertools.chain(log, [end]), start=1):
            if line.startswith("\t") and record:
                payload.append(line[1:].removesuffix("\n").removesuffix("\r"))
                continue
            if record:
                record.payload = "\n".join(payload)
                md5 = hashlib.md5(record.payload.encode(), usedforsecurity=False).hexdigest()
                if line == end and record.metadata.get("has_payload", md5) != md5:
                    record.metadata = {}
                yield record
            try:
                metadata = json.loads(line.partition("] ")[2])
            except (ValueError, RecursionError):
                metadata = {}
            metadata = metadata if is_record(metadata) else {}
            record, payload = logging.makeLogRecord({"metadata": metadata, "lineno": lineno}), []


def strip_machine_paths(script):
    """Return a script without what names folders of the machine, or files of the rank, that
    recorded it.
    """
    caches = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TORCHELASTIC_ERROR_FILE")
    variables = rf"os\.environ\['({'|'.join(REDIRECTING + caches)})'\]"
    lines = rf"(?m)^({variables}|torch\._dynamo\.config\.debug_dir_root) = .*\n"
    return re.sub("(?<=save_dir=)'.*?'", "'checkpoints'", re.sub(lines, "", script))


def failure_in(logged):
    """Return how Inductor failed, by what was logged after an artifact; None if it did not. (Dynamo
    may refuse a program later: that is no failure of the artifact's graph.)
    """
    for name in (METRICS, BACKWARD_METRICS):
        metrics = logged[name].metadata[name] if name in logged else {}
        if metrics.get("fail_type") == "InductorError":
            return f"InductorError: {metrics.get('fail_reason')}"
    text = logged[BACKWARD_FAILURE].payload if BACKWARD_FAILURE in logged else ""
    error = final_exception(text)
    return text[text.rindex(error) :] if "InductorError: " in error else None


def missing_devices(script):
    """Return the devices that a script makes tensors on and that are not here: {"cuda:3"}."""
    count = torch.accelerator.device_count() if ACCELERATOR else 0
    tree = parse(script)
    code = "" if isinstance(tree, Exception) else ast.unparse(tree)  # without comments
    # device='cuda:3', device('cuda:3'), device('cuda', 3) or device(type='cuda', index=3)
    device = r"\bdevice(?:=|\((?:type=)?)'([a-z]+)(?::(\d+))?'(?:, (?:index=)?(\d+)\))?"
    found = {(kind, int(one or other or 0)) for kind, one, other in re.findall(device, code)}
    return {
        f"{kind}:{index}"
        for kind, index in found
        if kind not in ("cpu", "meta") and (kind != ACCELERATOR or index >= count)
    }


def recorded_artifacts(path):
    """Yield (place, script, what was logged after it) for each artifact, (place, graph, None) for a
    graph without one, of a log that TORCH_TRACE wrote, a folder of such logs, a lone script, or a
    folder of these. What several ranks recorded alike comes once. Notes on bad lines go to stderr.
    """
    path, seen, unreadable, is_trace = Path(path), set(), [], False

    def files(pattern):
        """Yield the files of this name in the folder, or the path itself, and how to call each."""
        for file in sorted(path.rglob(pattern)) if path.is_dir() else [path]:
            if not file.is_dir():
                yield file, file.relative_to(path) if path.is_dir() else file.name

    for log, place in files("*.log"):
        records = [*read_trace(log)]
        unreadable += [(log, record.lineno) for record in records if not record.metadata]
        records = [record for record in records if record.metadata]
        is_trace = is_trace or bool(records)
        for artifact, logged in with_logged(records):
            script, own = strip_machine_paths(artifact.payload), logged or {}
            key = script, logged is None, failure_in(own), *(r.payload for r in own.values())
            if key not in seen:
                yield f"{place} {compile_id(artifact)} line {artifact.lineno}", script, logged
            seen.add(key)
    if not is_trace:
        for file, place in files(f"{ARTIFACT}*"):
            yield str(place), strip_machine_paths(file.read_text("utf-8", "backslashreplace")), {}
    elif unreadable and "--serve" not in sys.argv:
        log, line = unreadable[0]
        note = f"lines that are not records of a trace: {len(unreadable)}, first {log}:{line}"
        print(note, file=sys.stderr)


class RecordedTraceTest(ArtifactTestCase):
    """Judges the artifacts of the trace that FX_GRAPH_RUNNABLE_TRACE names, each in a test."""

    def judge(self, place, script, logged):
        self.assertIsNotNone(logged, f"the graph at {place} has no artifact")
        if missing := missing_devices(script):
            self.skipTest(f"needs {', '.join(sorted(missing))}")
        failure = failure_in(logged)
        verdict = judge(script, logged, f"trace {place}", failure=failure)
        if verdict.problem and not verdict.constants:
            writer = re.search(r"(?m)^# torch version: (\S+)$", script)
            torches = f"by torch {writer and writer[1]}, run on {torch.__version__}"
            note = f"recorded at {place} {torches}:"
            has_ended = verdict.problem.startswith(("exited with", "was killed"))
            if has_ended and verdict.has_compiled and not failure:
                note += "\n(expected if its program ended like this, too: the trace does not say)"
            for gap in gaps_like(verdict.problem):
                note += f"\nlooks like a {gap}"
            raise BadArtifact([verdict._replace(report=f"{note}\n{verdict.report}")])
        delete_kept(verdict)
        if not (verdict.is_compared or failure):
            self.skipTest("runs; nothing to compare with")
        if verdict.constants:
            self.skipTest(f"faithful, but for constants: {', '.join(verdict.constants)}")


def gaps_like(problem):
    """Return what the open gaps of the suite's tests say that match all parts of an artifact's
    problem. One whose error is only a signal or an exit code says nothing about another program.
    """
    cases = [case for case in globals().values() if isinstance(case, type)]
    tests = [test for case in cases for test in vars(case).values()]
    gaps = dict.fromkeys(gap for test in tests for gap in getattr(test, "gaps", ()))
    is_loose = lambda gap: re.search("killed by|exited with", gap.error)
    gaps = [gap for gap in gaps if gap.can_reproduce() and not is_loose(gap)]
    matching = [[gap for gap in gaps if gap.matches(part)] for part in parts_of(problem)]
    return dict.fromkeys(str(gap) for row in matching for gap in row) if all(matching) else {}


def failed_compiles(path):
    """Return a sentence on the compiles of a trace that has no artifact."""
    failures = {}
    for log in [*Path(path).rglob("*.log")] if os.path.isdir(path) else [path]:
        for record in read_trace(log):
            if record_name(record) == METRICS:
                metrics = record.metadata[METRICS]
                reason = str(metrics.get("fail_reason")).strip().partition("\n")[0]
                failure = f"{compile_id(record)} {metrics.get('fail_type')}: {reason}"
                failures[log, compile_id(record)] = failure if metrics.get("fail_type") else ""
    if not failures:
        return "run the program with TORCH_TRACE=FOLDER"
    failed = list(filter(None, failures.values()))
    shown = "".join(f"\n{failure}" for failure in failed[:20])
    return f"of {len(failures)} compiles none reached Inductor, and {len(failed)} failed{shown}"


def add_tests_of_trace(path):
    """Give RecordedTraceTest a test for each artifact of a trace or, if it has none, one that says
    so.
    """

    def add_test(name, method, *arguments):
        setattr(RecordedTraceTest, f"test {name}", lambda self: method(self, *arguments))

    problem, artifacts = "no such file or directory", []
    if os.path.exists(path):
        artifacts = [*recorded_artifacts(path)]
        problem = artifacts or f"there is no artifact in it; {failed_compiles(path)}"
    for place, script, logged in artifacts:
        add_test(place, RecordedTraceTest.judge, place, script, logged)
    if not artifacts:
        add_test("trace", RecordedTraceTest.fail, f"FX_GRAPH_RUNNABLE_TRACE={path}: {problem}")


if os.environ.get("FX_GRAPH_RUNNABLE_TRACE"):
    add_tests_of_trace(os.environ["FX_GRAPH_RUNNABLE_TRACE"])


# Processes: several run the tests: each is sent the name of one through a pipe of its own, and the
# next name when it has answered what came of it, which the first process reports to unittest.


def setUpModule():
    release()  # fail once here, not in every test
    time_limit()
    if (gaps := os.environ.get("FX_GRAPH_RUNNABLE_GAPS")) not in (None, "", "fail"):
        raise ValueError(f"FX_GRAPH_RUNNABLE_GAPS={gaps!r}: give 'fail', or leave it unset")
    if keep := os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        os.makedirs(keep, exist_ok=True)


def flat(suite):
    """Yield the tests of a suite, and of the suites in it."""
    for test in suite:
        yield from flat(test) if isinstance(test, unittest.TestSuite) else [test]


# The lists of a TestResult, and the methods that add to them.
OUTCOMES = {
    "failures": "addFailure",
    "errors": "addError",
    "skipped": "addSkip",
    "expectedFailures": "addExpectedFailure",
    "unexpectedSuccesses": "addUnexpectedSuccess",
}
INTERRUPTED = [("errors", "interrupted before it ended\n")]
INTERRUPTS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


def outcome_of(test, **options):
    """Run one test, with these options of a TestResult. Returns its seconds, and what came of it:
    (list of the TestResult, text) for each entry there, none if it passed.
    """
    result = unittest.TestResult()
    vars(result).update(options)
    start = time.perf_counter()
    try:
        unittest.TestSuite([test]).run(result)
    except KeyboardInterrupt:
        with contextlib.suppress(Exception):  # unittest does not undo what its set-up did
            test.tearDown()
        test.doCleanups()
        return 0, INTERRUPTED
    seconds, entries = time.perf_counter() - start, []
    for kind in OUTCOMES:
        for row in getattr(result, kind):
            source, text = row if isinstance(row, tuple) else (row, "")
            # A source other than the test is a subtest, or the set-up of its class.
            entries.append((kind, text if source is test else f"{source}\n{text}"))
    return seconds, entries


def report(result, test, seconds, entries):
    """Report what came of a test, as outcome_of returns it, to a TestResult."""
    result.startTest(test)
    # The text of a failure is its traceback.
    with mock.patch.object(result, "_exc_info_to_string", lambda error, _: str(error[1])):
        for kind, text in entries:
            error = (RuntimeError, RuntimeError(text), None)
            arguments = {"skipped": [text], "unexpectedSuccesses": []}.get(kind, [error])
            getattr(result, OUTCOMES[kind])(test, *arguments)
    if not entries:
        result.addSuccess(test)
    if hasattr(result, "addDuration"):  # from Python 3.12 on
        result.addDuration(test, seconds)
    result.stopTest(test)


# In a process that serves tests: the file that says where it was when it crashed or hung.
STACKS = None


def restart_watchdog():
    """Give the test that this process serves two more time limits: each of its artifacts has one.
    After that the process writes down where it is, and ends.
    """
    if STACKS:
        faulthandler.dump_traceback_later(2 * time_limit(), exit=True, file=STACKS)


def stacks_of(pid):
    return run_folder() / f"stacks_{pid}"


def how_it_died(worker):
    """Return how a process that served tests ended, and where it was."""
    exit_code, stacks = worker.wait(), ""
    with contextlib.suppress(FileNotFoundError):
        stacks = stacks_of(worker.pid).read_text(errors="replace")
    how = f"its process died (exit code {exit_code})"
    if stacks.startswith("Timeout"):
        limit = f"{2 * time_limit()} s (twice FX_GRAPH_RUNNABLE_TIMEOUT)"
        how = f"it hung: nothing happened in its process for {limit}"
    return f"{how}{stacks and ', where it was here:'}\n{stacks}"


def serve(pipe):
    """Run each test that is named through a pipe, and answer with what outcome_of returns."""
    global STACKS
    os.set_inheritable(pipe.fileno(), False)
    with (
        open(stacks_of(os.getpid()), "w") as STACKS,
        contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError),
    ):
        faulthandler.enable(STACKS)
        while True:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            case, name, options = pipe.recv()
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends the test's artifact
            test = functools.reduce(getattr, case.split("."), sys.modules["__main__"])(name)
            restart_watchdog()
            outcome = outcome_of(test, **options)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(outcome)
    sys.stderr.flush()
    os._exit(0)  # without the second that it takes to tear torch down


def start_worker(file):
    """Start a process that serves the tests of a file. Returns the pipe to it, and the process."""
    pipe, its_end = multiprocessing.Pipe()
    no_bytecode = ["-B"] if sys.dont_write_bytecode else []
    command = [sys.executable, *no_bytecode, file, "--serve", str(run_folder())]
    with its_end:
        worker = subprocess.Popen(
            [*command, str(its_end.fileno())],
            # One thread each, since there are as many processes as cores.
            env={"OMP_NUM_THREADS": "1"} | child_environ(),
            stdin=subprocess.DEVNULL,
            stdout=2,  # what a test prints
            pass_fds=[its_end.fileno()],
            start_new_session=True,
        )
    return pipe, worker


def outcomes(tests, jobs, **options):
    """Run tests in this many processes, or here if that is one, with these options of a TestResult.
    Yields the number of each, with what outcome_of returns, as it ends; an interrupt ends all.
    """
    if jobs <= 1:
        for number, test in enumerate(tests):
            seconds, entries = outcome_of(test, **options)
            yield number, seconds, entries
            if entries == INTERRUPTED:
                break
        return
    file = sys.modules[type(tests[0]).__module__].__file__
    left, running, workers = collections.deque(enumerate(tests)), {}, {}
    try:
        workers.update(start_worker(file) for _ in range(jobs))
        idle = list(workers)
        while idle and left or running:
            for pipe in idle[: len(left)]:
                running[pipe], test = left.popleft()
                with contextlib.suppress(BrokenPipeError):  # it died
                    pipe.send((type(test).__qualname__, test._testMethodName, options))
            idle = []
            for pipe in multiprocessing.connection.wait(running):
                try:
                    outcome = pipe.recv()
                    idle.append(pipe)
                except (EOFError, OSError):
                    outcome = 0, [("errors", how_it_died(workers[pipe]))]
                    workers.update([start_worker(file)])
                    idle.append([*workers][-1])
                yield running.pop(pipe), *outcome
    except KeyboardInterrupt:
        for number in running.values():
            yield number, 0, INTERRUPTED
    finally:
        for pipe, worker in workers.items():
            pipe.close()
            worker.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):  # enough to end their artifacts
            for worker in workers.values():
                worker.wait(1)
        for worker in workers.values():
            end_process(worker)


class ParallelSuite(unittest.TestSuite):
    """Runs its tests in FX_GRAPH_RUNNABLE_JOBS processes, or as many as fit; a single one in this
    process. Bazel's variables, if set, name the share of the tests to run.
    """

    def run(self, result, debug=False):
        tests = [test for test in flat(self) if isinstance(test, ArtifactTestCase)]
        # A test of another module, or unittest's error for a name that it does not know.
        others = unittest.TestSuite(test for test in flat(self) if test not in tests)
        others.run(result, debug)
        if debug or result.shouldStop:
            return unittest.TestSuite(tests).run(result, debug)
        try:
            setUpModule()
            shards = number_from("TEST_TOTAL_SHARDS", 1)
            shard = number_from("TEST_SHARD_INDEX", 0, least=0)
            if shard >= shards:
                raise ValueError(f"TEST_SHARD_INDEX={shard}: give one below {shards}")
            tests = sorted(tests[shard::shards], key=lambda test: not test.is_slow)
            jobs = number_from("FX_GRAPH_RUNNABLE_JOBS", default_jobs())
            if status := os.environ.get("TEST_SHARD_STATUS_FILE"):
                Path(status).touch()
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        jobs = min(jobs, len(tests)) if hasattr(os, "killpg") else 1  # one at a time on Windows
        # What a test prints in a process of its own belongs to its failure, as with --buffer.
        options = {"buffer": result.buffer or jobs > 1, "tb_locals": result.tb_locals}
        rows = outcomes(tests, jobs, **options)
        # nohup ignores SIGHUP, and a shell some signals for what it runs in the background.
        heeded = [number for number in INTERRUPTS if signal.getsignal(number) != signal.SIG_IGN]
        old_handlers = [signal.signal(n, signal.default_int_handler) for n in heeded]
        try:
            with contextlib.closing(rows):
                for done, (number, seconds, entries) in enumerate(rows, start=1):
                    if getattr(result, "showAll", False):
                        result.stream.write(f"[{done}/{len(tests)}] {seconds:.1f} s ")
                    report(result, tests[number], seconds, entries)
                    if result.shouldStop:
                        break
        finally:
            for number, handler in zip(heeded, old_handlers, strict=True):
                signal.signal(number, handler)
        return result


def load_tests(loader, tests, pattern):
    """Have `python -m unittest` run this module in several processes: unittest calls this."""
    return tests if STARTED_BY_FORK else ParallelSuite(tests)


class Runner(unittest.TextTestRunner):
    """Prints the counts after unittest's own summary."""

    def run(self, test):
        result = super().run(test)
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


def main():
    """Run the tests that the command line names, as unittest.main does, and exit."""
    if sys.argv[1:2] == ["--serve"]:
        serve(multiprocessing.connection.Connection(int(sys.argv[3])))
    loader = unittest.TestLoader()
    loader.suiteClass = ParallelSuite
    unittest.main(testLoader=loader, testRunner=Runner)


if __name__ == "__main__":
    run_tests() if STARTED_BY_FORK else main()

#!/usr/bin/env python3
"""Tests of the suite itself, on scripts written by hand: what it must catch, say and clean up.

usage: python .ci/test_harness.py [UNITTEST ARGUMENT ...]
"""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import logging
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import test_fx_graph_runnable as suite
import torch
from helpers import ACCELERATOR, release
from test_fx_graph_runnable import (
    ARTIFACT,
    CODE,
    GRAPHS,
    ArtifactTestCase,
    BadArtifact,
    Gap,
    Runner,
    Verdict,
    code_lines,
    difference,
    graph_difference,
    judge,
    known_gaps,
    trace_log,
    with_graphs,
)

requires_posix = unittest.skipUnless(os.name == "posix", "needs POSIX signals and pipes")
GOOD = "def forward(): pass\n"
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


class HarnessTestCase(ArtifactTestCase):
    """Keeps scripts in a folder of the test, and logs artifacts as torch does."""

    def setUp(self):
        super().setUp()
        self.kept = tempfile.mkdtemp(dir=suite.run_folder())
        self.addCleanup(shutil.rmtree, self.kept)
        os.environ["FX_GRAPH_RUNNABLE_KEEP"] = self.kept
        for name in ("TEST_TOTAL_SHARDS", "TEST_SHARD_INDEX", "TEST_SHARD_STATUS_FILE"):
            os.environ.pop(name, None)  # those of this run: the toys' runs are whole

    def log(self, script, name=ARTIFACT):
        """Log a script the way torch logs an artifact."""
        metadata = {"artifact": {"name": name, "encoding": "string"}}
        trace_log.debug("", extra={"metadata": metadata, "payload": script})

    def failure(self, *scripts):
        """Log these artifacts, each with a graph, expect that they fail the test, and return the
        message.
        """
        self.handler.buffer.clear()
        for script in scripts:
            self.log(script)
            self.log(GRAPH, name=GRAPHS[0])
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

    def altered(self, text, old, new):
        """Return a text with a regular expression replaced everywhere."""
        altered = re.sub(old, new, text)
        self.assertNotEqual(altered, text)
        return altered


class ArtifactsTest(HarnessTestCase):
    """Artifacts that are bad in a way that shows when they run, and what is said of them."""

    def test_messages(self):
        no_text = r"import sys; sys.stdout.buffer.write(b'a\xff\xfeb\0' * 2000); sys.exit(1)"
        for scripts, pattern in (
            ([GOOD + no_text], r"the last 8000 of 10000 bytes\)\n.*a\\xff\\xfeb"),
            (
                ["mod = <lambda>()"],
                r"is no Python \(invalid syntax: mod = <lambda>\(\)\) and exited with",
            ),
            (["\n"], "is empty and exited with code 0"),
            (["print('Hello')"], "has no forward"),
            ([GOOD, GOOD + "raise SystemExit(1)"], "exited with code 1"),
            # The child imports the torch that is tested here.
            (
                [
                    GOOD
                    + "import importlib.util; print(importlib.util.find_spec('torch').origin); 1 / 0"
                ],
                f"its stdout\n{re.escape(os.path.abspath(torch.__file__))}\n",
            ),
        ):
            with self.subTest(pattern):
                self.assertRegex(self.failure(*scripts), pattern)

    def test_exit_code(self):
        message = self.failure(
            GOOD
            + "import sys; print('to stdout'); print('to stderr', file=sys.stderr); sys.exit(3)"
        )
        self.assertIn("exited with code 3", message)
        self.assertRegex(message, "(?s)its stdout\nto stdout\n.*its stderr\nto stderr\n")
        again = shlex.split(message.splitlines()[-1])
        self.assertEqual(again[-1], os.path.join(self.kept, "ArtifactsTest.test_exit_code.1.py"))
        again = ["env", *again] if "=" in again[0] else again
        self.assertEqual(subprocess.run(again, check=False, capture_output=True).returncode, 3)

    @requires_posix
    def test_signal(self):
        message = self.failure(GOOD + "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
        self.assertIn("was killed by SIGTERM", message)

    @requires_posix
    def test_time_limit(self):
        os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = "4.5"
        path, reader = self.pipe("pipe")
        message = self.failure(
            f"{GOOD}import os, subprocess, time; writer = os.open({path!r}, os.O_WRONLY)\n"
            "subprocess.Popen(['sleep', '600'], pass_fds=[writer])\n"
            "os.write(writer, b'started'); time.sleep(600)"
        )
        self.assertIn("did not end within 4.5 s (FX_GRAPH_RUNNABLE_TIMEOUT)", message)
        self.assertEqual(os.read(reader, 100), b"started")
        os.set_blocking(reader, True)
        # At its end: nobody holds the other side any more.
        self.assertEqual(os.read(reader, 100), b"")

    def test_wrong_time_limit(self):
        for wrong in ("soon", "0", "-1", "inf", "nan", ""):
            os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = wrong
            with self.assertRaisesRegex(ValueError, "_TIMEOUT=.*give a number of seconds"):
                suite.time_limit()

    def test_number_of_artifacts(self):
        for count in (0, 2):
            wrong = f"{count} != 1 : the number of artifacts"
            with self.assertRaisesRegex(self.failureException, wrong):
                self._exec_and_verify_payload()
            self.log(GOOD)
            self.log(GOOD)

    def test_graph_without_an_artifact(self):
        self.log(GOOD)
        for _ in range(2):
            self.log(GRAPH, name=GRAPHS[0])
        with self.assertRaisesRegex(self.failureException, "no artifact for it:\n\nclass"):
            self._exec_and_verify_payload()

    def test_other_records_are_no_artifacts(self):
        trace_log.debug("", extra={"metadata": {"chromium_event": {}}, "payload": "{}"})
        trace_log.debug("not from torch")
        self.log(GOOD)
        ((artifact, logged),) = with_graphs(self.handler.buffer)
        self.assertEqual((artifact.payload, logged), (GOOD, {}))

    def test_nothing_to_compare_with(self):
        self.log(GOOD)
        for code, missing in (
            (False, "no before_post_grad_graph behind"),
            (True, "no before_post_grad_graph and no inductor_output_code behind"),
        ):
            with self.assertRaisesRegex(BadArtifact, f"torch logged {missing} artifact 1"):
                self._exec_and_verify_payload(code=code)

    def test_no_code_of_kernels_to_compare(self):
        self.log(GOOD)
        self.log(GRAPH, name=GRAPHS[0])
        with (
            mock.patch.object(suite, "compare", return_value=Verdict("runs")),
            self.assertRaisesRegex(BadArtifact, "torch logged no inductor_output_code with"),
        ):
            self._exec_and_verify_payload()

    def test_artifact_that_does_not_fail_as_its_program(self):
        self.log(GOOD)
        with self.assertRaisesRegex(
            BadArtifact, "exited with code 0, but should have failed with E: 1"
        ):
            self._exec_and_verify_payload(failure=("E", "1\nmore"))

    def test_graph_of_another_compile(self):
        for frame, name in ((0, ARTIFACT), (5, GRAPHS[0]), (0, GRAPHS[1])):
            metadata = {"artifact": {"name": name}, "frame_id": frame, "frame_compile_id": 0}
            trace_log.debug("", extra={"metadata": metadata, "payload": GRAPH})
        (_, missing), (_, logged) = with_graphs(self.handler.buffer)
        self.assertEqual((missing, list(logged)), (None, [GRAPHS[1]]))

    def test_error_in_ones_own_words(self):
        frames = '  File "a.py", line 1, in f\n    assert x\n           ^\n'
        first = f"Traceback (most recent call last):\n{frames}"
        for stderr, error in (
            (f"{first}IndexError: out of bounds\n\nnote\n))\n", "IndexError: out of bounds"),
            (f"{first}ValueError: 1\n\nAbove came:\n\n{first}KeyError: 2\nset X\n", "KeyError: 2"),
            (f"[rank1]: {first}TypeError: 3\n".replace("\n  ", "\n[rank1]:   "), "TypeError: 3"),
            (f"{first}AssertionError\n", "AssertionError from assert x"),
            (f"{first}E: 1\n  target: 2\n  args: 3\nlast\n", "E: 1\n  target: 2\n  args: 3"),
            ("a warning\nkilled\n", "killed"),
            ("", ""),
        ):
            self.assertEqual(suite.error_in(stderr), error)

    def test_without_what_windows_lacks(self):
        lacking = [(os, name) for name in ("killpg", "mkfifo", "sched_getaffinity")]
        lacking += [(signal, name) for name in ("SIGKILL", "SIGHUP")]
        os.environ["FX_GRAPH_RUNNABLE_TIMEOUT"] = "5"
        with contextlib.ExitStack() as stack:
            for module, name in lacking:
                if hasattr(module, name):
                    stack.enter_context(mock.patch.object(module, name))
                    delattr(module, name)
            self.assertEqual(judge(GOOD, {}, "good").kind, "runs")
            hanging = judge(GOOD + "import time; time.sleep(600)", {}, "hanging")
            self.assertEqual(hanging.problem, "did not end within 5 s (FX_GRAPH_RUNNABLE_TIMEOUT)")
            self.assertGreaterEqual(suite.worker_count(), 1)

    def test_bytecode_is_shared_where_torch_has_none(self):
        os.environ.pop("PYTHONPYCACHEPREFIX", None)
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        with mock.patch("importlib.util.cache_from_source", return_value=__file__) as bytecode:
            self.assertNotIn("PYTHONPYCACHEPREFIX", suite.child_environ())
            bytecode.return_value = "/no/such/file"
            environ = suite.child_environ()
        self.assertTrue(environ["PYTHONPYCACHEPREFIX"].startswith(str(suite.run_folder())))
        self.assertNotIn("PYTHONDONTWRITEBYTECODE", environ)

    def test_nothing_of_a_test_stays(self):
        from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table

        def state():
            """All that a test changes."""
            configs = torch._dynamo.config, torch._inductor.config, torch._functorch.config
            return (
                [trace_log.level, sys.excepthook, tempfile.tempdir, *trace_log.handlers],
                [dict(os.environ), dict(kernel_side_table.id_to_kernel)],
                [os.listdir(suite.run_folder())],
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


def graph_of(kinds, *statements, classes=""):
    """Return a graph that takes a, b, ... of these types, and has these statements."""
    names = [f'{name}: "{kind}"' for name, kind in zip("abcdefg", kinds, strict=False)]
    body = "".join(f"        {statement}\n" for statement in statements or ["return (a,)"])
    return f"class g(Module):\n    def forward(self, {', '.join(names)}):\n{body}{classes}"


class GraphsTest(HarnessTestCase):
    """Which graphs are the same."""

    def test_sizes_that_differ(self):
        for old, new in (
            (["f32[s77, s77][s77, 1]cpu"], ["f32[s77, s20][s20, 1]cpu"]),
            (["f32[s0][1]cpu", "f32[s0][1]cpu"], ["f32[s0][1]cpu", "f32[s1][1]cpu"]),
            (["f32[s0, s1, s2][s1*s2, s2, 1]cpu"], ["f32[s0, s1, s2][s2, s0*s2, 1]cpu"]),
            (["f32[2*s0][1]cpu"], ["f32[s0][1]cpu"]),
            (["f32[u0][1]cpu"], ["f32[s0][1]cpu"]),
            (["f32[u0][1]cpu", "f32[2*u0][1]cpu"], ["f32[u0][1]cpu", "f32[s0][1]cpu"]),
            (["Sym(2.5)"], ["Sym(3.5)"]),
            (["Sym(-1)"], ["Sym(-7)"]),
            (["Sym(2)"], ["Sym(2.0)"]),
            (["Sym(s0)", "Sym(s0//2)"], ["Sym(s0)", "Sym(s0//4)"]),
            (["Sym(s0)", "Sym(f(s0, 1))"], ["Sym(s0)", "Sym(f(s0, 2))"]),
            (["Sym(s0)", "Sym(s1)", "Sym(f(s0))"], ["Sym(s1)", "Sym(s0)", "Sym(f(s0))"]),
            (["Sym(s0)", "Sym(s1)", "Sym(s0)"], ["Sym(s0)", "Sym(s1)", "Sym(s1)"]),
            (["Sym(s0)", "Sym(s0//2)"], ["Sym(s0)", "Sym(CeilDiv(s0, 2))"]),
            (["Sym(s0)", "Sym((s0 + 3)//8)"], ["Sym(s0)", "Sym((s0 + 5)//8)"]),
            (["Sym(s0)", "Sym(2*(s0//2))"], ["Sym(s3)", "Sym(s3)"]),
            (["Sym(s0)", "Sym(s0)"], ["Sym(s0)", "Sym(Max(9, s0))"]),
            (["Sym(s0)", "Sym(s0)"], ["Sym(s0)", "Sym(Min(9999, s0))"]),
            (["Sym(s0)", "Sym(s0//300)"], ["Sym(s0)", "Sym(s0//400)"]),
            (["Sym(s0)", "Sym(s1)", "Sym(s0//s1)"], ["Sym(s0)", "Sym(s1)", "Sym(s0//(s1 + 1))"]),
            (["f32[s0, 3][s9, 1]cpu", "Sym(s0)"], ["f32[s0, 3][2*s0, 1]cpu", "Sym(s0)"]),
        ):
            diff = graph_difference(graph_of(old), graph_of(new))
            self.assertIn("\n", diff, f"{old} and {new}")
            self.assertNotIn("no other difference", diff)

    def test_sizes_that_are_the_same(self):
        for old, new in (
            (["f32[s0, s1][s1, 1]cpu"], ["f32[s5, s3][s3, 1]cpu"]),
            (["Sym(s0)", "Sym(s1)", "Sym(s0*s1)"], ["Sym(s1)", "Sym(s0)", "Sym(s0*s1)"]),
            (["Sym(s0)", "f32[s0 - 1][1]cpu"], ["Sym(s3)", "f32[s5][1]cpu"]),
            (["f32[s0, 4][Max(1, 4), 1]cuda:0"], ["f32[s0, 4][4, 1]cuda:0"]),
            (["f32[s0 + 1][1]cpu", "Sym(s0)"], ["f32[s9 + 1][1]cpu", "Sym(s9)"]),
            (["f32[s0*s1][1]cpu"], ["f32[s2*s9][1]cpu"]),
            (["Sym(s0)", "Sym(9//(s0 - 2))"], ["Sym(s1)", "Sym(9//(-2 + s1))"]),
            (["Sym(s0)", "Sym(f(s0))"], ["Sym(s1)", "Sym(f(s1))"]),
            (["f32[][]cpu"], ["f32[][]cpu"]),
        ):
            diff = graph_difference(graph_of(old), graph_of(new))
            self.assertEqual(diff, "", f"{old} and {new}")

    def test_static_sizes_opposite_symbols(self):
        old = ["f32[s0, 5][5, 1]cpu", "f32[s0 + 1][1]cpu"]
        for new, note in (
            (["f32[6, 5][5, 1]cpu", "f32[7][1]cpu"], "static sizes for symbols"),
            (["f32[s1, s2][s2, 1]cpu", "f32[s1 + 1][1]cpu"], "symbols for sizes that were static"),
            (["f32[6, 5][5, 1]cpu", "f32[999][1]cpu"], ""),
            (["f32[s5, s5][s5, 1]cpu", "f32[s5 + 1][1]cpu"], ""),  # were 5 both
            (["f32[6, s2][s2, 1]cpu", "f32[7][1]cpu"], ""),
        ):
            first = graph_difference(graph_of(old), graph_of(new)).splitlines()[1]
            note = note and f", with {note}, and no other difference"
            self.assertEqual(first, f"+++ rebuilt{note}")

    def test_hints_beside_a_symbol(self):
        old, new = ["Sym(s0)", "f32[s0][1]cpu"], ["Sym(s0)", "f32[6][1]cpu"]
        first = graph_difference(graph_of(old), graph_of(new)).splitlines()[1]
        self.assertIn("with static sizes for symbols, and no other difference", first)
        self.assertNotIn(
            "no other", graph_difference(graph_of(old), graph_of([new[0], "f64[6][1]cpu"]))
        )
        # A name that both have, each for a size of its own.
        old, new = (
            [f"f32[{size}][1]cpu" for size in sizes.split()] for sizes in ("5 s7 s7", "s7 s8 s9")
        )
        diff = graph_difference(graph_of(old), graph_of(new))
        self.assertNotIn("no other", diff)
        self.assertIn(
            "\n-input_0: f32[5][1]cpu\n+input_0: f32[s7'][1]cpu\n input_1: f32[s7][1]", diff
        )

    def test_order_of_statements(self):
        sin, cos, exp = (
            f"x{n} = torch.ops.aten.{name}.default(a)"
            for n, name in enumerate(("sin", "cos", "exp"))
        )
        rand, rand_int = (
            "r0 = torch.ops.aten.rand.default([2])",
            "r1 = torch.ops.aten.randn.default([2])",
        )
        last = "return (x0, x1, x2, r0, r1, y1, y2)"
        one, two = (f"a{n} = torch.ops.aten.add_.Tensor(a, {n})" for n in (1, 2))
        print_it = [f"torch.ops.aten._print.default('{text}')" for text in "ab"]
        reduce = [
            f"y{n} = torch.ops._c10d_functional.all_reduce.default(a, 'sum', '{n}')" for n in (1, 2)
        ]
        mine = [f"y{n} = torch.ops.mine.op{n}.default(a)" for n in (1, 2)]
        seeds = [f"r{n} = torch.ops.prims.inductor_seeds.default({n}, 'cpu')" for n in (0, 1)]
        attend = "x0 = torch.ops.aten._scaled_dot_product_flash_attention.default(a, a, a, "
        for statements, is_same in (
            ([sin, cos, exp], True),
            ([sin, rand], True),
            ([rand, rand_int], False),
            (seeds, False),
            ([rand, f"{attend}0.0)"], True),
            ([rand, f"{attend}0.5)"], False),
            ([sin, one], False),
            ([one, two], False),
            (print_it, False),
            (reduce, False),
            (mine, False),
        ):
            graphs = [
                graph_of(["f32[2][1]cpu"], *order, last) for order in (statements, statements[::-1])
            ]
            self.assertEqual(not graph_difference(*graphs), is_same, statements)

    def test_order_of_writes(self):
        wait = "torch.ops._c10d_functional.wait_tensor.default"
        b, c = (f"{x} = torch.ops.aten.{op}.default(a)" for x, op in (("b", "sin"), ("c", "cos")))
        views = (
            *("v = b[0]", "v = torch.ops.mine.op.default(b)", f"v = {wait}(b)"),
            *(f"v = torch.ops.aten.{name}.default(b, [2])" for name in ("view", "_unsafe_view")),
        )
        write, write_view = (f"torch.ops.aten.add_.Tensor({x}, 1)" for x in "bv")
        read_b, read_c, read_view = (f"d = torch.ops.aten.exp.default({x})" for x in "bcv")
        rand = "r = torch.ops.aten.rand.default([2])"
        rand_b = "s = torch.ops.aten.rand_like.default(b)"
        check_b = "torch.ops.aten._assert_async.msg(b, 'x')"
        reduce = "v = torch.ops._c10d_functional.all_reduce.default(a, 'sum', '0')"
        for before, swapped, is_same in (
            ([b, c], [write, read_c], True),
            ([c], [b, read_c], True),
            ([b], [write, c], True),
            ([b, c], [write, read_b], False),
            *(([b, view], [write_view, read_b], False) for view in views),
            *(([b, view], [write, read_view], False) for view in views),
            ([reduce], ["torch.ops.aten.add_.Tensor(a, 1)", f"d = {wait}(v)"], False),
            ([b, write], [check_b, "torch.ops.aten._print.default('x')"], False),
            ([b, write], [rand, rand_b], False),
            ([b], [write, rand], False),
            ([b, c], [write, "torch.ops.aten.add_.Tensor(c, 1)"], False),
        ):
            graphs = [
                graph_of(["f32[2][1]cpu"], *before, *order, "return (b, c, d, r, s)")
                for order in (swapped, swapped[::-1])
            ]
            self.assertEqual(not graph_difference(*graphs), is_same, (before, swapped))

    def test_use_of_what_is_read_after_a_write(self):
        graphs = []
        for sin, cos in ("xy", "yx"):
            reads = [
                f"{sin} = torch.ops.aten.sin.default(a)",
                f"{cos} = torch.ops.aten.cos.default(a)",
            ]
            order = [
                "torch.ops.aten.add_.Tensor(a, 1)",
                *reads,
                "d = torch.ops.aten.exp.default(x)",
            ]
            graphs.append(graph_of(["f32[2][1]cpu"], *order, f"return ({sin}, {cos}, d)"))
        self.assertIn("\n-exp_0 = torch.ops.aten.exp.default(sin_0)", graph_difference(*graphs))

    def test_order_of_waits(self):
        one, two = (
            f"y{n} = torch.ops._c10d_functional.all_reduce.default(a, 'sum', '{n}')" for n in (1, 2)
        )
        waits = [f"z{n} = torch.ops._c10d_functional.wait_tensor.default(y{n})" for n in (1, 2)]
        for last, is_same in (("return (z1, z2)", True), ("return (z2, z1)", False)):
            late = graph_of(["f32[2][1]cpu"], one, two, *waits, "return (z1, z2)")
            early = graph_of(["f32[2][1]cpu"], one, waits[0], two, waits[1], last)
            self.assertEqual(not graph_difference(late, early), is_same)
        reads = ["torch.ops._c10d_functional.wait_tensor.default(a)", "z = torch.f(a)"]
        graphs = [graph_of(["f32[2][1]cpu"], *o, "return (z,)") for o in (reads, reads[::-1])]
        self.assertNotEqual(graph_difference(*graphs), "")

    def test_number_among_the_inputs(self):
        for last, is_same in (("return (a,)", True), ("return (a, b)", False)):
            graph = graph_of(["f32[2][1]cpu", "Sym(3)"], last)
            plain = self.altered(graph, r': "Sym\(3\)"', "")
            self.assertEqual(not graph_difference(graph, plain), is_same)

    def test_tuples_and_lists(self):
        for new, is_same in (("[2, 3]", True), ("[3, 2]", False), ("[(2, 3)]", False)):
            graphs = [graph_of(["f32[6][1]cpu"], f"return f(a, {x})") for x in ("(2, 3)", new)]
            self.assertEqual(not graph_difference(*graphs), is_same)

    def test_constants_that_differ(self):
        for one, other in (
            ("self.c", "self.d"),
            ("self.m.c", "self.n.c"),
            ("self.m.c", "self.m.d"),
        ):
            graphs = [graph_of([], f"return ({one}, {x})") for x in (one, other)]
            self.assertNotEqual(graph_difference(*graphs), "", (one, other))

    def test_classes_within_classes(self):
        inner = "    class m(Module):\n        class n(Module):\n            def forward(self, a):\n                return a.sin()\n"
        for call in ("self.m.n", 'getattr(self, "m").n', "self.m", "1"):
            graph = graph_of(["f32[2][1]cpu"], f"x = torch.f({call})", "return x", classes=inner)
            other = self.altered(graph, "sin", "cos")
            self.assertEqual(graph_difference(graph, graph), "")
            self.assertIn("cos", graph_difference(graph, other), call)
            without = graph.removesuffix(inner)
            self.assertNotEqual(graph_difference(graph, without), "", call)
        same = self.altered(
            graph_of([], "x = self.m", "return x"), r"self\.m", 'getattr(self, "m")'
        )
        self.assertEqual(graph_difference(graph_of([], "x = self.m", "return x"), same), "")

    def test_graphs_of_another_form(self):
        for text in (
            "",
            "# nothing",
            "x = 1",
            "class g: pass",
            "class g(Module):\n    def forward(self, a: int):\n        return a",
            "class g(Module):\n    def forward(self, a: 'f32[x[0], 2][2, 1]cpu'):\n        return a",
            "class g(Module):\n    def forward(self, a: 'a b[[', b: 5):\n        x: 1 = a\n        return x",
            "class g(Module):\n    def forward(self): return <lambda>()",
            "class g(Module):\n    def forward(self, a):\n        a = f(a)\n        b = a\n        a = b",
        ):
            self.assertEqual(graph_difference(text, text), "", text)
            self.assertIn("f32[s77, 3]", graph_difference(text, GRAPH), text)
        typed = "class g(Module):\n    def forward(self, a: {}): return a"
        for old, new, is_same in (
            ("x = 1", "x = 2", False),
            ("x = 1", "# a comment\n\n  x = 1", True),
            (typed.format("int"), typed.format("float"), False),
        ):
            self.assertEqual(not graph_difference(old, new), is_same, new)

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
            other = self.altered(GRAPH, old, new)
            self.assertNotEqual(graph_difference(GRAPH, other), "", what)

    def test_graphs_that_are_the_same(self):
        unused = r'\1\2\n\1unused: "i64[s77, 2][2, 1]cpu" = topk[1]'
        for what, old, new in (
            ("values", r"\b(arg0_1|sub|mul|topk)\b(?!\.)", r"\1_renamed"),
            ("symbols", r"s77", r"s0"),
            ("comments", r"# File.*", r"# No stacktrace found"),
            ("clean-ups", r";  .*", ""),
            ("unused output", r"( +)(getitem:.*)", unused),
            (
                "unused constant",
                r"( +)(getitem:.*)",
                r'\1\2\n\1c: "f32[][]cpu" = self.c;  c = None',
            ),
            ("spelling of a size", r"\[s77 \+ 1, 2\]", r"[1 + Max(1, s77), 2]"),
            ("name of a subgraph", r"true_graph_0", r"repeated_subgraph0"),
            ("name of the class", r"<lambda>", r"GraphModule"),
        ):
            self.assertEqual(graph_difference(GRAPH, self.altered(GRAPH, old, new)), "", what)

    def test_difference_in_nothing_but_symbols(self):
        symbolic = GRAPH.replace("Sym(s77)", "Sym(6)")
        static = self.altered(GRAPH, "s77", "6").replace("6 + 1", "7")
        for compiled, rebuilt, note in (
            (static, symbolic, "with symbols for sizes that were static"),
            (symbolic, static, "with static sizes for symbols"),
        ):
            first = graph_difference(compiled, rebuilt).splitlines()[1]
            self.assertEqual(first, f"+++ rebuilt, {note}, and no other difference")
            worse = rebuilt.replace("mul.Tensor", "add.Tensor")
            self.assertEqual(graph_difference(compiled, worse).splitlines()[1], "+++ rebuilt")

    def test_difference_shows_what_differs(self):
        other = self.altered(GRAPH, r"alpha = 2\.5", "alpha = 2")
        expected = """
            --- compiled
            +++ rebuilt
            @@ -4,3 +4,3 @@
             value_0 = self.attribute_0
            -sub_0: f32[s77, 3][3, 1]cpu = torch.ops.aten.sub.Tensor(input_1, input_2, alpha=2.5)
            +sub_0: f32[s77, 3][3, 1]cpu = torch.ops.aten.sub.Tensor(input_1, input_2, alpha=2)
             topk_0 = torch.ops.aten.topk.default(sub_0, 2)"""
        self.assertEqual("\n" + graph_difference(GRAPH, other), textwrap.dedent(expected))

    def test_altered_artifact(self):
        torch.compile(lambda x: x * 2.5)(torch.randn(4, 3, dtype=torch.float64).t())
        ((artifact, logged),) = with_graphs(self.handler.buffer)
        script = self.altered(artifact.payload, r"\(3, 4\), \(1, 3\)", "(3, 4), (4, 1)")
        script = self.altered(script, r"arg0_1, 2\.5\)", "arg0_1, 2.25)")
        verdict = judge(script, logged, "altered")
        self.assertEqual(verdict.kind, "unfaithful")
        for line in (
            "-input_0: f64[3, 4][1, 3]cpu",
            "+input_0: f64[3, 4][4, 1]cpu",
            "-mul_0: f64[3, 4][1, 3]cpu = torch.ops.aten.mul.Tensor(input_0, 2.5)",
            "+mul_0: f64[3, 4][4, 1]cpu = torch.ops.aten.mul.Tensor(input_0, 2.25)",
        ):
            self.assertIn(line, verdict.report)


CODE_OF_A_GPU = """
# AOT ID: ['0_inference']
from torch._inductor.select_algorithm import extern_kernels

# kernel path: /tmp/torchinductor_user/ab/cabcd.py
triton_poi_fused_add_relu_0 = async_compile.triton('triton_poi_fused_add_relu_0', '''
@triton_heuristics.pointwise(
    triton_meta={'signature': {'in_ptr0': '*fp32', 'in_ptr1': '*u16'}, 'configs': [{'num_warps': 4}]},
    inductor_meta={'kernel_name': 'triton_poi_fused_add_relu_0', 'optimize_mem': True, 'backend_hash': 'B01020984EF46027F076428F681AC854C238F082'},
)
@triton.jit
def triton_poi_fused_add_relu_0(in_ptr0, ks0, BLOCK : tl.constexpr):
    tmp0 = tl.load(in_ptr0 + (x0 // 2))  # half of it
    tl.device_assert(tmp0 < 5, 'index # out of bounds')
''', device_str='cuda')

scale_0 = async_compile.triton('scale', '''
@triton_heuristics.user_autotune(
    configs=[{'num_warps': 2, 'num_stages': 3}],
    inductor_meta={'grid_type': 'FixedGrid', 'force_disable_caches': False},
    triton_meta={'signature': {'x_ptr': '*fp32'}, 'device': DeviceProperties(type='cuda', index=0, cc=90), 'constants': {'BLOCK': 64}},
)
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
    check("000000000000000000000000000000000000000001")
    triton_poi_fused_add_relu_0.run(buf0, s77, stream=raw_stream0)
    scale_0.run(buf0, 64, stream=raw_stream0)
    scale_1.run(buf0, 64, stream=raw_stream0)
    del primals_2
    buf1 = buf0; del buf0  # reuse
    return (buf1, )
"""


class CodesTest(HarnessTestCase):
    """Which generated code is the same."""

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
            ("dtype in a signature", r"'\*u16'", "'*u64'"),
            ("long number", r"(0{33})1", r"\g<1>2"),
            ("lost role", "'optimize_mem': True, ", ""),
        ):
            code = self.altered(CODE_OF_A_GPU, old, new)
            self.assertNotEqual(difference(code_lines(CODE_OF_A_GPU), code_lines(code)), "", what)

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
            code = self.altered(CODE_OF_A_GPU, old, new)
            self.assertEqual(difference(code_lines(CODE_OF_A_GPU), code_lines(code)), "", what)

    def test_role_in_code(self):
        code = self.altered(CODE_OF_A_GPU, "'optimize_mem': True", "'optimize_mem': False")
        is_seen = difference(code_lines(CODE_OF_A_GPU), code_lines(code)) != ""
        self.assertEqual(is_seen, release() >= (2, 15))

    def test_artifact_that_generates_other_code(self):
        torch.compile(lambda x: x.sin())(torch.randn(3))
        ((artifact, logged),) = with_graphs(self.handler.buffer)
        logged[CODE].payload = logged[CODE].payload.replace("std::sin", "std::cos")
        verdict = judge(artifact.payload, logged, "other code", code=True)
        self.assertEqual(verdict.kind, "other code")
        self.assertRegex(
            verdict.problem, r"generated other code(?s:.*)\n-.*std::cos.*\n\+.*std::sin"
        )

    def test_kernels_of_ones_own(self):
        # A graph has but their numbers: 0 is scale_0, and 1 is scale_1.
        graph = graph_of(["f32[2][1]cpu"], "x = triton_kernel_wrapper_mutation(a, kernel_idx = 0)")
        codes = {"same": CODE_OF_A_GPU}
        codes["of Inductor's"] = self.altered(CODE_OF_A_GPU, r"x0 // 2", "x0 // 4")
        codes["swapped"] = self.altered(CODE_OF_A_GPU, r"\* 2(\)(?s:.*))\* 3\)", r"* 3\1* 2)")
        codes["other names"] = self.altered(CODE_OF_A_GPU, r"buf0|raw_stream0", "a_name")
        codes["of a config"] = self.altered(CODE_OF_A_GPU, "(caches.: )False", r"\1True")
        codes["of another machine"] = self.altered(CODE_OF_A_GPU, "cc=90", "cc=80")
        codes["option"] = self.altered(CODE_OF_A_GPU, "'num_warps': 2", "'num_warps': 8")
        codes["dtype"] = self.altered(CODE_OF_A_GPU, r"\*fp32'}, 'device'", "*fp16'}, 'device'")
        codes["parameter"] = self.altered(CODE_OF_A_GPU, "'BLOCK': 64", "'BLOCK': 32")
        codes["constant"] = self.altered(CODE_OF_A_GPU, r"\* 3\)", "* 4)")
        codes["argument"] = self.altered(CODE_OF_A_GPU, r"(scale_1.run\(buf0), 64", r"\1, 32")
        codes["flag"] = self.altered(CODE_OF_A_GPU, r"(scale_1.run\(buf0), 64", r"\1, True")
        codes["launches swapped"] = self.altered(
            CODE_OF_A_GPU, r"(scale_0.run.*\n)( +scale_1.run.*\n)", r"\2\1"
        )
        codes["kernels swapped"] = self.altered(
            CODE_OF_A_GPU, r"scale_0(\.run.*\n +)scale_1(\.run)", r"scale_1\1scale_0\2"
        )
        record = lambda name, payload: logging.makeLogRecord(
            {"metadata": {"artifact": {"name": name}}, "payload": payload}
        )
        for what, code in codes.items():
            compiled = {GRAPHS[0]: record(GRAPHS[0], graph), CODE: record(CODE, CODE_OF_A_GPU)}
            rebuilt = [compiled[GRAPHS[0]], record(CODE, code)]
            verdict = suite.compare(compiled, rebuilt, code=False)
            is_same = what == "same" or what.startswith(("of", "other"))
            self.assertEqual(verdict.kind, "faithful" if is_same else "unfaithful", what)
        for code in ({}, {CODE: record(CODE, "")}):
            compiled = {GRAPHS[0]: record(GRAPHS[0], graph)} | code
            self.assertEqual(suite.compare(compiled, rebuilt, code=False).kind, "runs")
        compiled[CODE] = record(CODE, "b = a")  # by whatever name: all of it is compared
        self.assertEqual(suite.compare(compiled, [*compiled.values()], code=True).kind, "faithful")

    def test_artifact_that_compiles_nothing(self):
        self.log(GOOD)
        self.log(GRAPH, name=GRAPHS[0])
        with self.assertRaisesRegex(BadArtifact, "compiled 0 graphs, not 1"):
            self._exec_and_verify_payload()


class MarksTest(HarnessTestCase):
    """Known gaps."""

    def outcome(self, problems, *gaps):
        """Return how a test ends that has these gaps, and fails with these problems."""

        def test(_):
            if problems:
                kinds = {n: Verdict("fails", problem, problem) for n, problem in problems.items()}
                raise BadArtifact(kinds)

        try:
            known_gaps(*gaps)(test)(self)
        except Exception as failure:
            return f"{type(failure).__name__}: {failure}"

    def test_known_gap(self):
        gap = Gap("a reason", "fails", "expected", "pytorch/pytorch#1")
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
            ("expected error", {"kind": "unfaithful"}, "BadArtifact: expected error"),
            ("expected error", {"artifacts": (2,)}, "BadArtifact: expected error"),
        ):
            end = str(self.outcome(message and {1: message}, gap.shown(**fields)))
            self.assertTrue(end.startswith(expected), f"{message}, {fields}: {end}")

    def test_gap_is_sought_in_what_differs(self):
        gap = Gap("", "unfaithful", "aten.sin")
        for kind, line, shows in (
            ("unfaithful", "-x = aten.sin", True),
            ("unfaithful", " x = aten.sin", False),
            ("unfaithful", "@@ aten.sin @@", False),
            ("other code", " x = aten.sin", False),
        ):
            verdict = Verdict(kind, f"compiled another graph\n--- a\n+++ b\n@@ @@\n{line}\n+y")
            self.assertEqual(gap.shown(kind=kind).shows_in(verdict), shows, line)

    def test_nothing_of_a_known_gap_stays(self):
        del os.environ["FX_GRAPH_RUNNABLE_KEEP"]
        for problem, stays in (("expected", False), ("another", True)):
            path = Path(tempfile.mkdtemp(dir=self.kept), "script.py")
            path.touch()
            failure = BadArtifact({1: Verdict("fails", problem, kept=str(path))})
            test = known_gaps(Gap("", "fails", "expected"))(
                mock.Mock(side_effect=failure, __name__="t")
            )
            with self.assertRaises((unittest.SkipTest, BadArtifact)):
                test(self)
            self.assertEqual(path.parent.exists(), stays)

    def test_builds_of_ones_own(self):
        gap = Gap("a reason", "fails", "expected")
        for version, is_published in (
            *(
                ("2.13.0", True),
                ("2.13.0+cpu", True),
                ("2.13.1+cu129", True),
                ("2.13.0+rocm6.4", True),
            ),
            *(("2.13.0a0+git123", False), ("2.13.0+ours", False), ("2.13.0.dev20261101", False)),
        ):
            self.assertEqual(suite.is_published(version), is_published, version)
        with (
            mock.patch.object(suite, "is_published", lambda: False),
            mock.patch.object(suite, "release", lambda v="2.13.0": release(v)),
        ):
            for closed, opened in (("2.13", "2.9"), ("99.0", "2.13"), ("99.0", "2.9")):
                shown = gap.shown(closed=closed, opened=opened)
                self.assertIsNone(self.outcome({}, shown))
                self.assertEqual(self.outcome({1: "expected"}, shown), f"SkipTest: {gap}")
                self.assertEqual(self.outcome({1: "another"}, shown), "BadArtifact: another")
            closed = gap.shown(closed="2.12")
            self.assertEqual(self.outcome({1: "expected"}, closed), "BadArtifact: expected")
            with mock.patch.object(suite, "is_published", lambda: True):
                closed = gap.shown(closed="2.13")
                self.assertEqual(self.outcome({1: "expected"}, closed), "BadArtifact: expected")
        for version in ("unknown", "2025.1"):
            with self.assertRaisesRegex(ValueError, f"'{version}', which is no release: build it"):
                release(version)

    def test_gaps_of_two_artifacts(self):
        gaps = Gap("one", "fails", "error 1"), Gap("two", "fails", "error 2", artifacts=(2,))
        skip = f"SkipTest: {gaps[0]} and {gaps[1]}"
        self.assertEqual(self.outcome({1: "error 1", 2: "error 2"}, *gaps), skip)
        for messages in ({1: "error 2", 2: "error 1"}, {1: "error 1", 2: "error 1"}):
            self.assertEqual(self.outcome(messages, *gaps)[:11], "BadArtifact")
        closed = "known gap: two (unreported) is closed in artifact 2"
        self.assertIn(closed, self.outcome({1: "error 1"}, *gaps))

    def test_marks(self):
        # A mark has an error, and on each release an artifact has but one.
        cases = [
            c
            for c in vars(suite).values()
            if isinstance(c, type) and issubclass(c, ArtifactTestCase)
        ]
        tests = [test for case in cases for test in vars(case).values() if hasattr(test, "gaps")]
        self.assertGreater(len(tests), 40)
        for test in tests:
            for gap, other in itertools.product(test.gaps, test.gaps):
                self.assertTrue(gap.reason and gap.upstream and gap.error, test)
                self.assertIsNone(re.search(gap.error, ""), f"{test}: anything shows {gap}")
                self.assertLess(release(gap.opened), release(gap.closed), test)
                if gap is not other and set(gap.artifacts) & set(other.artifacts):
                    first = max(release(gap.opened), release(other.opened))
                    last = min(release(gap.closed), release(other.closed))
                    self.assertGreaterEqual(first, last, f"{test}: {gap} or {other}")


class TracesTest(HarnessTestCase):
    """Recorded traces."""

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
        return self.trace_line({"artifact": {"name": GRAPHS[0]}}, GRAPH)

    def write_log(self, *parts, name="rank_0.log"):
        """Write a log of these records; return its path."""
        path = Path(self.kept, "trace", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(parts))
        return path

    def judged(self, path):
        """Return the verdicts on what is recorded there, a line each, and what the test says."""
        os.environ["FX_GRAPH_RUNNABLE_TRACE"] = str(path)
        message = ""
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            try:
                suite.RecordedTraceTest("test_trace").test_trace()
            except (AssertionError, unittest.SkipTest) as error:
                message = str(error)
        progress, _, verdicts = stdout.getvalue().partition("\n\n")
        for number, line in enumerate(progress.splitlines(), start=1):
            self.assertRegex(line, rf"^\[{number}/\d+\] \d+\.\d s ")
        return verdicts.splitlines(), message

    def test_trace_that_is_good(self):
        other = self.trace_line({"chromium_event": {}}, "{\n}")
        script = "# torch version: 1.0\n" + GOOD + "x = '\u00e9'"
        code = self.trace_line({CODE: {}}, "# AOT ID: ['0_forward']\n")
        again = self.artifact_log(GOOD, 1, attempt=1)
        replayed = self.trace_line({GRAPHS[1]: {}}, GRAPH)
        first = self.artifact_log(script) + self.graph_log()
        log = self.write_log(other, first, other, code, again, replayed)
        self.write_log(self.artifact_log(GOOD, 2), name="rank_1.log")
        found, _ = suite.recorded_artifacts(log.parent)
        expected = ["rank_0.log [0/0] line 4 forward", "rank_0.log [1/0_1] line 33"]
        self.assertEqual([*map(str, found)], [*expected, "rank_1.log [2/0] line 1"])
        for recorded, expected in zip(found, (script, GOOD), strict=False):
            artifact, logged = next(with_graphs(recorded.records()))
            (graph,) = (logged[name].payload for name in GRAPHS if name in logged)
            self.assertEqual((artifact.payload, graph), (expected, GRAPH))

    def test_trace_from_windows(self):
        good = self.artifact_log(GOOD) + self.artifact_log(GOOD + "1", 1)
        lines, _ = self.judged(self.write_log(good.replace(b"\n", b"\r\n")))
        self.assertEqual(lines, ["runs: rank_0.log [0/0] line 1", "runs: rank_0.log [1/0] line 4"])

    def test_trace_that_was_changed(self):
        artifact = self.artifact_log(GOOD + "'/home/me'")
        script = "# torch version: 2.6.0\n" + GOOD + "raise AttributeError('/home/me')"
        changed = (artifact + self.artifact_log(script, 1)).replace(b"/me", b"/you")
        lines, message = self.judged(self.write_log(changed, self.artifact_log(GOOD, 2)))
        expected = ["runs (changed after it was written): rank_0.log [0/0] line 1"]
        expected += ["fails: rank_0.log [1/0] line 4", "runs: rank_0.log [2/0] line 8"]
        self.assertEqual(lines, expected)
        first = f"recorded by torch 2.6.0 and run on {torch.__version__}, changed after it"
        self.assertIn(f"the artifact, {first} was written, exited with code 1", message)
        self.assertIn("AttributeError: /home/you", message)

    def test_trace_that_is_broken(self):
        whole = self.artifact_log(GOOD)
        other = self.trace_line({"chromium_event": {}}, "{}")
        log = self.write_log(
            whole[:70] + b"\n",  # cut off, and the program goes on
            self.artifact_log(GOOD + "f(x)", 1).replace(b"(x)", b"("),
            whole.replace(b'"artifact"', b'"\xff"'),
            b"a line of something else\n",
            other.replace(b"chromium", b"\xff"),
            other.replace(b"}", b""),
            whole,
            whole[:-9],
        )
        for number in range(3):
            self.write_log(b"these are\nno traces\n", name=f"{number}.txt")
        lines, _ = self.judged(log.parent)
        for line, (how, number) in zip(
            [line for line in lines if line.startswith("broken (")],
            [("cut off", 1), ("cut short", 2), ("cut off", 5), ("cut short", 16)],
            strict=True,
        ):
            self.assertRegex(line, rf"^broken \(is {how}.*\): rank_0.log line {number}$")
        self.assertEqual(lines[3], "runs: rank_0.log [0/0] line 13")
        notes = ["broken records of other kinds: 3, the first is rank_0.log line 8"]
        self.assertEqual(lines[5:], [*notes, "no traces: 3, the first is 0.txt"])

    def test_trace_with_a_broken_graph(self):
        log = self.write_log(self.artifact_log(GOOD), self.graph_log()[:-9])
        expected = ["runs: rank_0.log [0/0] line 1", "broken (is cut short): rank_0.log line 4"]
        self.assertEqual(self.judged(log)[0], expected)

    def test_trace_with_a_missing_artifact(self):
        whole, graph = self.artifact_log(GOOD), self.graph_log()
        for parts, expected in (
            ([graph, whole], ["missing", "runs"]),
            ([whole, graph, graph], ["unfaithful", "missing"]),
            ([whole[:70] + b"\n", graph, whole], ["broken", "runs"]),  # there, but cut off
        ):
            end = self.trace_line({CODE: {}}, "")
            lines, message = self.judged(self.write_log(*parts, end))
            self.assertEqual([re.match(r"\w+", line)[0] for line in lines], expected)
            self.assertEqual("has no artifact" in message, "missing" in expected)

    def test_trace_of_many_ranks(self):
        for rank in range(3):
            environ = f"os.environ['TORCHELASTIC_ERROR_FILE'] = '/tmp/{rank}/error'\n"
            script = f"{GOOD}import os\n{environ}"
            self.write_log(self.artifact_log(script), self.graph_log(), name=f"rank_{rank}.log")
        folder = self.write_log(name="empty.log").parent
        ((recorded,), _) = suite.recorded_artifacts(folder)
        self.assertEqual(str(recorded), "rank_0.log [0/0] line 1 and 2 more places")
        lines, message = self.judged(folder)
        places = [f"rank_{rank}.log [0/0] line 1" for rank in range(3)]
        self.assertEqual(lines, [f"unfaithful: {place}" for place in places])
        self.assertTrue(message.endswith("\n".join(places)), message)

    def test_ranks_that_are_not_alike(self):
        # The same script and graph: one rank failed, and one had another Triton kernel.
        failure = self.trace_line({suite.METRICS: {"fail_type": "KeyError", "fail_reason": "1"}})
        codes = [CODE_OF_A_GPU, self.altered(CODE_OF_A_GPU, r"\* 3\)", "* 4)")]
        for rank, line in enumerate([failure, *(self.trace_line({CODE: {}}, c) for c in codes)]):
            self.write_log(self.artifact_log(GOOD), self.graph_log(), line, name=f"{rank}.log")
        folder = self.write_log(self.artifact_log(GOOD), self.graph_log()).parent
        found, _ = suite.recorded_artifacts(folder)
        self.assertEqual([len(recorded.places) for recorded in found], [1, 1, 1, 1])

    def test_trace_of_a_program_that_failed(self):
        raising = "raise KeyError('a')"
        metrics = {"fail_type": "KeyError", "fail_reason": "'a'\nand more"}
        compiling = "raise OSError('a\\n\\nOutput:\\n/a.cpp:1:2: error: b')"
        compiled = {"fail_type": "OSError", "fail_reason": "a\n\nOutput:\n/d/c.cpp:3:4: error: b"}
        lowering, lowered = "raise OSError('a\\n  target: b')", {"fail_reason": "a\n  target: b"}
        for script, fields, verdict in (
            (raising, {}, "fails"),
            (raising, metrics, "reproduces"),
            (raising, metrics | {"fail_reason": "'b'"}, "does not reproduce"),
            (raising, metrics | {"fail_type": "ValueError"}, "does not reproduce"),
            (
                "raise ValueError('a b')",
                {"fail_type": "ValueError", "fail_reason": "a"},
                "does not reproduce",
            ),
            (compiling, compiled, "reproduces"),
            (compiling.replace(": b", ": c"), compiled, "does not reproduce"),
            (lowering, compiled | lowered, "reproduces"),
            (lowering.replace(": b", ": c"), compiled | lowered, "does not reproduce"),
            ("", metrics, "does not reproduce"),
            (raising, {"fail_type": None, "fail_reason": None}, "fails"),
            (raising, metrics | {"frame": 5}, "fails"),
        ):
            ids = {"frame_id": fields.get("frame", 0), "frame_compile_id": 0, "attempt": 0}
            line = self.trace_line({suite.METRICS: fields} | ids)
            lines, message = self.judged(self.write_log(self.artifact_log(GOOD + script), line))
            self.assertEqual(lines, [f"{verdict}: rank_0.log [0/0] line 1"], fields)
            self.assertEqual("but should have failed with" in message, "not" in verdict)

    def test_copies_that_are_broken(self):
        for value in ("/a", "/b", "/it's", "C:\\new"):
            environ = f"import os\nos.environ['TORCH_LIB_PATH'] = '{value}'\n"
            self.write_log(self.artifact_log(GOOD + environ), name=f"{len(value)}{value[1]}.log")
        other = self.artifact_log(f"{GOOD}import os\nos.environ['TORCH_NAME'] = 'a/b'\n")
        folder = self.write_log(other).parent
        found, _ = suite.recorded_artifacts(folder)
        self.assertEqual([len(recorded.places) for recorded in found], [2, 1, 1, 1])

    def test_constants_that_are_random_or_rounded(self):
        for value, note in (
            ("tensor([1, -2])", ""),
            ("tensor([[1], [2]], dtype=torch.int32)", ""),
            ("tensor(True)", ""),
            ("tensor([1], device='cuda:0').cuda()", ""),
            ("tensor([1], device='cuda:0').to(\"cuda:0\")", ""),
            ("tensor([-inf, 1., -20.], dtype=torch.float64)", ""),
            ("tensor([1.0000, 2.0000])", "c"),
            ("tensor([1.0000e+08])", "c"),
            ("tensor([0.5000])", "c"),
            ("tensor([[1.0000, 2.0000],\n        [3.0000, 0.1235]])", "c"),
            ("tensor([[[1., 2.]],\n\n        [[3., 4.]]],\n       dtype=torch.float64)", ""),
            ("torch.randint(1, size=[9], dtype=torch.int64)", "c"),
        ):
            script = f"class Repro:\n    def __init__(self):\n        self.register_buffer('c', {value})\n"
            self.assertEqual(", ".join(suite.inexact_constants(script)), note)

    def test_trace_that_is_a_debug_folder(self):
        root = "torch._dynamo.config.debug_dir_root = 'elsewhere'\n"
        copy = Path(self.kept, "run_1", "model_0", "fx_graph_runnable.py")
        copy.parent.mkdir(parents=True)
        copy.write_text(root + GOOD)
        copy.with_name("output_code.py").write_text("")
        for path in (Path(self.kept), copy.parent, copy):
            place = copy.relative_to(path if path.is_dir() else copy.parent)
            self.assertEqual(self.judged(path)[0], [f"runs: {place} [-]"])

    def test_trace_that_tlparse_read(self):
        folder = Path(self.kept, "-_1_0_2")
        folder.mkdir()
        for name, text in (
            ("fx_graph_runnable_9.txt", GOOD),
            ("fx_graph_runnable_10.txt", GOOD + "1"),
            ("before_post_grad_graph_12.txt", GRAPH),
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
        Path(self.kept, "raw.log").write_bytes(self.artifact_log(GOOD))
        self.assertEqual(self.judged(self.kept)[0], ["runs: raw.log [0/0] line 1"])

    def test_verdicts_in_the_order_of_the_logs(self):
        scripts = GOOD + "import time; time.sleep(2)", GOOD + "raise SystemExit(1)", GOOD
        log = self.write_log(*(self.artifact_log(s, n) for n, s in enumerate(scripts)))
        expected = ["runs: rank_0.log [0/0] line 1", "fails: rank_0.log [1/0] line 4"]
        expected.append("runs: rank_0.log [2/0] line 7")
        self.assertEqual(self.judged(log)[0], expected)

    def test_file_of_any_name(self):
        for name in ("one.txt", "repro.py", "2.py"):
            path = Path(self.kept, name)
            path.write_text(GOOD)
            self.assertEqual(self.judged(path)[0], [f"runs: {name} [-]"])
            path.unlink()

    def test_trace_that_is_not_there(self):
        log = self.write_log(self.trace_line({"chromium_event": {}}, "{}"))
        empty = os.path.join(self.kept, "empty")
        os.mkdir(empty)
        for path, message in (
            ("/no/such/trace", "there is no such log or folder"),
            (empty, "there is no artifact in it"),
            (log, "there is no artifact in it"),
            ("", "set FX_GRAPH_RUNNABLE_TRACE"),
        ):
            self.assertIn(message, self.judged(path)[1])

    def test_trace_with_an_empty_artifact(self):
        lines, message = self.judged(self.write_log(self.artifact_log("")))
        self.assertEqual(lines, ["fails: rank_0.log [0/0] line 1"])
        self.assertTrue(message.startswith("the artifact is empty"), message)

    def test_trace_from_another_device(self):
        for device, name in (
            ("device(type='abacus', index=0)", "abacus:0"),
            (f"device(type='{ACCELERATOR or 'cuda'}', index=99)", ":99"),
            ("torch.device('cuda', 99)", "cuda:99"),
            ("torch.ops.aten.full.default([2], 1, device='cuda:99')", "cuda:99"),
        ):
            log = self.write_log(self.artifact_log(f"{GOOD}x = {device}"))
            lines, _ = self.judged(log)
            self.assertRegex(
                lines[0], rf"^not here \(needs \S*{name}\): rank_0.log \[0/0\] line 1$"
            )

    def test_devices_that_are_here(self):
        script = "device('cpu'), device(type='meta'), device('cuda'), device('cuda:1'), device('cuda', 2)"
        with mock.patch.object(torch.accelerator, "device_count", return_value=2):
            for accelerator, missing in (
                ("cuda", ["cuda:2"]),
                ("xpu", ["cuda", "cuda:1", "cuda:2"]),
                (None, ["cuda", "cuda:1", "cuda:2"]),
            ):
                with mock.patch.object(suite, "ACCELERATOR", accelerator):
                    self.assertEqual(suite.devices_elsewhere(script), missing)

    def test_device_that_is_only_a_word(self):
        log = self.write_log(
            self.artifact_log(f"{GOOD}# device(type='cuda', index=99)\nx = 'cuda:99'")
        )
        self.assertEqual(self.judged(log)[0], ["runs: rank_0.log [0/0] line 1"])

    def test_trace_of_a_program(self):
        program = "import torch; from test_fx_graph_runnable import ToyModel\n"
        program += "with torch.no_grad(): torch.compile(ToyModel())(torch.randn(3, 10))\n"
        program += "torch.compile(lambda x: x * torch.tensor([[1.0], [0.123456]]))(torch.ones(1))"
        trace = Path(self.kept, "trace")
        path = os.pathsep.join([os.path.dirname(suite.__file__), suite.child_python_path()])
        os.environ.update(suite.NO_GRAPH_CACHES, PYTHONPATH=path, TORCH_TRACE=str(trace))
        os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "0"  # saves a probe of the CPU
        subprocess.run([sys.executable, "-c", program], check=True)
        before = [path.stat().st_size for path in trace.iterdir()]
        os.environ["FX_GRAPH_RUNNABLE_TRACE"] = str(trace)
        del os.environ["FX_GRAPH_RUNNABLE_KEEP"]
        os.environ["TMPDIR"] = tempfile.mkdtemp(dir=self.kept)
        # In a process that has compiled nothing, as users have it.
        command = [sys.executable, suite.__file__, "RecordedTraceTest"]
        judged = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        self.assertRegex(judged, r"(?m)^faithful: \S+ \[0/0\] line \d+ inference$")
        constants = r"faithful, but for constants \w+ \(\S+\)"
        self.assertRegex(judged, rf"(?m)^{constants}: \S+ \[1/0\] line \d+ inference$")
        self.assertEqual([path.stat().st_size for path in trace.iterdir()], before)
        self.assertEqual(os.listdir(os.environ["TMPDIR"]), [])


class EngineTest(HarnessTestCase):
    """How tests are spread over processes."""

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
            judge(self.SCRIPT + kill, {}, "kills")

        def test_8_artifact_hangs(self):
            hang = "os.write(pipe, b'started'); time.sleep(600)"
            judge(self.SCRIPT + hang, {}, "hangs")

    def test_results_are_those_of_unittest(self):
        os.environ["FX_GRAPH_RUNNABLE_JOBS"] = "1"
        names = unittest.defaultTestLoader.getTestCaseNames(self.Toys)

        def printed(suite_class, **options):
            stderr = io.StringIO()
            with contextlib.redirect_stdout(io.StringIO()) as stdout:
                Runner(stderr, verbosity=2, **options).run(suite_class(map(self.Toys, names)))
            text = re.sub(r"(?m)^\[\d/7\] \d+\.\d s ", "", stderr.getvalue())
            return re.sub(r"in \d+\.\d+s|0x[0-9a-f]+", "", text) + stdout.getvalue()

        for options in ({}, {"failfast": True}, {"buffer": True}, {"tb_locals": True}):
            theirs = printed(unittest.TestSuite, **options)
            self.assertIn("\nFAIL: test_2_fails", theirs)
            self.assertEqual(printed(suite.ParallelSuite, **options), theirs)
        self.assertIn("\n1 of the skipped are known gaps\n", theirs)
        self.assertEqual(theirs.splitlines()[-1], "2 passed, 4 failed, 1 skipped")

    def test_processes_share_a_folder(self):
        def slow():
            time.sleep(0.2)
            return Path(tempfile.mkdtemp(dir=self.kept))

        toys = [self.Toys(name) for name in ("test_1_passes", "test_4_skips")]
        with mock.patch.object(suite, "run_folder", functools.cache(slow)):
            outcomes = dict(suite.outcomes_of_servers(toys, 2, False))
        self.assertEqual([[], [["skipped", "known gap: a toy"]]], [outcomes[t][1] for t in toys])
        (folder,) = os.listdir(self.kept)
        self.assertEqual(len(os.listdir(Path(self.kept, folder))), 2)

    def interrupted(self, number, jobs, toys, ended):
        """Run these of DeadlyToys, with a signal to all once so many have ended and one hangs.
        Returns what was printed.
        """
        # A background job of a shell ignores SIGINT, and would have these runs ignore it, too.
        self.addCleanup(signal.signal, number, signal.signal(number, signal.SIG_DFL))
        folder = tempfile.mkdtemp(dir=self.kept)
        pipe, reader = self.pipe(f"pipe_{jobs}")
        environ = {"TMPDIR": folder, "PIPE": pipe, "PYTHONPATH": suite.child_python_path()}
        process = subprocess.Popen(
            [sys.executable, __file__, "-v", f"EngineTest.DeadlyToys{toys}"],
            env=os.environ | environ | {"FX_GRAPH_RUNNABLE_JOBS": str(jobs)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        timer = threading.Timer(suite.time_limit(), suite.end_process, [process.pid])
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
            suite.ParallelSuite(map(self.Toys, names)).run(result)
        self.assertTrue(os.path.exists(os.environ["TEST_SHARD_STATUS_FILE"]))
        self.assertEqual(sorted(shares), names)
        self.assertNotEqual(shares, names)
        for wrong in ("3", "-1", "one", ""):
            os.environ["TEST_SHARD_INDEX"] = wrong
            with self.assertRaisesRegex(ValueError, "TEST_SHARD_INDEX=.*give an index"):
                suite.this_share()

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
            with mock.patch.multiple(suite, **machine):
                self.assertEqual(suite.worker_count(), count)
        os.environ["FX_GRAPH_RUNNABLE_JOBS"] = "3"
        self.assertEqual(suite.worker_count(), 3)
        for wrong in ("0", "-1", "two", ""):
            os.environ["FX_GRAPH_RUNNABLE_JOBS"] = wrong
            with self.assertRaisesRegex(ValueError, "JOBS=.*give a number"):
                suite.worker_count()

    def test_release(self):
        versions = ("2.13.0a0+git123abc", "2.13.0+cpu", "2.13", "2.13.0.dev20261101")
        self.assertEqual({release(version) for version in versions}, {(2, 13, 0)})
        self.assertLess(release("2.9.1"), release("2.10"))


if __name__ == "__main__":
    suite.run_tests()

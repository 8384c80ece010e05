# Owner(s): ["module: dynamo"]
"""Does every graph that torch.compile hands to Inductor leave an `fx_graph_runnable` artifact
that keeps its promise: a Python script that rebuilds the graph and runs it, with nothing of
the original program at hand?

A test compiles something, and has each artifact that torch then logged judged:

    torch.compile(lambda x: x + 1)(self.randn(4))
    self._exec_and_verify_payload()

In a fresh Python process an artifact must exit 0, and compile the graph that was logged
behind it: graph_lines says what makes two graphs the same. The program's own Triton kernels
are compared in the code that Inductor generates (own_kernels); for a test that asks with
code=True, all of that code must be the same (code_lines). A test that fails for what
torch does has a mark, as in `@nan_is_undefined`: a Gap, with the error and the releases that
show it. While it is open, the test counts as skipped.
"""

import ast
import atexit
import collections
import concurrent.futures
import contextlib
import difflib
import enum
import functools
import hashlib
import importlib.util
import itertools
import json
import logging
import logging.handlers
import math
import operator
import os
import random
import re
import shlex
import shutil
import signal
import site
import subprocess
import sys
import tempfile
import threading
import time
import types
import unittest
from pathlib import Path
from typing import NamedTuple
from unittest import mock

# helpers.py lies beside this file, however that is started: as a script, a module, or a path.
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
from helpers import (  # noqa: E402
    ACCELERATOR,
    HAS_TRITON,
    free_accelerator_memory,
    is_published,
    release,
    requires_distributed,
    requires_triton,
    skip_if_compile_disabled,
    skip_in_fbcode,
    usable_cores,
    usable_memory,
)

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

# Options that test/run_test.py of a fork of PyTorch passes. Only PyTorch's own run_tests knows
# them; it needs its own TestCase, and packages that torch does not bring.
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
        if sys.argv[1:2] == ["--serve"]:
            serve()
        loader = unittest.TestLoader()
        loader.suiteClass = ParallelSuite
        main = unittest.main(testLoader=loader, testRunner=Runner, exit=False)
        passed = main.result.wasSuccessful()
        atexit._run_exitfuncs()  # what happens at exit, except tearing torch down, which takes a second
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
METRICS = "compilation_metrics"  # these say how a program failed, if it did


def artifact_name(record):
    """Return the name of the artifact that a record of the trace is, or None."""
    metadata = getattr(record, "metadata", {})
    name = (metadata.get("artifact") or {}).get("name")
    # A graph cache logs this graph as a record of its own kind; 2.9 has another name for it.
    if GRAPHS[1] in metadata or name == "after_post_grad_graph":
        return GRAPHS[1]
    return next((other for other in (CODE, METRICS) if other in metadata), name)


class FxGraphRunnableArtifactFilter(logging.Filter):
    """Lets through the records of the trace that are `fx_graph_runnable` artifacts."""

    def filter(self, record):
        return artifact_name(record) == ARTIFACT


class StructuredTracePayloadFormatter(logging.Formatter):
    """Formats a record of the trace as its payload alone: the script, or the graph."""

    def format(self, record):
        return record.payload


IDS = ("compiled_autograd_id", "frame_id", "frame_compile_id", "attempt")


def of_one_compile(record, other):
    """Return whether two records may be of one compile: ids that both have agree."""
    ids = ((getattr(r, "metadata", {}).get(key) for r in (record, other)) for key in IDS)
    return all(None in pair or len(set(pair)) == 1 for pair in map(tuple, ids))


def with_graphs(records):
    """Yield each artifact among the records, with a dict of the first record of each name that
    was logged behind it for its compile; each broken record, and each graph without an artifact,
    with None.
    """
    artifact, logged, is_broken = None, {}, False
    for record in records:
        name = artifact_name(record)
        problem = getattr(record, "problem", None)
        if problem:
            yield record, None
        is_repeated = name == GRAPHS[0] and name in logged
        if name == ARTIFACT or (problem and record.matters):
            if artifact:
                yield artifact, logged
            artifact, logged, is_broken = None if problem else record, {}, bool(problem)
        elif name and artifact and of_one_compile(artifact, record) and not is_repeated:
            logged.setdefault(name, record)
        elif name == GRAPHS[0] and not is_broken:
            yield record, None
    if artifact:
        yield artifact, logged


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
    # A trace that passed through Windows has a carriage return at the end of each line.
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


# Faithfulness: two graphs are the same if they compute the same from the same inputs, in
# whatever order and by whatever names. First their lines are made alike, but for sizes, as in
# "mul_0: f32[_, _][_, _]cpu = torch.ops.aten.mul.Tensor(input_0, 2)"; then the symbols of both
# get values, and sizes are the same if their values are.

MARK = "\0"  # stands for a size in a line


class Renamer(ast.NodeTransformer):
    """Gives what a graph names new names in expressions; those of one kind are numbered."""

    def __init__(self):
        self.names, self.counts, self.attributes = {}, collections.Counter(), []

    def name(self, own, kind):
        if own not in self.names:
            self.names[own] = f"{kind}_{self.counts[kind]}"
            self.counts[kind] += 1
        return self.names[own]

    def path(self, node):
        """Return the path of an attribute of self: ["m", "n"] for self.m.n, None if it is none."""
        match node:
            case ast.Name("self"):
                return []
            case ast.Attribute(of, name) | ast.Call(ast.Name("getattr"), [of, ast.Constant(name)]):
                path = self.path(of)
                return path if path is None else [*path, str(name)]

    def visit(self, node):
        if path := self.path(node):  # a constant, or a subgraph
            self.attributes.append(path[0])
            return ast.Name(self.name(".".join(["self", *path]), "self.attribute"))
        if isinstance(node, ast.Name):
            return ast.Name(self.names.get(node.id, node.id))
        node = self.generic_visit(node)
        return ast.List(node.elts) if isinstance(node, ast.Tuple) else node  # operators take both


def names_in(node, context):
    """Return the names that a statement reads (ast.Load) or gives a value (ast.Store)."""
    names = [name for name in ast.walk(node) if isinstance(name, ast.Name)]
    return [name.id for name in names if isinstance(name.ctx, context)]


def effect_of(node, is_used):
    """Return what a statement of a graph does besides its result, if that is used or not: 2 if it
    may write in place, 1 if it draws random numbers, communicates, prints or checks, else 0; and
    whether its result has memory of its own.
    """
    call = getattr(node, "value", None)
    name = ast.unparse(call.func) if isinstance(call, ast.Call) else ""
    if not name.startswith("torch.ops."):
        return 0, False  # arithmetic with sizes, say
    if name == "torch.ops.higher_order.with_effects":
        return 1, False  # an operator and its token
    if name.endswith("c10d_functional.wait_tensor.default"):
        return 0 if is_used else 2, False  # it waits for what is written in place
    try:
        op = functools.reduce(getattr, name.split(".")[1:], torch)
        schema = op._schema  # private, but what torch itself goes by
    except (AttributeError, RuntimeError):  # it has subgraphs, or is unknown here
        return 2, False
    draws = torch.Tag.nondeterministic_seeded in op.tags
    if "_scaled_dot_product" in name:  # it draws with dropout alone
        draws = any(isinstance(getattr(arg, "value", 0), float) and arg.value for arg in call.args)
    effect = 2 if schema.is_mutable else int(draws or "c10d" in name or not schema.returns)
    is_view = any(result.alias_info for result in schema.returns) or "_unsafe_view" in name
    return effect, not is_view and "c10d" not in name


def in_order_of_use(nodes):
    """Return the statements of a graph in the order in which they are needed, by those that
    have an effect or that nothing uses, which keep their order, and by what is returned.
    None passes one that may write to memory that it reads.
    """
    used = {name for node in nodes for name in names_in(node, ast.Load)}
    made_by, needs, roots = {}, {}, []
    memory = {name: set() for name in ("torch", "device", "inf", "nan")}  # that a name stands for
    # In which part of the graph a statement is: each that writes in place is one, and begins
    # another, in which that memory is read.
    part, written, writes = {}, {}, 0
    for node in nodes:
        made, read = names_in(node, ast.Store), names_in(node, ast.Load)
        needs[node] = [made_by[name] for name in read if name in made_by]
        made_by.update(dict.fromkeys(made, node))
        is_used = bool(used.intersection(made))
        effect, is_new = effect_of(node, is_used)
        touched = set().union(*(memory.get(name, {"inputs"}) for name in read))
        memory.update({name: {name} if is_new else {name, *touched} for name in made})
        parts = [written.get(name, 0) for name in touched] + [part[n] for n in needs[node]]
        part[node] = 2 * writes + (effect == 2) if effect else max(parts, default=0)
        if effect == 2:
            writes += 1
            written.update(dict.fromkeys(touched, 2 * writes))
        # Tracing again reads out every output of an operator, used or not, but no constant that
        # Inductor has folded.
        is_read = isinstance(getattr(node, "value", None), (ast.Subscript, ast.Attribute))
        if effect or not is_used and not is_read:
            roots.append(node)
    ordered, stack = {}, roots[::-1]
    while stack:
        if needed := next((n for n in needs[stack[-1]] if n not in ordered), None):
            stack.append(needed)
        else:
            ordered.setdefault(stack.pop())
    return sorted(ordered, key=part.get)


def sizes_in(node):
    """Return the type that a graph gives a value, "f32[s77, 3][3, 1]cpu" or "Sym(s77)", with a
    MARK for each size and stride, and these as a list.
    """
    annotation, sizes = getattr(node, "annotation", None), []
    kind = getattr(annotation, "value", None) or (ast.unparse(annotation) if annotation else "")

    def mark(match):
        group = getattr(parse(match[0]), "body", None)
        if not group:
            return match[0]
        found = getattr(group[0].value, "elts", [group[0].value])
        sizes.extend(map(ast.unparse, found))
        return f"{match[0][0]}{', '.join(MARK for _ in found)}{match[0][-1]}"

    return re.sub(r"\[[^]]*\]|(?<=^Sym)\(.*\)$", mark, str(kind)), sizes


def scope_lines(scope):
    """Yield the lines of one class of a graph, and of the classes in it, as (text, sizes)."""
    renamer = Renamer()
    classes = {node.name: node for node in scope.body if isinstance(node, ast.ClassDef)}
    for forward in (node for node in scope.body if isinstance(node, ast.FunctionDef)):
        used = {name for node in forward.body for name in names_in(node, ast.Load)}
        for node in forward.args.args[1:]:
            kind, sizes = sizes_in(node)
            if kind == f"Sym({MARK})" and not SYMBOL.search(sizes[0]) and node.arg not in used:
                kind, sizes = "", []  # a number: it is written out where it is used
            yield f"{renamer.name(node.arg, 'input')}: {kind}", sizes
        is_cleanup = lambda n: isinstance(n, ast.Assign) and ast.unparse(n.value) == "None"
        for node in in_order_of_use([node for node in forward.body if not is_cleanup(node)]):
            if not (made := names_in(node, ast.Store)):
                yield ast.unparse(renamer.visit(node)), []
                continue
            # A value is named by its operator: torch.ops.aten.mul.Tensor makes mul_0, mul_1, ...
            called = not renamer.path(node.value) and getattr(node.value, "func", None)
            path = re.findall(r"\w+", ast.unparse(called)) if called else ["value"]
            value = ast.unparse(renamer.visit(node.value))
            kind, sizes = sizes_in(node)
            name = renamer.name(made[0], path[-2:][0]) + (f": {kind}" if kind else "")
            yield f"{name} = {value}", sizes
    for name in dict.fromkeys([*renamer.attributes, *classes]):
        if name in classes:
            yield f"class {renamer.name(f'self.{name}', 'self.attribute')}", []
            yield from scope_lines(classes[name])


def graph_lines(text):
    """Return the lines of a graph, as torch.fx.GraphModule.print_readable returns it, as a list
    of (text with a MARK for each size, sizes).
    """
    # A lambda's class prints as "<lambda>".
    tree = parse(re.sub(r"(?m)^( *class )<(\w+)>", r"\1_\2", text))
    classes = [node for node in getattr(tree, "body", ()) if isinstance(node, ast.ClassDef)]
    if not classes:  # some values print as no Python: then each line counts as it is
        return [
            (line.strip(), []) for line in text.split("\n") if line.strip()[:1] not in ("", "#")
        ]
    return [line for scope in classes for line in scope_lines(scope)]


# What the sizes of a graph are written with, besides Python's own operators.
SIZE_FUNCTIONS = {
    **dict.fromkeys(("Mod", "PythonMod"), operator.mod),
    **dict.fromkeys(("CeilToInt", "ceiling"), math.ceil),
    **dict.fromkeys(("FloorToInt", "floor"), math.floor),
    **dict.fromkeys(("TruncToInt", "trunc"), math.trunc),
    **{"Max": max, "Min": min, "FloorDiv": operator.floordiv, "ToFloat": float},
    **{"CeilDiv": lambda a, b: -(-a // b), "IntTrueDiv": operator.truediv},
    **{"Where": lambda condition, a, b: a if condition else b},
}


SYMBOL = re.compile(r"\b[a-z]+\d+\b")  # s77, u0
# Sizes are equal if they are in all of these, in which symbols have random values from 2 on: up
# to 16 in the first, 64 in the next, ... 262144 in the eighth, and so on from the start.
WORLDS = range(40)


def kind_of(size):
    """Return the kinds of a size's symbols, "" if it is static, "u" if it is unbacked."""
    return "".join(sorted({symbol.rstrip("0123456789") for symbol in SYMBOL.findall(size)}))


def value_of(size, values):
    """Return the value of a size under the values of its symbols, None if one has none; "" if it
    is undefined, as 1 // 0 is; if it uses what is not known here, its text with the values in it.
    """
    if not values.keys() >= set(SYMBOL.findall(size)):
        return None
    try:
        return eval(size, {"__builtins__": {}}, SIZE_FUNCTIONS | values)
    except ArithmeticError:
        return ""
    except Exception:
        return SYMBOL.sub(lambda match: str(values[match[0]]), size)


def symbol_values(pairs, world):
    """Return the values of the symbols on either side of pairs of sizes that are to be equal, of
    the program's graph and of the artifact's, in one of WORLDS.

    Two symbols that are new get one new value; one that is new opposite a number gets that, and
    one of the artifact's opposite an expression of its own kind the value of that. So sizes that
    happen to be equal, and have one symbol on one side and two on the other, are not the same.
    """
    numbers = random.Random(world)
    fresh = lambda: numbers.randint(2, 4 ** (2 + world % 8))
    sides, hints = ({}, {}), set()

    def give_value(side, size, opposite):
        is_new = lambda side, size: SYMBOL.fullmatch(size) and size not in sides[side]
        # Up to 2.12, an artifact of hints has symbols of its own beside them.
        is_derived = not SYMBOL.fullmatch(opposite) or opposite in hints
        if not is_new(side, size):
            return
        if is_new(1 - side, opposite) and kind_of(size) == kind_of(opposite):
            sides[side][size] = sides[1 - side][opposite] = fresh()
        elif not SYMBOL.search(opposite) or side and is_derived:
            value = value_of(opposite, sides[1 - side])
            if isinstance(value, (int, float)) and kind_of(opposite) in ("", kind_of(size)):
                sides[side][size] = value
                if not side:
                    hints.add(size)

    def give_values(pairs):
        for a, b in pairs:
            give_value(0, a, b)
            give_value(1, b, a)

    give_values(pair for pair in pairs if not all(map(SYMBOL.search, pair)))
    known = -1
    while known < (known := sum(map(len, sides))):
        give_values(pairs)
    found = [dict.fromkeys(SYMBOL.findall(" ".join(column))) for column in zip(*pairs, strict=True)]
    left = [[s for s in found[side] if s not in sides[side]] for side in range(len(found))]
    for symbols in itertools.zip_longest(*left):
        value = fresh()
        for side, symbol in enumerate(symbols):
            sides[side][symbol] = value
    return sides


def difference(compiled, rebuilt, note=""):
    """Return the first 50 lines of how two lists of lines differ, "" if they do not."""
    if compiled == rebuilt:
        return ""
    diff = difflib.unified_diff(compiled, rebuilt, "compiled", f"rebuilt{note}", n=1, lineterm="")
    return "\n".join(itertools.islice(diff, 50))


def graph_difference(compiled, rebuilt):
    """Return how two graphs differ, as `difference` does; a note says if only that does which
    sizes are symbolic.
    """
    graphs = graph_lines(compiled), graph_lines(rebuilt)
    texts = [[text for text, _ in graph] for graph in graphs]
    blocks = difflib.SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks()
    rows = [(block.a + n, block.b + n) for block in blocks for n in range(block.size)]
    pairs = [pair for a, b in rows for pair in zip(graphs[0][a][1], graphs[1][b][1], strict=True)]
    pairs = list(dict.fromkeys(pairs))  # a large graph has few sizes
    worlds, names = [symbol_values(pairs, world) for world in WORLDS], {}

    @functools.cache
    def meaning(side, size):
        values = [value_of(size, sides[side]) for sides in worlds]
        return type(values[0]), tuple(values), kind_of(size)

    def line(side, text, sizes):
        """Return a line with one name for all sizes that mean the same, and another for others."""
        for size in sizes:
            key = meaning(side, size)
            while key not in names and size in names.values():
                size += "'"
            text = text.replace(MARK, names.setdefault(key, size), 1)
        return text

    lines = [[line(side, *row) for row in graph] for side, graph in enumerate(graphs)]
    meanings = [(meaning(0, a), meaning(1, b)) for a, b in pairs]
    note = ""
    if texts[0] == texts[1] and all(a[:2] == b[:2] for a, b in meanings):
        changes = {(bool(a[2]), bool(b[2])) for a, b in meanings if a != b}
        if changes == {(False, True)}:
            note = ", with symbols for sizes that were static, and no other difference"
        if changes == {(True, False)}:
            note = ", with static sizes for symbols, and no other difference"
    return difference(*lines, note)


# In generated code: a comment outside of strings, a string, or a name; and the names that are
# arbitrary, besides those of kernels, of a graph's inputs and of its symbols.
CODE_TOKEN = re.compile(
    r"""(?P<comment>(?:^|;)\s*//.*|(?:^|\s+)\#(?:\ .*)?$)"""
    r"""|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|(?<![.\w])[^\W\d]\w*"""
)
ARBITRARY = re.compile(r"buf\d+\w*|(?:arg|primals_|tangents_)\d+\w*|(?:cpp|triton)_\w*fused\w*")
KERNEL = re.compile(r"(?ms)^(\w+) = async_compile\.\w+\('(\w+)', '{3}.*?^'{3}")


def code_lines(text):
    """Return the lines of the code that Inductor generated, but for blank ones and comments:
    the names of kernels, buffers, arguments and symbols are replaced in the order of their
    first appearance.
    """
    arbitrary = {kernel[1] for kernel in KERNEL.finditer(text)}
    arbitrary.update(re.findall(r"(?m)^ +([su]\d+) = ", text))
    for inputs in re.findall(r"(?m)^ *(\w.*) = args$", text):
        arbitrary.update(re.findall(r"\w+", inputs))
    names = {}

    def new_name(match):
        if match[0] in arbitrary or ARBITRARY.fullmatch(match[0]):
            return names.setdefault(match[0], f"v{len(names)}")
        return match[0]

    def new_token(match):
        if match["comment"]:
            return match[0][: match[0].startswith(";")]
        return re.sub(r"(?<![.\w])[^\W\d]\w*", new_name, match[0])

    def in_one_name(kernel):
        """Return a kernel's code, which names it in its own way, with its outer name."""
        return re.sub(rf"\b{kernel[2]}\b", kernel[1], kernel[0])

    text = re.sub(
        "'backend_hash': '[0-9A-F]+'", "'backend_hash': ''", KERNEL.sub(in_one_name, text)
    )
    if release() < (2, 15):
        # Each kernel for a GPU shows the role, which is lost: see test_role_of_an_inference_graph.
        text = re.sub("'optimize_mem': (True|False)", "'optimize_mem': ''", text)
    lines = (CODE_TOKEN.sub(new_token, line).rstrip() for line in text.split("\n"))
    return [line for line in lines if line]


# What the code of a kernel says besides of the configs that are in force, of its grid, which the
# graph shows too, and of the machine, which may be another one than that of a trace.
BESIDE_A_KERNEL = re.compile(r"(?m)^ *inductor_meta=.*\n|'device': DeviceProperties\(.*?\)")


def own_kernels(text):
    """Return the lines of the program's own Triton kernels, with their constants and configs, in
    the code that Inductor generated, and those that launch them, where a name is a "_": a graph
    shows but the numbers of kernels and constants in a table.
    """
    kernels = [kernel for kernel in KERNEL.finditer(text) if not ARBITRARY.fullmatch(kernel[1])]
    names = "|".join(kernel[1] for kernel in kernels)
    launches = re.findall(rf"(?m)^ +((?:{names})\.run)(\(.*)", text) if kernels else []
    unnamed = re.compile(r"(?<![.\w])(?!(?:True|False|None)\b)[^\W\d]\w*")
    lines = [BESIDE_A_KERNEL.sub("", kernel[0]) for kernel in kernels]
    lines += [name + unnamed.sub("_", arguments) for name, arguments in launches]
    return code_lines("\n".join(lines))


# Verdict: run one artifact in a fresh process, and compare the graph that it compiles.

# An artifact must compile its graph, not load it from a cache that its program filled.
NO_GRAPH_CACHES = {"TORCHINDUCTOR_FX_GRAPH_CACHE": "0", "TORCHINDUCTOR_AUTOGRAD_CACHE": "0"}
# Variables that would send a child's output elsewhere, or switch its caches. torch copies them
# into each artifact, where they override the environment of the child.
REDIRECTING = (
    *("TORCH_TRACE", "TORCH_DTRACE", "TORCH_LOGS", "TORCH_LOGS_OUT"),
    *("TORCH_COMPILE_DEBUG", "TORCH_COMPILE_DEBUG_DIR", *NO_GRAPH_CACHES),
    *("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "TORCH_COMPILE_FORCE_DISABLE_CACHES"),
)
# Variables that override what a test patches in torch's configs, and could change its verdict.
FORCED = (
    *("TORCHINDUCTOR_CUDAGRAPH_OR_ERROR", "TORCHINDUCTOR_DELAY_REALIZE_CHEAP_OUTPUTS"),
    *("TORCHINDUCTOR_DISABLED_PASSES", "TORCHINDUCTOR_ERROR_ON_CUSTOM_OP_ALIASING"),
    *("TORCH_DYNAMO_AUTOMATIC_DYNAMIC_LOCAL_PGO",),
    *("TORCHINDUCTOR_AUTOGRAD_CACHE_ALLOW_CUSTOM_AUTOGRAD",),
)


class Verdict(NamedTuple):
    """What there is to say of one artifact."""

    kind: str  # "faithful", "runs", "reproduces", or one that is bad
    problem: str = ""  # the error in its own words, or the lines that differ
    report: str = ""  # all that one needs to know of it
    kept: str = ""  # where its script is

    @property
    def is_good(self):
        return self.kind in ("faithful", "runs", "reproduces")


class BadArtifact(AssertionError):
    """Artifacts do not keep their promise: has their `verdicts`, by their numbers in the test."""

    def __init__(self, verdicts):
        super().__init__("\n\n".join(verdict.report for verdict in verdicts.values()))
        self.verdicts = verdicts


# Inductor cannot build C++ where the path has a space in it.
TEMPORARY = tempfile.gettempdir()
if re.search(r"\s", TEMPORARY) and os.path.isdir("/tmp"):
    TEMPORARY = "/tmp"


@functools.cache
def run_folder():
    """Return the folder (a Path) for all that this process writes; it is gone at exit."""
    if sys.argv[1:2] == ["--serve"]:
        return Path(sys.argv[2])  # within that of the first process, which removes it
    folder = tempfile.mkdtemp(prefix="fx_graph_runnable_", dir=TEMPORARY)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def cache_folder():
    """Return the path of Inductor's cache, TORCHINDUCTOR_CACHE_DIR or a folder of this run: what
    is built once serves all tests and children.
    """
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
        # A fork that was built in place, and is found through the working directory.
        paths.insert(0, root)
    return os.pathsep.join(paths)


def child_environ():
    """Return the environment of a child, which imports the torch that is tested here.

    Where torch came without bytecode, each child would compile 2,300 files of it anew: then
    all children of a run share what the first of them compiled.
    """
    environ = os.environ | {"PYTHONPATH": child_python_path()}
    if sys.dont_write_bytecode:  # by python -B: children must not write it either
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if not os.path.exists(importlib.util.cache_from_source(torch.__file__)):
        environ["PYTHONPYCACHEPREFIX"] = str(run_folder() / "bytecode")
        environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


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


def end_artifacts(folder):
    """End the artifacts that run below a folder: see run_script."""
    for path in Path(folder).rglob("pid"):
        with contextlib.suppress(OSError, ValueError):  # it begins, or ends
            end_process(int(path.read_text()))


def run_script(path, environ, *arguments):
    """Run a script in a fresh Python process, in the folder that it lies in.

    What it prints goes to the files stdout and stderr there, its process id to pid.
    Returns its exit code, as subprocess does, or None if it did not end within the time
    limit. Whatever it started ends with it.
    """
    folder = path.parent
    with open(folder / "stdout", "wb") as stdout, open(folder / "stderr", "wb") as stderr:
        child = subprocess.Popen(
            [sys.executable, path, *arguments],
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


def error_in(stderr):
    """Return the error that a process ended with, from what it printed: the first line behind
    its last traceback, and what is indented below it; else its last line.
    """
    stderr = re.sub(r"(?m)^\[rank\d+\]: ?", "", stderr)
    _, traceback, rest = stderr.rpartition("Traceback (most recent call last):\n")
    match = re.search(r"(?m)^\S.*(?:\n[ \t].*)*", rest) if traceback else None
    if not match:
        return "".join(stderr.splitlines()[-1:])
    code = re.findall(r"(?m)^ {4}\w.*", rest[: match.start()])
    is_bare = re.fullmatch(r"[\w.]+", match[0]) and code
    return f"{match[0]} from {code[-1].strip()}" if is_bare else match[0]


def own_words(error):
    """Return the first line of an error without the errors that it is wrapped into, its module,
    and where files were.
    """
    error = re.sub(
        r"^(?:[\w.]*(?:InductorError: |BackendCompilerFailed: backend=.* raised:\n))+", "", error
    )
    return re.sub(r"/\S+", "/", re.sub(r"^[\w.]+\.(?=\w)", "", error)).split("\n")[0].rstrip(": ")


def what_failed(text):
    """Return what an error of Inductor names below a first line that many errors share: what a
    compiler says last of C++ or of a Triton kernel, or the operator whose lowering raised.
    """
    return re.findall(r"(?m)(?: error: |^\w+Error\(|^  target: ).*", text)[-1:]


def inexact_constants(script):
    """Return the constants that a script makes of other values than its program had, or of ones
    that were rounded: the graph does not show them. Whole numbers are exact.
    """
    exact = r"\s*self\.register_buffer\('\w+', tensor\("
    exact += r"(?:[][,\s]|-?\d+\.?(?![\d.e])|-?inf|True|False)*"
    exact += r"""(?:,\s+(?:device='[\w:]+'|dtype=[\w.]+))*\)(?:\.cuda\(\)|\.to\("[\w:]+"\))?\)"""
    found, lines = [], script.split("\n")
    for node in (node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.Expr)):
        if match := re.match(r"self\.register_buffer\('(\w+)'", ast.unparse(node)):
            # As it stands there: 1.0000e+08 may be rounded, and is 100000000.0 in a tree.
            found.append((match[1], "\n".join(lines[node.lineno - 1 : node.end_lineno])))
    return [name for name, text in found if not re.fullmatch(exact, text)]


def compare(compiled, rebuilt, code):
    """Return a Verdict on an artifact that ran, without a report: `unfaithful` or `other code` if
    it is bad. Takes a dict of records to compare by their names, of what was compiled, a list
    of all that the artifact logged, and whether all code is compared or own_kernels alone.
    """
    whats = {
        GRAPHS[0]: ("unfaithful", "compiled another graph"),
        GRAPHS[1]: ("unfaithful", "compiled another graph behind Inductor's passes"),
        CODE: ("unfaithful", "generated other code for the program's own kernels"),
    }
    if code:
        whats[CODE] = "other code", "generated other code"
    lines = code_lines if code else own_kernels
    for name, record in compiled.items():
        again = [r.payload for r in rebuilt if artifact_name(r) == name]
        kind, what = whats[name]
        if name == CODE and not lines(record.payload):
            continue
        if len(again) != 1:
            number = f"{len(again)} {'codes' if name == CODE else 'graphs'}"
            return Verdict(kind, f"{what.split()[0]} {number}, not 1")
        if name == CODE:
            diff = difference(lines(record.payload), lines(again[0]))
        else:
            diff = graph_difference(record.payload, again[0])
        if diff:
            return Verdict(kind, f"{what}\n{diff}")
    graphs = "".join(compiled[name].payload for name in GRAPHS if name in compiled)
    if "triton_kernel_wrapper" in graphs:
        graphs = graphs if CODE in compiled and lines(compiled[CODE].payload) else ""
    return Verdict("faithful" if graphs else "runs")


def verdict_on(script, exit_code, stderr, failure, *compared):
    """Return the Verdict on an artifact, without a report.

    Takes the script, its exit code (None: it did not end), what it printed, how its program
    failed, if it did: (type, reason), and what is to be compared, as `compare` takes it.
    """
    end = how_it_ended(exit_code)
    tree = parse(script)
    if not script.strip():
        return Verdict("fails", f"is empty and {end}")
    if isinstance(tree, Exception):
        line = f": {(tree.text or '').strip()}" if isinstance(tree, SyntaxError) else ""
        return Verdict("fails", f"is no Python ({getattr(tree, 'msg', tree)}{line}) and {end}")
    functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    if "forward" not in functions:
        return Verdict("fails", f"has no forward, so that it rebuilds no graph, and {end}")
    error = error_in(stderr) if exit_code and exit_code > 0 else ""
    if failure:
        end += f": {error}" if error else ""
        failed = f"{failure[0]}: {failure[1]}"
        is_same = own_words(error) == own_words(failed)
        if exit_code and is_same and what_failed(stderr) == what_failed(failed):
            return Verdict("reproduces")
        failed = failed.split("\n")[0] if "raised:\n" not in failed else failed[:200]
        return Verdict("does not reproduce", f"{end}, but should have failed with {failed}")
    if exit_code != 0:
        return Verdict("fails", f"{end}: {error}" if error else end)
    verdict = compare(*compared)
    if verdict.kind == "faithful" and (names := inexact_constants(script)):
        names = f"{', '.join(names)} (pytorch/pytorch#100468)"
        return Verdict(
            "faithful, but for constants",
            f"has other values, or rounded ones, for the constants {names}",
        )
    return verdict


def judge(script, logged, name, code=False, failure=None, arguments=(), folder=None):
    """Run one artifact, in a fresh Python process and a folder of its own. Returns a Verdict.

    Takes the script, what was logged behind it as with_graphs yields it, the name under which
    the script is kept if FX_GRAPH_RUNNABLE_KEEP asks for all or if it is bad, whether it
    must generate the same code, how its program failed, as verdict_on takes it, the arguments
    to run it with, and a folder, if what it leaves there is wanted.
    """
    keep = os.environ.get("FX_GRAPH_RUNNABLE_KEEP")
    with tempfile.TemporaryDirectory(dir=run_folder(), ignore_cleanup_errors=True) as own:
        path = Path(folder or own, re.sub(r"[^\w.\[\]-]+", "_", name) + ".py")
        path.write_text(script, encoding="utf-8", errors="backslashreplace")
        trace = path.with_name("trace")
        environ = child_environ() | NO_GRAPH_CACHES | {"TORCH_TRACE": str(trace)}
        exit_code = run_script(path, environ, *arguments)
        rebuilt = [record for log in trace.glob("*") for record in read_trace(log)]
        compiled = {key: logged[key] for key in (*GRAPHS, CODE) if key in logged}
        if GRAPHS[0] in compiled and GRAPHS[1] not in map(artifact_name, rebuilt):
            compiled.pop(GRAPHS[1], None)  # which this torch does not log
        stdout, stderr = end_of(path.with_name("stdout")), end_of(path.with_name("stderr"))
        verdict = verdict_on(script, exit_code, stderr, failure, compiled, rebuilt, code)
        if not verdict.is_good and not keep:
            keep = tempfile.mkdtemp(prefix="fx_graph_runnable_failed_", dir=TEMPORARY)
        kept = shutil.copy(path, os.path.abspath(keep)) if keep else ""
    again = [f"PYTHONPATH={path}" for path in [child_python_path()] if path]
    what = verdict.problem
    if verdict.kind in ("unfaithful", "other code"):
        what = f"is unfaithful: it ran, but {what}"
    report = (
        f"the artifact {what}\n---- its stdout\n{stdout}\n---- its stderr\n{stderr}\n"
        f"---- kept as {kept}; to run it again:\n{shlex.join([*again, sys.executable, kept, *arguments])}"
    )
    return verdict._replace(report=report, kept=kept)


def forget(verdict):
    """Remove the script that was kept for a Verdict, unless all are to be kept."""
    if verdict.kept and not os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        shutil.rmtree(os.path.dirname(verdict.kept))


# The test case: captures artifacts, undoes what a test changes in torch, and judges.


def reset_torch():
    """Make torch forget what was compiled, and what it found out meanwhile."""
    from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
    from torch._inductor.cpu_vec_isa import supported_vec_isa_list, valid_vec_isa_list
    from torch._logging.structured import INTERN_TABLE
    from torch.compiler._cache import CacheArtifactManager

    torch.compiler.reset()
    kernel_side_table.reset_table()  # written into each artifact, whole
    INTERN_TABLE.clear()
    CacheArtifactManager.clear()  # what save_cache_artifacts saves
    # What it found out with cpp.vec_isa_ok, or without it.
    for check in (valid_vec_isa_list, *(type(isa).__bool__ for isa in supported_vec_isa_list)):
        getattr(check, "cache_clear", bool)()


@contextlib.contextmanager
def isolated_torch(folder):
    """Make torch log an artifact for every compile, forget other tests, and write nowhere else.

    Takes the folder for what torch writes while tracing. What is private to torch is here and
    in reset_torch, in one place: none of it has a public way.
    """
    import torch._dynamo.config as dynamo_config
    import torch._functorch.config as functorch_config
    import torch._inductor.compile_fx  # noqa: F401  # registers operators, for effect_of
    import torch._inductor.config as inductor_config
    import torch.compiler.config as compiler_config

    inductor_configs = {
        # A hit in a graph cache replays the artifact of an earlier compile, or logs none.
        "fx_graph_cache": False,
        "fx_graph_remote_cache": False,
        # TORCH_COMPILE_DEBUG switched it on if it was set when torch was imported.
        "trace.enabled": False,
        # Else each process builds C++ to probe the CPU, which no artifact depends on.
        "cpp.vec_isa_ok": False,
        # To start workers takes longer than to compile a small graph.
        "compile_threads": 1,
    }
    with contextlib.ExitStack() as wiring:
        for config in (compiler_config, dynamo_config, functorch_config, inductor_config):
            for entry in config._config.values():
                if "env_value_force" in vars(entry):  # read at import: see FORCED
                    unset = type(entry).env_value_force
                    wiring.enter_context(mock.patch.object(entry, "env_value_force", unset))
        for patch in (
            functorch_config.patch(enable_autograd_cache=False, enable_remote_autograd_cache=False),
            inductor_config.patch(inductor_configs),
            dynamo_config.patch(debug_dir_root=folder),
        ):
            wiring.enter_context(patch)
        reset_torch()
        wiring.callback(reset_torch)
        yield


@skip_in_fbcode
@skip_if_compile_disabled
class ArtifactTestCase(TestCase):
    """Captures the artifacts of what a test compiles, and judges them."""

    device = "cpu"
    maxDiff = None
    is_slow = False  # slow ones are run first
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
        for name in (*REDIRECTING, *FORCED):
            os.environ.pop(name, None)
        cache = cache_folder()
        os.makedirs(cache, exist_ok=True)
        # Inductor's precompiled headers go to the folder for temporary files.
        os.environ.update(TORCHINDUCTOR_CACHE_DIR=cache, TMPDIR=cache)
        wiring.enter_context(mock.patch.object(tempfile, "tempdir", cache))
        for name in ("TRITON_CACHE_DIR", "PYTORCH_KERNEL_CACHE_PATH"):
            os.environ.setdefault(name, cache)  # else in the home folder
        wiring.enter_context(isolated_torch(folder))
        # init_process_group puts the rank in front of each line of it.
        wiring.enter_context(mock.patch.object(sys, "excepthook", sys.excepthook))

        self.handler = logging.handlers.BufferingHandler(capacity=sys.maxsize)
        self.handler.addFilter(FxGraphRunnableArtifactFilter())
        self.handler.setFormatter(StructuredTracePayloadFormatter())
        graphs = logging.handlers.BufferingHandler(capacity=sys.maxsize)
        graphs.addFilter(lambda record: artifact_name(record) in (*GRAPHS, CODE))
        # One buffer for both, so that each comes behind its artifact.
        graphs.buffer = self.handler.buffer
        # In place of torch's own handler, which may write to a trace that the user asked for.
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

    def verify(self, function, *inputs, backward=False, artifacts=1, code=False, **options):
        """Compile a function with these options of torch.compile, run it, with backward=True
        its backward too, which has one artifact more, and judge all. Returns their scripts.
        """
        output = torch.compile(function, **options)(*inputs)
        if backward:
            output.sum().backward()
        return self._exec_and_verify_payload(artifacts + backward, code)

    def scripts(self):
        """Return the artifacts that were captured."""
        records = filter(FxGraphRunnableArtifactFilter().filter, self.handler.buffer)
        return [self.handler.format(record) for record in records]

    def _exec_and_verify_payload(self, artifacts=1, code=False, failure=None):
        """Judge each artifact that was captured. Returns their scripts.

        Takes how many there must be, whether each must generate the very code that its program
        generated, and how that failed, as verdict_on takes it. Raises BadArtifact or
        AssertionError.
        """
        found = list(with_graphs(self.handler.buffer))
        for record, logged in found:
            if logged is None:
                self.fail(f"torch logged a graph, and no artifact for it:\n{record.payload}")
        self.assertEqual(len(found), artifacts, "the number of artifacts that torch logged")
        bad = {}
        for number, (artifact, logged) in enumerate(found, start=1):
            script = self.handler.format(artifact)
            name = f"{type(self).__name__}.{self._testMethodName}.{number}"
            verdict = judge(script, logged, name, code, failure)
            missing = [GRAPHS[0]] if not logged.keys() & set(GRAPHS) else []
            if code and CODE not in logged:
                missing += [CODE]
            elif verdict.kind == "runs" and not missing:
                missing += [f"{CODE} with the program's own Triton kernels"]
            if verdict.is_good and missing and not failure:
                what = f"torch logged no {' and no '.join(missing)} behind artifact {number}"
                report = f"{what}, with which to compare: judged by its exit code alone, it is good"
                verdict = Verdict("not compared", what, report, verdict.kept)
            if not verdict.is_good:
                bad[number] = verdict
        if bad:
            raise BadArtifact(bad)
        return self.scripts()

    def verify_script(self, script, *arguments, failure=None, folder=None):
        """Run a script with these arguments: it must exit 0, or fail as verdict_on takes it, in
        this folder, if what it leaves there is wanted. Raises BadArtifact.
        """
        name = f"{type(self).__name__}.{self._testMethodName}"
        verdict = judge(script, {}, name, False, failure, arguments, folder)
        if not verdict.is_good:
            raise BadArtifact({1: verdict})


# Known gaps: tests that fail for what torch does, not for what the suite does.


class Gap(NamedTuple):
    """Something that torch does for which a test fails: the reason; the kind of the Verdict, or
    "asserts" where the test itself does; a regular expression for its problem; the upstream
    issue; the releases that opened and closed it; and which artifacts of a test show it.
    """

    reason: str
    kind: str
    error: str
    upstream: str = "unreported"
    opened: str = "0.0"
    closed: str = "99.0"
    artifacts: tuple = (1,)

    def shown(self, **fields):
        """Return it as a certain test shows it: in other artifacts, on fewer releases, or by
        another kind and error.
        """
        return self._replace(**fields)

    def is_open(self):
        return release(self.opened) <= release() < release(self.closed)

    def shows_in(self, verdict):
        """Return whether a Verdict is that of this gap, by its kind and its own problem."""
        lines = verdict.problem.split("\n")
        if verdict.kind in ("unfaithful", "other code"):  # not what is the same beside them
            lines = [line for line in lines if line[:1] not in (" ", "@")]
        return verdict.kind == self.kind and bool(re.search(self.error, "\n".join([*lines, ""])))

    def may_show(self):
        """Return whether a test may fail for it. A build that is not one of the published ones
        may lack what its release changed, or have what a later one does.
        """
        return self.is_open() or not is_published() and release(self.closed) == release()

    def __str__(self):
        return f"known gap: {self.reason} ({self.upstream})"


def known_gaps(*gaps):
    """Mark a test with the gaps for which it fails, one for each artifact on each release.

    While one is open, the test counts as skipped if it fails so; another failure is one, and
    so is success. On releases without one, and in builds of one's own, it may simply pass.
    """

    def mark(test):
        @functools.wraps(test)
        def marked(case):
            left = [(number, gap) for gap in gaps if gap.may_show() for number in gap.artifacts]
            shown = []
            try:
                test(case)
            except unittest.SkipTest:
                raise
            except Exception as failure:
                asserted = {1: Verdict("asserts", str(failure))}
                verdicts = getattr(failure, "verdicts", asserted)
                for number, verdict in verdicts.items():
                    fits = [gap for n, gap in left if n == number and gap.shows_in(verdict)]
                    if not fits:
                        raise
                    shown.append((number, fits[0]))
                for verdict in verdicts.values():
                    forget(verdict)
            for number, gap in left if is_published() else ():
                if (number, gap) not in shown:
                    advice = f"drop the mark, or give the gap closed={torch.__version__!r}"
                    case.fail(f"the {gap} is closed in artifact {number}: {advice}")
            if shown:
                raise unittest.SkipTest(" and ".join(dict.fromkeys(str(gap) for _, gap in shown)))

        marked.gaps = gaps  # for those who list them
        return marked

    return mark


# The gaps, grouped by what is lost: each with its error, its issue and its releases.
# fmt: off

# Symbolic sizes.
symbols_become_static = Gap("an artifact compiles the hints of its symbolic sizes", "unfaithful",
    "with static sizes for symbols, and no other difference", closed="2.13")
symbols_are_expressions = Gap("a symbol is defined by an expression", "fails",
    "^is no Python .cannot assign to expression here", "pytorch/pytorch#166529", closed="2.10")
symbols_are_function_calls = symbols_are_expressions._replace(
    error="^is no Python .cannot assign to function call here")
symbols_are_numbers = symbols_are_expressions._replace(
    error="^is no Python .cannot assign to literal here")
symbols_are_undefined = Gap("a symbol that is no input's size is an undefined name", "fails",
    r"NameError: name 's\d+' is not", "pytorch/pytorch#180298", closed="2.13")
arguments_are_not_static = Gap("an artifact compiles the hints of its symbolic sizes, but for arguments", "fails",
    "(?s)LoweringException: AssertionError.*target: (_c10d_functional.all_to_all_single|aten.slice.Tensor)", closed="2.10")
static_sizes_become_symbolic = Gap("an artifact with any symbolic size makes all of its inputs' sizes symbolic", "unfaithful",
    "with symbols for sizes that were static, and no other difference", opened="2.13")
derived_sizes_become_independent = Gap("what a backward saves of a derived size becomes a symbol of its own", "unfaithful",
    r"\n-input_\d+: Sym\(.*(?:\n-.*)*\n\+input_\d+: Sym\((?:1 \+ )?s\d+\)\n", opened="2.14", artifacts=(2,))
sizes_of_one_become_static = Gap("a dynamic size that is 1 becomes static", "unfaithful",
    r"(?:^|\n)-(input_\d+): Sym\(s\d+(?: // 3)?\)(?s:.*)\n\+\1: \n", "pytorch/pytorch#114296")
equal_sizes_become_one = Gap("sizes that happen to be equal become one symbol", "unfaithful",
    r"\n-(\w+): Sym\(s\d+\)\n\+\1: Sym\(s\d+\)\n", opened="2.13")
max_is_undefined = Gap("the size of a storage needs Max, which the artifact does not import", "fails",
    "NameError: name 'Max' is not defined", "pytorch/pytorch#190838", opened="2.10", closed="2.14")
functions_are_undefined = Gap("shapes and strides use functions that the artifact does not import", "fails",
    "NameError: name 'TruncToInt' is not", "pytorch/pytorch#194827", opened="2.10", closed="2.15")
math_trunc_is_undefined = functions_are_undefined._replace(
    error="NameError: name 'math_trunc' is not", closed="99.0")
items_cannot_be_traced = Gap("an unbacked symbol cannot be traced again", "fails",
    r"value out of a tracing tensor with aten\._local_scalar_dense")
nonzero_cannot_be_traced = items_cannot_be_traced._replace(
    error=r"DynamicOutputShapeException: aten\.nonzero")
unbacked_sizes_are_undefined = Gap("unbacked sizes are undefined names", "fails",
    "NameError: name 'u0' is not")
jagged_sizes_are_undefined = Gap("jagged sizes are undefined names", "fails",
    "NameError: name 'j\\d+' is not")
repeats_are_random = Gap("the repeats of an artifact do not sum to the output size", "fails",
    r"allocated size does not match required size|result_size == cumsum_ptr\[size - 1\]|CUDA error: device-side assert", closed="2.12")
repeats_are_out_of_bounds = repeats_are_random._replace(
    error="IndexError: index 3 is out of bounds for dimension 0 with size 3", closed="2.10")

# Constants, inputs and weights.
nan_is_undefined = Gap("NaN literals are undefined names", "fails",
    "NameError: name 'nan' is not")
constants_lose_digits = Gap("small tensor constants are recorded with four decimals", "asserts",
    r"\[3\.14\d+\] != \[3\.14159\d+\]")
large_constants_are_random = Gap("tensor constants of more than four elements come back random", "asserts",
    r"'torch\.randint\(.*' != 'tensor", "pytorch/pytorch#100468")
no_inputs_are_no_body = Gap("the artifact of a graph without inputs has a function without a body", "fails",
    "^is no Python .expected an indented block after function definition")
inputs_are_none = Gap("an input that is neither a tensor nor a size is loaded as None", "unfaithful",
    r"\n-return .*\n\+return .*None", "pytorch/pytorch#175765")
indices_are_out_of_bounds = Gap("indices that a graph computes from its inputs are out of bounds for random ones", "fails",
    r"IndexError: index -?\d+ is out of bounds|device-side assert", "pytorch/pytorch#154592")
generators_are_left_out = Gap("an input that is a generator is left out", "fails",
    r"missing 1 required positional argument: '[fb]wd_rng_state_0'", closed="2.12", artifacts=(1, 2))
backward_states_leave_a_sentence = Gap("a graph that takes a BackwardState leaves a sentence for an artifact", "fails",
    "^is no Python .invalid syntax: Repro is not generated due to existence of BackwardState", "pytorch/pytorch#120382")
conjugates_are_cloned = Gap("a conjugate gets a clone more", "unfaithful",
    r"\n\+clone_0: c64.*aten\.clone\.default\(input_0\)", closed="2.11")
views_get_an_alias = Gap("a view of another dtype gets an alias more", "unfaithful",
    r"\n\+(alias|detach)_0: .*aten\.\1\.default\(view_0\)")
complex_infinity_is_undefined = Gap("a complex infinity is an undefined name", "asserts",
    "^'infj' unexpectedly found in", "pytorch/pytorch#188596", closed="2.14")
names_are_not_imported = Gap("what an argument is written with is not imported", "asserts",
    "^Regex didn't match", "pytorch/pytorch#167768")
random_states_are_random = Gap("a checkpoint's state of the random number generator is loaded as random data", "fails",
    "RuntimeError: Invalid mt19937 state", opened="2.14")
attention_gets_a_random_seed = Gap("attention's backward takes a random seed and offset for what the forward drew", "fails",
    "was killed by SIGSEGV")
parameters_were_refused = Gap("weights in the graph become parameters, which no artifact may have", "fails",
    r"assert not any\(mod\.named_parameters", "pytorch/pytorch#111678", closed="2.13")
parameters_are_refused = parameters_were_refused._replace(
    error="Repro graph should not have any parameters", opened="2.13", closed="99.0")
exported_graphs_take_nothing = Gap("the artifact of an exported program takes no inputs", "fails",
    r"Repro\.forward\(\) takes 1 positional argument but 2 were given")
replayed_sizes_are_old = Gap("a replayed artifact has the sizes of the run that filled the cache", "asserts",
    r"\(6,\) != \(9,\)")
empty_where_nobody_listened = Gap("an artifact is empty if the run that filled the cache was not traced", "fails",
    "^is empty", "pytorch/pytorch#192818", opened="2.14")

# Subgraphs and operators.
tokens_are_unbound = Gap("the token of an effect is used before it is there", "fails",
    "UnboundLocalError: cannot access local variable|UnboundLocalError: local variable", "pytorch/pytorch#173024", opened="2.10", closed="2.15")
subgraphs_cannot_be_printed = Gap("a subgraph prints as a lambda, which is a syntax error", "fails",
    r"^is no Python .invalid syntax: \S+ = <lambda>\(\)", "pytorch/pytorch#150062, closed by #186804", closed="2.14")
while_loops_cannot_be_traced = Gap("a while_loop cannot be traced again", "fails",
    "'NoneType' object has no attribute 'ignore_fresh_unbacked_symbols'", "pytorch/pytorch#150062", opened="2.14")
counters_cannot_be_traced = Gap("a loop's counter cannot be traced again", "fails",
    r"DataDependentOutputException: aten\._local_scalar_dense", "pytorch/pytorch#150062", opened="2.14")
options_of_regions_are_lost = Gap("the options of a nested region are lost", "other code",
    r"\n\+.*async_compile\.", "pytorch/pytorch#186945", opened="2.14")
leaf_functions_are_missing = Gap("leaf functions are missing", "does not reproduce",
    "'Repro' object has no attribute '_", "pytorch/pytorch#170471")
regions_are_doubled = Gap("a region used twice becomes two", "unfaithful",
    r"\n\+class self\.attribute_", "pytorch/pytorch#150062", opened="2.14")
flex_attention_loses_arguments = Gap("flex attention loses its arguments", "fails",
    "InductorError: IndexError: tuple index out of range", "pytorch/pytorch#150062", opened="2.14")
streams_are_not_registered = Gap("streams and events are numbers of a table that no artifact has", "fails",
    "AssertionError: Index not registered in index_to_user_object_weakref", "pytorch/pytorch#182084")
custom_operators_are_missing = Gap("custom operators are not importable", "fails",
    "object has no attribute 'twice'", "pytorch/pytorch#138355")

# Process groups.
groups_of_subgraphs_are_missing = Gap("a group that is used in a subgraph alone is not set up", "fails",
    "Could not resolve the process group registered under the name 0", opened="2.14")
groups_are_of_first_ranks = Gap("a group is set up with the ranks 0, 1, ..., whatever its ranks are", "fails",
    r"TypeError: _register_process_group\(\): incompatible function arguments", "pytorch/pytorch#173584")
groups_are_of_two_ranks = Gap("every process group is taken to be of two ranks", "asserts",
    "'size': 4, 'rank': 1\" not found in", closed="2.11")
groups_are_but_one = Gap("there is but one process group", "fails",
    "Could not resolve the process group registered under the name ", "pytorch/pytorch#173932", closed="2.11")
names_are_taken = Gap("a group's name is taken before it is registered", "fails",
    "already registered under the name1", opened="2.11")

# Commands.
accuracy_of_what_raises = Gap("run --accuracy exits 0 where the compiled graph raises", "does not reproduce",
    "^exited with code 0, but")
analyze_needs_a_folder = Gap("analyze refuses an artifact, since that names no folder to save to", "fails",
    "RuntimeError: analyze requires a save_dir", opened="2.14")

# Configs and environment.
partials_are_no_python = Gap("a config that is a functools.partial is written as no Python", "fails",
    r"^is no Python .invalid syntax: .*functools\.partial\(", "pytorch/pytorch#189899", closed="2.14")
functions_of_the_program_are_missing = Gap("a config that is a function of the program is taken for one of the artifact", "fails",
    "AttributeError: module '__main__' has no attribute 'say'", "pytorch/pytorch#186406")
functions_become_strings = Gap("a config that is a list of functions becomes one of strings", "fails",
    "AttributeError: 'str' object has no attribute '__name__'", "pytorch/pytorch#186406")
functions_are_no_python = Gap("a config that is a list with a function in it is written as no Python", "fails",
    "^is no Python .invalid syntax: .*<function ", "pytorch/pytorch#190728")
passes_are_left_out = Gap("a pass of the program's own is left out", "unfaithful",
    r"\n-cos_0: (?s:.*)\n\+sin_0: ", "pytorch/pytorch#153243")
lines_are_not_escaped = Gap("a line's end in an environment variable is not escaped", "asserts",
    "^unterminated string literal")
minifiers_are_started = Gap("an artifact itself begins to dump and minify if its program did", "asserts",
    "^'TORCHDYNAMO_REPRO_AFTER' unexpectedly found in", "pytorch/pytorch#156437", closed="2.13")

# State that decides the code.
quotes_are_not_escaped = Gap("apostrophes and backslashes in environment variables are not escaped", "asserts",
    "^invalid syntax", closed="2.11")
quotes_are_doubled = quotes_are_not_escaped._replace(
    error=r"""'it"s C:\\new' != "it's C:""", opened="2.11", closed="99.0")
roles_are_lost = Gap("an artifact compiles an inference graph as one for training", "other code",
    r"\n-.*aten\.randint\.low_out", "pytorch/pytorch#193557", closed="2.15")
determinism_is_lost = Gap("deterministic algorithms are not in force", "other code",
    r"\n-.*index")
threads_are_lost = Gap("the number of threads is not recorded", "other code",
    r"\n-.*#pragma omp parallel num_threads\(3\)\n")
precision_is_lost = Gap("the precision of matmuls is not recorded", "other code",
    r"\n-    ALLOW_TF32 : tl\.constexpr = True\n\+    ALLOW_TF32 : tl\.constexpr = False\n")
cpp_wrapper_is_lost = Gap("the C++ wrapper is not generated", "other code",
    r"\n-from torch\._inductor\.codecache import CppWrapperCodeCache\n")
outputs_are_padded = Gap("outputs that the user sees are padded", "other code",
    r"\n-.*r0_1 \+ 2000\*x0(?s:.*)\n\+.*r0_1 \+ 2016\*x0")

# Triton kernels of one's own.
imports_are_missing = Gap("what a Triton kernel imports is not imported", "fails",
    r"NameError\('(libdevice|exp|tl_math) is not defined'\)", closed="2.14")
false_constexprs_are_missing = Gap("a global constexpr that is 0 or False is left out", "fails",
    r"NameError\('(ZERO|FALSE) is not defined'\)")
strings_are_not_quoted = Gap("a global constexpr that is a string is written without quotes", "fails",
    "NameError: name 'relu' is not defined")
dtypes_are_short_names = Gap("a global constexpr that is a dtype is written as its short name", "fails",
    "NameError: name 'fp32' is not defined")
heuristics_are_not_written = Gap("heuristics under autotune cannot be written", "fails",
    "^is no Python .*ERROR: Repro will not work as intended")

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

    @known_gaps(symbols_become_static)
    def test_dynamic_shapes_run(self):
        torch.compile(lambda x: torch.relu(x @ x.transpose(0, 1)))(dynamic(torch.randn(10, 12)))
        self._exec_and_verify_payload()

    @known_gaps(symbols_become_static)
    def test_broadcast_add_dynamic(self):
        x, y = dynamic(torch.randn(5, 1), 0), dynamic(torch.randn(1, 8), 1)
        torch.compile(lambda x, y: x + y * 2)(x, y)
        self._exec_and_verify_payload()

    @known_gaps(symbols_are_expressions, symbols_become_static.shown(opened="2.10"))
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

    @known_gaps(
        symbols_become_static.shown(artifacts=(1, 2)),
        static_sizes_become_symbolic.shown(artifacts=(1, 2)),
    )
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


class RecordedStateTest(ArtifactTestCase):
    """What an artifact must record of the state it was compiled in: its graph does not show it."""

    is_slow = True  # one probes the CPU's vector instructions

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

    @known_gaps(constants_lose_digits)
    def test_digits_of_small_constants(self):
        torch.compile(lambda x: x * torch.tensor([3.14159274]))(torch.randn(3))
        (script,) = self.scripts()
        (text,) = re.findall(r"register_buffer\('\w+', tensor\((.*)\)\)", script)
        self.assertEqual(torch.tensor(ast.literal_eval(text)).tolist(), [3.1415927410125732])

    def test_configs_and_environment(self):
        quoted = 'a "quoted" \\ value'
        os.environ.update(TORCH_PLAIN="plain", DYNAMO_QUOTED=quoted, NOT_RECORDED_PLAIN="plain")
        with torch._inductor.config.patch({"size_asserts": False, "cpp.threads": 3}):
            (script,) = self.verify(lambda x: x.sin() + 1, torch.randn(2**16), code=True)
        environment = environment_of(script)
        self.assertEqual(environment["TORCH_PLAIN"], "plain")
        self.assertEqual(environment["DYNAMO_QUOTED"], quoted)
        self.assertNotIn("NOT_RECORDED_PLAIN", script)

    @known_gaps(quotes_are_not_escaped, quotes_are_doubled)
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

    @known_gaps(groups_are_of_two_ranks)
    def test_process_group(self):
        with fake_process_group(world_size=4, rank=1):
            torch.compile(lambda x: dist.all_reduce(x))(torch.randn(4))
        (script,) = self.scripts()
        self.assertIn("'size': 4, 'rank': 1", script)

    @known_gaps(lines_are_not_escaped)
    def test_environment_of_two_lines(self):
        os.environ["TORCH_LINES"] = "one\ntwo"
        torch.compile(lambda x: x + 1)(torch.randn(3))
        (script,) = self.scripts()
        self.assertEqual(environment_of(script)["TORCH_LINES"], "one\ntwo")

    @known_gaps(minifiers_are_started)
    def test_environment_of_the_minifier(self):
        # Else the artifact itself begins to dump and minify: pytorch/pytorch#156437.
        os.environ.update(TORCHDYNAMO_REPRO_AFTER="aot", TORCHDYNAMO_REPRO_LEVEL="4")
        torch.compile(lambda x: x + 1)(torch.randn(3))
        (script,) = self.scripts()
        self.assertNotIn("TORCHDYNAMO_REPRO_AFTER", environment_of(script))

    def test_vector_instructions_and_threads(self):
        # As users run it: the other tests use neither.
        os.environ["OMP_NUM_THREADS"] = "2"  # of the artifact
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(2)
        with torch._inductor.config.patch({"cpp.vec_isa_ok": True}):
            self.verify(lambda x: x.sin().sum(1) + 1, torch.randn(2**10, 2**6), code=True)

    @known_gaps(threads_are_lost)
    def test_number_of_threads(self):
        os.environ["OMP_NUM_THREADS"] = "1"  # of the artifact
        self.addCleanup(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(3)
        self.verify(lambda x: x.sin() + 1, torch.randn(2**16), code=True)


def configs_in_force(changed_alone=False):
    """Return the configs of Dynamo, functorch and Inductor, or those that differ from their
    defaults alone, as a dict of texts by their names.
    """
    found = {}
    for config in (torch._dynamo.config, torch._functorch.config, torch._inductor.config):
        for name, value in config.get_config_copy().items():
            # Defaults have no public name.
            if not changed_alone or value != config._config[name].default:
                text = repr(sorted(map(str, value)) if isinstance(value, set) else value)
                found[f"{config.__name__}.{name}"] = re.sub(" at 0x[0-9a-f]+", "", text)
    return found


class ConfigsTest(ArtifactTestCase):
    """Whether the configs that a program was compiled with are in force in its artifact."""

    def verify_configs(self, function=lambda x: x.sin() + 1):
        torch.compile(function)(self.randn(4, 4))
        changed = configs_in_force(changed_alone=True)
        path = run_folder() / f"{self.id()}.json"
        probe = (
            f"\nimport json, sys\nsys.path.append({os.path.dirname(os.path.abspath(__file__))!r})\n"
            f"from {Path(__file__).stem} import configs_in_force\n"
            f"with open({str(path)!r}, 'w') as file:\n    json.dump(configs_in_force(), file)\n"
        )
        for record in filter(FxGraphRunnableArtifactFilter().filter, self.handler.buffer):
            record.payload = record.payload.replace("\nclass Repro(", f"{probe}class Repro(")
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

    @known_gaps(partials_are_no_python)
    @unittest.skipIf(release() < (2, 10), "before 2.10 there is no such config")
    def test_partial(self):
        from torch._inductor.choices import InductorChoices

        choices = functools.partial(InductorChoices)
        with torch._inductor.config.patch(inductor_choices_class=choices):
            self.verify_configs()

    @known_gaps(functions_of_the_program_are_missing)
    def test_function_of_the_program(self):
        say = lambda *args: None
        say.__module__, say.__name__ = "__main__", "say"
        with torch._dynamo.config.patch(reorderable_logging_functions={say}):
            self.verify_configs()

    @known_gaps(functions_become_strings)
    def test_list_of_functions(self):
        with torch._inductor.config.patch(external_matmul=[torch.matmul]):
            self.verify_configs(lambda x: x @ x)

    @known_gaps(functions_are_no_python)
    def test_names_and_functions(self):
        passes = ["sink_waits", lambda nodes: nodes]
        with torch._inductor.config.patch(reorder_for_compute_comm_overlap_passes=passes):
            self.verify_configs()

    @known_gaps(passes_are_left_out)
    def test_pass_of_the_program(self):
        def sine_to_cosine(graph):
            for node in graph.find_nodes(op="call_function", target=torch.ops.aten.sin.default):
                node.target = torch.ops.aten.cos.default

        with torch._inductor.config.patch(post_grad_custom_post_pass=sine_to_cosine):
            self.verify_configs()


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
        self.verify(f, storage[:6], None, storage[4:])

    @known_gaps(no_inputs_are_no_body)
    def test_no_input(self):
        self.verify(lambda: torch.ones(3, device=self.device) + 1)

    @known_gaps(symbols_become_static)
    def test_scalars(self):
        f = lambda x, i, r, b: x * i + r if b else x
        self.verify(f, self.randn(5), 7, 2.5, True, dynamic=True)

    @known_gaps(jagged_sizes_are_undefined)
    def test_jagged_nested_tensor(self):
        x = torch.nested.nested_tensor([self.randn(2, 3), self.randn(4, 3)], layout=torch.jagged)
        self.verify(lambda x: x * 2, x)

    @known_gaps(conjugates_are_cloned)
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

    @known_gaps(indices_are_out_of_bounds)
    def test_indices_from_floats(self):
        table = self.randn(5, 3)
        zeros = torch.zeros(64, device=self.device)
        self.verify(lambda x, table: table[x.abs().mul(100).long()] + 1, zeros, table)


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

        self.verify(Model().to(self.device).eval(), self.randn(4))

    @known_gaps(nan_is_undefined)
    def test_nan(self):
        self.verify(lambda x: x.masked_fill(x > 0, float("nan")), self.randn(4))

    @known_gaps(large_constants_are_random)
    def test_large_tensor(self):
        torch.compile(lambda x: x + torch.tensor([1, 2, 3, 4, 5, 6]).to(x.device))(self.randn(6))
        (script,) = self.scripts()
        (text,) = re.findall(r"register_buffer\('\w+', (.*)\)\n", script)
        self.assertEqual(text, "tensor([1, 2, 3, 4, 5, 6])")

    @known_gaps(complex_infinity_is_undefined)
    def test_complex_infinity(self):
        with contextlib.suppress(NameError):  # the code that Inductor generates has it, too
            torch.compile(lambda x: x * complex(1, math.inf))(torch.randn(4).to(torch.complex64))
        (script,) = self.scripts()
        self.assertNotIn("infj", script)


class TrainingTest(ArtifactTestCase):
    """Forward and backward graphs, each with its artifact."""

    is_slow = True

    def test_convolutions(self):
        layers = torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()
        model = torch.nn.Sequential(*layers, torch.nn.Dropout(0.5))
        self.verify(model.to(self.device), self.randn(2, 3, 8, 8), backward=True)

    @known_gaps(random_states_are_random.shown(artifacts=(2,)))
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

    @known_gaps(backward_states_leave_a_sentence)
    def test_hook_in_compiled_autograd(self):
        def train(x):
            y = x.sin()
            y.register_hook(lambda grad: grad * 2)
            (y * 2).sum().backward()

        with torch._dynamo.config.patch(compiled_autograd=True):
            torch.compile(train)(self.randn(4, requires_grad=True))
        self._exec_and_verify_payload(artifacts=2)

    @known_gaps(
        items_cannot_be_traced,
        inputs_are_none.shown(kind="fails", error="operand type.* '?NoneType", artifacts=(2,)),
    )
    @unittest.skipIf(release() < (2, 10), "before 2.10 Inductor fails on it itself")
    def test_items_that_the_backward_saves(self):
        def f(x, whole, real):
            return (x * (whole.item() / 3) * real.item()).sin()

        numbers = torch.tensor(4, device=self.device), torch.tensor(2.5, device=self.device)
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(f, self.randn(5, requires_grad=True), *numbers, backward=True)

    @known_gaps(
        items_cannot_be_traced,
        inputs_are_none.shown(kind="fails", error="Tensor but got None", artifacts=(2,)),
    )
    @unittest.skipIf(release() < (2, 12), "before 2.12 Inductor fails on it itself")
    def test_truth_that_the_backward_saves(self):
        n = torch.tensor(4, device=self.device)
        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            x = self.randn(5, requires_grad=True)
            self.verify(lambda x, n: x.sin() * (n.item() > 3), x, n, backward=True)


class ProgramsTest(ArtifactTestCase):
    """Operators and ways of compiling that people use."""

    is_slow = True

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

    @known_gaps(parameters_were_refused, parameters_are_refused)
    def test_frozen(self):
        with torch._inductor.config.patch(freezing=True), torch.no_grad():
            self.verify(ToyModel().to(self.device).eval(), self.randn(3, 10))


class DynamicShapesTest(ArtifactTestCase):
    """Symbolic sizes, backed by a hint or not."""

    @known_gaps(symbols_become_static)
    def test_dynamic_true(self):
        f = lambda x, y: torch.cat([x @ y, y]).relu()
        self.verify(f, self.randn(5, 7), self.randn(7, 9), dynamic=True)

    @known_gaps(symbols_are_expressions, symbols_are_undefined.shown(opened="2.10"))
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
        symbols_become_static.shown(artifacts=(1,)),
        symbols_are_function_calls.shown(artifacts=(2,)),
        max_is_undefined.shown(artifacts=(2,)),
        derived_sizes_become_independent,
    )
    def test_storage_size_with_max(self):
        # A backward graph takes the result of exp, whose rows may be empty.
        x = self.randn(5, 4, requires_grad=True)
        self.verify(lambda x: x[:, 1:].exp(), x, backward=True, dynamic=True)

    @known_gaps(
        symbols_are_expressions.shown(artifacts=(1,)),
        symbols_are_function_calls.shown(artifacts=(2,)),
        math_trunc_is_undefined,
        functions_are_undefined.shown(artifacts=(2,)),
        derived_sizes_become_independent.shown(opened="2.15"),
    )
    def test_sizes_that_are_functions(self):
        # Sizes and strides of a backward graph's inputs: pytorch/pytorch#194827.
        def f(x, y):
            return (torch.nn.functional.interpolate(x, scale_factor=0.5) @ y).relu()

        x = self.randn(2, 3, 8, 10, requires_grad=True)
        self.verify(f, x, self.randn(5, 7), backward=True, dynamic=True)

    @known_gaps(
        symbols_are_undefined.shown(closed="2.11"),
        symbols_become_static.shown(opened="2.11"),
        equal_sizes_become_one,
    )
    def test_views_of_a_larger_storage(self):
        # The storage and the shape have different symbols: pytorch/pytorch#174038.
        def f(x, n):
            return x + 1, torch.as_strided(x, (n, 2), (2, 1)) + 1

        self.verify(f, dynamic(self.randn(10, 12)[:, 2:8]), 6, dynamic=True)

    @known_gaps(repeats_are_random, symbols_become_static.shown(opened="2.12"))
    def test_repeat_interleave(self):
        f = lambda x, repeats, n: x.repeat_interleave(repeats, 0, output_size=n)
        repeats = torch.tensor([1, 2, 3], device=self.device)
        self.verify(f, self.randn(3, 4), repeats, 6, dynamic=True)

    @known_gaps(repeats_are_out_of_bounds)
    def test_repeat_interleave_to_a_constant(self):
        f = lambda x, repeats: x.repeat_interleave(repeats, 0, output_size=6)
        self.verify(f, self.randn(3, 4), torch.tensor([1, 2, 3], device=self.device))

    @known_gaps(items_cannot_be_traced)
    def test_item(self):
        def f(x, n):
            return x * n.item(), torch.zeros(n.item(), device=x.device) + 1

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(f, self.randn(9), torch.tensor(4, device=self.device))

    @known_gaps(nonzero_cannot_be_traced)
    def test_nonzero(self):
        with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
            self.verify(lambda x: torch.nonzero(x > 0) * 2, self.randn(9))

    @known_gaps(unbacked_sizes_are_undefined)
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
        symbols_are_expressions.shown(artifacts=(2,)),
        symbols_are_undefined.shown(opened="2.10"),
        sizes_of_one_become_static.shown(opened="2.10", artifacts=(2,)),
    )
    def test_derived_size_of_one(self):
        def f(x):
            n = x.size(0) // 3
            return x[n:].sin().view(-1, 1).expand(-1, n + 1).sum(0)

        self.verify(f, self.randn(3, requires_grad=True), backward=True, dynamic=True)

    @known_gaps(symbols_are_numbers)
    def test_derived_size_of_zero(self):
        f = lambda x: (x[: x.size(0) - 3], x.new_ones(x.size(0) // 4 + 2))
        self.verify(f, self.randn(3), dynamic=True)

    @known_gaps(arguments_are_not_static, symbols_are_undefined.shown(opened="2.10"))
    def test_equal_sizes(self):
        f = lambda x, y: (x[: x.size(0) // 2] + 1, y * 2)
        self.verify(f, self.randn(8), self.randn(4), dynamic=True)


class HigherOrderOperatorsTest(ArtifactTestCase):
    """Operators that take subgraphs."""

    is_slow = True

    @known_gaps(subgraphs_cannot_be_printed)
    def test_cond(self):
        y = self.randn(4)
        add, subtract = lambda x: x + y, lambda x: x - 1
        self.verify(lambda x: torch.cond(x.sum() > 0, add, subtract, (x,)), self.randn(4))

    @known_gaps(subgraphs_cannot_be_printed, while_loops_cannot_be_traced)
    def test_while_loop(self):
        from torch._higher_order_ops.while_loop import while_loop

        def f(i, x):
            return while_loop(lambda i, x: i < 5, lambda i, x: (i + 1, x * 2), (i, x))

        self.verify(f, torch.tensor(0, device=self.device), self.randn(4))

    @known_gaps(subgraphs_cannot_be_printed, counters_cannot_be_traced)
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

    @known_gaps(subgraphs_cannot_be_printed, counters_cannot_be_traced)
    def test_map(self):
        from torch._higher_order_ops.map import map as map_

        with torch._dynamo.config.patch(capture_scalar_outputs=True):
            self.verify(lambda x: map_(lambda row: row.sin() + 1, x), self.randn(4, 3))

    @known_gaps(subgraphs_cannot_be_printed, regions_are_doubled)
    def test_nested_compile_region(self):
        @torch.compiler.nested_compile_region
        def region(x):
            return x.sin() + 1

        self.verify(lambda x: region(region(x)), self.randn(4))

    @known_gaps(subgraphs_cannot_be_printed, flex_attention_loses_arguments)
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

    @known_gaps(options_of_regions_are_lost)
    @unittest.skipIf(release() < (2, 14), "before 2.14 a region has no options of this kind")
    def test_options_of_a_region(self):
        from torch._higher_order_ops.invoke_subgraph import get_invoke_subgraph_compile_options

        with torch._dynamo.config.patch(enable_invoke_subgraph_regional_compile=True):
            configs = {"fallback_by_default": True}
            options = get_invoke_subgraph_compile_options(configs, partitioner=None)
            mark = torch.compiler.nested_compile_region(options=options)
            region = mark(lambda x: x.sin() + x.cos())
            self.verify(lambda x: region(x) * 2, self.randn(64), code=True)

    @known_gaps(tokens_are_unbound)
    def test_effects(self):
        def f(x):
            torch.ops.aten._print("before")
            y = x.sin() + 1
            torch.ops.aten._print("after")
            return y

        self.verify(f, self.randn(4))

    def test_check_of_a_result(self):
        self.verify(lambda x: torch.linalg.inv(x) + 1, torch.eye(3, device=self.device))

    @unittest.skipIf(release() < (2, 10), "before 2.10 there are no wrapped regions")
    def test_wrapped_region(self):
        with torch._inductor.config.patch(wrap_inductor_compiled_regions=True):
            self.verify(lambda x: x.sin() + 1, self.randn(4))


class CustomOperatorsTest(ArtifactTestCase):
    """Operators of one's own: an artifact has to bring or import them."""

    @known_gaps(custom_operators_are_missing)
    def test_custom_op(self):
        @torch.library.custom_op("fx_graph_runnable::twice", mutates_args=())
        def twice(x: torch.Tensor) -> torch.Tensor:
            return x * 2

        twice.register_fake(torch.empty_like)
        self.verify(lambda x: twice(x) + 1, self.randn(4))

    @known_gaps(custom_operators_are_missing.shown(error="no attribute 'takes_foo'"))
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
    @known_gaps(names_are_not_imported)
    def test_value_of_ones_own_class(self):
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


@requires_distributed
class DistributedTest(ArtifactTestCase):
    """Collectives, and the parallelisms made of them, on fake process groups."""

    @known_gaps(names_are_taken, groups_are_but_one)
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

    @known_gaps(arguments_are_not_static, symbols_are_undefined.shown(opened="2.10"))
    def test_all_to_all_with_dynamic_shapes(self):
        def f(x):
            output = torch.empty_like(x)
            dist.all_to_all_single(output, x)
            return output * 2

        with fake_process_group():
            self.verify(f, dynamic(self.randn(4, 6)))

    def test_collective_in_backward(self):
        from torch.distributed._functional_collectives import all_gather_tensor_autograd

        with fake_process_group():
            group, x = dist.group.WORLD, self.randn(4, requires_grad=True)
            f = lambda x: all_gather_tensor_autograd(x * 2, 0, group).sin()
            self.verify(f, x, backward=True)

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

    @known_gaps(inputs_are_none.shown(opened="2.12", artifacts=(1, 2)))
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

    @known_gaps(groups_are_but_one, groups_are_of_first_ranks.shown(opened="2.11"))
    def test_last_rank(self):
        with fake_process_group(world_size=4, rank=3):
            pair = dist.new_group([1, 3])

            def f(x):
                x = all_reduce(x, "sum", dist.group.WORLD)
                return all_reduce(x * 2, "sum", pair)

            self.verify(f, self.randn(4))

    @known_gaps(groups_are_but_one)
    def test_groups_that_are_not_the_world(self):
        with fake_process_group(world_size=4, rank=3):
            one, other = dist.new_group([1, 3]), dist.new_group([2, 3])
            f = lambda x: all_reduce(x, "sum", one) + all_reduce(x, "max", other)
            self.verify(f, self.randn(4))

    @known_gaps(groups_are_but_one)
    def test_dimension_of_a_mesh(self):
        from torch.distributed.device_mesh import init_device_mesh

        with fake_process_group(world_size=6, rank=4):
            mesh = init_device_mesh(self.device, (2, 3), mesh_dim_names=("rows", "columns"))
            self.verify(lambda x: all_reduce(x, "sum", mesh["columns"]) + 1, self.randn(4))

    @known_gaps(groups_are_but_one)
    def test_groups_of_ones_own_names(self):
        # As pytorch/pytorch#173584
        with fake_process_group(world_size=4):
            for name in ("tensor", "data"):
                torch._C._distributed_c10d._register_process_group(name, dist.new_group([0, 1]))
            ops = torch.ops._c10d_functional
            reduce = lambda x, name: ops.wait_tensor(ops.all_reduce(x, "sum", name))
            self.verify(lambda x: reduce(x, "tensor") + reduce(x, "data"), self.randn(4))

    @known_gaps(subgraphs_cannot_be_printed, groups_of_subgraphs_are_missing)
    def test_collective_in_a_region(self):
        reduce = lambda x: all_reduce(x, "sum", dist.group.WORLD)
        region = torch.compiler.nested_compile_region(reduce)
        with fake_process_group():
            self.verify(lambda x: region(region(x).sin()), self.randn(4))

    @unittest.skipIf(release() < (2, 13), "before 2.13 no graph takes a mesh")
    @known_gaps(
        inputs_are_none.shown(kind="fails", error="'NoneType' object has no attribute 'get_group'")
    )
    def test_mesh_as_an_input(self):
        from torch.distributed.device_mesh import init_device_mesh

        with fake_process_group(), torch.distributed.config.patch(compile_on_one_rank=True):
            mesh = init_device_mesh(self.device, (2,))
            self.verify(lambda x: all_reduce(x, "sum", mesh) + 1, self.randn(4))


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

    @known_gaps(empty_where_nobody_listened.shown(artifacts=(1, 2)))
    def test_fx_graph_cache_filled_untraced(self):
        self.run_anew(self.train, autograd_cache=False, traced=False)
        self.run_anew(self.train, autograd_cache=False)
        self.verify_replayed(autograd_cache=False)

    @known_gaps(empty_where_nobody_listened.shown(artifacts=(1, 2)))
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

    @known_gaps(replayed_sizes_are_old)
    def test_other_sizes_than_those_of_the_cache(self):
        def program(size):
            torch.compile(lambda x: x * x.shape[0])(dynamic(self.randn(size)))

        self.run_anew(program, 6)
        self.run_anew(program, 9)
        ((_, logged),) = with_graphs(self.handler.buffer)
        self.assertNotIn("before_post_grad_graph", logged)  # a hit
        (symint,) = [c for c in inputs_of(*self.scripts()) if c[0] == "symint"]
        self.assertEqual(symint.args, (9,))


class AheadOfTimeTest(ArtifactTestCase):
    """Exported programs, compiled ahead of time."""

    def package(self, model, *inputs, **options):
        """Export a module, and compile it into a package."""
        program = torch.export.export(model.to(self.device), inputs, **options)
        # To compile the C++ would take long, and decide nothing.
        configs = {"aot_inductor.package_cpp_only": True}
        make_package = torch._inductor.aoti_compile_and_package
        with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
            make_package(program, package_path=f"{folder}/model.pt2", inductor_configs=configs)

    @known_gaps(exported_graphs_take_nothing)
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

    @known_gaps(exported_graphs_take_nothing)
    def test_dynamic_batch(self):
        batch = torch.export.Dim("batch", min=2, max=64)
        self.package(ToyModel().eval(), self.randn(3, 10), dynamic_shapes=[{0: batch}])
        self._exec_and_verify_payload()


class DebugFolderTest(ArtifactTestCase):
    """The copy of an artifact that TORCH_COMPILE_DEBUG=1 has Inductor write."""

    def debug_copy(self, **config):
        """Compile a program that writes its debug folder, and put the copy in the place of the
        artifact that torch logged. Returns the inputs, and the copy.
        """
        xs = torch.arange(6.0, device=self.device), self.randn(6)
        config = {f"trace.{name}": value for name, value in config.items()}
        with torch._inductor.config.patch({"trace.enabled": True} | config):
            torch.compile(lambda x, y: x.sin() * 2 + y)(*xs)
        folder = Path(torch._dynamo.config.debug_dir_root)
        (path,) = folder.glob("run_*/torchinductor/*/fx_graph_runnable.py")
        ((artifact, _),) = with_graphs(self.handler.buffer)
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

    def test_what_an_artifact_says_of_itself(self):
        torch.compile(lambda x, y: (x @ y).relu())(self.randn(2, 3), self.randn(3, 4))
        (x, y), (output,) = self.get_args(*self.scripts())
        self.assertTrue(torch.allclose(output, (x @ y).relu()))


# How an artifact that computes wrong numbers ends with --accuracy.
BAD_ACCURACY = ("AccuracyError", "Bad accuracy detected")


class FailuresTest(ArtifactTestCase):
    """Programs that Inductor fails on, or whose code fails: their artifacts must fail so, too."""

    def inject(self, bug):
        """Have Inductor generate bad code for a relu; the config for it is in the artifact."""
        backend = "cpp" if self.device == "cpu" else "triton"
        return torch._inductor.config.patch({f"{backend}.inject_relu_bug_TESTING_ONLY": bug})

    def verify_failure(self, function, *inputs):
        with self.assertRaises(Exception) as caught:
            torch.compile(function)(*inputs)
        failure = type(caught.exception).__name__, str(caught.exception)
        self._exec_and_verify_payload(failure=failure)

    def test_compile_error(self):
        with self.inject("compile_error"):
            self.verify_failure(lambda x: x.sin().relu(), self.randn(8))

    def test_runtime_error(self):
        # In a process of its own, since such an error leaves a GPU useless.
        backend = "cpp" if self.device == "cpu" else "triton"
        path = Path(torch._dynamo.config.debug_dir_root, "program.py")
        path.write_text(
            f"import torch, torch._inductor.config as config\n"
            f"config.{backend}.inject_relu_bug_TESTING_ONLY = 'runtime_error'\n"
            f"config.cpp.vec_isa_ok = False\n"
            f"torch.compile(lambda x: x.sin().relu())(torch.randn(8, device='{self.device}')).cpu()\n"
        )
        environ = NO_GRAPH_CACHES | {"TORCH_TRACE": str(path.with_name("trace"))}
        self.assertEqual(run_script(path, child_environ() | environ), 1)
        kind, _, reason = error_in(end_of(path.with_name("stderr"))).partition(": ")
        (log,) = path.with_name("trace").iterdir()
        ((artifact, _),) = with_graphs(read_trace(log))
        self.verify_script(ELSEWHERE.sub("", artifact.payload), failure=(kind, reason))

    def test_wrong_numbers(self):
        with self.inject("accuracy"):
            (script,) = self.verify(lambda x: x.sin().relu(), self.randn(8))
        self.verify_script(script, "run", "--accuracy", failure=BAD_ACCURACY)

    @unittest.skipIf(release() < (2, 13), "before 2.13 a float4 has a lowering, or fails elsewhere")
    def test_lowering_that_raises(self):
        x = torch.zeros(8, dtype=torch.uint8, device=self.device).view(torch.float4_e2m1fn_x2)
        self.verify_failure(lambda x: x.view(torch.uint8) + 1, x)

    @known_gaps(leaf_functions_are_missing)
    def test_leaf_function(self):
        try:
            from torch._dynamo.decorators import leaf_function
        except ImportError as error:
            self.skipTest(f"no leaf functions here: {error}")
        leaf = leaf_function(lambda x: (x.cos(),))
        leaf.register_fake(lambda x: (x.cos(),))
        self.verify_failure(lambda x: leaf(x)[0] + 1, self.randn(4))


class CommandsTest(ArtifactTestCase):
    """What an artifact does besides running, as its --help says."""

    is_slow = True  # the minifier starts seven processes, one for each guess

    def artifact(self, bug=None):
        """Return the artifact of a sine and a relu, the latter with a bug as in FailuresTest, and
        how its program failed.
        """
        failure = None
        with torch._inductor.config.patch({"cpp.inject_relu_bug_TESTING_ONLY": bug}):
            try:
                torch.compile(lambda x: x.sin().relu())(torch.randn(8))
            except Exception as error:
                failure = type(error).__name__, str(error)
        (script,) = self.scripts()
        return script, failure

    def verify_minified(self, script, failure, *arguments):
        """Have an artifact minified: the relu is left, and fails so when run with these arguments."""
        with tempfile.TemporaryDirectory(dir=run_folder()) as folder:
            self.verify_script(script, "minify", *arguments, folder=folder)
            script = Path(folder, "repro.py").read_text(encoding="utf-8")
        operators = re.findall(r" = torch\.ops\.(\S+)\(", script)
        self.assertEqual(operators, ["aten.relu.default"], script)
        self.verify_script(script, "run", *arguments, failure=failure)

    def test_minify_compile_error(self):
        self.verify_minified(*self.artifact("compile_error"))

    def test_minify_accuracy(self):
        script, _ = self.artifact("accuracy")
        self.verify_minified(script, BAD_ACCURACY, "--accuracy")

    def test_accuracy(self):
        script, _ = self.artifact()
        self.verify_script(script, "run", "--accuracy")

    @known_gaps(accuracy_of_what_raises)
    def test_accuracy_of_what_raises(self):
        script, failure = self.artifact("runtime_error")
        self.verify_script(script, "run", "--accuracy", failure=failure)

    @known_gaps(analyze_needs_a_folder)
    def test_analyze(self):
        script, _ = self.artifact()
        self.verify_script(script, "analyze")


class GeneratedCodeTest(ArtifactTestCase):
    """Whether an artifact makes Inductor generate the very code that its program ran."""

    verify_code = functools.partialmethod(ArtifactTestCase.verify, code=True)

    def test_plain(self):
        f = lambda x, y: torch.relu(x @ y).sum(0)
        self.verify_code(f, self.randn(3, 4), self.randn(4, 5))

    def test_backward(self):
        x = self.randn(9, requires_grad=True)
        self.verify_code(lambda x: x.sin(), x, backward=True)

    def test_options(self):
        options = {"size_asserts": False, "cpp.threads": 3}
        self.verify_code(lambda x: x.sin() + 1, self.randn(2**16), options=options)

    @known_gaps(roles_are_lost)
    def test_role_of_an_inference_graph(self):
        # Operators change places for the sake of locality in these alone.
        with torch.no_grad():
            self.verify_code(ToyModel().to(self.device), self.randn(3, 10))

    def test_inference_mode(self):
        with torch.inference_mode():
            self.verify_code(ToyModel().to(self.device).eval(), self.randn(3, 10))

    def test_reduce_overhead(self):
        self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4), mode="reduce-overhead")

    @known_gaps(cpp_wrapper_is_lost)
    def test_cpp_wrapper(self):
        with torch._inductor.config.patch(cpp_wrapper=True):
            self.verify_code(lambda x: x.sin() @ x, self.randn(4, 4))

    @known_gaps(determinism_is_lost)
    def test_deterministic_algorithms(self):
        index = torch.tensor([0, 2, 0], device=self.device)
        self.addCleanup(torch.use_deterministic_algorithms, False)
        torch.use_deterministic_algorithms(True)
        self.verify_code(lambda x, y: x.index_add(0, index, y), self.randn(4, 5), self.randn(3, 5))

    def test_options_of_a_backend(self):
        from torch._inductor.compile_fx import compile_fx

        backend = functools.partial(compile_fx, config_patches={"cpp.threads": 3})
        self.verify_code(lambda x: x.sin() + 1, self.randn(2**16), backend=backend)


# The same graphs on an accelerator, where there is one.

if ACCELERATOR:
    for case in (
        InputsTest,
        ConstantsTest,
        ProgramsTest,
        DynamicShapesTest,
        CustomOperatorsTest,
        WarmCachesTest,
        AheadOfTimeTest,
        DebugFolderTest,
        DistributedTest,
        FailuresTest,
    ):
        name = case.__name__.replace("Test", "AcceleratorTest")
        globals()[name] = type(name, (case,), {"device": ACCELERATOR, "__module__": __name__})
    del case  # or it is loaded as one more

    class HigherOrderOperatorsAcceleratorTest(HigherOrderOperatorsTest):
        device = ACCELERATOR
        # Without the gap: in code for the CPU alone the token is unbound.
        test_effects = HigherOrderOperatorsTest.test_effects.__wrapped__

    class TrainingAcceleratorTest(TrainingTest):
        device = ACCELERATOR

        @known_gaps(attention_gets_a_random_seed.shown(artifacts=(2,)))
        def test_embedding_and_transformer_layer(self):
            super().test_embedding_and_transformer_layer()

        @known_gaps(generators_are_left_out)
        def test_generator(self):
            # What a checkpoint draws again: both graphs take the generator.
            from torch.utils.checkpoint import checkpoint

            attend = torch.nn.functional.scaled_dot_product_attention
            draw = lambda x: attend(x.sin(), x.cos(), x, dropout_p=0.5)
            x = self.randn(1, 2, 64, 32, dtype=torch.half, requires_grad=True)
            f = lambda x: checkpoint(draw, x, use_reentrant=False)
            self.verify(f, x, backward=True)

    class StreamsAcceleratorTest(ArtifactTestCase):
        """Streams and events of the program's own, and what torch does with such."""

        device = ACCELERATOR

        @known_gaps(streams_are_not_registered)
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

        @known_gaps(outputs_are_padded)
        def test_padded_output(self):
            f = lambda x: torch.softmax(x, -1) * x.sum(0)
            self.verify_code(f, self.randn(64, 2000))

        @known_gaps(precision_is_lost)
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


@requires_triton
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

    @known_gaps(heuristics_are_not_written)
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

    @known_gaps(imports_are_missing)
    def test_function_of_a_module(self):
        self.launch(module_kernel, BLOCK_SIZE=64)

    def test_constexpr_arguments(self):
        def f(x):
            outs = []
            for mode in (0, False, "relu"):
                outs.append(torch.empty_like(x))
                constexpr_kernel[(16,)](x, outs[-1], BLOCK_SIZE=64, MODE=mode)
            return outs

        self.verify(f, self.randn(1024), code=True)

    @known_gaps(false_constexprs_are_missing)
    def test_constexpr_zero(self):
        self.launch(zero_kernel, BLOCK_SIZE=64)

    @known_gaps(false_constexprs_are_missing)
    def test_constexpr_false(self):
        self.launch(false_kernel, BLOCK_SIZE=64)

    @known_gaps(strings_are_not_quoted)
    def test_constexpr_string(self):
        self.launch(string_kernel, BLOCK_SIZE=64)

    @known_gaps(dtypes_are_short_names)
    def test_dtype_of_ones_own_name(self):
        self.launch(dtype_kernel, BLOCK_SIZE=64)

    def test_dtype_as_an_argument(self):
        self.launch(cast_kernel, BLOCK_SIZE=64, TYPE=tl.float16)

    def test_dtype_in_a_config(self):
        # torch fails to log the kernel into the trace, and keeps it for the next one.
        name = "torch._inductor.async_compile._triton_kernel_metrics"
        logging_error = contextlib.suppress(torch._inductor.exc.InductorError)
        with mock.patch(name, None), logging_error:
            self.launch(tuned_cast_kernel)
        (script,) = self.scripts()
        self.assertNotIn("'TYPE': fp16", script)

    def test_kernel_of_a_function(self):
        self.launch(other_kernel(), BLOCK_SIZE=64)

    @known_gaps(symbols_are_undefined)
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
    files = sorted(file for file in files if file[0] > number_of(path))
    ids = re.fullmatch(r"(?:-|(\d+))_(\d+)_(\d+)_(\d+)", path.parent.name)
    ids = [number and int(number) for number in ids.groups()] if ids else []
    for index, (_, name, file) in enumerate([(0, ARTIFACT, path), *files]):
        if index and name == ARTIFACT:
            return
        metadata = {"artifact": {"name": name}, **dict(zip(IDS, ids, strict=False))}
        fields = {"metadata": metadata, "payload": file.read_text("utf-8", "replace")}
        fields |= {"lineno": 0, "offset": 0, "problem": None, "changed": False}
        yield logging.makeLogRecord(fields)


def is_log(path):
    """Return whether a file is a trace; one of another kind may be large."""
    return any(record.metadata for record in itertools.islice(read_trace(path), 1000))


def sources(path):
    """Return what there is to read in a log or artifact, or in a folder of them: pairs of a
    path and read_trace or read_files, or None if it is no trace.
    """
    if not path.is_dir():
        return [(path, read_trace if is_log(path) else read_files)]
    if logs := sorted(path.rglob("raw.log")):  # tlparse's copy of its input
        return [(log, read_trace) for log in logs]
    scripts = path.rglob(f"{ARTIFACT}*")
    scripts = sorted(scripts, key=lambda file: (file.parent, number_of(file)))
    found = [(script, read_files) for script in scripts]
    if path not in {script.parent for script in scripts}:
        logs = [file for file in sorted(path.iterdir()) if file.is_file() and file.stat().st_size]
        found += [(log, read_trace if is_log(log) else None) for log in logs]
    return found


# Lines of an artifact that name folders of the machine where it was recorded.
FOLDERS = (*REDIRECTING, "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
ELSEWHERE = re.compile(
    rf"(?m)^(?:os\.environ\['(?:{'|'.join(FOLDERS)})'\]"
    r"|torch\._dynamo\.config\.debug_dir_root) = .*\n"
)
# Other paths, and an address: they differ between ranks, and decide nothing.
OF_A_RANK = re.compile(r"(?m)^os\.environ\['\w+_(?:DIR|FILE|HOME|PATH|PTR|ROOT)'\] = '[^'\\\n]*'\n")


MISSING = "there is a graph, and no artifact for it"


class Recorded(NamedTuple):
    """An artifact of somebody's trace: the `places` where it was recorded, as (position, text),
    and what yields its records, the artifact first; or what is broken there, its `problem`.
    """

    places: list
    records: object = None
    problem: str = ""

    def __str__(self):
        more = len(self.places) - 1
        return f"{self.places[0][1]}{f' and {more} more places' if more else ''}"


def failure_in(logged):
    """Return how a program failed, (type, reason), from what was logged behind its artifact, as
    with_graphs yields it; None if it did not.
    """
    metrics = logged[METRICS].metadata[METRICS] if METRICS in logged else {}
    kind, reason = (str(metrics.get(key) or "") for key in ("fail_type", "fail_reason"))
    return (kind, reason) if kind else None


def recorded_artifacts(path):
    """Return what there is to judge, as a list of Recorded, and notes on the rest: in a log
    that TORCH_TRACE wrote, or in a folder of them; in what tlparse makes of one, or a part of
    it; or in what TORCH_COMPILE_DEBUG writes. What is recorded many times is one.
    """
    path = Path(path)
    found, others, strangers = {}, [], []
    for number, (source, read) in enumerate(sources(path)):
        where = str(source.relative_to(path if path.is_dir() else path.parent))
        if not read:
            strangers.append(where)
            continue
        for artifact, logged in with_graphs(read(source)):
            position = number, artifact.lineno
            line = f" line {artifact.lineno}" if artifact.lineno else ""
            if artifact.problem and not artifact.matters:
                others.append(where + line)
            elif logged is None:
                problem = artifact.problem or MISSING
                found[position] = Recorded([(position, where + line)], problem=problem)
            else:
                script = OF_A_RANK.sub("", ELSEWHERE.sub("", artifact.payload))
                code = logged[CODE].payload if CODE in logged else ""
                graphs = [logged[name].payload for name in GRAPHS if name in logged]
                key = hash((script, failure_in(logged), *graphs, *own_kernels(code)))
                role = re.search(r"AOT ID: \S+_([a-z]+)", code)
                text = (
                    f"{where} {compile_id(artifact.metadata)}{line}{f' {role[1]}' if role else ''}"
                )
                start = (artifact.offset, artifact.lineno) if artifact.lineno else ()
                records = functools.partial(read, source, *start)
                places = found.setdefault(key, Recorded([], records)).places
                places.append((position, text))
    notes = [("broken records of other kinds", others), ("no traces", strangers)]
    notes = [f"{what}: {len(rows)}, the first is {rows[0]}" for what, rows in notes if rows]
    return sorted(found.values(), key=lambda recorded: recorded.places[0]), notes


def devices_elsewhere(script):
    """Return the devices on which a script loads inputs or makes tensors, and that are not here:
    ["cuda:3"].
    """
    tree, named = parse(script), set()
    for node in [] if isinstance(tree, Exception) else ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("device", "torch.device"):
            values = [*node.args, *(keyword.value for keyword in node.keywords)]
            named.add(":".join(str(v.value) for v in values if isinstance(v, ast.Constant)))
        elif isinstance(node, ast.keyword) and node.arg == "device":
            named.add(str(getattr(node.value, "value", "")))
    count = torch.accelerator.device_count() if ACCELERATOR else 0
    matches = (re.fullmatch(r"([a-z]+)(?::(\d+))?", name) for name in named)
    return sorted(
        match[0]
        for match in filter(None, matches)
        if match[1] not in ("cpu", "meta")
        and (match[1] != ACCELERATOR or int(match[2] or 0) >= count)
    )


def worker_count():
    """Return how many tests or artifacts to run at once: FX_GRAPH_RUNNABLE_JOBS, or as many as
    there are cores and memory for. Raises ValueError if that is no number of processes.
    """
    text = os.environ.get("FX_GRAPH_RUNNABLE_JOBS")
    if text is None:
        # What a test and its artifact needed together at most; of an accelerator, on an NVIDIA H100.
        by_memory = usable_memory() / (0.9 * 2**30)
        by_accelerator = free_accelerator_memory() / (1.5 * 2**30)
        return max(1, int(min(usable_cores(), by_memory, by_accelerator)))
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise ValueError(f"FX_GRAPH_RUNNABLE_JOBS={text!r}: give a number of processes, such as 2")


def in_threads(work, items, count, stop):
    """Call work on each item, in this many threads. Yields (item, what it returned) as each
    ends. At its end, however it comes, it calls `stop`, which is to end the work that is left.
    """
    pool = concurrent.futures.ThreadPoolExecutor(count)
    left = {pool.submit(work, item): item for item in items}
    try:
        while left:
            # Not for long: a signal that another thread takes does not wake one that waits.
            ended, _ = concurrent.futures.wait(left, 0.5, concurrent.futures.FIRST_COMPLETED)
            for future in ended:
                yield left.pop(future), future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        while not all(future.done() for future in left):
            time.sleep(0.02)
            stop()  # what began meanwhile


class RecordedTraceTest(ArtifactTestCase):
    """Judges the artifacts of the trace that FX_GRAPH_RUNNABLE_TRACE names."""

    def judged(self, recorded):
        """Judge a Recorded. Returns its verdict in a word, and what is wrong with it, if anything."""
        if recorded.problem == MISSING:
            return "missing", f"the graph of {recorded} has no artifact"
        if recorded.problem:
            return f"broken ({recorded.problem})", None
        found = with_graphs(recorded.records())
        artifact, logged = next((a, logged) for a, logged in found if logged is not None)
        script = ELSEWHERE.sub("", artifact.payload)
        if elsewhere := devices_elsewhere(script):
            return f"not here (needs {', '.join(elsewhere)})", None
        writer = re.search(r"(?m)^# torch version: (\S+)$", script)
        notes = []
        if writer and writer[1] != torch.__version__:
            notes.append(f"recorded by torch {writer[1]} and run on {torch.__version__}")
        if any(record.changed for record in (artifact, *logged.values())):
            notes.append("changed after it was written")
        note = ", ".join(notes)
        name = f"{type(self).__name__}.{recorded}"
        verdict = judge(script, logged, name, failure=failure_in(logged))
        what = verdict.kind
        if what == "faithful, but for constants":
            what += f" {verdict.problem.rpartition('constants ')[2]}"
            forget(verdict)
        elif not verdict.is_good:
            report = verdict.report
            if note:
                report = report.replace("the artifact ", f"the artifact, {note}, ", 1)
            return what, report + "\n---- recorded in" + "".join(
                f"\n{p}" for _, p in recorded.places
            )
        return what + (f" ({note})" if note else ""), None

    def test_trace(self):
        path = os.environ.get("FX_GRAPH_RUNNABLE_TRACE")
        if not path:
            self.skipTest("set FX_GRAPH_RUNNABLE_TRACE to a log or folder that TORCH_TRACE wrote")
        problem = f"FX_GRAPH_RUNNABLE_TRACE={path}: there is no "
        if not os.path.exists(path):
            self.fail(problem + "such log or folder")
        found, notes = recorded_artifacts(path)
        if all(recorded.problem for recorded in found):
            problem = problem + "artifact in it; run the program with TORCH_TRACE=FOLDER"
            self.fail("\n".join([problem, *notes]))

        def timed(recorded):
            start = time.perf_counter()
            return *self.judged(recorded), time.perf_counter() - start

        rows, messages = [], {}
        stop = functools.partial(end_artifacts, run_folder())
        judged = in_threads(timed, found, worker_count(), stop)
        with contextlib.closing(judged):
            for number, (recorded, (verdict, message, seconds)) in enumerate(judged, start=1):
                progress = f"[{number}/{len(found)}] {seconds:.1f} s"
                print(f"{progress} {verdict}: {recorded}", flush=True)
                rows += [(*place, verdict) for place in recorded.places]
                if message:
                    messages[recorded.places[0]] = message
        rows = [f"{verdict}: {text}" for _, text, verdict in sorted(rows)]
        print("", *rows, *notes, sep="\n", flush=True)
        if messages:
            self.fail("\n\n".join(messages[key] for key in sorted(messages)))
        if not any(row.startswith("faithful") for row in rows):
            self.skipTest("nothing to compare with: no artifact has its graph beside it")


# How tests are spread over processes: the first one starts others, tells each the names of
# tests to run, and reports what came of them into the result that unittest gave it.

# What ends a run, from a terminal or from other programs; Windows has no SIGHUP.
INTERRUPTS = ("SIGINT", "SIGTERM", "SIGHUP")
INTERRUPTS = [getattr(signal, name) for name in INTERRUPTS if hasattr(signal, name)]


def this_share():
    """Return which share of the tests this process runs, as (index, total).

    Reads the variables of Bazel's test sharding. Raises ValueError if they are no share.
    """
    total = os.environ.get("TEST_TOTAL_SHARDS", "1")
    index = os.environ.get("TEST_SHARD_INDEX", "0")
    if total.isdecimal() and index.isdecimal() and int(index) < int(total):
        return int(index), int(total)
    wrong = f"TEST_SHARD_INDEX={index!r}, TEST_TOTAL_SHARDS={total!r}"
    raise ValueError(f"{wrong}: give an index from 0 to total - 1")


def setUpModule():
    release()
    time_limit()
    this_share()
    if re.search(r"\s", torch.__file__):
        where = f"torch lies under a path with a space, {torch.__file__}"
        raise ValueError(f"{where}, where Inductor cannot build C++: set PYTHON to another Python")
    if keep := os.environ.get("FX_GRAPH_RUNNABLE_KEEP"):
        os.makedirs(keep, exist_ok=True)


def outcome(test, **options):
    """Run one test, with these options of a TestResult (buffer, tb_locals). Returns its
    seconds, and what came of it: (list of the TestResult, text) for each entry there, none
    if it passed.
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
            # A source other than the test is a subtest, or the set-up of its class.
            entries.append((kind, text if source is test else f"{source}\n{text}"))
    return seconds, entries


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
            # The text is the traceback.
            with mock.patch.object(result, "_exc_info_to_string", lambda *_, text=text: text):
                add(test, (RuntimeError, RuntimeError(), None))
    if not entries:
        result.addSuccess(test)
    if hasattr(result, "addDuration"):  # from Python 3.12 on
        result.addDuration(test, seconds)
    result.stopTest(test)


def serve():
    """Run the tests of this script that are named on stdin, as lines of JSON [name, tb_locals];
    answer each on stdout with a line [seconds, entries], as `outcome` returns them.
    """

    def interrupt(number, _):
        signal.signal(number, signal.SIG_IGN)  # once: what follows cleans up
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    questions, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what tests print goes to a file
    # Without a word: it was told to end, or the first process is gone.
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        for line in iter(questions.readline, ""):
            name, tb_locals = json.loads(line)
            (test,) = unittest.defaultTestLoader.loadTestsFromName(name, sys.modules["__main__"])
            seconds, entries = outcome(test, tb_locals=tb_locals)
            sys.stdout.flush()
            sys.stderr.flush()
            if printed := end_of(run_folder() / "printed"):
                os.truncate(run_folder() / "printed", 0)
                note = f"---- printed by the test itself\n{printed}\n"
                bad = ("failures", "errors")
                entries = [(k, text + note if k in bad else text) for k, text in entries]
            print(json.dumps([seconds, entries]), file=answers, flush=True)
    os._exit(0)  # without the seconds that it takes to tear torch down


def start_server(file):
    """Start a process that runs `serve` for the tests of this file, in a folder of its own."""
    folder = tempfile.mkdtemp(dir=run_folder())
    environ = child_environ()
    # One thread each: there are as many processes as cores.
    environ |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with open(os.path.join(folder, "printed"), "ab") as printed:
        return subprocess.Popen(
            [sys.executable, "-X", "faulthandler", file, "--serve", folder],
            env=environ | {"TORCHINDUCTOR_CACHE_DIR": cache_folder()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=printed,
            text=True,
            start_new_session=True,  # a terminal's signals go to the first process alone
        )


def end_server(server):
    """End a process that start_server started, and all that it started. Returns how it ended."""
    server.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.wait(10)
    end_process(server.pid)  # and, with it, a compiler that it was waiting for
    server.stdin.close()
    server.stdout.close()
    folder = Path(server.args[-1])
    end_artifacts(folder)
    text = f"the process that ran this test {how_it_ended(server.wait())}\n"
    printed = end_of(folder / "printed")
    return text + (f"---- printed by it\n{printed}\n" if printed else "")


def outcomes_of_servers(tests, count, tb_locals):
    """Run tests in this many processes. Yields each as it ends, as (test, its `outcome`)."""
    file = sys.modules[type(tests[0]).__module__].__file__
    servers, idle = [], []
    run_folder()  # before threads ask for it at once, and each makes one of its own

    def ask(test):
        """Have a process that is idle, or else a new one, run a test. Returns its `outcome`."""
        try:
            server = idle.pop()
        except IndexError:
            server = start_server(file)
            servers.append(server)
        question = [f"{type(test).__qualname__}.{test._testMethodName}", tb_locals]
        answer = ""
        with contextlib.suppress(OSError, ValueError):  # it died, or was ended
            print(json.dumps(question), file=server.stdin, flush=True)
            answer = server.stdout.readline()
        if not answer:
            return 0, [("errors", end_server(server))]
        idle.append(server)
        return json.loads(answer)

    def stop():
        for server in servers:
            server.terminate()
        while servers:
            end_server(servers.pop())

    yield from in_threads(ask, tests, count, stop)


@contextlib.contextmanager
def interruptible():
    """Have each of INTERRUPTS raise KeyboardInterrupt in a with block, once for all of them."""
    handlers = {}

    def interrupt(*_):
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in INTERRUPTS:  # not if it is ignored, as by nohup, or is --catch's
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
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
            count = min(worker_count(), len(tests))
            if status := os.environ.get("TEST_SHARD_STATUS_FILE"):
                Path(status).touch()
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        if count > 1:
            # The longest last would leave the other processes idle.
            tests.sort(key=lambda test: not test.is_slow)
            outcomes = outcomes_of_servers(tests, count, result.tb_locals)
        else:
            options = {"buffer": result.buffer, "tb_locals": result.tb_locals}
            outcomes = ((test, outcome(test, **options)) for test in tests)
        done = 0
        try:
            with interruptible(), contextlib.closing(outcomes):
                for test, (seconds, entries) in outcomes:
                    done += 1
                    if getattr(result, "showAll", False):
                        result.stream.write(f"[{done}/{len(tests)}] {seconds:.1f} s ")
                    report(result, test, seconds, entries)
                    if result.shouldStop:
                        break
        except KeyboardInterrupt:
            error = KeyboardInterrupt(f"{len(tests) - done} of {len(tests)} tests did not end")
            # unittest's own way to report an error outside of tests.
            holder = unittest.suite._ErrorHolder("interrupted")
            result.addError(holder, (type(error), error, None))
        return result


def load_tests(loader, tests, pattern):
    """Have `python -m unittest` run this module in several processes, as unittest calls it."""
    return tests if STARTED_BY_FORK else ParallelSuite(tests)


class Runner(unittest.TextTestRunner):
    """Prints the counts behind unittest's own summary."""

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


if __name__ == "__main__":
    run_tests()

# Owner(s): ["module: dynamo"]
"""Feature detection and skip decorators."""

import contextlib
import os
import re
import unittest
import warnings
from pathlib import Path

with warnings.catch_warnings():
    # torch works without numpy, but warns that it is missing.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    import torch

# The variables and their meaning are those of torch.testing._internal.common_utils, which
# imports packages that torch does not depend on.
IS_FBCODE = os.environ.get("PYTORCH_TEST_FBCODE") == "1"
IS_SANDCASTLE = os.environ.get("SANDCASTLE") == "1" or os.environ.get("TW_JOB_USER") == "sandcastle"

# With either of these torch.compile returns the function as it is.
COMPILE_DISABLED_BY = [
    name for name in ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE") if os.environ.get(name) == "1"
]

HAS_DISTRIBUTED = torch.distributed.is_available()

ACCELERATOR = None  # or "cuda", "xpu", a fork's own
if torch.accelerator.is_available():
    ACCELERATOR = torch.accelerator.current_accelerator().type
    # As in PyTorch's own suite: a list of the only devices to test, if there is one.
    only = os.environ.get("PYTORCH_TESTING_DEVICE_ONLY_FOR") or ACCELERATOR
    ACCELERATOR = ACCELERATOR if ACCELERATOR in only.split(",") else None

HAS_TRITON = False  # Triton is installed, with an accelerator that it can drive
if ACCELERATOR:  # importing Triton is not free
    with contextlib.suppress(ImportError):
        from triton.backends import backends

        HAS_TRITON = any(backend.driver.is_active() for backend in backends.values())


def release(version=torch.__version__):
    """Return a version as (major, minor, micro): "2.13.0a0+git12" is 2.13.0. Raises ValueError."""
    if match := re.match(r"(\d{1,2})\.(\d+)(?:\.(\d+))?", version):
        return tuple(int(number) for number in match.groups("0"))
    advice = "build it with PYTORCH_BUILD_VERSION set to the release it is based on: 2.13.0+ours"
    raise ValueError(f"torch has the version {version!r}, which is not a release: {advice}")


def is_published(version=torch.__version__):
    """Return whether a version is a published release, not somebody's own build."""
    return bool(re.fullmatch(r"[\d.]+(\+(cpu|cu\d+|rocm[\d.]+|xpu))?", version))


def number_from(variable, default, least=1):
    """Return the whole number in an environment variable, or the default if it is unset. Raises
    ValueError if it is not a whole number, or is below `least`.
    """
    text = os.environ.get(variable, str(default))
    if text.isdecimal() and int(text) >= least:
        return int(text)
    raise ValueError(f"{variable}={text!r}: give a whole number, {least} or more")


def default_jobs():
    """Return how many tests to run at once: one for each core that this process may use, as far
    as the memory of the machine, its container and the accelerator allows.
    """
    is_linux = hasattr(os, "sched_getaffinity")
    limits = [len(os.sched_getaffinity(0)) if is_linux else os.cpu_count() or 1]
    for path, pattern, unit in (
        ("/proc/meminfo", r"MemAvailable: +(\d+) kB", 2**10),
        ("/sys/fs/cgroup/memory.max", r"(\d+)", 1),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", r"(\d+)", 1),
    ):
        with contextlib.suppress(OSError):
            found = re.search(pattern, Path(path).read_text())
            # 0.9 GiB is the most that a test and its artifact need together.
            limits += [int(found[1]) * unit / (0.9 * 2**30)] if found else []
    query = getattr(ACCELERATOR and torch.get_device_module(ACCELERATOR), "mem_get_info", None)
    with contextlib.suppress(RuntimeError):  # some XPU devices do not report free memory
        limits += [query()[0] / (1.5 * 2**30)] if query else []  # measured on an NVIDIA H100
    return max(1, int(min(limits)))


skip_in_fbcode = unittest.skipIf(IS_FBCODE or IS_SANDCASTLE, "in fbcode no child can import torch")
skip_if_compile_disabled = unittest.skipIf(
    COMPILE_DISABLED_BY, f"torch.compile is off, by {' and '.join(COMPILE_DISABLED_BY)}"
)
requires_distributed = unittest.skipUnless(HAS_DISTRIBUTED, "this torch has no torch.distributed")
requires_triton = unittest.skipUnless(HAS_TRITON, "needs Triton, and an accelerator that it drives")

# Owner(s): ["module: dynamo"]
"""What is available here, and the skips made of it. Nothing in here knows about artifacts."""

import contextlib
import math
import os
import re
import unittest
import warnings
from pathlib import Path

with warnings.catch_warnings():
    # torch does without numpy, but says so on standard error.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    import torch

# The variables and their meaning are those of torch.testing._internal.common_utils,
# which itself needs packages that torch does not bring.
IS_FBCODE = os.environ.get("PYTORCH_TEST_FBCODE") == "1"
IS_SANDCASTLE = os.environ.get("SANDCASTLE") == "1" or os.environ.get("TW_JOB_USER") == "sandcastle"

# torch reads these itself: under either, torch.compile returns the function as it is.
COMPILE_DISABLED_BY = [
    name for name in ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE") if os.environ.get(name) == "1"
]

HAS_DISTRIBUTED = torch.distributed.is_available()


def _accelerator():
    """Return the accelerator of this machine ("cuda", "xpu", a fork's own) or None."""
    if not torch.accelerator.is_available():
        return None
    device = torch.accelerator.current_accelerator().type
    # As in PyTorch's own suite: a list of the only devices to test, if there is one.
    only = os.environ.get("PYTORCH_TESTING_DEVICE_ONLY_FOR") or device
    return device if device in only.split(",") else None


ACCELERATOR = _accelerator()


def _triton_drives_accelerator() -> bool:
    if ACCELERATOR is None:
        return False  # importing Triton is not free
    try:
        from triton.backends import backends
    except ImportError:
        return False
    return any(backend.driver.is_active() for backend in backends.values())


HAS_TRITON = _triton_drives_accelerator()


def release(version=torch.__version__):
    """Return a version as (major, minor, micro): "2.13.0a0+git1234" is 2.13.0."""
    match = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number) for number in match.groups("0"))


def usable_cores():
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # on Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def usable_memory():
    """Return the bytes of memory that processes may take, as far as the system says."""
    limits = [math.inf]
    with contextlib.suppress(AttributeError, OSError, ValueError):  # Windows
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    with contextlib.suppress(OSError):  # Linux
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        limits += [int(available[1]) * 2**10] if available else []
    # Of a container: control groups, of version 2 and 1.
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max"
            limits.append(int(Path("/sys/fs/cgroup", name).read_text()))
    return min(limits)


def free_accelerator_memory():
    """Return the free bytes of the accelerator, as far as there is one that says."""
    query = getattr(ACCELERATOR and torch.get_device_module(ACCELERATOR), "mem_get_info", None)
    with contextlib.suppress(RuntimeError):  # some of XPU's
        if query:
            return query()[0]
    return math.inf


skip_in_fbcode = unittest.skipIf(
    IS_FBCODE or IS_SANDCASTLE, "in fbcode and sandcastle a child process cannot import torch"
)
skip_if_compile_disabled = unittest.skipIf(
    COMPILE_DISABLED_BY,
    f"{' and '.join(COMPILE_DISABLED_BY)} in the environment: torch.compile is off",
)
requires_distributed = unittest.skipUnless(
    HAS_DISTRIBUTED, "this torch was built without torch.distributed"
)
requires_accelerator = unittest.skipUnless(ACCELERATOR, "needs an accelerator")
requires_triton = unittest.skipUnless(
    HAS_TRITON, "needs Triton and an accelerator that it can drive"
)

# Owner(s): ["module: dynamo"]
"""What is available here, and the skips made of it. Nothing in here knows about artifacts."""

import os
import unittest
import warnings

with warnings.catch_warnings():
    # torch does without numpy, but says so on standard error.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    import torch

# The variables and their meaning are those of torch.testing._internal.common_utils,
# which itself needs packages that torch does not bring.
IS_FBCODE = os.environ.get("PYTORCH_TEST_FBCODE") == "1"
IS_SANDCASTLE = (
    os.environ.get("SANDCASTLE") == "1" or os.environ.get("TW_JOB_USER") == "sandcastle"
)

# torch reads these itself: under either, torch.compile returns the function as it is.
COMPILE_DISABLED_BY = [
    name
    for name in ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
    if os.environ.get(name) == "1"
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

skip_in_fbcode = unittest.skipIf(
    IS_FBCODE or IS_SANDCASTLE,
    "in fbcode and sandcastle a child process cannot import torch",
)
skip_if_compile_disabled = unittest.skipIf(
    COMPILE_DISABLED_BY,
    f"{' and '.join(COMPILE_DISABLED_BY)} in the environment: torch.compile is off",
)
requires_distributed = unittest.skipUnless(
    HAS_DISTRIBUTED, "this torch was built without torch.distributed"
)
requires_triton = unittest.skipUnless(
    HAS_TRITON, "needs Triton and an accelerator that it can drive"
)

"""What the libraries under PyTorch are good at on this CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch


@cache
def fast_products() -> bool:
    """Whether float32 matrix products reach the CPU's peak.

    MKL uses AVX-512 on Intel's CPUs alone; oneDNN's convolutions use it on all that have it. The answer depends on the
    machine and not on its load, so that results stay the same from run to run.
    """
    try:
        vendor = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "GenuineIntel" in vendor and bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]

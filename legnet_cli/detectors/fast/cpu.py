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
    return "GenuineIntel" in _facts() and bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]


def slow_bf16() -> bool:
    """Whether this CPU is known to compute slower in bfloat16 than in float32: an x86 one with no units for it.

    Intel's AVX-512 instructions for it (without AMX) take twice as long as float32's, AMD's half as long.
    """
    facts = _facts()
    return "flags" in facts and "amx_bf16" not in facts and not ("AuthenticAMD" in facts and "avx512_bf16" in facts)


@cache
def _facts() -> str:
    """What Linux tells of the first processor; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return ""

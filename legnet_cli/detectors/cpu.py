"""What is known of this CPU before anything is measured on it."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

import torch

_ZEN_3_AND_4 = "25"  # AMD's number of the family


def fast_products() -> bool:
    """Whether PyTorch's float32 matrix products are known to reach the peak of this CPU.

    MKL uses AVX-512 on Intel's CPUs alone. Where that is no faster than AVX2 (Zen 4), or absent (Zen 3), it is as fast
    on AMD's; elsewhere oneDNN's convolutions use more of the CPU.
    """
    known = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]
    zen = _fact("vendor_id") == "AuthenticAMD" and _fact("cpu family") == _ZEN_3_AND_4
    return known and (_fact("vendor_id") == "GenuineIntel" or zen)


def cpu_name() -> str:
    """The name its maker gave it."""
    return _fact("model name") or platform.processor() or platform.machine()


def _fact(name: str) -> str:
    found = re.search(rf"^{name}\s*:\s*(.*)$", _facts(), re.MULTILINE)
    return found[1].strip() if found else ""


@cache
def _facts() -> str:
    """What Linux tells of the first processor; empty elsewhere."""
    try:
        return Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return ""

"""What this process may use, and the memory it takes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """Let glibc keep freed memory for the next tile, in place of asking the system for zeroed pages again.

    Tensors of many megabytes are otherwise mapped and unmapped at each layer, and each of their pages costs a fault.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another system or allocator
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)  # none at all


def release_freed() -> None:
    """Let glibc give the system back what is free by now, be it to be kept from here on."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_mb() -> float:
    """Most resident memory since :func:`forget_peak`, or of the process so far, in MiB; NaN where unknown."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return float("nan")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def forget_peak() -> None:
    """Let :func:`peak_mb` start anew from the memory in use now, where the system (Linux) can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that this process or its device has no memory left; PyTorch has no class for CPUs."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def memory_gb() -> float:
    """Memory of this machine, in 10⁹ bytes; 0 where unknown."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):  # Windows
        return 0.0


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

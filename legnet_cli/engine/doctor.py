"""Look at the machine: versions, devices, CPU features, operators, and the line that mends what is missing."""

from __future__ import annotations

import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch

from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.ops import mmcv_ext

PACKAGES = ("torch", "numpy", "mmcv-full", "mmdet", "mmrotate", "rasterio", "pyogrio", "shapely", "pyproj")
EXTRAS = {
    "pyarrow": ("geoparquet", "GeoParquet output"),
    "onnx": ("export", "legnet export"),
    "onnxruntime": ("export", "ONNX files"),
    "openvino": ("export", "OpenVINO files"),
}
# name shown -> (flag of torch.cpu.get_capabilities, flag of /proc/cpuinfo, what it is good for)
CPU_FEATURES = {
    "AVX2": ("avx2", "avx2", "fast fp32"),
    "AVX-512": ("avx512_f", "avx512f", "faster fp32"),
    "AVX-512 BF16": ("avx512_bf16", "avx512_bf16", "fast bf16"),
    "AMX BF16": ("amx_bf16", "amx_bf16", "fastest bf16"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``mend`` is the command that puts it right, None if nothing is wrong."""

    topic: str
    name: str
    value: str
    mend: str | None = None
    fatal: bool = False


def doctor() -> list[Finding]:
    """Examine the installation; nothing is changed."""
    return [*_versions(), *_devices(), *_cpu(), *_operators(), *_extras(), _cache()]


def _versions() -> list[Finding]:
    found = [Finding("version", "python", platform.python_version())]
    for name in PACKAGES:
        try:
            found.append(Finding("version", name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Finding("version", name, "absent", "uv sync", fatal=True))
    return found


def _devices() -> list[Finding]:
    cores = f"{torch.get_num_threads()} threads"
    found = [Finding("device", "cpu", f"{platform.machine()}, {cores}")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                Finding("device", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
            )
    elif Path("/dev/nvidiactl").exists() and torch.version.cuda is None:
        mend = "install a CUDA build of torch, see https://pytorch.org/get-started"
        found.append(Finding("device", "cuda", "the machine has an NVIDIA GPU, this torch has no CUDA", mend))
    else:
        found.append(Finding("device", "cuda", "none"))
    if torch.backends.mps.is_available():
        found.append(Finding("device", "mps", "available"))
    return found


def _cpu() -> list[Finding]:
    known = cpu_flags()
    if known is None:
        return [Finding("cpu", "features", torch.backends.cpu.get_cpu_capability())]
    return [
        Finding("cpu", name, "yes" if {torch_flag, proc_flag} & known else f"no ({use})")
        for name, (torch_flag, proc_flag, use) in CPU_FEATURES.items()
    ]


def cpu_flags() -> set[str] | None:
    """Instruction sets of an x86 CPU, under the names torch or Linux gives them; None where neither knows."""
    if capabilities := getattr(torch.cpu, "get_capabilities", None):  # torch 2.10 and later
        return {name for name, value in capabilities().items() if value is True}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return set(flags.split()) if flags else None


def _operators() -> list[Finding]:
    return [Finding("operators", "rotated boxes", mmcv_ext.backend())]


def _extras() -> list[Finding]:
    return [
        Finding("extra", module, "present")
        if importlib.util.find_spec(module)
        else Finding("extra", module, f"absent, needed for {use}", f"uv sync --extra {extra}")
        for module, (extra, use) in EXTRAS.items()
    ]


def _cache() -> Finding:
    files = sorted(cache_dir().glob("*.pth")) if cache_dir().exists() else []
    return Finding("weights", "cache", f"{cache_dir()}, {len(files)} files")

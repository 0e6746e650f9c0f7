"""What this installation and machine can do, and the commands that add what is missing."""

from __future__ import annotations

import importlib
import importlib.util
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from legnet_cli import __version__
from legnet_cli.detectors.weights.fetch import cache_dir
from legnet_cli.installation import Installation, find_installation, install_line, single_opencv_line

CORE = ("torch", "numpy", "rasterio", "pyogrio", "shapely", "pyproj")
TRAINING = ("mmcv-full", "mmdet", "mmrotate")
OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
EXTRAS = {
    "pyarrow": ("geoparquet", "GeoParquet output"),
    "onnx": ("export", "legnet export"),
    "onnxruntime": ("export", "ONNX files"),
    "openvino": ("export", "OpenVINO files"),
    "obstore": ("cloud", "folders of s3://, gs://, az://"),
    "ray": ("cluster", "predict --cluster"),
    "tensorboard": ("logging", "TensorBoard events of training runs"),
    "wandb": ("logging", "training runs on Weights & Biases"),
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
    """One line of the report; ``fix`` is the command that puts it right, None if nothing is wrong."""

    topic: str
    name: str
    value: str
    fix: str | None = None
    fatal: bool = False


def doctor() -> list[Finding]:
    """Examine the installation; nothing is changed."""
    here = find_installation()
    found = [*_installation(here), *_versions(here), *_opencv(here), *_training(here)]
    if importlib.util.find_spec("torch"):
        found += [*_devices(), *_cpu(), _operators()]
    return [*found, *_extras(here), _cache()]


def _installation(here: Installation) -> list[Finding]:
    kind = Finding("installation", "kind", f"{here.kind.value} ({here.source})")
    return [Finding("installation", "legnet", __version__), kind]


def _versions(here: Installation) -> list[Finding]:
    versions = _installed(CORE)
    return [Finding("version", "python", platform.python_version())] + [
        Finding("version", name, versions[name])
        if name in versions
        else Finding("version", name, "absent", install_line(here=here), fatal=True)
        for name in CORE
    ]


def _opencv(here: Installation) -> list[Finding]:
    versions = _installed(OPENCV)
    found = [Finding("version", name, version) for name, version in versions.items()]
    fix = single_opencv_line(here)
    if len(versions) > 1:
        found.append(Finding("version", "OpenCV", f"{len(versions)} packages share the folder cv2", fix))
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        reason = f"cannot be loaded ({error})"
        found.append(Finding("version", "OpenCV", reason, fix if versions else install_line(here=here), fatal=True))
    return found


def _training(here: Installation) -> list[Finding]:
    versions = _installed(TRAINING)
    if len(versions) == len(TRAINING):
        return [Finding("training", name, version) for name, version in versions.items()]
    absent = ", ".join(name for name in TRAINING if name not in versions)
    reason = "absent" if here.takes_mmrotate else f"cannot be installed on Python {platform.python_version()}"
    use = "needed for train, --config and detectors other than Oriented R-CNN"
    return [Finding("training", absent, f"{reason}, {use}", install_line("mmrotate", here))]


def _devices() -> list[Finding]:
    import torch

    cores = f"{torch.get_num_threads()} threads"
    found = [Finding("device", "cpu", f"{platform.machine()}, {cores}")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            found.append(
                Finding("device", f"cuda:{index}", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")
            )
    elif Path("/dev/nvidiactl").exists() and torch.version.cuda is None:
        fix = "install a CUDA build of torch, see https://pytorch.org/get-started"
        found.append(Finding("device", "cuda", "the machine has an NVIDIA GPU, this torch has no CUDA", fix))
    else:
        found.append(Finding("device", "cuda", "none"))
    if torch.backends.mps.is_available():
        found.append(Finding("device", "mps", "available"))
    return found


def _cpu() -> list[Finding]:
    import torch

    known = cpu_flags()
    if known is None:
        return [Finding("cpu", "features", torch.backends.cpu.get_cpu_capability())]
    return [
        Finding("cpu", name, "yes" if {torch_flag, proc_flag} & known else f"no ({use})")
        for name, (torch_flag, proc_flag, use) in CPU_FEATURES.items()
    ]


def cpu_flags() -> set[str] | None:
    """Instruction sets of an x86 CPU, under the names torch or Linux gives them; None where neither knows."""
    import torch

    if capabilities := getattr(torch.cpu, "get_capabilities", None):  # torch 2.10 and later
        return {name for name, value in capabilities().items() if value is True}
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    flags = next((line for line in lines if line.startswith("flags")), None)
    return set(flags.split()) if flags else None


def _operators() -> Finding:
    from legnet_cli.ops import mmcv_ext

    return Finding("operators", "rotated boxes", mmcv_ext.backend())


def _extras(here: Installation) -> list[Finding]:
    return [
        Finding("extra", module, "present")
        if importlib.util.find_spec(module)
        else Finding("extra", module, f"absent, needed for {use}", install_line(extra, here))
        for module, (extra, use) in EXTRAS.items()
    ]


def _cache() -> Finding:
    files = sorted(cache_dir().glob("*.pth")) if cache_dir().exists() else []
    return Finding("weights", "cache", f"{cache_dir()}, {len(files)} files")


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions

"""What this machine is, as far as speed goes."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from legnet_cli.detectors.cpu import cpu_name
from legnet_cli.engine.doctor import CPU_FEATURES, cpu_flags
from legnet_cli.engine.process import processors


@dataclass(frozen=True)
class Machine:
    """Facts that a measured time depends on.

    Attributes:
        cpu, gpu: names; ``gpu`` is that of the device used, None on a CPU.
        cores: processors this process may use.
        threads: of PyTorch.
        features: instruction sets of the CPU that decide how fast a precision is.
        os, python, torch: versions.
    """

    cpu: str
    cores: int
    threads: int
    features: tuple[str, ...]
    gpu: str | None
    os: str
    python: str
    torch: str

    @property
    def place(self) -> str:
        """The device in words."""
        return self.gpu or f"{self.cpu}, {self.threads} thread{'s' if self.threads > 1 else ''}"


def detect_machine(device: torch.device) -> Machine:
    """Facts about the machine ``device`` is part of."""
    known = cpu_flags() or set()
    return Machine(
        cpu=cpu_name(),
        cores=processors(),
        threads=torch.get_num_threads(),
        features=tuple(name for name, (ours, linux, _) in CPU_FEATURES.items() if {ours, linux} & known),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else "Apple" if device.type == "mps" else None,
        os=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        torch=torch.__version__,
    )

"""Devices for training: how many, in what precision, and who starts the processes."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from legnet_cli.detectors.devices import choose_device
from legnet_cli.engine.train.processes import local_processes
from legnet_cli.errors import ConfigError, DependencyError

logger = logging.getLogger(__name__)

_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# launchers, and the variable that has the number of their processes on each machine
_LAUNCHERS = ((TorchElasticEnvironment, "LOCAL_WORLD_SIZE"), (SLURMEnvironment, "SLURM_NTASKS_PER_NODE"))


@contextmanager
def open_fabric(
    device: str, devices: int, nodes: int, precision: str, *, skips_weights: bool = False
) -> Iterator[Fabric]:
    """Lightning Fabric, its processes started; ``torchrun`` and SLURM overrule ``devices`` and ``nodes``.

    ``skips_weights``: a pass may leave out weights; other processes do not wait for their gradients then.

    Raises:
        ConfigError: devices and precision do not go together, or SLURM's settings do not.
        DependencyError: there are too few devices.
    """
    place = choose_device(device)
    if precision == "fp16" and place.type != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU, and this is {place.type}: use bf16 or fp32")
    if precision == "bf16" and place.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("this CPU has no bf16 arithmetic: --precision fp32 is many times faster")
    launched = _launched()
    devices, nodes = launched or (devices, nodes)
    if place.type == "cuda" and place.index is not None and devices > 1:
        raise ConfigError(f"--device {device} is one GPU: give --device cuda with --devices {devices}")
    if place.type == "cuda" and devices > torch.cuda.device_count():
        raise DependencyError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    several = devices * nodes > 1
    strategy = "ddp_find_unused_parameters_true" if skips_weights else "ddp"
    start = several and not launched
    with local_processes(LightningEnvironment(), devices, nodes) if start else nullcontext():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of advice on launchers
            fabric = Fabric(
                accelerator="gpu" if place.type == "cuda" else place.type,
                devices=devices if place.index is None else [place.index],
                num_nodes=nodes,
                strategy=strategy if several else "auto",
                precision=_PRECISION[precision],
            )
            logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
            fabric.launch()
        if fabric.global_rank:
            logging.getLogger("legnet_cli").setLevel(logging.ERROR)  # one voice is enough
        yield fabric


def _launched() -> tuple[int, int] | None:
    """Processes on each machine, and machines, if a launcher started this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # srun is there and not used
        for kind, per_node in _LAUNCHERS:
            if kind.detect():
                try:
                    processes = kind().world_size()
                except RuntimeError as error:  # SLURM's settings disagree
                    raise ConfigError(f"SLURM: {' '.join(str(error).split())}") from None
                devices = int(os.environ.get(per_node, processes))
                return devices, processes // devices
    return None

"""Devices for training: how many, in what precision, and who started the processes."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import torch
from lightning_fabric import Fabric

from legnet_cli.detectors.devices import choose_device
from legnet_cli.errors import ConfigError, DependencyError

logger = logging.getLogger(__name__)

_PRECISION: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def open_fabric(device: str, devices: int, nodes: int, precision: str) -> Fabric:
    """Lightning Fabric, its processes started; ``torchrun`` and SLURM overrule ``devices`` and ``nodes``.

    Raises:
        ConfigError: devices and precision do not go together.
        DependencyError: there are too few devices.
    """
    place = choose_device(device)
    if precision == "fp16" and place.type != "cuda":
        raise ConfigError(f"--precision fp16 needs a CUDA GPU, and this is {place.type}: use bf16 or fp32")
    if precision == "bf16" and place.type == "cpu" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        logger.warning("this CPU has no bf16 arithmetic: --precision fp32 is many times faster")
    if "TORCHELASTIC_RUN_ID" in os.environ:  # set by torchrun
        devices, nodes = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ.get("GROUP_WORLD_SIZE", 1))
    elif "SLURM_PROCID" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        nodes = int(os.environ.get("SLURM_NNODES", 1))
        devices = int(os.environ["SLURM_NTASKS"]) // nodes
    if place.type == "cuda" and place.index is not None and devices > 1:
        raise ConfigError(f"--device {device} is one GPU: give --device cuda with --devices {devices}")
    if place.type == "cuda" and devices > torch.cuda.device_count():
        raise DependencyError(f"--devices {devices}: this machine has {torch.cuda.device_count()} GPUs")
    chosen: Any = [place.index] if place.index is not None else devices
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of advice on launchers
        fabric = Fabric(
            accelerator="gpu" if place.type == "cuda" else place.type,
            devices=chosen,
            num_nodes=nodes,
            strategy="ddp" if devices * nodes > 1 else "auto",
            precision=_PRECISION[precision],
        )
        logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
        fabric.launch()
    if fabric.global_rank:
        logging.getLogger("legnet_cli").setLevel(logging.ERROR)  # one voice is enough
    return fabric

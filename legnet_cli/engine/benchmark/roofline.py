"""How near a network comes to what its device can do (roofline model, doi 10.1145/1498765.1498785).

A layer that does ``flops`` and has to move ``bytes`` takes at least ``max(flops / peak, bytes / bandwidth)``. Peak and
bandwidth are measured here, by the same libraries that run the network.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.networks import Network
from legnet_cli.detectors.stages import observed_modules
from legnet_cli.engine.benchmark.timings import OTHER, Stopwatch

PASSES = 5  # timed searches the layers' medians are of
_SIDES = {"cpu": (768, 1536), "cuda": (4096, 8192), "mps": (2048, 4096)}
_TRIAD_MB = {"cpu": 128, "cuda": 512, "mps": 256}  # of each of three arrays: far more than caches hold
_TRIES = 6


@dataclass(frozen=True)
class Peaks:
    """What the device reached on its own.

    Attributes:
        gflops: of the fastest matrix product, by type of number (``float32`` …), in 10⁹ operations a second.
        bandwidth: of ``a = b + s × c`` on large arrays, in 10⁹ bytes a second.
    """

    gflops: dict[str, float]
    bandwidth: float

    def best(self, other: Peaks) -> Peaks:
        """The higher ones of two measurements."""
        gflops = {dtype: max(value, other.gflops[dtype]) for dtype, value in self.gflops.items()}
        return Peaks(gflops, max(self.bandwidth, other.bandwidth))

    def least_ms(self, flops: float, size: float, dtype: str) -> float:
        """Milliseconds that ``flops`` operations on ``size`` bytes take at least."""
        return max(flops / self.gflops[dtype], size / self.bandwidth) / 1e6


@dataclass(frozen=True)
class TimedLayer:
    """A convolution or linear layer over one tile, all its calls together.

    Attributes:
        shape: of the weight, and stride or groups other than 1, in words.
        flops: two for each multiply-add of its definition; Winograd's way takes fewer, and may exceed the peak.
        bytes: of inputs, outputs and weights.
        ms: median time.
        least_ms: by the roofline model.
    """

    name: str
    shape: str
    dtype: str
    calls: int
    flops: float
    bytes: float
    ms: float
    least_ms: float

    @property
    def gflops(self) -> float:
        """10⁹ operations a second."""
        return self.flops / self.ms / 1e6

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.bytes

    @property
    def share(self) -> float:
        """Share of the attainable speed that it reaches."""
        return self.least_ms / self.ms


@dataclass(frozen=True)
class Roofline:
    """Peaks of the device, and what the layers of a network reach of them.

    ``layers`` are slowest first, ``rest_ms`` is what a search takes outside of them.
    """

    peaks: Peaks
    layers: tuple[TimedLayer, ...]
    rest_ms: float

    @property
    def share(self) -> float | None:
        """Share of the attainable speed that all layers together reach."""
        ms = sum(layer.ms for layer in self.layers)
        return sum(layer.least_ms for layer in self.layers) / ms if ms else None

    @property
    def peak_share(self) -> float | None:
        """Share of the matrix product's speed that all layers together reach."""
        ms = sum(layer.ms for layer in self.layers)
        return sum(layer.flops / self.peaks.gflops[layer.dtype] for layer in self.layers) / 1e6 / ms if ms else None


def measure_peaks(device: torch.device, dtypes: set[torch.dtype]) -> Peaks:
    """Time matrix products of ``dtypes`` and a triad on ``device``."""
    with torch.inference_mode():
        gflops = {
            _dtype_name(dtype): max(_product(device, dtype, side) for side in _SIDES[device.type]) for dtype in dtypes
        }
        return Peaks(gflops, _triad(device))


def measure_layers(detector: Detector, tile: NDArray[np.uint8]) -> Roofline:
    """Peaks of the detector's device, and its layers timed on a tile (h, w, 3)."""
    network = detector.network
    if network is None:
        return Roofline(measure_peaks(detector.device, {torch.float32}), (), float("nan"))
    sizes = _sizes(detector, network, tile)
    layers = network.layers()
    dtypes = {_weight(layers[name]).dtype for name in sizes}
    before = measure_peaks(detector.device, dtypes)
    watch, laps = Stopwatch(detector.device), []
    with observed_modules({name: layers[name] for name in sizes}, watch.stage):
        for _ in range(PASSES + 1):
            with watch.stage(OTHER):
                detector.detect(tile[None])
            laps.append(watch.read())
    ms = {name: float(np.median([lap[name] for lap in laps[1:]])) for name in [*sizes, OTHER]}
    peaks = before.best(measure_peaks(detector.device, dtypes))
    rows = []
    for name, (calls, flops, size) in sizes.items():
        dtype = _dtype_name(_weight(layers[name]).dtype)
        least = peaks.least_ms(flops, size, dtype)
        rows.append(TimedLayer(name, _shape(layers[name]), dtype, calls, flops, size, ms[name], least))
    return Roofline(peaks, tuple(sorted(rows, key=lambda row: -row.ms)), ms[OTHER])


def count_flops(detector: Detector, tile: NDArray[np.uint8]) -> int:
    """Operations, two for each multiply-add, of convolutions and matrix products over one tile (h, w, 3).

    A convolution counts as it is defined, even if it takes fewer multiplications as run.
    """
    layers = detector.network.layers().values() if detector.network else ()
    running: list[int] = []
    saved = 0

    def begin(*_: object) -> None:
        running.append(counter.get_total_flops())

    def end(module: nn.Module, _: tuple[Any, ...], output: Tensor) -> None:
        nonlocal saved
        saved += _operations(module, output) - (counter.get_total_flops() - running.pop())

    with ExitStack() as hooks, FlopCounterMode(display=False) as counter:
        for layer in layers:
            hooks.callback(layer.register_forward_pre_hook(begin).remove)
            hooks.callback(layer.register_forward_hook(end).remove)
        detector.detect(tile[None])
    return int(counter.get_total_flops()) + saved


def _sizes(detector: Detector, network: Network, tile: NDArray[np.uint8]) -> dict[str, tuple[int, float, float]]:
    """Calls, operations and bytes of each layer that a search of ``tile`` calls."""
    sizes: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])

    def note(name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, read = _weight(module), inputs[0]
        entry = sizes[name]
        entry[0] += 1
        entry[1] += _operations(module, output)
        entry[2] += (read.numel() + output.numel() + weight.numel()) * weight.element_size()

    with ExitStack() as hooks:
        for name, module in network.layers().items():
            hooks.callback(module.register_forward_hook(partial(note, name)).remove)
        detector.detect(tile[None])
    return {name: (int(calls), flops, size) for name, (calls, flops, size) in sizes.items()}


def _operations(layer: nn.Module, output: Tensor) -> int:
    """Two for each multiply-add of the definition of a convolution or linear layer."""
    return 2 * output.numel() * _weight(layer)[0].numel()


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _product(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """10⁹ operations a second of a product of matrices of ``side`` × ``side``: the faster of two ways to it.

    As a 1×1 convolution it goes another way in PyTorch, which can be much the faster one on a CPU.
    """
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    image, weight = a.t()[None, :, :, None], b[:, :, None, None]
    seconds = min(_best(device, lambda: a @ b), _best(device, lambda: F.conv2d(image, weight)))
    return 2 * side**3 / seconds / 1e9


def _triad(device: torch.device) -> float:
    """10⁹ bytes a second of ``a = b + s × c``."""
    count = _TRIAD_MB[device.type] * 2**20 // 4
    a, b, c = (torch.ones(count, device=device) for _ in range(3))
    return 3 * 4 * count / _best(device, lambda: torch.add(b, c, alpha=0.5, out=a)) / 1e9


def _best(device: torch.device, call: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls."""
    watch, seconds = Stopwatch(device), []
    for _ in range(_TRIES):
        with watch.stage(OTHER):
            call()
        if device.type == "mps":
            torch.mps.synchronize()
        seconds.append(watch.read()[OTHER] / 1e3)
    return min(seconds)


def _shape(module: nn.Module) -> str:
    weight = _weight(module)
    words = " × ".join(str(side) for side in weight.shape)
    if isinstance(module, nn.Conv2d):
        out, inputs, *kernel = weight.shape[0], module.in_channels, *weight.shape[2:]
        words = f"{inputs}→{out}, {kernel[0]}×{kernel[1]}"
        words += f", /{module.stride[0]}" if module.stride[0] > 1 else ""
        words += ", depthwise" if module.groups == inputs > 1 else f", {module.groups} groups" * (module.groups > 1)
    elif isinstance(module, nn.Linear):
        words = f"{module.in_features}→{module.out_features}"
    return words


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Measure which kernel computes each wide layer of a network fastest on this CPU."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from legnet_cli.detectors.fast.kernels import DIRECT, Layer, kernels_of, make_kernel
from legnet_cli.detectors.fast.oriented_rcnn import CPU_BOXES, OrientedRCNN
from legnet_cli.detectors.race import Race, race

QUICK, THOROUGH = 3, 10  # rounds
_QUICK_ROWS = 64  # of the one input that a quick measurement takes
_TOLERANCE = 1e-4  # of the largest output, between a kernel and the direct sum

Shape = tuple[int, ...]


@dataclass(frozen=True)
class TunedLayer:
    """A layer with its kernels.

    Attributes:
        inputs: shapes that it was measured on.
        flops: of its definition on these, two for each multiply-add.
        race: milliseconds on all inputs by kernel, and the one to take.
    """

    name: str
    weight: Shape
    inputs: tuple[Shape, ...]
    flops: int
    race: Race


def tune(
    network: OrientedRCNN,
    side: int,
    usual: Mapping[str, str],
    rounds: int = QUICK,
    clock: Callable[[], float] = time.perf_counter,
) -> list[TunedLayer]:
    """The layers of ``network``, computed by whatever kernels, as they are measured on a tile of ``side`` pixels.

    With :data:`QUICK` rounds a convolution is measured on the first rows of its largest input, else on all inputs.
    Another kernel than that of ``usual`` is taken only if it is clearly faster, and equals the direct one.
    """
    known: dict[object, Race] = {}  # of layers that are alike
    tuned = []
    with torch.inference_mode():
        for name, inputs in _inputs(network, side, thorough=rounds > QUICK).items():
            layer, kernel = network.choosable[name], usual.get(name, DIRECT)
            alike = (type(layer), layer.weight.shape, getattr(layer, "padding", None), inputs, kernel)
            if alike not in known:
                known[alike] = _race(layer, inputs, kernel, rounds, clock)
            flops = sum(2 * layer.weight.numel() * _pixels(layer, shape) for shape in inputs)
            tuned.append(TunedLayer(name, tuple(layer.weight.shape), inputs, flops, known[alike]))
    return tuned


def tuned_choice(layers: Sequence[TunedLayer]) -> dict[str, str]:
    """The kernels to take."""
    return {layer.name: layer.race.winner for layer in layers if layer.race.winner != DIRECT}


def _race(layer: Layer, inputs: Sequence[Shape], usual: str, rounds: int, clock: Callable[[], float]) -> Race:
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator) for shape in inputs]
    made = [x.to(memory_format=torch.channels_last) if x.ndim == 4 else x for x in made]
    kernels = {kernel: make_kernel(layer, kernel) for kernel in kernels_of(layer)}
    wanted = layer(made[0])
    equal = {name: kernel for name, kernel in kernels.items() if _agree(kernel(made[0]), wanted)}
    ways = {name: (lambda kernel=kernel: [kernel(x) for x in made]) for name, kernel in equal.items()}
    return race(ways, usual if usual in ways else DIRECT, rounds, clock, all_rounds=rounds > QUICK)


def _agree(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= _TOLERANCE * float(wanted.abs().max())


def _inputs(network: OrientedRCNN, side: int, *, thorough: bool) -> dict[str, tuple[Shape, ...]]:
    """The shapes that each layer to choose for is given on a tile, largest first."""
    seen: dict[str, list[Shape]] = {name: [] for name in network.choosable}
    with _noted(network, seen):
        network.dense(network.prepare(torch.zeros(1, side, side, 3, dtype=torch.uint8)))
    for name, layer in network.choosable.items():
        if isinstance(layer, nn.Linear):
            seen[name] = [(CPU_BOXES, layer.in_features)]
    shapes = {name: tuple(sorted(found, reverse=True, key=lambda s: s[-1])) for name, found in seen.items() if found}
    return shapes if thorough else {name: (_cropped(found[0]),) for name, found in shapes.items()}


def _cropped(shape: Shape) -> Shape:
    return (*shape[:2], min(_QUICK_ROWS, shape[2]), shape[3]) if len(shape) == 4 else shape


@contextmanager
def _noted(network: OrientedRCNN, seen: dict[str, list[Shape]]) -> Iterator[None]:
    """Note the shapes of inputs inside the ``with`` body."""

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: seen[name].append(tuple(inputs[0].shape))

    handles = [network.get_submodule(name).register_forward_pre_hook(hook(name)) for name in network.choosable]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _pixels(layer: Layer, shape: Shape) -> int:
    """Outputs for each output channel."""
    if isinstance(layer, nn.Linear):
        return shape[0]
    assert isinstance(layer.padding[0], int)
    grow = 2 * layer.padding[0] + 1 - layer.kernel_size[0]
    return shape[0] * (shape[2] + grow) * (shape[3] + grow)

"""Batches of training images, in a reproducible order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from legnet_cli.boxes import Array
from legnet_cli.data.labels import labels_of
from legnet_cli.detectors.mmrotate.augment import Augment
from legnet_cli.detectors.weights.recipes import MEAN
from legnet_cli.engine.train.data import TrainData
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile


class Sample(NamedTuple):
    """An image (3, H, W) uint8, its ``le90`` boxes (n, 5), labels (n,), name, and mask (H, W) of ignored ground."""

    image: Tensor
    boxes: Tensor
    labels: Tensor
    name: str
    ignored: Tensor | None = None


class Batch(NamedTuple):
    """Images of a batch (B, 3, H, W) uint8, what belongs to each, and masks (B, H, W) bool of ignored ground if any."""

    images: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]
    names: list[str]
    ignored: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The batch on ``device``; waits for nothing if it lies in pinned memory."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The batch in pinned memory; the loader calls this."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        boxes, labels = ([change(tensor) for tensor in part] for part in (self.boxes, self.labels))
        ignored = None if self.ignored is None else change(self.ignored)
        return Batch(change(self.images), boxes, labels, self.names, ignored)


class Samples(Dataset[Sample]):
    """Augmented images by ``(epoch, index)``; what comes does not depend on workers or order.

    Ignored regions come as a mask for detectors that heed it. For others, and other transforms than turns and flips,
    ``fill`` paints them in the mean colour. An object is seen wherever it lies.
    """

    def __init__(self, data: TrainData, augment: Augment, seed: int, stretch: str, *, fill: bool = False) -> None:
        found = [labels_of(image, data.classes) for image in data.images]
        self._images = [image.select(labels >= 0) for image, labels in zip(data.images, found, strict=True)]
        self._regions = [image.quads[labels < 0] for image, labels in zip(data.images, found, strict=True)]
        self._labels = [labels[labels >= 0] for labels in found]
        self._boxes = [image.boxes for image in self._images]
        self._augment, self._seed, self._stretch, self._fill = augment, seed, stretch, fill

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        image, regions = self._images[index], self._regions[index]
        with Scene.open(str(image.path), stretch=self._stretch) as scene:
            pixels, _ = scene.read(Tile(0, 0, scene.height, scene.width))
        if len(regions):
            mask = region_mask(pixels.shape[:2], regions, image.quads)
            if self._fill:
                pixels = np.where(mask[..., None] > 0, np.round(MEAN).astype(np.uint8), pixels)
            else:  # a fourth channel is turned and flipped as the others are
                pixels = np.dstack([pixels, mask])
        seed = int(np.random.SeedSequence([self._seed, epoch, index]).generate_state(1)[0])
        pixels, boxes, labels = self._augment(pixels, self._boxes[index], self._labels[index], seed)
        chw = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        ignored = chw[3] > 127 if len(chw) > 3 else None
        return Sample(chw[:3], torch.from_numpy(boxes).float(), torch.from_numpy(labels), image.file, ignored)


def region_mask(shape: tuple[int, ...], regions: Array, objects: Array) -> NDArray[np.uint8]:
    """255 in ``regions`` (n, 4, 2) of an image of ``shape`` (H, W), but for what ``objects`` (m, 4, 2) cover."""
    import cv2

    mask = np.zeros(shape, np.uint8)
    for quads, value in ((regions, 255), (objects, 0)):
        for quad in quads:  # in sixteenths of a pixel, from the centre of the first
            cv2.fillPoly(mask, [np.round((quad - 0.5) * 16).astype(np.int32)], value, shift=4)
    return mask


class GlobalBatchSampler(Sampler[list[tuple[int, int]]]):
    """Batches of one process from a pass on: each epoch is one shuffle of all images, cut into global batches.

    Pass p of process r takes batch number ``p * processes + r``, so several processes see together what a single one
    sees that accumulates as many passes. What does not fill a step at the end of an epoch is left out of it.
    The last ``also`` images are of other data: evenly spread, they make up a ``share`` of an epoch of the first ones.
    """

    def __init__(
        self,
        images: int,
        batch: int,
        accumulate: int,
        rank: int,
        processes: int,
        seed: int,
        *,
        also: int = 0,
        share: float = 0.0,
    ) -> None:
        self._own, self._also, self._share = images - also, also, share if also else 0.0
        self._images = round(self._own / (1 - self._share))  # of an epoch
        self._batch, self._seed = batch, seed
        self._rank, self._processes = rank, processes
        self.steps = max(1, self._images // (batch * accumulate * processes))  # per epoch
        self._passes = self.steps * accumulate
        self._accumulate = accumulate
        self.start = 0  # step to begin with, counted over all epochs
        self.end = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.end):
            epoch, step_in_epoch = divmod(step, self.steps)
            shuffle = self._order(epoch)
            for number in range(step_in_epoch * self._accumulate, (step_in_epoch + 1) * self._accumulate):
                first = (number * self._processes + self._rank) * self._batch
                # a set smaller than a global batch is gone through again
                yield [(epoch, int(shuffle[i % self._images])) for i in range(first, first + self._batch)]

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """The images of an epoch; those of other data go on where the epoch before stopped."""
        own = np.random.default_rng([self._seed, epoch]).permutation(self._own)
        if not self._also:
            return own
        quota = np.floor(np.arange(self._images + 1) * self._share + 1e-9)
        other = np.diff(quota) > 0
        turns, places = np.divmod(epoch * int(quota[-1]) + np.arange(int(quota[-1])), self._also)
        shuffles = {t: np.random.default_rng([self._seed, t, 1]).permutation(self._also) for t in np.unique(turns)}
        order = np.empty(self._images, np.int64)
        order[other] = self._own + np.array([shuffles[t][i] for t, i in zip(turns, places, strict=True)], np.int64)
        order[~other] = np.resize(own, int((~other).sum()))
        return order

    def __len__(self) -> int:
        return (self.end - self.start) * self._accumulate


def make_loader(samples: Samples, sampler: GlobalBatchSampler, workers: int, pin: bool) -> DataLoader[Any]:
    """Batches of ``samples`` as ``sampler`` has them, read ahead by ``workers`` processes."""
    return DataLoader(
        samples,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
    )


def collate(samples: Sequence[Sample]) -> Batch:
    """One batch; smaller images are padded at right and bottom with the mean colour, which normalisation takes to 0."""
    height, width = (max(sample.image.shape[axis] for sample in samples) for axis in (1, 2))
    batch = torch.tensor(MEAN).round().to(torch.uint8).view(1, 3, 1, 1).repeat(len(samples), 1, height, width)
    ignored = None
    if any(sample.ignored is not None for sample in samples):
        ignored = torch.zeros(len(samples), height, width, dtype=torch.bool)
    for i, sample in enumerate(samples):
        rows, cols = sample.image.shape[1:]
        batch[i, :, :rows, :cols] = sample.image
        if ignored is not None and sample.ignored is not None:
            ignored[i, :rows, :cols] = sample.ignored
    _, boxes, labels, names, _ = zip(*samples, strict=True)
    return Batch(batch, list(boxes), list(labels), list(names), ignored)


def _start_worker(worker: int) -> None:
    """Each reading process takes one core, and leaves it to the main one, which it ends with, to heed signals."""
    import signal

    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.SIG_IGN)

"""Training images: what the data set holds and whether it can be trained on, batches in a reproducible order."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from legnet_cli.boxes import Array
from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.gsd import dataset_gsd
from legnet_cli.data.labels import IGNORED, ImageLabels, labels_of, listing
from legnet_cli.detectors.mmrotate.augment import Augment
from legnet_cli.detectors.weights.recipes import MEAN
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.raster import Scene
from legnet_cli.tiles import Tile

logger = logging.getLogger(__name__)

LARGEST = 2048  # px: a longer side means that nobody cut the images
_SHOWN = 5  # problems of the labels that are told


@dataclass(frozen=True)
class DataCheck:
    """What there is to train on.

    Attributes:
        images, empty: how many there are, and how many of them hold no object.
        objects: of each class.
        sizes: the most frequent image sizes in pixels, with their counts.
        problems: what was left out of the labels or looks like a mistake.
        validation: images that are evaluated after each epoch.
        gsd: least and greatest ground sampling distance, metres per pixel; None if unknown.
    """

    images: int
    empty: int
    objects: dict[str, int]
    sizes: dict[str, int]
    problems: tuple[str, ...]
    validation: int
    gsd: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "problems": list(self.problems)}


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


@dataclass(frozen=True)
class TrainData:
    """Images to train on, their classes, what was found out about them, and how many of them, at the end, are others.

    ``also`` counts images of other data, which make up a ``share`` of each batch.
    """

    images: tuple[ImageLabels, ...]
    classes: tuple[str, ...]
    check: DataCheck
    also: int = 0
    share: float = 0.0

    def mixed(self, other: TrainData, share: float) -> TrainData:
        """These images and those of ``other``, which has no other classes."""
        return replace(self, images=self.images + other.images, also=len(other.images), share=share)


def load_train_data(
    root: Path,
    split: str | None,
    choice: ClassChoice,
    *,
    format: str | None = None,
    labels: str | None = None,
    skip_bad: bool = False,
    negatives: bool = False,
) -> TrainData:
    """Read and check the training images of the dataset at ``root``.

    Args:
        root: any dataset that ``legnet split`` writes or ``load_dataset`` reads.
        split: part to train on; train where there is one, else all, when None.
        choice: which classes to learn; it may name some without objects.
        format, labels, skip_bad: see ``load_dataset``.
        negatives: images without any object will do.

    Raises:
        DataError: there is nothing to train on, or a file is missing or too large.
    """
    dataset = load_dataset(
        root, format=format, labels=labels, skip_bad=skip_bad, sizes=True, choice=choice, complete=False
    )
    splits = dataset.splits()
    chosen = split if split is not None else "train" if "train" in splits else splits[0] if len(splits) == 1 else None
    if chosen is None:
        raise ConfigError(f"{root}: has the splits {', '.join(splits)}: choose one with --split")
    part = dataset.split(chosen)
    missing = [image.file for image in part.images if image.path is None]
    if missing:
        raise DataError(
            f"{root}: {len(missing)} images are missing, such as {missing[0]}: add them, or remove their labels"
        )
    names, counts = dataset.classes, part.counts()
    bare = not any(counts[name] for name in names)
    if bare and not negatives:
        what = f"object of {', '.join(choice.keep)}" if choice.keep else "object"
        advice = "check --labels and --split, or mix in data that have some with --also"
        raise DataError(f"{root}: no {what} in its {len(part.images)} training images: {advice}")
    large = [image for image in part.images if image.size is not None and max(image.size) > LARGEST]
    if large:
        side = "{} × {}".format(*(large[0].size or (0, 0)))
        raise DataError(f"{root}: {large[0].file} has {side} pixels: cut the images first with legnet split")
    absent = [name for name in names if not counts[name]]
    if bare:
        logger.warning("%s: all of its %d images are background", root, len(part.images))
    elif absent:
        logger.warning("no object of %s to train on", ", ".join(absent))
    validation = dataset.split("val").images if "val" in splits and chosen != "val" else ()
    sizes = Counter("{}×{}".format(*(image.size or ("?", "?"))) for image in part.images)
    check = DataCheck(
        images=len(part.images),
        empty=sum(set(image.names) <= {IGNORED} for image in part.images),
        objects={name: counts[name] for name in names},
        sizes=dict(sizes.most_common(4)),
        problems=tuple(str(problem) for problem in dataset.problems),
        validation=len(validation) if counted_objects(validation) else 0,
        gsd=dataset_gsd(root, part.images),
    )
    for line in listing(dataset.problems, _SHOWN):
        logger.warning("%s", line)
    return TrainData(part.images, names, check)


def counted_objects(images: Iterable[ImageLabels]) -> int:
    """Objects that count in a measure."""
    return sum(
        name != IGNORED and level == 0
        for image in images
        for name, level in zip(image.names, image.difficult.tolist(), strict=True)
    )


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

"""Training images: what the data set holds, and whether it can be trained on."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.gsd import dataset_gsd
from legnet_cli.data.labels import IGNORED, ImageLabels, listing
from legnet_cli.errors import ConfigError, DataError

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

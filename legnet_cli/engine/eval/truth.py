"""Ground truth as evaluation takes it: whole images, their objects, and where predictions by name belong.

Tiles, recognised by their names (see ``legnet_cli.tiles``), are put back together to images. There, objects of one
class that came from different tiles with an IoU over ``SAME`` are one: the least difficult is kept, then the largest.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from legnet_cli.boxes import Array, boxes_to_polygons, polygons_to_boxes
from legnet_cli.data.builder import difficulty
from legnet_cli.data.checks import self_crossing
from legnet_cli.data.classes import ALL, ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.detect import find_parts
from legnet_cli.data.gsd import image_gsd
from legnet_cli.data.labels import IGNORED, Dataset, ImageLabels, Problem, Size, labels_of, strip_image_suffix
from legnet_cli.data.review_layers import REVIEW
from legnet_cli.data.sniff import VECTOR_SUFFIXES
from legnet_cli.data.tile_notes import CUT, difficulty_in_source, sizes_in_source
from legnet_cli.data.vector_labels import class_names
from legnet_cli.engine.eval.matching import Truths, iou_pairs
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.plane import map_plane
from legnet_cli.geo.polygons import PolygonTable, read_polygons, to_pixels
from legnet_cli.tiles import TileName, parse_tile_name

SAME = 0.6  # IoU over which two objects of different tiles are one


class Frame(NamedTuple):
    """An image file, whole or a tile of image number ``image``; ``source`` is that one's size if the tile is padded."""

    labels: ImageLabels
    image: int
    tile: TileName
    source: Size | None = None

    def shown(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what a file of some size shows of the image, without padding."""
        if self.source is None:
            return height, width
        return min(height, self.source[1] - int(self.tile.row)), min(width, self.source[0] - int(self.tile.col))


@dataclass(frozen=True)
class EvalSet:
    """Ground truth.

    Attributes:
        source: where it was read from.
        names: of the images, sorted.
        frames: image files in the order of ``names``; none for vector layers without images.
        classes: names of the labels.
        truths: the objects, and ignored regions with the label ``len(classes)``.
        gsd: (images, 2) metres per pixel along columns and rows; NaN where unknown.
        plane: the map that vector layers without images are compared in.
        problems: what was left out of the labels or looks like a mistake.
        renamed: new names of classes by old ones, for predictions too.
    """

    source: Path
    names: tuple[str, ...]
    frames: tuple[Frame, ...]
    classes: tuple[str, ...]
    truths: Truths
    gsd: Array
    plane: Georef | None = None
    problems: tuple[Problem, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)
    _by_name: dict[str, int | None] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        files = [(frame.labels.stem, frame.image) for frame in self.frames if frame.tile.size == np.inf]
        self._by_name.update([*zip(self.names, range(len(self.names)), strict=True), *files])
        for name, image in list(self._by_name.items()):
            last = posixpath.basename(name)
            if last != name:  # None where several images share it
                self._by_name[last] = None if last in self._by_name and self._by_name[last] != image else image

    def find(self, name: str) -> tuple[int, TileName] | None:
        """The image that predictions named ``name`` are of, and the tile of it; None if there is no such image."""
        plain = strip_image_suffix(name.replace("\\", "/"))
        for tile in (TileName(plain), parse_tile_name(plain)):
            image = self._by_name.get(tile.image)
            if image is not None:
                return image, tile
        return None

    def metres(self, polygons: Array, images: NDArray[np.int64]) -> Array:
        """Length on the ground (n,) of the longer side of (n, 4, 2) boxes; NaN where unknown."""
        if self.plane is not None:
            return self.plane.measure(polygons).length_m
        sides = np.abs(polygons[:, 1:3] - polygons[:, :2]) * self.gsd[images][:, None]
        return np.asarray(np.hypot(sides[..., 0], sides[..., 1]).max(1, initial=0.0))


@dataclass(frozen=True)
class Source:
    """Which ground truth to read; see :func:`legnet_cli.data.datasets.load_dataset`.

    Attributes:
        data: dataset, or vector layer with or without images.
        split: its part; val where there is one, else the only one, when None.
        labels, class_field, skip_bad: see ``load_dataset``.
        count_difficult: count difficult objects, and take objects as their smallest boxes, as mmrotate does.
        files: the images to take; all when empty.
        format, choice: see ``load_dataset``; ``choice`` may name classes that the labels lack.
    """

    data: Path
    split: str | None = None
    labels: str | None = None
    class_field: str | None = None
    skip_bad: bool = False
    count_difficult: bool = False
    format: str | None = None
    choice: ClassChoice = ALL
    files: Collection[str] = ()


def load_truth(source: Source) -> EvalSet:
    """Read the ground truth.

    Raises:
        DataError: it cannot be used, or has no object that counts.
        ConfigError: there are several splits and none is chosen.
    """
    if source.data.suffix.lower() in VECTOR_SUFFIXES and source.data.is_file():
        format, parts = find_parts(source.data)
        if format != REVIEW and not any(part.images for part in parts):
            return _checked(_load_layer(source))
    dataset = load_dataset(
        source.data,
        format=source.format,
        labels=source.labels,
        class_field=source.class_field,
        skip_bad=source.skip_bad,
        choice=source.choice,
        complete=False,
    )
    dataset = _choose_split(dataset, source.split)
    if source.files:
        dataset = replace(dataset, images=tuple(image for image in dataset.images if image.file in source.files))
    return _checked(_assemble(dataset, source))


def _checked(found: EvalSet) -> EvalSet:
    if found.truths.ignored.all():
        kind = "object" if len(found.truths) == 0 else "object that is not difficult"
        raise DataError(f"{found.source}: has no {kind} to evaluate: give labelled data (see --split)")
    return found


def _choose_split(dataset: Dataset, wanted: str | None) -> Dataset:
    splits = dataset.splits()
    if wanted is None and len(splits) > 1 and "val" not in splits:
        raise ConfigError(f"the dataset has the splits {', '.join(splits)}: choose one with --split")
    return dataset.split(wanted if wanted is not None else "val" if "val" in splits else splits[0])


def _assemble(dataset: Dataset, source: Source) -> EvalSet:
    """Images from the image files of ``dataset``, tiles put together."""
    tiles = [parse_tile_name(image.stem) for image in dataset.images]
    names = sorted({tile.image for tile in tiles})
    index = {name: i for i, name in enumerate(names)}
    order = sorted(range(len(tiles)), key=lambda i: (tiles[i].image, tiles[i].row, tiles[i].col))
    sizes = sizes_in_source(dataset.images, [tile.image for tile in tiles])
    frames = tuple(Frame(dataset.images[i], index[tiles[i].image], tiles[i], sizes[i]) for i in order)
    gsd = np.full((len(names), 2), np.nan)
    for frame in frames:
        if not np.isfinite(gsd[frame.image]).all():
            gsd[frame.image] = image_gsd(frame.labels, frame.tile.zoom)
    used = [name for name, count in dataset.counts().items() if count and name != IGNORED]
    objects = [_objects(frame, used) for frame in frames]
    counts = [len(frame.labels) for frame in frames]
    difficult = np.concatenate(difficulty_in_source([frame.labels for frame in frames]))
    labels = np.concatenate([labels for _, labels in objects])
    truths = Truths(
        _outlines(np.concatenate([quads for quads, _ in objects]), source),
        labels,
        np.repeat([frame.image for frame in frames], counts).astype(np.int64),
        (difficult > 0) | (labels == len(used)),
        np.zeros(len(difficult)),
        (difficult == CUT) & np.repeat([frame.tile.image != frame.labels.stem for frame in frames], counts),
    )
    if len(frames) > len(names):
        truths = truths.take(_once(truths, np.repeat(np.arange(len(frames)), counts), difficult, len(used) + 1))
    found = EvalSet(
        source.data,
        tuple(names),
        frames,
        tuple(used),
        truths,
        gsd,
        problems=dataset.problems,
        renamed=source.choice.renamed,
    )
    return _finish(found, source)


def _objects(frame: Frame, classes: Sequence[str]) -> tuple[Array, NDArray[np.int64]]:
    """Corners (n, 4, 2) in pixels of the image, and labels, of the objects in a frame."""
    labels = labels_of(frame.labels, classes)
    return frame.tile.points_to_image(frame.labels.quads), np.where(labels < 0, len(classes), labels)


def _once(truths: Truths, frame: NDArray[np.int64], difficult: NDArray[np.int64], classes: int) -> NDArray[np.bool_]:
    """Which objects (n,) to keep so that each is there once, though neighbouring tiles share it."""
    boxes = polygons_to_boxes(truths.quads)
    group = truths.images * classes + truths.labels
    one, two, iou = iou_pairs(boxes, truths.quads, group, group, truths.quads)
    rank = np.empty(len(truths), np.int64)
    rank[np.lexsort((np.arange(len(truths)), -boxes[:, 2] * boxes[:, 3], difficult))] = np.arange(len(truths))
    same = (iou > SAME) & (frame[one] != frame[two]) & (rank[one] < rank[two])
    one, two = one[same], two[same]
    keep = np.ones(len(truths), bool)
    for pair in np.argsort(rank[one], kind="stable"):
        if keep[one[pair]]:
            keep[two[pair]] = False
    return keep


def _outlines(quads: Array, source: Source) -> Array:
    """The outlines (n, 4, 2) that the rules ask for: boxes for mmrotate, and where sides of the quads cross."""
    as_box = source.count_difficult | self_crossing(quads)
    return np.where(as_box[:, None, None], boxes_to_polygons(polygons_to_boxes(quads)), quads)


def _finish(found: EvalSet, source: Source) -> EvalSet:
    """Objects with their length on the ground, and those ignored that the rules ignore."""
    truths = found.truths
    boxes = boxes_to_polygons(polygons_to_boxes(truths.quads))
    metres = found.metres(boxes, truths.images)
    if source.count_difficult:
        truths = replace(truths, ignored=truths.labels == len(found.classes), cut=None)
    return replace(found, truths=replace(truths, metres=metres), _by_name={})


def _load_layer(source: Source) -> EvalSet:
    """The polygons of a vector layer that has no images, all in one plane."""
    table = read_polygons(source.data)
    table, names = _chosen(table, class_names(table, source.class_field, source.data), source.choice)
    plane = map_plane(table.crs)
    bad = next((i for i, points in enumerate(table.points) if len(points) < 3 or not names[i]), None)
    if bad is not None:
        raise DataError(f"{source.data}: feature {table.ids[bad]}: is not a polygon with a class: remove it")
    quads = [np.zeros((0, 4, 2))]
    for points in to_pixels(table.points, table.crs, plane):
        corners = points[None]
        if not np.isfinite(corners).all():
            raise DataError(f"{source.data}: has corners that are not finite or not on the map: remove them")
        quads.append(corners if corners.shape[1] == 4 else boxes_to_polygons(polygons_to_boxes(corners)))
    classes = sorted({*names} - {IGNORED})
    labels = np.array([[*classes, IGNORED].index(name) for name in names], np.int64).reshape(-1)
    n = len(labels)
    ignored = labels == len(classes)
    for i, value in enumerate(table.fields.get("difficult", ())):
        level = difficulty(value)
        if level is None:
            raise DataError(f"{source.data}: feature {table.ids[i]}: 'difficult' is {value!r}: give a whole number")
        ignored[i] |= level > 0
    truths = Truths(_outlines(np.concatenate(quads), source), labels, np.zeros(n, np.int64), ignored, np.zeros(n))
    gsd, renamed = np.full((1, 2), np.nan), source.choice.renamed
    name = source.data.stem
    found = EvalSet(source.data, (name,), (), tuple(classes), truths, gsd, plane, renamed=renamed)
    return _finish(found, source)


def _chosen(table: PolygonTable, names: list[str], choice: ClassChoice) -> tuple[PolygonTable, list[str]]:
    """The rows of ``table`` that are not background by ``choice``, and their classes."""
    choice.check([*dict.fromkeys(names)], complete=False)
    becomes = choice.mapping({*names})
    rows = [row for row, name in enumerate(names) if becomes[name] is not None]
    fields = {key: [column[row] for row in rows] for key, column in table.fields.items()}
    kept = replace(table, points=[table.points[row] for row in rows], fields=fields, ids=[table.ids[i] for i in rows])
    return kept, [str(becomes[names[row]]) for row in rows]

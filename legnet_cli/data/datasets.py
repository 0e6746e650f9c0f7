"""One way to load a dataset, whatever its layout and format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from legnet_cli.data.checks import check_labels
from legnet_cli.data.detect import Part, find_parts
from legnet_cli.data.labels import Dataset, ImageLabels, LabelError, Problem
from legnet_cli.data.parts import load_parts, split_rank
from legnet_cli.data.vector_labels import load_polygons
from legnet_cli.errors import DataError


def load_dataset(
    root: Path,
    *,
    format: str | None = None,
    labels: str | None = None,
    class_field: str | None = None,
    skip_bad: bool = False,
    sizes: bool = False,
) -> Dataset:
    """Read the dataset at ``root`` with its splits; what looks like a mistake is in its ``problems``.

    Args:
        root: folder, or one COCO, GeoPackage or GeoJSON file beside its images, or one image with ``labels`` given.
        format: one of :data:`legnet_cli.data.detect.FORMAT_NAMES`; found from the layout when None.
        labels: a label file anywhere, or part of the path of the labels to take where there are several.
        class_field: column of the classes in a GeoPackage or GeoJSON file.
        skip_bad: leave out objects and files that cannot be used, and list them in ``problems``.
        sizes: read the size of every image from its file.

    Raises:
        LabelError: some labels cannot be used, and ``skip_bad`` is false.
        DataError: there is no dataset, or not one alone.
        ConfigError: unknown ``format``.
    """
    found, parts = find_parts(Path(root), format, labels)
    if found in ("gpkg", "geojson"):
        dataset = _load_vector(parts, class_field)
    else:
        dataset = load_parts(Path(root), found, parts, sizes=sizes)
    bad = [problem for problem in dataset.problems if problem.left_out]
    if bad and not skip_bad:
        raise LabelError(bad)
    if not dataset.images:
        raise DataError(f"{root}: no image is left in this dataset: check its labels")
    return replace(dataset, problems=(*dataset.problems, *check_labels(dataset.images)))


def _load_vector(parts: list[Part], class_field: str | None) -> Dataset:
    files = {part.labels for part in parts if part.labels is not None}
    if len(files) != 1:
        raise DataError(f"{', '.join(sorted(map(str, files)))}: several files of polygons: choose one with --labels")
    problems: list[Problem] = []
    dataset = load_polygons(files.pop(), parts, class_field, problems)
    images: list[ImageLabels] = sorted(dataset.images, key=lambda image: (*split_rank(image.split), image.file))
    return replace(dataset, images=tuple(images), problems=tuple(problems))

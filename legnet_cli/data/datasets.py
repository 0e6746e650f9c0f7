"""One way to load a dataset, whatever its layout and format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from legnet_cli.data.builder import is_text
from legnet_cli.data.checks import check_labels
from legnet_cli.data.classes import ALL, ClassChoice
from legnet_cli.data.detect import Part, find_parts
from legnet_cli.data.labels import Dataset, ImageLabels, LabelError, Problem
from legnet_cli.data.parts import load_parts, split_rank, summary
from legnet_cli.data.review import load_review
from legnet_cli.data.review_layers import REVIEW
from legnet_cli.data.sniff import VECTORS
from legnet_cli.data.vector_labels import load_polygons
from legnet_cli.errors import DataError, counted


def load_dataset(
    root: Path,
    *,
    format: str | None = None,
    labels: str | None = None,
    class_field: str | None = None,
    skip_bad: bool = False,
    sizes: bool = False,
    choice: ClassChoice = ALL,
    complete: bool = True,
) -> Dataset:
    """Read the dataset at ``root`` with its splits; what looks like a mistake is in its ``problems``.

    Args:
        root: folder, or one vector file or file about many images beside these, or one image with ``labels`` given.
        format: one of :data:`legnet_cli.data.detect.FORMAT_NAMES`; found from the layout when None.
        labels: a label file anywhere, or part of the path of the labels to take where there are several.
        class_field: column or attribute of the classes in a vector file or VIA's.
        skip_bad: leave out objects and files that cannot be used, and list them in ``problems``.
        sizes: read the size of every image from its file.
        choice: which classes to keep, and under which names.
        complete: whether ``choice`` may name only classes that the dataset has.

    Raises:
        LabelError: some labels cannot be used, and ``skip_bad`` is false.
        DataError: there is no dataset, or not one alone.
        ConfigError: unknown ``format``, or ``choice`` names a class that the dataset lacks.
    """
    found, parts = find_parts(Path(root), format, labels)
    if found in VECTORS:
        dataset = _load_vector(Path(root), found, parts, class_field)
    else:
        dataset = load_parts(Path(root), found, parts, class_field=class_field, sizes=sizes)
    dataset = _writable(dataset)
    bad = [problem for problem in dataset.problems if problem.left_out]
    if bad and not skip_bad:
        raise LabelError(bad)
    if not dataset.images:
        raise DataError(f"{root}: no image is left in this dataset: check its labels")
    dataset = replace(dataset, problems=(*dataset.problems, *check_labels(dataset.images)))
    return choice.apply(dataset, complete=complete)


def _writable(dataset: Dataset) -> Dataset:
    """``dataset`` without the images whose names no label file could hold.

    Raises:
        DataError: the name of a class is such a name.
    """
    for name in dataset.classes:
        if not is_text(name):
            raise DataError(f"class name {name!r} has characters that are not text: rename it")
    bad = [image for image in dataset.images if not is_text(image.file)]
    if not bad:
        return dataset
    fault = "its name is not text in UTF-8: rename it"
    faults = [Problem(str(image.path or image.source), fault, left_out=True) for image in bad]
    sound = tuple(image for image in dataset.images if is_text(image.file))
    return replace(dataset, images=sound, problems=(*dataset.problems, *faults))


def _load_vector(root: Path, format: str, parts: list[Part], class_field: str | None) -> Dataset:
    problems: list[Problem] = []
    images: list[ImageLabels] = []
    for file in dict.fromkeys(part.labels for part in parts):
        own = [part for part in parts if part.labels == file]
        if file is None:
            images += [ImageLabels(part.file, path=path, split=part.split) for part in own for path in part.images]
            bare = summary(part.file for part in own)
            problems.append(Problem(str(root), f"no labels for {counted(len(own), 'image')}, counted as empty: {bare}"))
        elif len(parts) > 1 and not any(part.images for part in own):
            problems.append(Problem(str(file), "no image has this name: left out"))
        else:
            try:
                review = format == REVIEW
                images += (
                    load_review(file, own, problems) if review else load_polygons(file, own, class_field, problems)
                )
            except DataError as error:
                if len(own) == len(parts):
                    raise
                fault, _, _advice = str(error).removeprefix(f"{file}: ").rpartition(": ")
                problems.append(Problem(str(file), fault, left_out=True))
    images.sort(key=lambda image: (*split_rank(image.split), image.file))
    classes = sorted({name for image in images for name in image.names})
    return Dataset(tuple(images), tuple(classes), format, tuple(problems))

"""Rewrite the labels of a dataset in another format.

from legnet_cli.engine.convert import ConvertConfig, convert
result = convert(ConvertConfig(Path("DOTA"), Path("DOTA-yolo"), to_format="yolo-obb"))
"""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from legnet_cli.boxes import boxes_to_polygons
from legnet_cli.data import coco
from legnet_cli.data.classes import ClassChoice, without_regions
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.format import Format
from legnet_cli.data.labels import IGNORED, Dataset, ImageLabels, Problem
from legnet_cli.data.sniff import FORMATS, WRITTEN_NAMES
from legnet_cli.data.vector_labels import write_polygons
from legnet_cli.engine.convert.config import ConvertConfig
from legnet_cli.errors import ConfigError, DataError, counted
from legnet_cli.files import atomic_folder, check_folder, check_output

IMAGES = ("link", "copy", "none")
_VECTOR_SUFFIXES = (".gpkg", ".geojson")
RECORD = "convert.json"  # marks a folder as one that may be replaced

# what travels with an image: world files, GDAL's notes, masks and overviews
_SIDECARS = ("{}.aux.xml", "{}.ovr", "{}.msk")
_WORLD_FILES = (".tfw", ".tifw", ".pgw", ".pngw", ".jgw", ".jpgw", ".bpw", ".j2w", ".wld", ".prj")


@dataclass(frozen=True)
class ConvertResult:
    """What was written.

    Attributes:
        dst: the folder or file.
        from_format: name of the format that was read.
        to_format: name of the format that was written.
        splits: images and objects of each split.
        classes: objects of each class.
        left_out: labels that could not be used.
        warnings: what looks like a mistake, and what the new format cannot hold.
    """

    dst: Path
    from_format: str
    to_format: str
    splits: dict[str, tuple[int, int]]
    classes: dict[str, int]
    left_out: tuple[Problem, ...]
    warnings: tuple[Problem, ...]

    def to_dict(self) -> dict[str, object]:
        """The result as JSON takes it."""
        return {
            "from": self.from_format,
            "to": self.to_format,
            "splits": {name: {"images": n, "objects": k} for name, (n, k) in self.splits.items()},
            "classes": self.classes,
            "left_out": [str(problem) for problem in self.left_out],
            "warnings": [str(problem) for problem in self.warnings],
        }


def convert(config: ConvertConfig) -> ConvertResult:
    """Read the dataset at ``config.src`` and write it in another format; ``config.dst`` appears whole or not at all.

    Raises:
        ConfigError: a format or class is unknown, or ``dst`` exists.
        LabelError: some labels cannot be used, and ``skip_bad`` is false.
        DataError: there is no dataset, or the output cannot be written.
    """
    target = _target_format(config)
    _check_places(config, target)
    dataset = load_dataset(
        config.src,
        format=config.from_format,
        labels=config.labels,
        class_field=config.class_field,
        skip_bad=config.skip_bad,
        sizes=True,
        choice=ClassChoice(config.classes, config.rename, config.ignore_others),
    )
    warnings = [problem for problem in dataset.problems if not problem.left_out]
    warnings += _losses(dataset, target, config.dst)
    if target == "yolo-obb":
        dataset = without_regions(dataset)
    splits = {name: dataset.split(name).images for name in dataset.splits()}
    result = ConvertResult(
        dst=config.dst,
        from_format=dataset.format,
        to_format=target,
        splits={name: (len(images), sum(map(len, images))) for name, images in splits.items()},
        classes=dataset.counts(),
        left_out=tuple(problem for problem in dataset.problems if problem.left_out),
        warnings=tuple(warnings),
    )
    if target in _vector_formats():
        write_polygons(config.dst, dataset)
        return result
    with atomic_folder(config.dst) as out:
        if target == "coco":
            _write_coco(out, dataset, config.images)
        else:
            _write_folders(out, dataset, FORMATS[target], config.images)
        (out / RECORD).write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return result


def _vector_formats() -> tuple[str, ...]:
    return tuple(suffix[1:] for suffix in _VECTOR_SUFFIXES)


def _target_format(config: ConvertConfig) -> str:
    suffix = config.dst.suffix.lower()
    target = config.to_format or (suffix[1:] if suffix in _VECTOR_SUFFIXES else None)
    if target not in WRITTEN_NAMES:
        fault = "say the format to write" if target is None else f"unknown label format {target!r}: choose one"
        raise ConfigError(f"{fault} with --to: {', '.join(WRITTEN_NAMES)}")
    if config.images not in IMAGES:
        raise ConfigError(f"--images {config.images!r} is unknown: choose from {', '.join(IMAGES)}")
    if target in _vector_formats() and suffix != f".{target}":
        raise ConfigError(f"{config.dst}: {target} labels are one file: give it the suffix .{target}")
    return target


def _check_places(config: ConvertConfig, target: str) -> None:
    if target not in _vector_formats():
        check_folder(config.dst, source=config.src, record=RECORD, overwrite=config.overwrite)
        return
    check_output(config.dst, overwrite=config.overwrite, suffixes=_VECTOR_SUFFIXES)
    if config.src.resolve() == config.dst.resolve():
        raise ConfigError(f"{config.dst}: is the input itself: choose another name")


def _write_folders(out: Path, dataset: Dataset, fmt: Format, images: str) -> None:
    codes = fmt.codes(dataset.written)
    taken: set[tuple[Path, str]] = set()
    for name in dataset.splits():
        members = dataset.split(name).images
        label_folder, image_folder = (out / _in_split(place, name, fmt) for place in (fmt.labels, fmt.images))
        labelled = any(image.source is not None for image in members)
        for image in members:
            if (image_folder, image.stem) in taken:
                raise DataError(f"{image.stem}: is in two splits, which {fmt.name} keeps together: rename one")
            taken.add((image_folder, image.stem))
            if labelled:
                path = label_folder / (image.stem + fmt.suffix)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(fmt.render(image, codes), encoding="utf-8", newline="\n")
            _place_image(image, image_folder, images)
        if name and fmt.split_lists:
            (out / fmt.split_lists).mkdir(parents=True, exist_ok=True)
            listed = "".join(f"{image.stem}\n" for image in members)
            (out / fmt.split_lists / f"{name}.txt").write_text(listed, encoding="utf-8", newline="\n")
    for file, text in fmt.side_files(dataset).items():
        (out / file).write_text(text, encoding="utf-8", newline="\n")


def _in_split(place: str, split: str, fmt: Format) -> str:
    shown = (fmt.split_names or {}).get(split, split)
    return "/".join(part for part in place.replace("{split}", shown).split("/") if part)


def _write_coco(out: Path, dataset: Dataset, images: str) -> None:
    (out / "annotations").mkdir()
    for name in dataset.splits():
        members = dataset.split(name).images
        file = out / "annotations" / f"{'_'.join(filter(None, ('instances', name)))}.json"
        file.write_text(coco.render(members, dataset.written), encoding="utf-8", newline="\n")
        for image in members:
            _place_image(image, out / (name or "images"), images)


def _place_image(image: ImageLabels, folder: Path, how: str) -> None:
    """Link or copy the image and what belongs to it into ``folder``."""
    if how == "none" or image.path is None:
        return
    target = folder / image.file
    target.parent.mkdir(parents=True, exist_ok=True)
    pairs = [(image.path, target)]
    pairs += [
        (image.path.with_name(f.format(image.path.name)), target.with_name(f.format(target.name))) for f in _SIDECARS
    ]
    pairs += [(image.path.with_suffix(suffix), target.with_suffix(suffix)) for suffix in _WORLD_FILES]
    for source, copy in pairs:
        if source.is_file():
            _link_or_copy(source.resolve(), copy, how)


def _link_or_copy(source: Path, target: Path, how: str) -> None:
    if how == "link":
        with suppress(OSError):  # another disk, or one without hard links
            os.link(source, target)
            return
    shutil.copyfile(source, target)


def _losses(dataset: Dataset, target: str, dst: Path) -> list[Problem]:
    """What the format ``target`` cannot hold of ``dataset``."""
    lost: list[str] = []
    difficult = sum(int((image.difficult != 0).sum()) for image in dataset.images)
    if target == "yolo-obb" and difficult:
        lost.append(f"the difficulty of {counted(difficult, 'object')}")
    regions = dataset.counts().get(IGNORED, 0)
    if target == "yolo-obb" and regions:
        lost.append(counted(regions, "ignored region"))
    if target in ("dota", "yolo-obb") and any(map(any, (image.attributes for image in dataset.images))):
        keys = sorted({key for image in dataset.images for attributes in image.attributes for key in attributes})
        lost.append(f"the attributes {', '.join(keys)}")
    spaced = [name for name in dataset.classes if len(name.split()) > 1]
    if target == "dota" and spaced:
        lost.append(f"blanks in class names: {', '.join(map(repr, spaced))} get '-', see classes.txt")
    if target == "hrsc":
        bent = sum(int((~_rectangular(image)).sum()) for image in dataset.images)
        lost += [f"the corners of {counted(bent, 'object')} of another shape than a rectangle"] if bent else []
    empty = sum(not len(image) for image in dataset.images)
    if target in _vector_formats() and empty:
        lost.append(f"{counted(empty, 'image')} without objects")
    return [Problem(str(dst), f"{target} cannot hold {what}") for what in lost]


def _rectangular(image: ImageLabels) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each quad is a rectangle to a hundredth of a pixel."""
    corners = boxes_to_polygons(image.boxes)
    apart = np.linalg.norm(image.quads[:, :, None] - corners[:, None], axis=3).min(2).max(1, initial=0)
    found: np.ndarray[tuple[int], np.dtype[np.bool_]] = apart < 0.01
    return found

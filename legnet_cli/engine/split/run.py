"""Cut a dataset into tiles for training and evaluation.

from legnet_cli.engine.split import SplitConfig, split
result = split(SplitConfig(Path("DOTA"), Path("DOTA-tiles"), tile=1024, overlap=200))
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from legnet_cli import __version__
from legnet_cli.data import dota
from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.gsd import dataset_gsd, resampled
from legnet_cli.data.labels import Dataset, ImageLabels, Problem, Size
from legnet_cli.data.review_layers import REVIEW
from legnet_cli.data.tile_notes import DIFFICULTY, SIZES, SPLIT_RECORD
from legnet_cli.engine.process import processors
from legnet_cli.engine.split.config import SplitConfig
from legnet_cli.engine.split.draft import Draft
from legnet_cli.engine.split.jobs import Cutter, image_key, make_folders, make_jobs, run_jobs, tile_paths
from legnet_cli.engine.split.plan import SplitPlan, make_plan
from legnet_cli.engine.split.report import SHEET, SplitCounts, count_tiles, draw_sheet, warnings
from legnet_cli.errors import DataError
from legnet_cli.files import check_folder, writable

FORMATS = ("png", "tif")


@dataclass(frozen=True)
class SplitResult:
    """What was written.

    Attributes:
        out: the folder.
        splits: counts by name; the name is empty where a dataset has no splits.
        objects: in the dataset.
        problems: what was left out, what looks like a mistake, and what no tile holds.
        contact_sheet: picture of some tiles; None if no tile has objects.
        resumed: tiles that an earlier, interrupted run had written.
        seconds: of this run.
    """

    out: Path
    splits: dict[str, SplitCounts]
    objects: int
    problems: tuple[Problem, ...]
    contact_sheet: Path | None
    resumed: int
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """What was made, as JSON takes it; the same however and by how many workers it was made."""
        return {
            "splits": {name: vars(counts) for name, counts in self.splits.items()},
            "objects_in_dataset": self.objects,
            "problems": [str(problem) for problem in self.problems],
        }


@dataclass(frozen=True)
class SplitProgress:
    """Tiles written so far, and in all."""

    tiles_done: int
    tiles_total: int


def split(config: SplitConfig, on_progress: Callable[[SplitProgress], None] = lambda progress: None) -> SplitResult:
    """Cut ``config.src`` into tiles; ``config.out`` appears whole, and an interrupted split goes on when repeated.

    The result does not depend on the number of workers, nor on interruptions.

    Args:
        config: what to do.
        on_progress: told after each tile, from one thread at a time.

    Raises:
        ConfigError: settings are wrong, a class is unknown, or ``out`` exists.
        LabelError: some labels cannot be used, and ``skip_bad`` is false.
        DataError: there is no dataset, an image is damaged, or the output cannot be written.
    """
    start = time.perf_counter()
    check_folder(config.out, source=config.src, record=SPLIT_RECORD, overwrite=config.overwrite)
    workers = config.workers or processors()
    dataset = load_dataset(
        config.src,
        format=config.from_format,
        labels=config.labels,
        class_field=config.class_field,
        skip_bad=config.skip_bad,
        sizes=True,
        choice=ClassChoice(config.classes, config.rename, config.ignore_others),
    )
    images = [image for image in dataset.images if image.path is not None]
    if not images:
        raise DataError(f"{config.src}: none of its labels has an image: put the images beside them")
    if config.gsd is not None:
        images = [resampled(image, config.gsd) for image in images]
    plan = make_plan(
        images,
        config.sizes,
        truncated=config.truncated,
        like_mmrotate=config.like_mmrotate,
        # reviewed ground without objects is there to be learned from
        background=1.0 if dataset.format == REVIEW else config.background,
        val_fraction=config.val_fraction,
        seed=config.seed,
        workers=workers,
    )
    if not plan.images:
        raise DataError(_nothing_to_cut(config, dataset.format, plan))
    draft = Draft(config.out, _fingerprint(config, images), overwrite=config.overwrite)
    with closing(draft):
        # another process may have finished the same folder while this one read its labels
        check_folder(config.out, source=config.src, record=SPLIT_RECORD, overwrite=config.overwrite)
        resumed = _cut(config, dataset, plan, draft, workers, on_progress)
        plan, faults = _without_damaged(plan, draft, config.format)
        result = SplitResult(
            out=config.out,
            splits=count_tiles(plan, dataset.written),
            objects=plan.objects,
            problems=(*dataset.problems, *faults, *warnings(plan, config.src)),
            contact_sheet=config.out / SHEET
            if draw_sheet(draft.folder, plan, dataset.written, config.format)
            else None,
            resumed=resumed,
            seconds=time.perf_counter() - start,
        )
        _write_notes(draft.folder, config, dataset, result, plan)
        draft.publish()
    return result


def _nothing_to_cut(config: SplitConfig, format: str, plan: SplitPlan) -> str:
    """Why ``plan`` has no tile, and what to do."""
    source = config.labels or config.src
    if plan.blank and format == REVIEW:
        why = "each has rows that are still 'todo'"
        return f"{source}: no square is reviewed yet ({why}): open it in QGIS and set their status"
    if plan.blank:
        return f"{source}: all ground is ignored: remove the ignored regions where tiles are to be cut"
    return f"{source}: no tile holds an object: check the labels, or keep empty tiles with --background 1"


def _write_notes(folder: Path, config: SplitConfig, dataset: Dataset, result: SplitResult, plan: SplitPlan) -> None:
    """Write the list of classes, and a record of settings, counts and what the labels cannot hold."""
    gsd = (config.gsd, config.gsd) if config.gsd else dataset_gsd(config.src, [part.image for part in plan.images])
    record = {
        "legnet": __version__,
        "settings": _settings(config),
        "gsd": gsd,
        **result.to_dict(),
        DIFFICULTY: _difficulty_in_source(folder, plan),
        SIZES: _padded_sizes(plan),
    }
    with writable(config.out):
        for file, text in dota.FORMAT.side_files(dataset).items():
            (folder / file).write_text(text, encoding="utf-8", newline="\n")
        (folder / SPLIT_RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _difficulty_in_source(folder: Path, plan: SplitPlan) -> dict[str, int]:
    """Where the difficulty in the labels is not that of the source, by label file and line."""
    return {
        f"{tile_paths(folder, cut, '')[1].relative_to(folder).as_posix()}:{i + 1}": int(cut.found.in_source[i])
        for part in plan.images
        for cut in part.cuts
        for i in np.flatnonzero(cut.found.in_source != cut.found.difficult).tolist()
    }


def _padded_sizes(plan: SplitPlan) -> dict[str, Size]:
    """Width and height of images that tiles reach out of, by split and name."""
    return {
        f"{cut.split}/{part.image.stem}": part.size
        for part in plan.images
        for cut in part.cuts
        if cut.tile.col + cut.tile.width > part.size[0] or cut.tile.row + cut.tile.height > part.size[1]
    }


def _settings(config: SplitConfig) -> dict[str, object]:
    """The settings that make a difference to what is written."""
    left_out = ("src", "out", "workers", "overwrite")
    return {key: value for key, value in vars(config).items() if key not in left_out}


def _fingerprint(config: SplitConfig, images: Sequence[ImageLabels]) -> str:
    """Digest of the settings, the labels, and the sizes and times of the image files."""
    digest = hashlib.sha256(json.dumps([__version__, _settings(config)]).encode())
    for image in images:
        assert image.path is not None
        info = image.path.stat()
        about = (image.split, image.file, image.source is not None, image.size, info.st_size, info.st_mtime_ns)
        digest.update(repr((about, image.names, image.difficult.tolist())).encode())
        digest.update(image.quads.tobytes())
    return digest.hexdigest()


def _cut(
    config: SplitConfig,
    dataset: Dataset,
    plan: SplitPlan,
    draft: Draft,
    workers: int,
    on_progress: Callable[[SplitProgress], None],
) -> int:
    """Do the jobs that the draft lacks; returns the tiles it had."""
    jobs = list(make_jobs(plan.images))
    total = sum(len(job.cuts) for job in jobs)
    waiting = [job for job in jobs if job.key not in draft.done]
    resumed = done = total - sum(len(job.cuts) for job in waiting)
    lock = threading.Lock()

    def written() -> None:
        nonlocal done
        with lock:
            done += 1
            on_progress(SplitProgress(done, total))

    labelled = {cut.split for p in plan.images if p.image.source is not None for cut in p.cuts}
    make_folders(draft.folder, plan, labelled)
    codes = dota.FORMAT.codes(dataset.written)
    how = config.format, config.bands, config.stretch, config.gsd is not None
    cutter = Cutter(draft.folder, labelled, codes, *how, workers, written)
    run_jobs(cutter, waiting, draft.finish, skip_bad=config.skip_bad)
    return resumed


def _without_damaged(plan: SplitPlan, draft: Draft, format: str) -> tuple[SplitPlan, list[Problem]]:
    """``plan`` without the images that could not be read to their end, whose tiles are removed."""
    faults: dict[str, str] = {key.rpartition("/")[0]: fault for key, fault in sorted(draft.done.items()) if fault}
    damaged = [part for part in plan.images if image_key(part.image) in faults]
    for cut in (cut for part in damaged for cut in part.cuts):
        for path in tile_paths(draft.folder, cut, format):
            path.unlink(missing_ok=True)
    sound = tuple(part for part in plan.images if part not in damaged)
    if not sound:
        raise DataError(f"{next(iter(faults.values()))}: no other image is left to split")
    problems = [_problem(fault) for fault in faults.values()]
    return replace(plan, images=sound), problems


def _problem(fault: str) -> Problem:
    place, _, message = fault.partition(": ")
    return Problem(place, message, left_out=True)

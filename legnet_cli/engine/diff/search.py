"""Layers of scenes that are searched first."""

from __future__ import annotations

import glob
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from legnet_cli import __version__
from legnet_cli.engine.diff.config import DiffConfig
from legnet_cli.engine.predict import PredictConfig, SearchProgress, predict
from legnet_cli.errors import DataError, counted
from legnet_cli.files import is_folder_output
from legnet_cli.geo.inputs import find_scenes, find_stamps, is_remote, local_stamp

_SETTINGS = (
    *("weights", "tile", "overlap", "gsd", "bands", "stretch", "batch", "device", "engine", "precision"),
    *("force_precision", "workers"),
)


@contextmanager
def searched_layers(
    config: DiffConfig,
    on_progress: Callable[[SearchProgress], None],
    on_download: Callable[[int, int | None], None],
) -> Iterator[list[Path]]:
    """The layer of each of ``config.dates``; with weights, those of its scenes, which are searched now.

    These lie in a hidden folder beside the output, which is removed when the body ends without an error: after an
    interrupt the same settings go on from there.

    Raises:
        DataError: a scene could not be searched.
    """
    if config.weights is None:
        yield [Path(date) for date in config.dates]
        return
    stem = f".{config.out.name}.dates-"
    folder = config.out.with_name(stem + _digest(config))
    if config.overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    asked = {name: getattr(config, name) for name in _SETTINGS}
    if config.score is not None:
        asked["score"] = config.score
    layers = []
    for number, date in enumerate(config.dates, 1):
        layer = folder / f"{number}-{_stem(date)}.gpkg"
        if not layer.exists():
            found = predict(PredictConfig(scenes=(date,), out=layer, **asked), on_progress, on_download)
            if found.failures:
                bad = found.failures[0].reason
                raise DataError(f"{counted(len(found.failures), 'scene')} of {date} not searched: {bad}")
        layers.append(layer)
    yield layers
    for old in config.out.parent.glob(f"{glob.escape(stem)}*"):  # those of other settings or scenes too
        shutil.rmtree(old, ignore_errors=True)


def _digest(config: DiffConfig) -> str:
    """What decides the layers, in short: settings, scenes and weights as they are now."""
    stamps = [sorted(find_stamps(find_scenes((date,), "")).items()) for date in config.dates]
    known = {name: str(getattr(config, name)) for name in (*_SETTINGS, "score")}
    known["version"], known["file"] = __version__, local_stamp(str(config.weights))
    return hashlib.sha256(json.dumps([known, stamps], sort_keys=True).encode()).hexdigest()[:12]


def plain_path(date: str) -> Path:
    """The path of a date; of a URL without what follows a question mark."""
    return Path(date.partition("?")[0] if is_remote(date) else date)


def _stem(date: str) -> str:
    """A name of a date for a file."""
    path = plain_path(date)
    return path.name if is_folder_output(path.name) else path.stem

"""How a layer was made, as JSON that goes with it, and the run that this describes once more.

``run`` tells runs apart: it is made of all the rest but the date, so the same run has the same one. The date is a day,
today in UTC or that of ``SOURCE_DATE_EPOCH`` (as in reproducible builds), so outputs of one day have the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from legnet_cli import __version__
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.errors import ConfigError, DataError, reading
from legnet_cli.files import PathLike
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.inputs import is_local, is_remote
from legnet_cli.geo.vector import SAYS_PROVENANCE, read_provenance
from legnet_cli.settings import declared
from legnet_cli.tiles import choose_tiling
from legnet_cli.untrusted import parse_json, read_text

logger = logging.getLogger(__name__)

SIDECAR = ".json"  # appended to the name of an output whose format has no place for it
_SETTINGS = (
    *("weights", "tile", "overlap", "gsd", "bands", "stretch", "score", "classes", "aoi", "max_detections", "crs"),
    *("engine", "precision", "compile", "kernels", "tta", "scales", "fuse", "size_check"),
)
_COMPUTED = ("device", "engine", "precision")


def sidecar(out: PathLike) -> Path:
    """Where the provenance of an output goes that has no place for it."""
    return Path(out).with_name(Path(out).name + SIDECAR)


def today() -> datetime:
    """The day of now, UTC."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch.isdigit() else datetime.now(timezone.utc)
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def describe(
    config: PredictConfig,
    card: ModelCard,
    how: Mapping[str, str],
    scenes: Sequence[SceneResult],
    crs: CRS | None = None,
) -> dict[str, Any]:
    """What there is to say of an output.

    Args:
        config: what was asked for.
        card: of the weights.
        how: what else decides the result, see :func:`legnet_cli.engine.predict.plan.settings_digest`.
        scenes: those of the output.
        crs: reference system of its data set, if that may be another than its own scene's.
    """
    settings = {name: getattr(config, name) for name in _SETTINGS}
    settings["tile"], settings["overlap"] = choose_tiling(config.tile, config.overlap, (card.tile, card.overlap))
    settings["weights"] = [_absolute(one) for one in config.weights]
    settings["crs"] = config.crs if crs is None else crs.to_wkt()
    settings["aoi"] = None if config.aoi is None else str(config.aoi.absolute())
    record = {
        "legnet": __version__,
        "weights": {"name": card.name, "sha256": _sha256(how)},
        "recipe": card.recipe,
        # from which score on each class is reported, unless asked otherwise
        "classes": dict(zip(card.classes, card.thresholds(None).round(4).tolist(), strict=True)),
        "settings": settings,
        "computed": {name: how[name] for name in _COMPUTED},
        "aoi": how["aoi"],
        "scenes": [_scene(scene) for scene in scenes],
    }
    run = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:16]
    return {"run": run, "date": today().date().isoformat(), **record}


def _sha256(how: Mapping[str, str]) -> str | None:
    """Hashes of the weights' files, with + between them; None for a detector that Python code has made."""
    return how["weights"] if re.fullmatch(r"[0-9a-f]{64}(\+[0-9a-f]{64})*", how["weights"]) else None


def _scene(scene: SceneResult) -> dict[str, Any]:
    size, _, version = scene.stamp.partition(" ")
    kind = "etag" if is_remote(scene.path) else "mtime_ns"
    stamp: dict[str, Any] = {"size": int(size) if size.isdigit() else None, kind: version} if scene.stamp else {}
    return {"name": scene.name, "path": _absolute(scene.path), **stamp}


def _absolute(path: str) -> str:
    return os.path.abspath(path) if os.path.exists(path) and is_local(path) else path


def as_text(record: Mapping[str, Any]) -> str:
    """A description as JSON."""
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Replay:
    """A run to be repeated.

    Attributes:
        path: the output that says how it was made.
        config: the settings, with outputs and workers as they are asked for now.
        names: of the scenes, by path.
        record: all that is said.
    """

    path: Path
    config: PredictConfig
    names: dict[str, str]
    record: dict[str, Any]

    def check(self, how: Mapping[str, str], stamps: Mapping[str, str]) -> None:
        """Refuse to repeat the run on something else.

        Args:
            how: what decides the result now.
            stamps: of the scenes, by path.

        Raises:
            DataError: the weights, the area of interest or a scene have changed.
        """
        if _sha256(how) != self.record["weights"]["sha256"]:
            raise DataError(f"{self.path}: was made with other weights than {', '.join(self.config.weights)} now are")
        if how["aoi"] != self.record["aoi"]:
            raise DataError(f"{self.path}: was made with another area of interest than {self.config.aoi} now has")
        for scene in self.record["scenes"]:
            before = f"{scene.get('size', '')} {scene.get('mtime_ns') or scene.get('etag') or ''}".strip()
            if before and stamps[scene["path"]] not in ("", before):
                raise DataError(f"{scene['path']}: has changed since {self.path} was made of it")
        if self.record["legnet"] != __version__:
            logger.warning("%s: made by legnet %s, repeated by %s", self.path, self.record["legnet"], __version__)
        now = {name: how[name] for name in _COMPUTED}
        if now != self.record["computed"]:
            was = ", ".join(self.record["computed"].values())
            logger.warning("%s: computed on %s, now on %s: digits may differ", self.path, was, ", ".join(now.values()))


def read_replay(config: PredictConfig) -> Replay:
    """The run that made ``config.replay``.

    Raises:
        DataError: it does not say how it was made.
        ConfigError: ``config`` has scenes or settings of its own.
    """
    assert config.replay is not None
    own = [one.flag for one in declared(PredictConfig) if one.name in (*_SETTINGS, "scenes", "asset")]
    given = [
        one.flag for one in declared(PredictConfig) if one.flag in own and getattr(config, one.name) != one.default
    ]
    if given:
        raise ConfigError(f"--replay has settings of its own: leave out {', '.join(given)}")
    record = read_record(config.replay)
    with reading(config.replay, "give an output of legnet predict", "does not say how it was made"):
        names = {str(scene["path"]): str(scene["name"]) for scene in record["scenes"]}
        known: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record["settings"].items()
        }
        known["aoi"] = None if known["aoi"] is None else Path(known["aoi"])
        known["device"] = record["computed"]["device"] if config.device == "auto" else config.device
        known["force_precision"] = True  # whatever it costs
        out = config.out or _output_of(config.replay)
        computed = {name: str(record["computed"][name]) for name in _COMPUTED}
        record |= {"weights": dict(record["weights"]), "computed": computed, "legnet": str(record["legnet"])}
        record["weights"]["sha256"], record["aoi"]  # asked for when it is repeated
        again = dataclasses.replace(config, scenes=tuple(names), out=out, strict=True, replay=None, **known)
    return Replay(config.replay, again, names, record)


def read_record(path: Path) -> dict[str, Any]:
    """What an output says of how it was made, be it inside it or beside it.

    Raises:
        DataError: nothing, or it cannot be read.
    """
    if path.suffix.lower() in SAYS_PROVENANCE:
        text = read_provenance(path) if path.exists() else None
    else:
        beside = path if path.suffix.lower() == SIDECAR else sidecar(path)
        with reading(beside, "give an output of legnet predict"):
            text = read_text(beside) if beside.is_file() else None
    if text is None:
        raise DataError(f"{path}: does not say how it was made: give an output of legnet predict")
    with reading(path, "give an output of legnet predict", "does not say how it was made"):
        return dict(parse_json(text))


def _output_of(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == SIDECAR else path

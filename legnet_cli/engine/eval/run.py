"""Measure a model, or predictions made elsewhere, against labelled images.

from legnet_cli.engine.eval import EvalConfig, evaluate
result = evaluate(EvalConfig(data=Path("DOTA"), weights="legnet-tiny-dota10", out=Path("runs/tiny")))
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from legnet_cli.data.classes import ClassChoice
from legnet_cli.data.labels import listing
from legnet_cli.data.tables import check_task1
from legnet_cli.detectors.devices import choose_device
from legnet_cli.detectors.engines import check_engine
from legnet_cli.detectors.ensemble import load_ensemble
from legnet_cli.detectors.loader import Detector, load_checkpoint
from legnet_cli.detectors.tuning import settle_kernels
from legnet_cli.detectors.weights.calibration import ClassCalibration
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import rewrite_card
from legnet_cli.detectors.weights.fetch import fetch
from legnet_cli.engine.eval.calibrate import Aim, calibrate, measure_reliability
from legnet_cli.engine.eval.cases import worst_cases
from legnet_cli.engine.eval.classes import choose_classes, select_classes
from legnet_cli.engine.eval.config import EvalConfig
from legnet_cli.engine.eval.measure import EvalMetrics, compute_metrics
from legnet_cli.engine.eval.predictions import ImagePredictions, read_predictions
from legnet_cli.engine.eval.report import METRICS_FILE, tie_note, write_report
from legnet_cli.engine.eval.robustness import PASSES, Robustness, measure_robustness
from legnet_cli.engine.eval.search import SearchPlan, count_tiles, ground_km2, plan_grids, search_images
from legnet_cli.engine.eval.submission import short_names, write_submission
from legnet_cli.engine.eval.truth import EvalSet, Source, load_truth
from legnet_cli.engine.predict import SearchProgress
from legnet_cli.errors import ConfigError, DataError
from legnet_cli.files import check_output
from legnet_cli.tiles import choose_tiling

logger = logging.getLogger(__name__)

_SHOWN = 10  # problems of the labels that are listed


@dataclass(frozen=True)
class EvalResult:
    """What was measured.

    Attributes:
        metrics: as in ``metrics.json``.
        measured: the same with every curve and verdict.
        robustness: on corrupted images, if asked for.
        out: folder of the report.
        submission: the zip, if asked for.
        seconds: what it took.
    """

    metrics: dict[str, Any]
    measured: EvalMetrics
    robustness: Robustness | None
    out: Path
    submission: Path | None
    seconds: float


def evaluate(
    config: EvalConfig,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
) -> EvalResult:
    """Measure and write the report to ``config.out``.

    Args:
        config: what to do.
        on_progress: told the state of the search after each batch of tiles.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.

    Raises:
        ConfigError: settings that are wrong or disagree.
        DataError: labels, images, predictions, weights or an output that cannot be used.
        DependencyError: a device that is absent.
    """
    start = time.perf_counter()
    _check_outputs(config)
    store = _store(config) if config.write_back else None
    for weights in config.weights:
        place = choose_device(config.device, config.engine)
        check_engine(config.engine, weights, precision=config.precision, compile=False, device=place)
    assert config.data is not None  # its settings refuse that
    truth = load_truth(
        Source(
            config.data,
            config.split,
            config.labels,
            config.class_field,
            config.skip_bad,
            config.count_difficult,
            config.from_format,
            ClassChoice(config.classes, config.rename, config.ignore_others),
        )
    )
    for line in listing(truth.problems, _SHOWN):
        logger.warning("%s", line)
    if config.submission is not None:
        check_task1(short_names(truth), ())
    robustness: Robustness | None = None
    card, km2 = None, math.nan
    if config.predictions is not None:
        found = read_predictions(config.predictions, truth)
        classes = choose_classes(truth, found.classes, config.classes, str(config.predictions))
        measured = _measure(truth, found, classes, config)
    else:
        found, measured, robustness, card, km2 = _search(config, truth, on_progress, on_download)
    _log_gaps(truth, found, measured)
    calibrations = calibrate(measured, _aim(config, truth, km2)) if config.calibrate else {}
    metrics = _metrics(config, truth, measured, robustness) | _scores(measured, calibrations, card)
    if ties := tie_note(metrics):
        logger.warning("%s: give scores with more digits", ties)
    if config.submission is not None:
        write_submission(config.submission, truth, found)
    cases = worst_cases(truth, measured, config.bands, config.stretch)
    write_report(config.out, metrics, measured, cases, robustness)
    if store is not None and card is not None:
        learned = {**(card.calibration or {}), **{name: one.to_dict() for name, one in calibrations.items()}}
        rewrite_card(store, load_checkpoint(store).card.calibrated(config.views.name, learned))
    return EvalResult(metrics, measured, robustness, config.out, config.submission, time.perf_counter() - start)


def _store(config: EvalConfig) -> Path:
    """The weight file whose card takes the calibration.

    Raises:
        ConfigError: it is no file of the user's own.
    """
    (weights,) = config.weights  # its settings refuse others
    path = fetch(weights) if Path(weights).exists() else Path()
    if path.suffix.lower() != ".safetensors":
        raise ConfigError(f"--write-back: {weights} is not a .safetensors file of yours: copy or train one first")
    return path


def _aim(config: EvalConfig, truth: EvalSet, km2: float) -> Aim:
    """What thresholds are chosen for.

    Raises:
        DataError: how much ground the images show is asked for, and unknown.
    """
    if config.max_false_alarms is not None and not math.isfinite(km2):
        raise DataError(f"{truth.source}: the ground area of its images is unknown: leave out --max-false-alarms")
    return Aim(config.min_precision, config.max_false_alarms, km2)


def _scores(measured: EvalMetrics, calibrations: dict[str, ClassCalibration], card: ModelCard | None) -> dict[str, Any]:
    """For ``metrics.json``: how well scores, and the probabilities of the card, agree with the truth."""
    raw, mapped = measure_reliability(measured, card.calibrations if card else {})
    found: dict[str, Any] = {"reliability": {"score": raw.to_dict(), "probability": mapped and mapped.to_dict()}}
    if calibrations:
        found["calibration"] = {name: one.to_dict() for name, one in calibrations.items()}
    return found


def _check_outputs(config: EvalConfig) -> None:
    check_output(f"{config.out}/", overwrite=config.overwrite, folder_files=METRICS_FILE)
    if config.submission is not None:
        check_output(config.submission, overwrite=config.overwrite, suffixes=(".zip",))


def _search(
    config: EvalConfig,
    truth: EvalSet,
    on_progress: Callable[[SearchProgress], None],
    on_download: Callable[[int, int | None], None],
) -> tuple[ImagePredictions, EvalMetrics, Robustness | None, ModelCard, float]:
    """Search the images with the model, then on request their corrupted versions; the last is their ground area."""
    detector = load_ensemble(
        config.weights,
        config.views,
        device=config.device,
        engine=config.engine,
        precision=config.precision,
        kernels=config.kernels,
        tile=config.tile,
        force_precision=config.force_precision,
        score_threshold=config.score,
        progress=on_download,
    )
    classes = choose_classes(truth, detector.card.classes, config.classes, detector.card.name, model=True)
    plan = _plan(config, detector)
    grids = plan_grids(truth, plan)
    total = count_tiles(grids, plan) * (1 + PASSES * config.robustness)
    settle_kernels(detector, config.kernels, plan.tile, total, torch.get_num_threads())
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        on_progress(SearchProgress(str(config.data), done, total, 0.0))

    found = search_images(truth, grids, detector, plan, None, advance)
    measured = _measure(truth, found, classes, config)
    more = detector.card, ground_km2(truth, grids)
    if not config.robustness:
        return found, measured, None, *more
    robustness = measure_robustness(
        lambda change: select_classes(truth, search_images(truth, grids, detector, plan, change, advance), classes)[1],
        measured,
        inclusive=config.count_difficult,
    )
    return found, measured, robustness, *more


def _plan(config: EvalConfig, detector: Detector) -> SearchPlan:
    tile, overlap = choose_tiling(config.tile, config.overlap, (detector.card.tile, detector.card.overlap))
    batch = config.batch or (1 if detector.device.type == "cpu" else 8)
    gsd = detector.card.gsd if config.gsd is None else detector.card.search_gsd(config.gsd)
    return SearchPlan(tile, overlap, gsd, config.bands, config.stretch, batch, config.workers, config.seed)


def _measure(truth: EvalSet, found: ImagePredictions, classes: Sequence[str], config: EvalConfig) -> EvalMetrics:
    truths, predictions = select_classes(truth, found, classes)
    if config.count_difficult:  # mmrotate compares boxes
        predictions = replace(predictions, quads=None)
    if truths.ignored.all():
        raise DataError(f"{truth.source}: has no object of {', '.join(classes)} that counts: choose other --classes")
    return compute_metrics(
        predictions,
        truths,
        classes,
        inclusive=config.count_difficult,
        in_pixels=truth.plane is None or not truth.plane.crs,
    )


def _log_gaps(truth: EvalSet, found: ImagePredictions, measured: EvalMetrics) -> None:
    if measured.without_truth:
        logger.warning("no object of %s: not in any mean", ", ".join(measured.without_truth))
    silent = [name for name, part in zip(truth.names, found.images, strict=True) if len(part) == 0]
    if silent:
        logger.info("no prediction on %d of %d images, such as %s", len(silent), len(truth.names), silent[0])


def _metrics(
    config: EvalConfig, truth: EvalSet, measured: EvalMetrics, robustness: Robustness | None
) -> dict[str, Any]:
    rules = "mmrotate" if config.count_difficult else "dota"
    views = {"views": config.views.name} if config.views.name else {}
    made_by = (
        {"weights": ", ".join(config.weights), **views} if config.weights else {"predictions": str(config.predictions)}
    )
    found = measured.to_dict()
    return {
        **{key: found[key] for key in ("map", "summary", "ap")},
        "data": str(config.data),
        **made_by,
        "images": len(truth.names),
        "rules": rules,
        **found,
        "robustness": None if robustness is None else robustness.to_dict(),
    }

"""Find oriented objects in scenes and write them as a layer in map coordinates.

from legnet_cli.engine.predict import PredictConfig, predict
result = predict(PredictConfig(scenes=("scene.tif",), out=Path("boxes.geojson"), weights=("legnet-tiny-dota10",)))
"""

from __future__ import annotations

import difflib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from legnet_cli.detectors.ensemble import load_ensemble
from legnet_cli.detectors.loader import Detector
from legnet_cli.detectors.stages import StageObserver, unobserved
from legnet_cli.detectors.weights.fetch import EMBEDDED, fetch, sha256
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job, job_folder
from legnet_cli.engine.predict.outputs import check_outputs, check_scenes, layer_name, paths_of, preview_paths
from legnet_cli.engine.predict.plan import ScenePlan, far_from, plan_scenes, scene_names, settings_digest, shares
from legnet_cli.engine.predict.progress import Heartbeat, SearchProgress, Tally
from legnet_cli.engine.predict.provenance import read_replay
from legnet_cli.engine.predict.results import PredictResult, SceneResult
from legnet_cli.engine.predict.sanity import impossible
from legnet_cli.engine.predict.search import Crew, join_scene, search_by_crew, search_here
from legnet_cli.engine.predict.sizes import SizeCheck
from legnet_cli.engine.predict.spool import spool
from legnet_cli.engine.predict.workers import Processes, agreed_kernels, choose_workers, gpus
from legnet_cli.engine.predict.write import Writer
from legnet_cli.engine.process import release_freed
from legnet_cli.errors import CheckpointError, ConfigError, DataError, counted
from legnet_cli.geo.aoi import read_aoi
from legnet_cli.geo.inputs import find_scenes, find_stamps

logger = logging.getLogger(__name__)


def predict(
    config: PredictConfig,
    on_progress: Callable[[SearchProgress], None] = lambda progress: None,
    on_download: Callable[[int, int | None], None] = lambda done, total: None,
    detector: Detector | None = None,
    observer: StageObserver = unobserved,
) -> PredictResult:
    """Search ``config.scenes`` and write what is found to ``config.out``.

    What is found is kept in a job folder until the output stands: a search that ended early goes on from there. A
    scene that cannot be searched does not stop the others; it is among the result's failures.

    Args:
        config: what to do.
        on_progress: told the state of the search after each block of tiles.
        on_download: told the bytes so far and in all (None if unknown) while weights are fetched.
        detector: weights loaded before, in place of ``config.weights`` and of what says how to run them.
        observer: told of the stages ``read`` (in threads), ``detect``, ``merge`` and ``write``.

    Raises:
        ConfigError: settings that are wrong or disagree, also with an earlier run's that is to be gone on with.
        DataError: a weight file, area of interest or output that cannot be used, or no scene that can.
        DependencyError: a device or package that is absent.
    """
    start = time.perf_counter()
    replay = read_replay(config) if config.replay else None
    if replay:
        config = replay.config
    found = dict.fromkeys(replay.names, "") if replay else find_scenes(config.scenes, config.asset)
    names = [*replay.names.values()] if replay else scene_names(list(found))
    outs, previews = paths_of(config.out, names), preview_paths(config.preview, names)
    folder = job_folder(config.out, config.job)
    inputs = (*config.scenes, *found, *config.weights, str(config.aoi or ""))
    check_outputs(config, outs, previews, inputs, Job(folder, {}).may_replace)
    aoi = read_aoi(config.aoi) if config.aoi else None
    loaded = detector is None
    detector = detector or _load(config, on_download)
    thresholds = detector.card.thresholds(config.score)
    asked, config = config, replace(config, score=float(thresholds.min()))
    how = settings_digest(config, *_weights(config, detector, loaded=loaded), aoi)
    sizes = None if config.size_check == "off" else SizeCheck(detector.card)
    wanted = _class_indices(config.classes, detector.card.classes)
    stamps = find_stamps(found)
    if replay:
        replay.check(how, stamps)
    plans, failures = plan_scenes(stamps, names, config, detector.card, aoi)
    config = replace(config, workers=choose_workers(config, plans, detector))
    check_scenes([(plan.name, plan.scene.georef) for plan in plans], detector.card.classes, config)
    job, tally = Job(folder, how), Tally(plans, config.shard, failures)
    with _opened(job, plans, config), Heartbeat(job, tally) as heartbeat:
        if loaded:
            chosen: dict[str, Any] = {
                "engine": config.engine if "+" in detector.engine else detector.engine,  # of several weights
                "kernels": agreed_kernels(config, detector, plans, job),
            }
            asked, config = replace(asked, **chosen), replace(config, **chosen)
        release_freed()  # what loading took is not the size that tiles need
        _search(plans, job, config, detector, tally, on_progress, observer)
        release_freed()
        failures = tally.failures
        bad = {failure.name for failure in failures}
        good = [plan for plan in plans if plan.name not in bad]
        if not good:
            raise DataError(failures[0].reason)
        results, odd = list[SceneResult](), None
        with job.last(good, shared=config.shard is not None) as last:
            if last:
                heartbeat.enter("writing")
                results = spool(join_scene(plan, job, config, wanted, thresholds, observer, sizes) for plan in good)
                told = frozenset(plan.name for plan in good if any(far_from(detector.card, plan.scene)))
                if sentence := impossible(results, detector.card, told):
                    logger.warning("%s", sentence)
                odd = _count_odd(results, config) if sizes else None
                writer = Writer(asked, detector.card, how, job)
                with observer("write"):
                    outs = writer.write(results, dict(zip(names, outs, strict=True)))
                previews = writer.draw(zip(good, results, strict=True), dict(zip(names, previews, strict=False)))
                if not failures:
                    heartbeat.stop()
                    job.remove()
    return PredictResult(
        tuple(results),
        detector.card,
        config.out if last else None,
        tuple(previews) if last else (),
        time.perf_counter() - start,
        tuple(failures),
        tuple(outs) if last else (),
        layer_name(config, results) if last else None,
        odd,
    )


def _count_odd(results: Sequence[SceneResult], config: PredictConfig) -> int:
    """How many objects are of odd size; the log says so, and what becomes of them."""
    count = sum(scene.odd for scene in results)
    fate = "left out" if config.size_check == "drop" else "odd_size is true"
    logger.info("%s of a size that its class had nowhere in training: %s", counted(count, "object"), fate)
    return count


@contextmanager
def _opened(job: Job, plans: Sequence[ScenePlan], config: PredictConfig) -> Iterator[None]:
    """Hold the folder; after an error or interrupt it stays only if others use it, or there is something in it."""
    alone = config.shard is None
    share = "" if config.shard is None else "-{}-of-{}".format(*config.shard)
    with job.open(plans, fresh=config.overwrite and alone, shared=share):
        try:
            yield
        except BaseException:
            if alone and job.empty:
                job.remove()
            raise


def _load(config: PredictConfig, on_download: Callable[[int, int | None], None]) -> Detector:
    detector = load_ensemble(
        config.weights,
        config.views,
        device=config.device,
        engine=config.engine,
        precision=config.precision,
        kernels=config.kernels,
        tile=config.tile,
        compile=config.compile,
        force_precision=config.force_precision,
        score_threshold=config.score,
        progress=on_download,
    )
    card = detector.card
    logger.debug(
        "%s: %s, %d classes, by %s in %s on %s",
        *(card.name, card.recipe, len(card.classes), detector.engine, detector.precision, detector.device),
    )
    if EMBEDDED in config.weights:
        logger.info("weights: %s, trained on %s: knows %s", card.name, card.trained_on, ", ".join(card.classes))
    return detector


def _weights(config: PredictConfig, detector: Detector, *, loaded: bool = False) -> tuple[str, dict[str, str]]:
    """What tells weights apart, and how they are run; a detector of unknown origin is unlike any other."""
    how = {"engine": detector.engine, "precision": detector.precision, "device": detector.device.type}
    if not loaded:
        return uuid.uuid4().hex, how
    try:
        return "+".join(sha256(fetch(one)) for one in config.weights), how
    except CheckpointError:
        return "+".join(config.weights), how


def _class_indices(names: Sequence[str], known: Sequence[str]) -> NDArray[np.int64] | None:
    """Labels of the wanted class names; None for all."""
    unknown = [name for name in names if name not in known]
    if unknown:
        close = difflib.get_close_matches(unknown[0], known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"it has {', '.join(known)}"
        raise ConfigError(f"--classes: the model has no class {unknown[0]!r}; {hint}")
    return np.array(sorted({known.index(name) for name in names}), np.int64) if names else None


def _search(
    plans: Sequence[ScenePlan],
    job: Job,
    config: PredictConfig,
    detector: Detector,
    tally: Tally,
    on_progress: Callable[[SearchProgress], None],
    observer: StageObserver,
) -> None:
    """Search the blocks that are missing, and count.

    Raises:
        DataError: a scene failed and ``config.strict`` is set, or a part cannot be written.
    """
    units = shares(plans, config.shard)
    with _crew(config) as crew:
        if crew is None:
            ended = search_here(units, job, config, detector, observer, lambda count: on_progress(tally.tick(count)))
        else:
            ended = search_by_crew(units, job, crew)
        for done in ended:
            if done.error:
                if config.strict:
                    raise DataError(done.error)
                job.drop(done.plan)
            tally.workers = 1 if crew is None else crew.alive
            on_progress(tally.add(done))


def _crew(config: PredictConfig) -> AbstractContextManager[Crew | None]:
    """Who searches besides this process; None for nobody."""
    if config.cluster is not None:
        from legnet_cli.engine.predict.cluster import Cluster

        return Cluster(config)
    devices = gpus(config.devices) or [config.device] * config.workers
    return Processes(config, devices) if len(devices) > 1 or config.devices else nullcontext()

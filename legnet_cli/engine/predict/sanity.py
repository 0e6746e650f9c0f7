"""Objects that cannot be: what a search of the wrong pixels finds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from legnet_cli.data.labels import plain_name
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.errors import counted

# metres: twice what the longest of a kind measures, by what its class name holds
_LONGEST = {
    "ship": 1000.0,
    "boat": 500.0,
    "plane": 200.0,
    "helicopter": 100.0,
    "vehicle": 100.0,
    "truck": 100.0,
    "bus": 100.0,
    "tank": 400.0,
    "court": 300.0,
    "person": 10.0,
    "bicycle": 10.0,
}
_LONGEST_OF_NAME = {"car": 50.0, "van": 50.0}  # too short to be looked for within names
_TINY = 8  # pixels: a side of a raster that no object is told by
_SAMPLE = 1000  # objects of a scene that are measured
_CHUNK = 1 << 20  # objects looked at together


def impossible(results: Sequence[SceneResult], card: ModelCard, told: frozenset[str]) -> str | None:
    """One sentence on objects that cannot be, and on the pixels that the model is for; None if there are none.

    Args:
        results: what was found in each scene.
        card: of the model.
        told: names of scenes whose pixels have been said to be far from the model's.
    """
    kinds = list(filter(None, (_too_long(results, card.classes, told), _unmeasured(results), _tiny(results))))
    if not kinds:
        return None
    made_for = f"{card.name}, trained on {card.trained_on or card.recipe}, does not say its ground sampling distance"
    if card.gsd is not None:
        span = " to ".join(f"{side:.3g}" for side in dict.fromkeys(card.gsd))
        made_for = f"{card.name} was made for a ground sampling distance of {span} m"
    return f"{'; '.join(kinds)}: check the scene's resolution and georeference; {made_for}"


def _too_long(results: Sequence[SceneResult], classes: Sequence[str], told: frozenset[str]) -> str | None:
    limits = np.array([_limit(name) for name in classes])
    count, worst, example = 0, 1.0, ""
    for scene, side, rows in _parts(results, told):
        length, labels = scene.detections.boxes[rows, 2] * side, scene.detections.labels[rows]
        excess = length / limits[labels]
        count += int(np.count_nonzero(excess > 1))
        most = int(np.argmax(excess))
        if excess[most] > worst:
            worst = float(excess[most])
            example = f"{classes[labels[most]]} of {_metres(float(length[most]))} on pixels of {side:.3g} m"
            example += f" in {scene.name}"
    return f"{counted(count, 'object')} too large to be true, such as a {example}" if count else None


def _parts(results: Sequence[SceneResult], told: frozenset[str]) -> Iterator[tuple[SceneResult, float, slice]]:
    """Scenes with the side of their pixels in metres, some rows at a time: boxes may be many, and on the disk."""
    for scene in results:
        if scene.georef.gsd is not None and scene.name not in told:
            side = float(np.sqrt(scene.georef.gsd[0] * scene.georef.gsd[1]))
            for start in range(0, len(scene.detections), _CHUNK):
                yield scene, side, slice(start, start + _CHUNK)


def _unmeasured(results: Sequence[SceneResult]) -> str | None:
    lost = [scene.name for scene in results if scene.georef.crs is not None and np.isnan(_lengths(scene)).any()]
    more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
    return f"objects of {lost[0]}{more} have no length on the ground" if lost else None


def _tiny(results: Sequence[SceneResult]) -> str | None:
    small = [scene for scene in results if min(scene.georef.width, scene.georef.height) < _TINY]
    if not small:
        return None
    return f"{small[0].name} has {small[0].georef.width} × {small[0].georef.height} pixels, too few to show an object"


def _limit(name: str) -> float:
    plain = plain_name(name)
    within = (limit for word, limit in _LONGEST.items() if word in plain)
    return _LONGEST_OF_NAME.get(plain, next(within, np.inf))


def _lengths(scene: SceneResult) -> NDArray[np.float64]:
    """Length on the ground of some objects spread over those of a scene, metres."""
    count = len(scene.detections)
    rows = np.unique(np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64))
    return np.asarray(scene.georef.measure(scene.polygons(rows)).length_m)


def _metres(length: float) -> str:
    return f"{length / 1000:.3g} km" if length >= 1000 else f"{length:.3g} m"

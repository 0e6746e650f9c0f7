"""Where the objects go: names of outputs, one for all scenes or one each, and whether they can be written."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from legnet_cli.data.tables import TASK1_FILES, check_task1
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import SCENE
from legnet_cli.engine.predict.provenance import sidecar
from legnet_cli.engine.predict.results import SceneResult
from legnet_cli.engine.predict.stac import stac_path
from legnet_cli.errors import ConfigError, GeoError
from legnet_cli.files import check_not_input, check_output, is_folder_output, store_url
from legnet_cli.geo.crs import CRS, WGS84, parse_crs
from legnet_cli.geo.georef import Georef
from legnet_cli.geo.inputs import RASTER_SUFFIXES
from legnet_cli.geo.stores import check_installed, exists
from legnet_cli.geo.vector import HAS_STYLE, SAYS_PROVENANCE, SUFFIXES, check_format

logger = logging.getLogger(__name__)

TABLE_SUFFIX = ".csv"
REMOTE_SUFFIXES = (".geojson", ".gpkg", ".fgb", ".parquet", TABLE_SUFFIX)  # formats of a single file
SOURCE_CRS = "source"

_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f]')


def is_template(path: Path) -> bool:
    """Whether ``path`` stands for one output a scene."""
    return SCENE in str(path)


def paths_of(pattern: Path, names: Sequence[str]) -> list[Path]:
    """The output of each scene: the same for all, or one each of a pattern."""
    if not is_template(pattern):
        return [pattern] * len(names)
    stems = file_stems(names)
    if is_folder_output(pattern):
        stems = [stem.replace(".", "_") for stem in stems]
    return [Path(str(pattern).replace(SCENE, stem)) for stem in stems]


def file_stems(names: Sequence[str]) -> list[str]:
    """Names of scenes as parts of file names: without a raster's suffix, and no two alike in upper and lower case."""
    taken: set[str] = set()
    stems = []
    for name in names:
        plain = os.path.splitext(name)[0] if name.lower().endswith(RASTER_SUFFIXES) else name
        stem, number = _UNSAFE.sub("_", plain), 1
        while (unique := stem if number == 1 else f"{stem}_{number}").casefold() in taken:
            number += 1
        taken.add(unique.casefold())
        stems.append(unique)
    return stems


def preview_paths(preview: Path | None, names: Sequence[str]) -> list[Path]:
    """Where the preview of each scene goes: the given file, or one a scene; none if there is none."""
    if preview is None:
        return []
    if not is_template(preview) and len(names) > 1:
        preview = preview.with_name(f"{preview.stem}_{SCENE}{preview.suffix}")
    return paths_of(preview, names)


def files_beside(out: Path, config: PredictConfig) -> list[Path]:
    """What is written beside an output."""
    suffix = out.suffix.lower()
    beside = [] if suffix in SAYS_PROVENANCE else [sidecar(out)]
    beside += [out.with_suffix(".qml")] if config.style and suffix not in HAS_STYLE else []
    return beside + ([stac_path(out)] if config.stac else [])


def check_outputs(
    config: PredictConfig,
    outs: Iterable[Path],
    previews: Sequence[Path],
    inputs: Iterable[str],
    may_replace: Callable[[Path], bool],
) -> None:
    """Refuse, before any work, outputs that could not be written or a reference system they could not have.

    Args:
        config: what is asked for.
        outs: outputs with objects.
        previews: pictures.
        inputs: what is read, which no output may replace.
        may_replace: whether a file is as this job left it.

    Raises:
        ConfigError: unknown format or reference system, existing files without ``config.overwrite``, or inputs.
        DataError: a place that cannot be written.
        DependencyError: a format whose package is missing.
    """
    _check_settings(config)
    every = list(previews)
    for out in dict.fromkeys(outs):
        overwrite, every_file = config.overwrite or may_replace(out), [out, *files_beside(out, config)]
        if store_url(out) is not None:
            _check_remote(every_file, overwrite=overwrite)
            continue
        check_output(out, overwrite=overwrite, suffixes=(*SUFFIXES, TABLE_SUFFIX), folder_files=TASK1_FILES)
        for path in every_file[1:]:
            check_output(path, overwrite=overwrite, suffixes=(path.suffix,))
        every += every_file
    for preview in previews:
        check_output(preview, overwrite=config.overwrite or may_replace(preview), suffixes=(".png",))
    check_not_input(every, filter(os.path.isfile, inputs))
    check_format(config.out)


def _check_remote(paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse an output in an object store, and what goes beside it, as :func:`check_output` does one on a disk."""
    if paths[0].suffix.lower() not in REMOTE_SUFFIXES:
        raise ConfigError(f"{store_url(paths[0])}: in object stores, choose from {', '.join(REMOTE_SUFFIXES)}")
    for url in filter(None, map(store_url, paths)):
        check_installed(url)
        if not overwrite and exists(url):
            raise ConfigError(f"{url}: exists already: choose another name or add --overwrite")


def _check_settings(config: PredictConfig) -> None:
    if config.style and not is_layer(config.out):
        raise ConfigError(f"--style: {config.out} is not a layer: leave --style out, or write .geojson")
    if config.crs == SOURCE_CRS:
        return
    parse_crs(config.crs)
    if config.out.suffix.lower() == ".geojson":
        raise ConfigError(f"--crs {config.crs}: GeoJSON is always WGS 84: leave --crs out, or write .gpkg")
    if not is_layer(config.out):
        raise ConfigError(f"--crs {config.crs}: {config.out} is in pixels: leave --crs out, or write .gpkg")


def check_scenes(scenes: Sequence[tuple[str, Georef]], classes: Sequence[str], config: PredictConfig) -> None:
    """Refuse, before the search, scenes, given by name, that cannot share one output; say if it brings them together.

    Raises:
        ConfigError: names that DOTA text cannot hold.
        GeoError: some scenes have a reference system and others none, or ``--crs`` is asked of scenes without one.
    """
    out, bare = config.out, [name for name, georef in scenes if georef.crs is None]
    if is_folder_output(out):
        stems = [Path(name).stem for name, _ in scenes]
        for together in [[stem] for stem in stems] if is_template(out) else [stems]:
            check_task1(together, classes)
    if not is_layer(out):
        return
    elsewhere = [name for name, georef in scenes if georef.crs is not None and not georef.has_lonlat]
    if elsewhere and out.suffix.lower() == ".geojson":
        raise GeoError(f"{elsewhere[0]}: cannot be converted to WGS 84, which GeoJSON needs: write .gpkg")
    if bare and config.crs != SOURCE_CRS:
        raise GeoError(
            f"{bare[0]}: has no reference system, so cannot be converted to --crs {config.crs}: leave --crs out"
        )
    if not _in_one_system(out):
        return
    if bare and len(bare) < len(scenes):
        raise GeoError(f"{bare[0]}: has no reference system as other scenes have: write .csv, or search it by itself")
    systems = {georef.crs.to_wkt(): georef.crs.name for _, georef in scenes if georef.crs is not None}
    if len(systems) > 1 and config.crs == SOURCE_CRS and out.suffix.lower() != ".geojson":
        listed = ", ".join([*systems.values()][:3]) + (", …" if len(systems) > 3 else "")
        first = next(iter(systems.values()))
        logger.warning(
            "scenes have %d reference systems (%s): all objects are written in that of the first, %s; "
            "--crs chooses another",
            *(len(systems), listed, first),
        )


def layer_crs(config: PredictConfig, scenes: Sequence[SceneResult]) -> CRS | None:
    """Reference system of the layer of ``scenes``; None for pixels, and for what is no layer."""
    if not is_layer(config.out) or scenes[0].georef.crs is None:
        return None
    if config.out.suffix.lower() == ".geojson":
        return WGS84
    return scenes[0].georef.crs if config.crs == SOURCE_CRS else parse_crs(config.crs)


def data_set_crs(config: PredictConfig, scenes: Sequence[SceneResult]) -> CRS | None:
    """Reference system of all files of a data set, where each scene has one; None for any other output."""
    return layer_crs(config, scenes) if is_template(config.out) and _in_one_system(config.out) else None


def layer_name(config: PredictConfig, scenes: Sequence[SceneResult]) -> str | None:
    """Name of the reference system that all objects are written in; None if there is none, or one for each scene."""
    crs = layer_crs(config, scenes) if _in_one_system(config.out) else None
    if crs is None:
        return None
    known = crs.to_authority()
    return crs.name if known is None or known[0] == "OGC" else f"{crs.name} ({':'.join(known)})"


def is_layer(out: Path) -> bool:
    """Whether an output is a layer of polygons."""
    return not is_folder_output(out) and out.suffix.lower() != TABLE_SUFFIX


def _in_one_system(out: Path) -> bool:
    """Whether all scenes share a reference system: those of one layer, and of the layers of one data set."""
    return not is_template(out) or out.suffix.lower() == ".parquet"

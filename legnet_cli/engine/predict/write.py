"""Write what was found: a layer in map coordinates, a table in pixels or DOTA text, and pictures of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from legnet_cli.data.tables import TASK1_FILES, ImageDetections, write_csv, write_task1
from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.outputs import data_set_crs, files_beside, is_layer, layer_crs
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.engine.predict.provenance import as_text, describe, sidecar
from legnet_cli.engine.predict.results import FoundObjects, SceneResult, searched_areas
from legnet_cli.engine.predict.sizes import SizeCheck
from legnet_cli.engine.predict.stac import stac_item, stac_path
from legnet_cli.engine.predict.style import class_style
from legnet_cli.errors import DataError
from legnet_cli.files import atomic_path, is_folder_output, store_url
from legnet_cli.geo.crs import CRS
from legnet_cli.geo.stores import exists, upload
from legnet_cli.geo.vector import About, sidecars, write_layer

PREVIEW_SIDE = 2048  # pixels of a preview's longer side at most


@dataclass(frozen=True)
class Writer:
    """Writes what was found in the format that the suffix of an output names.

    Attributes:
        config: what is asked for.
        card: of the weights.
        how: what else decides the result, see :func:`legnet_cli.engine.predict.plan.settings_digest`.
        job: keeps account of what has been written.
    """

    config: PredictConfig
    card: ModelCard
    how: Mapping[str, str]
    job: Job

    def write(self, results: Sequence[SceneResult], outs: Mapping[str, Path]) -> list[Path]:
        """Write the outputs, which are given by the names of their scenes, each whole or not at all; returns them.

        Raises:
            DataError: one cannot be written.
        """
        groups: dict[Path, list[SceneResult]] = {}
        for result in results:
            groups.setdefault(outs[result.name], []).append(result)
        crs = data_set_crs(self.config, results)
        for out, scenes in groups.items():
            url = store_url(out)
            if url is None:
                self._write(out, out, scenes, crs, overwrite=self._overwrite(out))
            else:
                self._upload(out, url, scenes, crs)
            self.job.note_written(out)
        return list(groups)

    def _write(
        self, path: Path, out: Path, scenes: Sequence[SceneResult], crs: CRS | None, *, overwrite: bool
    ) -> list[Path]:
        """Write an output and what goes beside it to ``path``, be it for ``out``; returns all files, itself last."""
        record, classes = describe(self.config, self.card, self.how, scenes, crs), self.card.classes
        old = list(path.glob(TASK1_FILES)) if is_folder_output(self.config.out) else sidecars(path)
        crs = crs or layer_crs(self.config, scenes)
        objects = FoundObjects(
            scenes,
            self.card,
            crs,
            sizes=SizeCheck(self.card) if self.config.size_check == "flag" else None,
            fused=self.config.fuses,
        )
        with atomic_path(path, overwrite=overwrite, stale=old) as scratch:
            self._write_objects(scratch, scenes, objects, as_text(record))
            for file in files_beside(scratch, self.config):
                if file == stac_path(scratch):
                    text = stac_item(out, scenes, record)
                else:
                    text = as_text(record) if file == sidecar(scratch) else class_style(classes)
                file.write_text(text, encoding="utf-8", newline="\n")
        return [*files_beside(path, self.config), path]

    def _upload(self, out: Path, url: str, scenes: Sequence[SceneResult], crs: CRS | None) -> None:
        """Write an output here, and put it into an object store."""
        files = self._write(self.job.folder / "upload" / out.name, out, scenes, crs, overwrite=True)
        goals = [f"{url.rpartition('/')[0]}/{file.name}" for file in files]
        if not self._overwrite(out):
            for goal in filter(exists, goals):
                raise DataError(f"{goal}: has appeared meanwhile: move it away and repeat the command")
        for file, goal in zip(files, goals, strict=True):
            upload(file, goal)
            file.unlink()

    def _write_objects(self, path: Path, scenes: Sequence[SceneResult], objects: FoundObjects, record: str) -> None:
        if is_folder_output(self.config.out):
            write_task1(path, [ImageDetections(Path(s.name).stem, s.detections) for s in scenes], self.card.classes)
        elif is_layer(path):
            areas = searched_areas(scenes, objects.crs) if path.suffix.lower() == ".gpkg" else None
            write_layer(path, objects, About(record, class_style(self.card.classes), areas))
        else:
            located = any(scene.georef.has_lonlat for scene in scenes)
            write_csv(path, map(_table, scenes), self.card.classes, located=located)

    def draw(self, results: Iterable[tuple[ScenePlan, SceneResult]], previews: Mapping[str, Path]) -> list[Path]:
        """Draw previews, given by the names of their scenes; returns them.

        Raises:
            DataError: one cannot be drawn.
        """
        if not previews:
            return []
        from legnet_cli.engine.predict.preview import enlarge, write_preview  # OpenCV and Pillow: 30 MB

        drawn = []
        for plan, result in results:
            if plan.name in previews:
                path, found = previews[plan.name], result.detections
                with plan.scene:
                    image, source_per_pixel = plan.scene.preview(PREVIEW_SIDE)
                image, times = enlarge(image)
                boxes = result.polygons() * (times / source_per_pixel), found.labels, self.card.classes, found.scores
                write_preview(path, image, *boxes, overwrite=self._overwrite(path))
                self.job.note_written(path)
                drawn.append(path)
        return drawn

    def _overwrite(self, path: Path) -> bool:
        return self.config.overwrite or self.job.may_replace(path)


def _table(scene: SceneResult) -> ImageDetections:
    centres = scene.detections.boxes[:, :2]
    lonlat = scene.georef.to_lonlat(centres) if scene.georef.has_lonlat else None
    return ImageDetections(scene.name, scene.detections, lonlat)

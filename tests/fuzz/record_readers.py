"""Readers of what runs leave: records, jobs, journals, checkpoints, and settings given as text."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from reader import Reader, as_bytes
from weight_readers import saved, tensors

from legnet_cli.engine.benchmark.compare import read_report
from legnet_cli.engine.eval.compare import _read as read_metrics
from legnet_cli.engine.predict.config import PredictConfig
from legnet_cli.engine.predict.job import Job
from legnet_cli.engine.predict.plan import ScenePlan
from legnet_cli.engine.predict.provenance import read_replay
from legnet_cli.engine.split.draft import Draft, draft_place
from legnet_cli.engine.train.config import TrainConfig
from legnet_cli.engine.train.folder import read_settings
from legnet_cli.engine.train.plan import override, recipe_plan
from legnet_cli.engine.train.state import load_run


def read_job(folder: Path) -> None:
    plan = ScenePlan("a", "k", "1 2", None, [0] * 32, None, None)  # type: ignore[arg-type]
    job = Job(folder / "job", {"weights": "w"})
    with job.open([plan], fresh=False):
        job.may_replace(folder / "out.gpkg")
        job.load(plan, 0)


def read_draft(folder: Path) -> None:
    draft = Draft(folder / "out", "f", overwrite=False)
    draft.close()


def parts() -> bytes:
    memory = io.BytesIO()
    arrays = {"boxes": np.zeros((1, 5)), "scores": np.zeros(1, np.float32), "labels": np.zeros(1, np.int64)}
    np.savez(memory, **arrays, tiles=np.zeros(1, np.int64), seen=np.zeros(1, np.int64))
    return memory.getvalue()


def read_set(folder: Path) -> None:
    text = (folder / "set").read_text("utf-8", "replace")
    override(recipe_plan("oriented-rcnn/legnet-tiny", ("a",), 1), [text])


def record_readers(folder: Path) -> dict[str, Reader]:
    provenance = {
        "run": "a",
        "legnet": "0.1.0",
        "weights": {"name": "m", "sha256": "0" * 64},
        "settings": {
            **dict.fromkeys(("tile", "overlap", "gsd", "bands", "classes", "aoi", "crs")),
            **{"weights": "legnet-nano", "stretch": "auto", "score": 0.25, "max_detections": None},
            **{"engine": "auto", "precision": "fp32", "compile": False},
        },
        "computed": {"device": "cpu", "engine": "torch", "precision": "fp32"},
        "aoi": "none",
        "scenes": [{"name": "a.tif", "path": "/a.tif", "size": 1, "mtime_ns": "2"}],
    }
    metrics = {
        "data": "d",
        "summary": {"voc07": {"mAP50": 0.5}},
        "ap": {"voc07": {"0.50": {"ship": 0.5}}},
        "robustness": {"kinds": {"noise": {"relative_drop": 0.1}}, "mean_drop": 0.1},
    }
    settings = {"device": "cpu", "engine": "torch", "size": 64, "tiles": 1, "model": "m", "recipe": "r"}
    run = {"latency_ms": {"p50": 1.0}, "precision": "fp32", "batch": 1}
    report = {"machine": {"cpu": "a", "gpu": None, "threads": 1}, "settings": settings, "runs": [run]}
    plan = recipe_plan("oriented-rcnn/legnet-tiny", ("a",), 1)
    run_yaml = {
        "settings": {"data": "d", "config": None, "recipe": "oriented-rcnn/legnet-tiny"},
        "plan": plan.to_dict(),
    }
    journal = Reader(
        f"{draft_place(Path('out'))}/journal.jsonl", [b'"f"\n["a/0", null]\n["b/0", "x: damaged"]\n'], read_draft
    )
    job = {"format": 2, "settings": {"weights": "w"}, "scenes": {"k": "1 2"}}
    replay = PredictConfig(scenes=(), replay=Path("a.csv.json"))
    return {
        "record: provenance": Reader(
            "a.csv.json", [as_bytes(provenance)], lambda place: read_replay(_at(replay, place / "a.csv.json"))
        ),
        "record: metrics": Reader("metrics.json", [as_bytes(metrics)], read_metrics),
        "record: benchmark": Reader("a.json", [as_bytes(report)], lambda place: read_report(place / "a.json")),
        "record: split journal": journal,
        "record: job": Reader("job/job.json", [as_bytes(job)], read_job),
        "record: written": Reader("job/written.jsonl", [b'["out.gpkg", "1 2"]\n["b", "absent"]\n'], read_job),
        "record: part": Reader("job/parts/k/0.npz", [parts()], read_job),
        "record: config.yaml": Reader(
            "config.yaml", [as_bytes(run_yaml)], lambda place: read_settings(TrainConfig(out=place, resume=True))
        ),
        "record: last.ckpt": Reader(
            "last.ckpt", [saved({"step": 1, "model": tensors()})], lambda place: load_run(place / "last.ckpt")
        ),
        "record: --set": Reader(
            "set",
            [
                *(
                    b"optimizer.lr=1e-4",
                    b"steps=[8, 11]",
                    b"model.backbone.stem_dim=32",
                    b"batch=2",
                    b"transforms.0.type=RFlip",
                ),
                *(b"classes=[a]", b"schedule=step", b"warmup_ratio=0.1", b"optimizer.betas=[0.9, 0.999]"),
            ],
            read_set,
        ),
    }


def _at(config: PredictConfig, path: Path) -> PredictConfig:
    return replace(config, replay=path)

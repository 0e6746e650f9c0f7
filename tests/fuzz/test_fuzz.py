"""Whatever is done to a file, reading it ends in a sentence: no traceback, no hang, no full memory."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mutations import edits, mutated
from reader import Reader
from readers import make_readers

from legnet_cli.data.sniff import FORMATS, MANY, VECTOR_SUFFIXES
from legnet_cli.errors import LegnetError

FEW = 25  # inputs for each reader
MANY_INPUTS = 50_000  # for all together
PATIENCE = 5.0  # seconds: what takes longer counts as a hang
MOST_MEMORY = 1 << 30  # bytes of a process


class Hang(BaseException):
    """Reading took too long."""


@pytest.fixture(scope="session")
def readers(tmp_path_factory):
    return make_readers(tmp_path_factory.mktemp("seeds"))


def fuzz(reader: Reader, count: int, patience: float = 0.0) -> dict[str, object]:
    """Read ``count`` mutations of the sound files; what came of it, faults with how often they came."""
    seen, faults = Counter(), Counter()
    logging.getLogger("legnet_cli").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGALRM, stop)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        reader.prepare(folder)

        @settings(
            max_examples=count,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.sampled_from(reader.seeds), edits)
        def attempt(seed: bytes, chosen: list[tuple[int, int, int]]) -> None:
            data = mutated(seed, chosen)
            signal.setitimer(signal.ITIMER_REAL, patience)
            try:
                reader.attempt(folder, data)
                seen["read"] += 1
            except LegnetError:
                seen["refused"] += 1
            except Hang:
                seen["hangs"] += 1
                keep(folder, reader, data, "hang")
            except Exception as error:
                place = traceback.extract_tb(error.__traceback__)[-1]
                faults[f"{type(error).__name__}: {str(error)[:80]} ({Path(place.filename).name}:{place.lineno})"] += 1
                keep(folder, reader, data, type(error).__name__)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        for seed in reader.seeds if reader.sound else ():
            reader.attempt(folder, seed)
        attempt()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**seen, "inputs": sum(seen.values()) + sum(faults.values()), "faults": dict(faults), "peak": peak}


def keep(folder: Path, reader: Reader, data: bytes, why: str) -> None:
    """Keep an input that was too much for its reader, where somebody asked for it."""
    if place := os.environ.get("LEGNET_FUZZ_KEEP"):
        (Path(place) / f"{why}-{abs(hash(data)) % 10**8}-{Path(reader.file).name}").write_bytes(data)


def stop(*_: object) -> None:
    raise Hang


def names() -> list[str]:
    """Readers by name, without making their files."""
    labels = [*FORMATS, *MANY, "data.yaml", "classes.txt", "vector"]
    rasters = [".tif", ".png", ".jpg", ".bmp", ".webp", ".jp2", ".vrt", ".aux.xml", "world file"]
    records = [
        "provenance",
        "metrics",
        "benchmark",
        "split journal",
        "job",
        "written",
        "part",
        "config.yaml",
        "last.ckpt",
    ]
    weights = [".pth", "legacy .pth", ".safetensors", "card", "exported", "URL", ".sha256"]
    kinds = {
        "labels": labels,
        "raster": rasters,
        "vector": [*VECTOR_SUFFIXES, ".kml", ".dbf"],
        "list": ["STAC", "index", "text"],
        "table": ["Task1", "csv", "zip"],
        "weights": weights,
        "record": [*records, "--set"],
    }
    return [f"{kind}: {name}" for kind, found in kinds.items() for name in found]


def test_every_reader_is_tried(readers):
    assert sorted(readers) == sorted(names())


@pytest.mark.parametrize("name", names())
def test_few_inputs(readers, name):
    found = fuzz(readers[name], FEW)
    assert found["faults"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_many_inputs(readers, name, record_property):
    """In a process of its own, whose memory tells of this reader alone."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, json.dumps(fuzz(readers[name], MANY_INPUTS // len(names()) + 1, PATIENCE)).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        found = json.loads(answer.read() or '{"faults": "the process died"}')
    os.waitpid(child, 0)
    print(f"{name}: {found}")
    record_property("fuzz", found)
    assert (found["faults"], found.get("hangs", 0)) == ({}, 0)
    assert found["peak"] < MOST_MEMORY

"""Every reader of what others made, with small sound files that mutations start from."""

from __future__ import annotations

from pathlib import Path

from label_readers import label_readers
from raster_readers import raster_readers
from reader import Reader, picture
from record_readers import record_readers
from vector_readers import table_readers, vector_readers
from weight_readers import weight_readers

from legnet_cli.engine.eval.truth import Source, load_truth


def make_readers(folder: Path) -> dict[str, Reader]:
    """All readers by name; ``folder`` is for files that are made once."""
    data = folder / "truth"
    data.mkdir()
    (data / "a.png").write_bytes(picture(".png"))
    (data / "a.txt").write_text("1 1 9 1 9 9 1 9 ship 0\n")
    truth = load_truth(Source(data))
    return {
        **label_readers(),
        **raster_readers(),
        **vector_readers(folder, truth),
        **table_readers(truth),
        **weight_readers(),
        **record_readers(folder),
    }

"""What an exported file can be fixed to."""

from __future__ import annotations

from dataclasses import dataclass

PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class ExportOptions:
    """What the file is fixed to.

    Attributes:
        precision: fp32, fp16 or int8 (wide convolutions and the box head's hidden layers).
        size: height and width of the only image it takes, one at a time; None for any number of any size.
        score_threshold: boxes score more than this.
        max_detections: most boxes per image.
        simplify: let ONNX Runtime fold and fuse the graph before it is stored.
    """

    precision: str = "fp32"
    size: tuple[int, int] | None = None
    score_threshold: float = 0.05
    max_detections: int = 2000
    simplify: bool = False

"""Options that several verbs share: declared once, so that a flag means the same everywhere.

Each function makes the field of a settings class; what differs by verb is an argument.
"""

from __future__ import annotations

from typing import Any, Literal

from legnet_cli.errors import ConfigError
from legnet_cli.settings import option

Engine = Literal["auto", "torch", "onnxruntime", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
WrittenFormat = Literal["dota", "dior", "fair1m", "hrsc", "yolo-obb", "labelme", "coco", "gpkg", "geojson"]
LabelFormat = Literal[WrittenFormat, "cvat", "label-studio", "via", "xview", "shp", "fgb", "review"]


def weights(
    default: str | tuple[str, ...] | None,
    help: str = "Name, file or URL of weights, or the folder of a run.",
    **more: Any,
) -> Any:
    """Which weights."""
    return option(default, help, "-w", complete="weights", **more)


def tta() -> Any:
    """Test-time augmentation."""
    return option(
        "none",
        "Search each tile in 4 mirrored (flips) or 8 turned and mirrored views (full, also --tta alone), and fuse "
        "what they show.",
        bare="full",
    )


def scales() -> Any:
    """Sizes of pixels."""
    return option(
        (1.0,),
        "Search at several pixel sizes, in units of the search's own: 0.5,1,2. 2 is coarser.",
        least=0.1,
        most=10,
    )


def fuse() -> Any:
    """How views become one result."""
    return option("wbf", "How several views or weights become one result: mean boxes (wbf) or the best ones (nms).")


def tile(default: int | None = None, unset: str = "the model's") -> Any:
    """Side of a tile."""
    return option(default, "Tile side in pixels.", unset=unset, least=32)


def overlap(default: int | None = None, unset: str = "the model's, in proportion to --tile") -> Any:
    """Overlap of neighbouring tiles."""
    help = "Overlap of neighbouring tiles in pixels; objects up to this long are whole in one of them."
    return option(default, help, unset=unset, least=0)


def read_gsd(text: str) -> float | str:
    """Metres per pixel, or ``model``.

    Raises:
        ConfigError: for anything else.
    """
    try:
        return text if text == "model" else float(text)
    except ValueError:
        raise ConfigError(f"--gsd {text}: give metres per pixel, or model") from None


def gsd(unset: str = "the scene's") -> Any:
    """Size of a pixel on the ground."""
    help = "Resample to this ground sampling distance (m/px), or to the model's: model."
    return option(None, help, unset=unset, parse=read_gsd)


def gsd_fault(value: float | str | None) -> tuple[object, str]:
    """The condition that a ground sampling distance must not meet, and what to say then."""
    sound = value is None or (value == "model" if isinstance(value, str) else 0 < value < 1e6)
    return not sound, f"--gsd {value}: give metres per pixel, above 0, or model"


def bands() -> Any:
    """Which bands are red, green and blue."""
    return option(None, "One or three band numbers from 1: 3,2,1.", unset="by colour interpretation", least=1)


def stretch() -> Any:
    """How values become bytes."""
    return option("auto", "How values map to 8 bits: auto, none, percentiles 2,98 or values MIN,MAX.")


def score(default: float | None, **more: Any) -> Any:
    """The least score."""
    return option(default, "Minimum score.", least=0, most=1, **more)


def classes(help: str = "Class names to keep: ship,plane.", unset: str = "all") -> Any:
    """Names of classes."""
    return option((), help, unset=unset, complete="classes")


def rename() -> Any:
    """New names of classes."""
    return option((), "Rename a class of the labels, old=new; repeatable, and merges classes.", commas=False)


def ignore_others() -> Any:
    """What becomes of other classes."""
    return option(False, "With --classes: objects of other classes are ignored regions, not background.")


def ignores_all(classes: tuple[str, ...], ignore_others: bool) -> tuple[object, str]:
    """The fault of :func:`ignore_others` without :func:`classes`."""
    return ignore_others and not classes, "--ignore-others needs the classes that are left: name them with --classes"


def batch() -> Any:
    """Tiles at once."""
    return option(None, "Batch size.", unset="by device", least=1)


def device() -> Any:
    """Where to compute."""
    return option("auto", "Device: auto, cpu, cuda, cuda:N or mps.")


def engine() -> Any:
    """What computes."""
    return option("auto", "Runtime; all but torch need the extra 'export'.")


def kernels() -> Any:
    """How layers are computed."""
    return option(
        "auto",
        "Kernels of wide layers on a CPU: auto (measured once, see benchmark --tune), default (by the kind of CPU) or "
        "direct (PyTorch's own).",
    )


def precision() -> Any:
    """Type of numbers."""
    return option("auto", "Numerical precision of the network.")


def force_precision() -> Any:
    """Take a slow precision."""
    return option(False, "Take a --precision that this CPU computes more slowly than fp32.")


def labels() -> Any:
    """Which labels."""
    return option(None, "Labels to take where there are several: a file, or part of a path.", unset="the only ones")


def class_field() -> Any:
    """Column of the classes."""
    return option(None, "Column of the classes in a vector file, or attribute in VIA's.", unset="class")


def from_format() -> Any:
    """Format of labels."""
    return option(None, "Format of the labels.", "--from", unset="by layout")


def skip_bad(help: str = "Leave out labels that cannot be used, and list them.") -> Any:
    """Go on past what cannot be used."""
    return option(False, help)


def split(unset: str) -> Any:
    """Part of a data set."""
    return option(None, "Part of the data set.", unset=unset)


def seed(of: str) -> Any:
    """Start of random numbers."""
    return option(0, f"Random seed ({of}).", least=0)


def crs() -> Any:
    """Reference system of a layer."""
    return option("source", "Reference system of the layer: source or EPSG:n. GeoJSON is always WGS 84.")


def style() -> Any:
    """How QGIS shows a layer."""
    return option(False, "Write a QGIS style beside --out; a .gpkg holds one anyway.")


def overwrite() -> Any:
    """Replace what is there."""
    return option(False, "Replace existing outputs.")

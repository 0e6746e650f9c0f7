"""Self-contained HTML pages: templates of a verb, on the page and parts in ``templates`` beside this file."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray


def render_page(package: str, template: str, **values: object) -> str:
    """The page that ``template`` of a verb's ``package`` makes of ``values``; what is text in these is escaped."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader("legnet_cli.engine")])
    pages = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"base64": _base64, "figure": figure_text, "jpeg": _jpeg}
    return pages.get_template(template).render(values) + "\n"


def figure_text(value: object) -> str:
    """A number as text: three decimals for a float, thousands for a whole number, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    """An RGB picture (h, w, 3) as a JPEG file."""
    return cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()

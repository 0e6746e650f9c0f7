"""Pieces of a self-contained HTML page: tables, cards, plots and pictures inside the one file."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

_STYLE = """
:root{--ink:#1d2733;--soft:#5d6b7a;--line:#e3e8ed;--paper:#fff;--ground:#f4f6f8;--accent:#0b6e99}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main{max-width:1180px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:0 0 12px}
p{margin:0 0 10px}.soft{color:var(--soft)}
section{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:20px 22px;margin-top:18px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(128px,1fr));gap:12px;margin-top:18px}
.card{background:var(--paper);border:1px solid var(--line);border-radius:10px;padding:14px 16px}
.card b{display:block;font-size:27px;font-weight:650;color:var(--accent);font-variant-numeric:tabular-nums}
.card span{color:var(--soft);font-size:13px}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
th{color:var(--soft);font-weight:600;font-size:12.5px;border-bottom:2px solid var(--line);white-space:nowrap}
th,td{padding:6px 10px;text-align:right}th:first-child,td:first-child{text-align:left}
td{border-bottom:1px solid var(--line)}tbody tr:hover{background:#f7fafc}
tr.total td{font-weight:650;border-top:2px solid var(--line);border-bottom:0}
.bar{background:linear-gradient(90deg,#d5eaf3 var(--part),transparent var(--part))}
img.plot{display:block;max-width:100%;height:auto;margin:4px auto 0}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(170px,1fr));gap:14px}
figure{margin:0}figure img{width:100%;aspect-ratio:1;object-fit:cover;border-radius:6px;display:block;background:#222}
figcaption{font-size:12.5px;line-height:1.35;margin-top:5px;overflow-wrap:anywhere}
.key{display:inline-block;width:11px;height:11px;border-radius:3px;margin:0 4px 0 10px;vertical-align:-1px}
"""


def page(title: str, subtitle: str, body: Iterable[str]) -> str:
    """A whole page of HTML ``body`` parts; ``title`` and ``subtitle`` are plain text."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body><main>\n"
        f'<h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p>\n{"".join(body)}</main></body></html>\n'
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A titled box of HTML ``parts``, with a line of plain text beneath the title."""
    line = f'<p class="soft">{escape(note)}</p>' if note else ""
    return f"<section><h2>{escape(title)}</h2>{line}{''.join(parts)}</section>\n"


def cards(values: Sequence[tuple[str, str]]) -> str:
    """Large figures, each with what it is."""
    return f'<div class="cards">{"".join(_card(label, value) for label, value in values)}</div>\n'


def _card(label: str, value: str) -> str:
    return f'<div class="card"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], *, total: Sequence[object] = (), bar: int | None = None
) -> str:
    """A table; floats have three decimals, None is a dash.

    Args:
        head: of the columns.
        rows: their cells.
        total: a last row set apart.
        bar: column of numbers from 0 to 1 drawn as bars too.
    """
    lines = [f"<tr>{''.join(_cell(value, column == bar) for column, value in enumerate(row))}</tr>" for row in rows]
    if total:
        lines.append(f'<tr class="total">{"".join(_cell(value, False) for value in total)}</tr>')
    heads = "".join(f"<th>{escape(name)}</th>" for name in head)
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def figure_text(value: object) -> str:
    """A cell's text: three decimals for a float, thousands for a whole number, a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: object, bar: bool) -> str:
    drawn = f' class="bar" style="--part:{100 * value:.0f}%"' if bar and isinstance(value, float) else ""
    return f"<td{drawn}>{escape(figure_text(value))}</td>"


def plot(path: Path, title: str) -> str:
    """A PNG file, inside the page."""
    return f'<img class="plot" alt="{escape(title)}" src="{_data("png", path.read_bytes())}">'


def picture(image: NDArray[np.uint8], caption: str, note: str) -> str:
    """An RGB picture (h, w, 3) with plain text beneath, inside the page."""
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    text = f'<figcaption><b>{escape(caption)}</b><br><span class="soft">{escape(note)}</span></figcaption>'
    return f'<figure><img alt="{escape(caption)}" src="{_data("jpeg", coded.tobytes())}">{text}</figure>'


def gallery(pictures: Sequence[str]) -> str:
    """Pictures side by side."""
    return f'<div class="gallery">{"".join(pictures)}</div>'


def key(colour: tuple[int, int, int], text: str) -> str:
    """A coloured square and what it stands for."""
    red, green, blue = colour
    return f'<span class="key" style="background:rgb({red},{green},{blue})"></span>{escape(text)}'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

"""Mutations of files: bytes, words and values put in the place of others, drawn by hypothesis."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import strategies as st

DEEP = "[" * 3000 + "]" * 3000
# what readers have stumbled over, as values of JSON and YAML, and as words of any text
ODD: list[Any] = [
    *(None, True, False, 0, -1, 1e308, 1 << 31, -(1 << 31), 1 << 63, 1 << 64, 10**400, 0.5, -0.0, float("nan")),
    *(float("inf"), "", " ", "0", "-1", "nan", "1e999", "a" * 5000, "\ud800", "\0", "a\nb", "../../a", "/dev/zero"),
    *("http://127.0.0.1:9/a", "NULL", "²", "\u202e", [], {}, [[]], [None], [{}], {"": ""}, {"a": {"a": []}}, [1, "a"]),
    *(
        [[1, 2, 3]],
        [[0, 0], [0, 0], [0, 0]],
        [float("nan")] * 8,
        [1e308] * 8,
        {"size": [1 << 20, 1 << 20], "counts": "a"},
    ),
]
WORDS = [
    *(b"", b"\0", b"\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b"\t", b" ", b",", b"-", b".", b"nan", b"inf"),
    *(
        b"1e999",
        b"-1",
        b"0",
        b"1",
        b"99999999999999999999",
        b"2147483648",
        b"4294967295",
        b"0.5",
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(
        b'"',
        b"<",
        b">",
        b"</",
        b"&#0;",
        b"&a;",
        b"<!DOCTYPE a>",
        b"<![CDATA[",
        b"*a",
        b"&a",
        b"<<",
        b"!!python/none",
        b"%",
    ),
    *(
        b"null",
        b"true",
        b"\xed\xa0\x80",
        b"\\ud800",
        "é".encode(),
        "雪".encode(),
        b"a" * 300,
        b"[" * 2000,
        b"<a>" * 2000,
    ),
    *(
        b"2024-13-45",
        b"0x1F",
        b"1_0",
        b"~",
        b"--",
        b"../",
        b"/vsicurl/http://127.0.0.1:9/a",
        b"EPSG:0",
        b"\x00\x00\x00\x00",
    ),
    *(
        b"\xff\xff\xff\xff",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x80\x00\x00\x00",
        b"\x01\x00\x00\x00\x00\x00\x00\x00",
    ),
]
_WORD = re.compile(rb"[\w.+-]+|[^\w\s]")

_edit = st.tuples(st.integers(0, 7), st.integers(0, (1 << 20) - 1), st.integers(0, 1 << 16))
edits = st.lists(_edit, min_size=1, max_size=6)
"""Up to six edits: kind, place in parts of 2**20 of the file, and choice of what to put there."""


def mutated(data: bytes, chosen: list[tuple[int, int, int]]) -> bytes:
    """``data`` after the edits ``chosen``."""
    for kind, place, choice in chosen:
        at = place * (len(data) + 1) >> 20
        word = WORDS[choice % len(WORDS)]
        if kind == 0:
            data = data[:at] + bytes([choice & 255]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + word + data[at:]
        elif kind == 2:
            data = data[:at] + data[at + 1 + choice % 64 :]
        elif kind == 3:
            data = data[:at] if choice % 4 == 0 else data[:at] + word + data[at + len(word) :]
        elif kind == 4:
            span = data[at : at + 1 + choice % 256]
            data = data[:at] + span * (1 + choice % 5) + data[at:]
        elif kind == 5 and (found := _WORD.search(data, at)):
            data = data[: found.start()] + word + data[found.end() :]
        else:
            data = _with_odd_value(data, place, choice)
    return data


def _with_odd_value(data: bytes, place: int, choice: int) -> bytes:
    """JSON with one of its values replaced; other data as they are."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    places = [*_places(value)]
    if not places:
        return json.dumps(ODD[choice % len(ODD)]).encode()
    holder, key = places[place * len(places) >> 20]
    if isinstance(holder, dict) and choice % 7 == 0:
        holder[str(ODD[choice % len(ODD)])] = holder.pop(key)
    else:
        holder[key] = ODD[choice % len(ODD)]
    try:
        return json.dumps(value).replace('"DEEP"', DEEP).encode()
    except (ValueError, RecursionError):
        return data


def _places(value: Any) -> Any:
    for key, inner in [
        *(value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else ()))
    ]:
        yield value, key
        yield from _places(inner)

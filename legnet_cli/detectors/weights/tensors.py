"""Tensors of weight files, ours (safetensors) and the authors' ``.pth``, read without running code from them."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from legnet_cli.errors import CheckpointError, reason
from legnet_cli.untrusted import open_file

State = dict[str, Tensor]

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_DTYPES = {*_FLOATS, torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_MOST_REPEATED = 8  # times: halves become float32, and EMA copies or tied weights share what is stored
_SLACK = 1 << 28  # bytes that a file of any size may stand for


def read_state(path: Path) -> tuple[State, dict[str, Any]]:
    """All tensors of a weight file, tidied to this project's names and float32, and the data kept beside them.

    Raises:
        CheckpointError: if the file is missing, damaged, unsafe or holds no tensors.
    """
    kind = _file_kind(path)
    content, meta = _read_safetensors(path) if kind == "safetensors" else _read_pickle(path)
    _check_kinds(content, path)
    state = tidy_state(content, path)
    if not state:
        raise CheckpointError(f"{path}: holds no tensors")
    # a sum shows NaN and infinity as well as a look at every value, ten times faster
    broken = [name for name, tensor in state.items() if not torch.isfinite(tensor.sum())]
    if broken:
        raise CheckpointError(f"{path}: NaN or infinite values in {_some(broken)}: its training diverged")
    return state, meta


def tidy_state(state: Mapping[str, Tensor], source: str | Path) -> State:
    """``state`` as weight files hold it here: floats in float32, without what training adds.

    That is wrappers' prefixes, batch counters, mmcv's EMA copies and tensors stored twice.

    Raises:
        CheckpointError: naming ``source``, if two tensors of one name differ.
    """
    while state and all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    tidy: State = {}
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked") or re.match(r"ema_[^.]*$", name):
            continue
        name = re.sub(r"\.(LFEA|BGA)\.block\.", r".\1.conv2d.", name)
        if name in tidy and not torch.equal(tidy[name], tensor.float()):
            raise CheckpointError(f"{source}: holds two different tensors for {name}")
        tidy[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tidy


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Refuse ``state`` unless it has exactly the names and shapes of ``expected`` (counters of batches aside).

    Raises:
        CheckpointError: naming the first few tensors that are missing, left over or misshapen.
    """
    state, expected = (
        {k: v for k, v in side.items() if not k.endswith("num_batches_tracked")} for side in (state, expected)
    )
    faults = {
        "missing": [k for k in expected if k not in state],
        "unexpected": [k for k in state if k not in expected],
        "of another shape": [
            f"{k} {list(state[k].shape)} for {list(v.shape)}"
            for k, v in expected.items()
            if k in state and state[k].shape != v.shape
        ],
    }
    listed = [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]
    if listed:
        raise CheckpointError(f"{what}: tensors do not fit: {'; '.join(listed)}")


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def _file_kind(path: Path) -> str:
    """``safetensors`` or ``pickle`` by the first bytes, whatever the suffix."""
    try:
        with open_file(path) as file:
            head = file.read(16)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: is a folder: give the weight file in it") from None
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read it ({error.strerror})") from None
    if not head:
        raise CheckpointError(f"{path}: is empty: download it again")
    if head[8:9] == b"{":
        return "safetensors"
    if head.startswith((b"PK\x03\x04", b"\x80")):  # torch.save, new and old
        return "pickle"
    hint = "a web page or a Git LFS pointer? Download the file itself" if head.isascii() else "download it again"
    raise CheckpointError(f"{path}: not a weight file (.pth or .safetensors): {hint}")


def _read_safetensors(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except Exception as error:  # of Rust, or of a type of numbers that torch does not have
        raise CheckpointError(f"{path}: is damaged or truncated: download it again ({reason(error)})") from None


def load_plain(path: Path) -> Any:  # noqa: ANN401
    """What ``torch.save`` wrote to a file, on the CPU; nothing in the file is run as code.

    Raises:
        ValueError: the file would be unpacked to far more than it has.
        Exception: it is damaged, and makes the unpickler fail in any way it likes.
    """
    with open_file(path) as file:
        if zipfile.is_zipfile(file):  # torch.save compresses nothing
            with zipfile.ZipFile(file) as archive:
                unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > max(2 * path.stat().st_size, _SLACK):
                raise ValueError(f"it unpacks to {unpacked / 2**30:,.1f} GiB")
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> tuple[State, dict[str, Any]]:
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            content = load_plain(path)
    # damaged bytes make the unpickler fail in any way it likes
    except Exception as error:
        refused = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            advice = "loading it would run code: ask for a file that holds only tensors"
            raise CheckpointError(f"{path}: refused, it needs {refused[1]}: {advice}") from None
        raise CheckpointError(
            f"{path}: is damaged, truncated or not a PyTorch weight file: download it again"
        ) from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a state dict")
    inner = next((content[key] for key in ("state_dict", "model") if isinstance(content.get(key), dict)), content)
    meta = content.get("meta")
    found = {name: tensor for name, tensor in inner.items() if isinstance(tensor, Tensor)}
    if odd := [name for name in found if not isinstance(name, str)]:
        raise CheckpointError(f"{path}: holds a tensor called {odd[0]!r:.40}: names must be text")
    return found, meta if isinstance(meta, dict) else {}


def _check_kinds(state: State, path: Path) -> None:
    """Refuse tensors that are no plain numbers, or that stand for far more numbers than the file has.

    A view may repeat one stored number as often as it likes, and would take that much memory in float32.
    """
    most, total = max(_MOST_REPEATED * path.stat().st_size, _SLACK), 0
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype not in _DTYPES:
            kind = "without values" if tensor.is_meta else f"{tensor.dtype}, {tensor.layout}".replace("torch.", "")
            raise CheckpointError(f"{path}: its tensor {name:.80} is {kind}: save plain tensors, such as float32")
        total += tensor.numel() * max(4, tensor.element_size())
        if total > most:
            shape = list(tensor.shape)
            raise CheckpointError(f"{path}: {name:.80} {shape} is larger than its data in the file: download it again")


def _harmless_globals() -> list[Any]:
    """numpy's own constructors, met in the meta data of mmcv's checkpoints under the names of numpy 1 and 2."""
    multiarray = np.zeros(0).__reduce__()[0].__module__
    functions = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    harmless: list[Any] = [np.dtype, np.ndarray]
    harmless += [type(np.dtype(kind)) for kind in "?bhilqBHILQefdSU"]
    for module in {multiarray, "numpy.core.multiarray", "numpy._core.multiarray"}:
        harmless += [_renamed(function, module, name) for name, function in functions.items()]
    return harmless


def _renamed(function: Any, module: str, name: str) -> Callable[..., Any]:  # noqa: ANN401
    def call(*args: Any) -> Any:  # noqa: ANN401
        return function(*args)

    call.__module__, call.__name__, call.__qualname__ = module, name, name
    return call

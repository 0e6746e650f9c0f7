"""What is saved comes back, with its model card; cards that do not fit are refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from weight_files import CLASSES, oriented_rcnn

from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, save_checkpoint
from legnet_cli.errors import CheckpointError, DataError

CARD = ModelCard(
    *("my ships", "oriented-rcnn/legnet-tiny", CLASSES),
    **{"tile": 512, "overlap": 64, "gsd": (0.3, 0.5), "stretch": "2,98", "licence": "MIT", "data_sha256": "ab" * 32},
)


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state, path = oriented_rcnn(), tmp_path / "w.safetensors"
    shared = state["rpn_head.rpn_cls.weight"]
    state |= {
        "neck.a.weight": shared,
        "neck.b.weight": shared.permute(1, 0, 2, 3),
        "norm.num_batches_tracked": torch.ones(()),
    }
    save_checkpoint(path, state, CARD)
    found = read_checkpoint(path)
    assert found.card == CARD
    del state["norm.num_batches_tracked"]
    assert set(found.state) == set(state)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state.items())
    first = path.read_bytes()
    save_checkpoint(path, found.state, found.card)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_safetensors_without_a_card(tmp_path: Path) -> None:
    save_file(oriented_rcnn(), tmp_path / "w.safetensors")
    assert read_checkpoint(tmp_path / "w.safetensors").card.recipe == "oriented-rcnn/legnet-tiny"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "made by a newer legnet"),
        (
            {"recipe": "r3det/legnet-tiny"},
            "its card says r3det/legnet-tiny, its tensors are of oriented-rcnn/legnet-tiny",
        ),
        ({"recipe": "nonsense"}, "card is damaged"),
        ({"classes": None}, "card is damaged"),
        ({"classes": ["a"]}, "has 3 classes, but 1 names"),
        ({"classes": [1, 2, 3]}, "card is damaged"),
        ({"later": "field"}, None),
    ],
)
def test_cards_that_do_not_fit(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    card = {"version": 1, "name": "m", "recipe": "oriented-rcnn/legnet-tiny", "classes": CLASSES, **change}
    save_file(oriented_rcnn(), tmp_path / "w.safetensors", {"legnet": json.dumps(card)})
    if message is None:
        assert read_checkpoint(tmp_path / "w.safetensors").card.name == "m"
        return
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "w.safetensors")


def test_saving_fails_whole(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "w.safetensors", oriented_rcnn(), CARD)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_saving_in_half_precision(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "w.safetensors", oriented_rcnn(), CARD)
    save_checkpoint(tmp_path / "h.safetensors", oriented_rcnn(), CARD, torch.float16)
    whole, half = (read_checkpoint(tmp_path / name).state for name in ("w.safetensors", "h.safetensors"))
    assert (tmp_path / "h.safetensors").stat().st_size < 0.55 * (tmp_path / "w.safetensors").stat().st_size
    assert all(half[name].dtype == torch.float32 for name in half)
    for name, tensor in whole.items():
        torch.testing.assert_close(half[name], tensor, rtol=1e-3, atol=1e-4)


def test_values_beyond_half_precision_stay_whole(tmp_path: Path) -> None:
    state = oriented_rcnn()
    name = next(iter(state))
    state[name] = state[name] + 123456.0
    save_checkpoint(tmp_path / "h.safetensors", state, CARD, torch.float16)
    torch.testing.assert_close(read_checkpoint(tmp_path / "h.safetensors").state[name], state[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("tile", value) for value in (None, "1024", 0, -1, 1e3, True, [1], 1 << 70)),
        *(("overlap", value) for value in (None, "200", -1, 0.5)),
        *(
            ("gsd", value)
            for value in ("0.3", 0, -1, float("nan"), float("inf"), True, [1], [2, 1], [1, "2"], [1, 2, 3], {})
        ),
        *(("name", value) for value in (None, 1, ["m"], "two\nlines")),
        *(("recipe", value) for value in (None, 1, {}, [])),
        *(("classes", value) for value in ("abc", {}, [], [["a"], "b", "c"])),
        *(("stretch", value) for value in (None, 1)),
        *(("model", value) for value in ("OrientedRCNN", [], 1, {"type": 1})),
        *(("licence", value) for value in (1, [])),
        *(("version", value) for value in (None, "1", [])),
    ],
)
def test_values_of_cards(tmp_path: Path, key: str, value: Any) -> None:
    card = {"version": 1, "name": "m", "recipe": "oriented-rcnn/legnet-tiny", "classes": CLASSES, key: value}
    save_file(oriented_rcnn(), tmp_path / "w.safetensors", {"legnet": json.dumps(card)})
    with pytest.raises(CheckpointError, match=r"w\.safetensors: its model card is damaged"):
        read_checkpoint(tmp_path / "w.safetensors")

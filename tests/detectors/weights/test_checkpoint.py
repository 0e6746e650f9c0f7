"""Weight files of every layout, and what is refused."""

import json
import os
import pickle
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from safetensors.torch import save_file
from torch import Tensor

from legnet_cli.detectors.weights.checkpoint import ModelCard, read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.recipes import DATASETS
from legnet_cli.detectors.weights.tensors import check_state
from legnet_cli.errors import CheckpointError, DataError

CLASSES = ("ship", "plane", "car")
LEGNET_TINY = {"Stem.LoG.conv_init.weight": (8, 3, 7, 7)}
UNRAVEL_SMALL = {"Stem.proj.weight": (64, 3, 4, 4)}
LFEA = "stages.0.blocks.0.LFEA.conv2d.0.weight"


def tensors(shapes: dict[str, tuple[int, ...]], prefix: str = "") -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {prefix + name: torch.randn(shape) for name, shape in shapes.items()}


def oriented_rcnn(backbone: dict[str, tuple[int, ...]] = LEGNET_TINY, classes: int = 3) -> dict[str, Tensor]:
    """The few tensors by which a file of Oriented R-CNN is known."""
    heads = {
        "neck.lateral_convs.0.conv.weight": (256, 32, 1, 1),
        "rpn_head.rpn_cls.weight": (3, 256, 1, 1),
        "rpn_head.rpn_reg.weight": (18, 256, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (classes + 1, 16),
    }
    return tensors({LFEA: (32, 32, 3, 3), **backbone}, "backbone.") | tensors(heads)


class NumpyOneScalar:
    """A float64 pickled under numpy 1's or 2's module name, whichever this numpy has not."""

    def __reduce__(self) -> tuple[Any, ...]:
        function, values = np.float64(0.25).__reduce__()
        return function, values


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


def save(content: object, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: OrderedDict(s),
        lambda s: {"state_dict": s, "optimizer": {"state": {0: {"step": torch.ones(1)}}}},
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}},
        lambda s: {"state_dict": {k: v.half().float() if v.numel() < 0 else v for k, v in s.items()}},
        lambda s: s | {k.replace("conv2d", "block"): v for k, v in s.items()},
        lambda s: s | {"backbone.norm0.num_batches_tracked": torch.tensor(7)},
        lambda s: s | {"ema_backbone_norm0_weight": torch.ones(2)},
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_layouts(tmp_path: Path, wrap: Any, zipped: bool) -> None:
    state = oriented_rcnn()
    path = save(wrap(state), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(path, CLASSES)
    assert set(found.state) == set(state)
    assert all(torch.equal(found.state[name], tensor) for name, tensor in state.items())
    assert found.card == ModelCard("w", "oriented-rcnn/legnet-tiny", CLASSES)


HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "roi-transformer": {"roi_head.bbox_head.0.fc_cls.weight": (4, 8), "roi_head.bbox_head.1.fc_cls.weight": (4, 8)},
    "rotated-faster-rcnn": {
        "rpn_head.rpn_cls.weight": (3, 8, 1, 1),
        "rpn_head.rpn_reg.weight": (12, 8, 1, 1),
        "roi_head.bbox_head.fc_cls.weight": (4, 8),
    },
    "rotated-fcos": {"bbox_head.conv_cls.weight": (3, 8, 3, 3)},
    "s2anet": {"fam_head.retina_cls.weight": (3, 8, 1, 1), "odm_head.odm_cls.weight": (3, 8, 3, 3)},
    "r3det": {"bbox_head.retina_cls.weight": (27, 8, 3, 3), "refine_head.0.retina_cls.weight": (3, 8, 3, 3)},
}


@pytest.mark.parametrize("detector", HEADS)
def test_the_recipe_is_read_off_the_tensors(tmp_path: Path, detector: str) -> None:
    state = tensors(UNRAVEL_SMALL, "backbone.") | tensors(HEADS[detector])
    card = read_checkpoint(save(state, tmp_path / "w.pth")).card
    assert (card.recipe, len(card.classes)) == (f"{detector}/unravelnet-small", 3)


@pytest.mark.parametrize(
    ("meta", "count", "classes", "recipe"),
    [
        ({"CLASSES": CLASSES}, 3, CLASSES, ""),
        ({"CLASSES": list(CLASSES)}, 3, CLASSES, ""),
        ({"CLASSES": None}, 15, DATASETS["dota10"].classes, ""),
        ({}, 16, DATASETS["dota15"].classes, "@dota15"),
        ({}, 37, DATASETS["fair1m"].classes, "@fair1m"),
        ({"CLASSES": CLASSES}, 15, DATASETS["dota10"].classes, ""),  # a wrong list is no help
        ({}, 3, ("class_0", "class_1", "class_2"), ""),
        ({}, 1, ("class_0",), ""),
    ],
)
def test_class_names(tmp_path: Path, meta: dict[str, Any], count: int, classes: tuple[str, ...], recipe: str) -> None:
    path = save({"meta": meta, "state_dict": oriented_rcnn(classes=count)}, tmp_path / "w.pth")
    card = read_checkpoint(path).card
    assert (card.classes, card.recipe) == (classes, f"oriented-rcnn/legnet-tiny{recipe}")


def test_the_dataset_sets_the_tiles(tmp_path: Path) -> None:
    card = read_checkpoint(save(oriented_rcnn(classes=37), tmp_path / "w.pth")).card
    assert (card.tile, card.overlap) == (1024, 500)


def test_guessed_class_names_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_checkpoint(save(oriented_rcnn(classes=20), tmp_path / "w.pth"))
    assert "w.pth has no class names for its 20 classes; using those of DIOR-R" in caplog.text


def test_meta_of_mmcv_loads(tmp_path: Path) -> None:
    meta = {
        "CLASSES": CLASSES,
        "PALETTE": [(1, 2, 3)],
        "config": "model = dict(type='OrientedRCNN')\n",
        "seed": np.int64(3),
        "hook_msgs": {"best_score": np.float64(0.79), "map": np.float32(0.5), "ok": np.bool_(True)},
        "table": np.arange(3.0),
        "names": np.array(["a", "bc"]),
    }
    path = save({"meta": meta, "state_dict": oriented_rcnn()}, tmp_path / "w.pth")
    assert read_checkpoint(path).card.classes == CLASSES


@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_numpy_scalars_of_either_numpy_load(tmp_path: Path, module: bytes) -> None:
    path = save(
        {"meta": {"CLASSES": CLASSES, "loss": np.float64(1)}, "state_dict": oriented_rcnn()}, tmp_path / "w.pth"
    )
    renamed = tmp_path / "renamed.pth"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(renamed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("data.pkl"):
                assert re.search(rb"c(numpy\._?core\.multiarray)\nscalar", content)
                content = re.sub(rb"c(numpy\._?core\.multiarray)\nscalar", b"c" + module + b"\nscalar", content)
            new.writestr(name, content)
    assert read_checkpoint(renamed).card.classes == CLASSES


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["meta", "optimizer"])
def test_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool, place: str) -> None:
    monkeypatch.chdir(tmp_path)
    content = {place: {"x": Malicious()}, "state_dict": oriented_rcnn()}
    path = save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"w\.pth: refused, it needs (posix|nt)\.system: loading it would run code"
    ):
        read_checkpoint(path)
    assert not (tmp_path / "pwned").exists()


def test_what_may_be_unpickled_is_not_widened_for_others(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    read_checkpoint(save(oriented_rcnn(), tmp_path / "w.pth"), CLASSES)
    assert set(torch.serialization.get_safe_globals()) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def spoil(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[30:2000] = bytes(1970)
    path.write_bytes(data)


@pytest.mark.parametrize("suffix", [".pth", ".legacy", ".safetensors"])
@pytest.mark.parametrize("harm", [cut, spoil])
def test_damaged_files(tmp_path: Path, suffix: str, harm: Any) -> None:
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_checkpoint(path, oriented_rcnn(), ModelCard("m", "oriented-rcnn/legnet-tiny", CLASSES))
    else:
        save(oriented_rcnn(), path, _use_new_zipfile_serialization=suffix == ".pth")
    harm(path)
    with pytest.raises(CheckpointError, match=r"damaged|no weight file") as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (bytes(range(200, 256)), "not a weight file"),
        (pickle.dumps([1, 2]), "damaged, truncated or not a PyTorch"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as file:
        file.writestr("a.txt", "hello")
    with pytest.raises(CheckpointError, match="not a PyTorch weight file"):
        read_checkpoint(tmp_path / "w.pth")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nope\.pth: no such file"):
        read_checkpoint(tmp_path / "nope.pth")
    with pytest.raises(CheckpointError, match=r"is a folder|cannot read it"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(1)], "holds a list, not a state dict"),
        ({"epoch": 3}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        (tensors(LEGNET_TINY), "holds only a legnet-tiny backbone"),
        ({"model": tensors({**UNRAVEL_SMALL, "head.weight": (1000, 8)})}, "holds only a unravelnet-small backbone"),
        (tensors(LEGNET_TINY, "backbone."), "holds only a legnet-tiny backbone"),
        ({"backbone.conv1.weight": torch.ones(64, 3, 7, 7)}, "no LEGNet or UnravelNet of a known size"),
        (tensors({"Stem.proj.weight": (48, 3, 4, 4)}, "backbone."), "no LEGNet or UnravelNet of a known size"),
        (
            tensors(LEGNET_TINY, "backbone.") | tensors({"bbox_head.retina_cls.weight": (9, 8, 3, 3)}),
            "unknown detection head",
        ),
        (
            oriented_rcnn() | {f"backbone.{LFEA}".replace("conv2d", "block"): torch.ones(32, 32, 3, 3)},
            "two different tensors for .*LFEA.conv2d.0.weight",
        ),
        (oriented_rcnn() | {"neck.x.bias": torch.tensor([1.0, float("nan")])}, "NaN or infinite values in neck.x.bias"),
    ],
)
def test_tensors_that_are_no_detector(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(save(content, tmp_path / "w.pth"))


def test_class_names_must_be_as_many_as_the_outputs(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 3 classes, but 2 names were given"):
        read_checkpoint(save(oriented_rcnn(), tmp_path / "w.pth"), ("a", "b"))


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


def test_halves_are_read_as_float32(tmp_path: Path) -> None:
    path = save({name: tensor.half() for name, tensor in oriented_rcnn().items()}, tmp_path / "w.pth")
    assert {tensor.dtype for tensor in read_checkpoint(path, CLASSES).state.values()} == {torch.float32}


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


def test_every_mismatch_is_named() -> None:
    expected = {"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(4), "bn.num_batches_tracked": torch.ones(())}
    check_state({"a": torch.ones(2), "b": torch.ones(3), "c": torch.ones(4)}, expected, "w.pth")
    state = {"a": torch.ones(5), **{f"extra{i}": torch.ones(1) for i in range(5)}}
    with pytest.raises(CheckpointError) as caught:
        check_state(state, expected, "w.pth")
    assert str(caught.value) == (
        "w.pth: tensors do not fit: 2 missing (b, c); 5 unexpected (extra0, extra1, extra2, …); "
        "1 of another shape (a [5] for [2])"
    )


@pytest.mark.parametrize(
    ("name", "recipe"),
    [(reference.LEGNET, "oriented-rcnn/legnet-tiny"), (reference.UNRAVELNET, "oriented-rcnn/unravelnet-tiny")],
)
def test_names_of_the_reference(tmp_path: Path, name: str, recipe: str) -> None:
    # one stored value a tensor: the layout is what matters here
    state = {key: torch.zeros(()).expand(shape) for key, shape in reference.golden(name)["shapes"].items()}
    found = read_checkpoint(save({"meta": {}, "state_dict": state}, tmp_path / "w.pth"))
    assert (found.card.recipe, len(found.card.classes)) == (recipe, 15)
    assert not any(re.search(r"(LFEA|BGA)\.block", key) for key in found.state)


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its being deprecated
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros((), dtype=torch.float16).expand(1 << 34), "stands for more than the file stores"),
        (torch.zeros(()).expand(1 << 14, 1 << 14, 32), "stands for more than the file stores"),
        (quantised, "refused, it needs|is damaged|is quint8"),
        (torch.zeros(1 << 34, device="meta"), "is without values: save plain tensors"),
        (torch.zeros(2, dtype=torch.complex64), "is complex64, strided"),
        (torch.zeros(2, 2).to_sparse(), "refused, it needs|is damaged|is float32, sparse_coo"),
    ],
)
def test_tensors_that_no_network_takes(tmp_path: Path, tensor: Any, message: str) -> None:
    made = tensor() if callable(tensor) and not isinstance(tensor, torch.Tensor) else tensor
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(save({**oriented_rcnn(), "x": made}, tmp_path / "w.pth"))


@pytest.mark.parametrize("key", [0, None, (1, 2)])
def test_names_of_tensors_are_text(tmp_path: Path, key: Any) -> None:
    with pytest.raises(CheckpointError, match="names must be text"):
        read_checkpoint(save({**oriented_rcnn(), key: torch.ones(1)}, tmp_path / "w.pth"))


@pytest.mark.parametrize("name", ["Stem.LoG.conv_init.weight", "roi_head.bbox_head.fc_cls.weight"])
def test_a_number_where_a_network_has_a_layer(tmp_path: Path, name: str) -> None:
    state = {key: torch.ones(()) if key.endswith(name) else tensor for key, tensor in oriented_rcnn().items()}
    with pytest.raises(CheckpointError, match=r"w\.pth: "):
        read_checkpoint(save(state, tmp_path / "w.pth"))


def test_a_file_that_unpacks_to_far_more(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_BZIP2) as file, file.open("w/data/0", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(CheckpointError, match="is damaged, truncated or not"):
        read_checkpoint(tmp_path / "w.pth")


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

"""Weight files that are refused: code, damage, other kinds of file, and tensors that no network takes."""

import os
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from weight_files import CLASSES, LEGNET_TINY, LFEA, UNRAVEL_SMALL, oriented_rcnn, save, tensors

from legnet_cli.detectors.weights.card import ModelCard
from legnet_cli.detectors.weights.checkpoint import read_checkpoint, save_checkpoint
from legnet_cli.detectors.weights.tensors import check_state
from legnet_cli.errors import CheckpointError


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch pwned",)


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


def quantised() -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its being deprecated
        return torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros((), dtype=torch.float16).expand(1 << 34), "is larger than its data in the file"),
        (torch.zeros(()).expand(1 << 14, 1 << 14, 32), "is larger than its data in the file"),
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

"""A split that is interrupted goes on, and one at a time writes a folder."""

import os
from dataclasses import replace

import pytest
from splits import files, run

from legnet_cli.data.datasets import load_dataset
from legnet_cli.data.png import TileEncoder
from legnet_cli.engine.split import SplitConfig, split
from legnet_cli.engine.split.draft import draft_place
from legnet_cli.errors import ConfigError, DataError


def test_an_interrupted_split_goes_on(tmp_path, dota, monkeypatch):
    run(dota, tmp_path / "whole")
    count, real = 0, TileEncoder.encode

    def fails(*args):
        nonlocal count
        count += 1
        if count >= 30:  # no later job may end before the main thread hears of it
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(TileEncoder, "encode", fails)
    with pytest.raises(KeyboardInterrupt):
        run(dota, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(TileEncoder, "encode", real)
    with pytest.raises(ConfigError, match="unfinished split of other data or with other settings"):
        run(dota, tmp_path / "out", overlap=8)
    with (draft_place(tmp_path / "out") / "journal.jsonl").open("ab") as journal:
        journal.write(b"\0\0\0\n\xff\xfe\n[1, 2]\n{}\n" + b"[" * 9999 + b'\n["cut sho')  # by a crash
    result = run(dota, tmp_path / "out")
    assert 0 < result.resumed < 30
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert not draft_place(tmp_path / "out").exists()


def test_overwrite(tmp_path, dota):
    out = tmp_path / "out"
    run(dota, out)
    with pytest.raises(ConfigError, match="exists already"):
        run(dota, out)
    run(dota, out, overlap=0, overwrite=True)
    run(dota, tmp_path / "fresh", overlap=0)
    assert files(out) == files(tmp_path / "fresh")
    (out / "split.json").unlink()
    with pytest.raises(ConfigError, match="not an output of legnet split"):
        run(dota, out, overwrite=True)
    with pytest.raises(ConfigError, match="must be apart"):
        run(dota, dota / "tiles")


def test_one_split_at_a_time_writes_a_folder(tmp_path, dota):
    """The second says who holds it, the first is not disturbed, and what it leaves is gone at its end."""
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)
    seen = []

    def second(progress):
        if not seen:
            seen.append(progress)
            with pytest.raises(DataError, match=rf"out: is being written by process {os.getpid()} on .+: wait for"):
                split(config)

    split(config, second)
    assert seen
    assert (config.out / "split.json").exists()
    assert not [*tmp_path.glob(".legnet-*")]


def test_a_folder_made_meanwhile_stays(tmp_path, dota, monkeypatch):
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)

    def load(*args, **kwargs):
        monkeypatch.setattr(place, real)
        split(config)
        return real(*args, **kwargs)

    place, real = "legnet_cli.engine.split.run.load_dataset", load_dataset
    monkeypatch.setattr(place, load)
    with pytest.raises(ConfigError, match="exists already"):
        split(config)
    assert (config.out / "split.json").exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 1000, b"\xff" * 10, b"[" * 100_000, b'{"a": 1}\n', b'"other"\n'])
def test_a_journal_of_any_content(tmp_path, dota, content):
    config = SplitConfig(dota, tmp_path / "out", tile=64, overlap=0)
    place = draft_place(config.out)
    place.mkdir()
    (place / "journal.jsonl").write_bytes(content)
    with pytest.raises(ConfigError, match="holds an unfinished split of other data"):
        split(config)
    split(replace(config, overwrite=True))
    assert (config.out / "split.json").exists()

import importlib
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from legnet_cli.commands.options import REGISTRY, RENAMED
from legnet_cli.engine.predict import PredictConfig
from legnet_cli.engine.split import SplitConfig
from legnet_cli.errors import ConfigError
from legnet_cli.main import app
from legnet_cli.settings import declared

runner = CliRunner()


def commands():
    return typer.main.get_command(app).commands


def parameters():
    """Flag (long) and command of every visible option but help."""
    for name, command in commands().items():
        for parameter in command.params:
            flags = [flag for flag in parameter.opts if flag.startswith("--")]
            if flags and not parameter.hidden and flags != ["--help"]:
                yield flags[0], name, parameter


def test_the_registry_lists_every_flag_and_its_commands():
    found = {}
    for flag, name, _ in parameters():
        found.setdefault(flag, set()).add(name)
    assert {flag: set(names.split()) for flag, names in REGISTRY.items()} == found
    assert list(REGISTRY) == sorted(REGISTRY)


def test_a_flag_has_one_short_form_everywhere():
    short = {}
    for flag, _, parameter in parameters():
        for own in parameter.opts:
            if not own.startswith("--"):
                short.setdefault(own, set()).add(flag)
    assert short == {"-o": {"--out"}, "-w": {"--weights"}, "-q": {"--quiet"}, "-v": {"--verbose"}}


def test_a_flag_reads_the_same_everywhere():
    modules = ("predict", "diff", "review", "eval", "train", "split", "export", "benchmark", "convert")
    seen = {}
    for verb in modules:
        config = getattr(importlib.import_module(f"legnet_cli.engine.{verb}"), f"{verb.capitalize()}Config")
        for known in declared(config):
            seen.setdefault(known.flag, set()).add((known.type if not known.choices else str, known.option.help))
    types = {flag: len({kind for kind, _ in pairs}) for flag, pairs in seen.items()}
    # export fixes a height and a width; predict can name the devices, train numbers them
    assert {flag for flag, count in types.items() if count > 1} == {"--tile", "--devices"}
    shared = ("--device", "--stretch", "--labels", "--score", "--overwrite", "--bands", "--engine", "--class-field")
    assert all(len(seen[flag]) == 1 for flag in shared)


@pytest.mark.parametrize(("verb", "old"), RENAMED)
def test_an_earlier_spelling_names_the_new_one(verb, old, tmp_path):
    words = {"train": [], "export": ["legnet-nano"], "benchmark": []}[verb]
    out = [] if verb == "benchmark" else ["--out", str(tmp_path / "x.onnx")]
    result = runner.invoke(app, [verb, *words, *out, old, "a=1"])
    assert result.exit_code == 2
    assert result.stderr == f"error: {old} is now {RENAMED[verb, old]}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--data", "d", "-o", "lr=1"], "-o is --out: write --set lr=1 to change a setting"),
        (["benchmark", "--json", "x.json"], "--json prints to stdout: write --json-file x.json for a file"),
        (["predict", "a.tif", "--out", "o.gpkg", "--batch", "0"], "--batch 0 is out of range: give 1 or more"),
        (["predict", "a.tif", "--out", "o.gpkg", "--score", "2"], "--score 2.0 is out of range: give 0 to 1"),
        (["predict", "a.tif", "--out", "o.gpkg", "--bands", "1,x"], "--bands: 'x' is not a whole number"),
        (
            ["predict", "a.tif", "--out", "o.gpkg", "--workers", "all"],
            "--workers all: give a number of processes, or auto",
        ),
        (["split", "d", "--out", "o", "more"], "unexpected argument 'more': see --help"),
        (["benchmark", "--precision", "fp32,fp9"], "--precision fp9: choose from auto, fp32, bf16, fp16"),
    ],
)
def test_wrong_usage_is_one_line(args, message):
    result = runner.invoke(app, args)
    assert (result.exit_code, result.stderr) == (2, f"error: {message}\n")


@pytest.mark.parametrize("name", ["engine", "precision", "device"])
def test_closed_sets_are_in_the_help(name):
    text = runner.invoke(app, ["predict", "--help"], env={"COLUMNS": "200"}).output
    assert {"engine": "auto|torch|onnxruntime|openvino", "precision": "auto|fp32|bf16|fp16", "device": "cuda:N"}[
        name
    ] in text


def test_lists_are_comma_separated_and_repeatable(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("legnet_cli.engine.split.split", lambda config, *_: seen.append(config) or 1 / 0)
    for args in (["--scale", "0.5,1"], ["--scale", "0.5", "--scale", "1"]):
        with pytest.raises(ZeroDivisionError):
            runner.invoke(app, ["split", "d", "--out", str(tmp_path / "o"), *args], catch_exceptions=False)
    assert [config.scales for config in seen] == [(0.5, 1.0)] * 2


def test_settings_take_one_value_for_a_tuple_and_text_for_a_path():
    config = PredictConfig(scenes="a.tif", out="x.gpkg", classes="ship")
    assert (config.scenes, config.out, config.classes) == (("a.tif",), Path("x.gpkg"), ("ship",))


def test_faults_are_told_at_once_and_in_the_docstring():
    with pytest.raises(ConfigError, match=r"--background 2 .*; --seed -1 is out of range"):
        SplitConfig(Path("a"), Path("b"), background=2, seed=-1)
    assert "background: Share of the empty tiles" in SplitConfig.__doc__
    assert "truncated: What happens to objects cut by a tile. One of keep, drop, recut." in SplitConfig.__doc__


@pytest.mark.parametrize(
    ("args", "incomplete", "expected"),
    [
        ("predict a.tif --weights", "legnet-na", ["legnet-nano"]),
        ("train --recipe", "r3", ["r3det/legnet-small"]),
        ("predict a.tif --weights legnet-nano --classes", "Car,sh", ["Car,ship"]),
        ("predict a.tif --weights legnet-small-dota15 --classes", "container", ["container-crane"]),
        ("predict a.tif --weights nowhere --classes", "s", []),
        ("predict a.tif --engine", "on", ["onnxruntime"]),
    ],
)
def test_the_shell_completes(args, incomplete, expected):
    env = {
        "_LEGNET_COMPLETE": "complete_bash",
        "COMP_WORDS": f"legnet {args} {incomplete}",
        "COMP_CWORD": str(len(args.split()) + 1),
    }
    result = runner.invoke(app, [], env=env, prog_name="legnet")
    assert result.output.split() == expected


@pytest.mark.parametrize(
    ("words", "views"),
    [
        ([], "none"),
        (["--tta"], "full"),
        (["--tta", "flips"], "flips"),
        (["--tta=flips"], "flips"),
        (["--tta", "-q"], "full"),
    ],
)
def test_a_flag_may_stand_alone(words, views):
    command = commands()["predict"]
    context = command.make_context("predict", ["a.tif", *words])
    assert (context.params["tta"], context.params["scenes"]) == (views, ["a.tif"])

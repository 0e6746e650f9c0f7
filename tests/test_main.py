import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from legnet_cli.commands.options import REGISTRY
from legnet_cli.main import COMMANDS, app

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
runner = CliRunner()


def names():
    return [command.__name__ for command in COMMANDS]


@pytest.mark.parametrize("name", names())
def test_every_command_has_help_with_a_summary(name):
    result = runner.invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert len(result.output.split("Options")[0].split()) > 6


@pytest.mark.parametrize("name", names())
def test_every_command_is_in_the_readme(name):
    assert re.search(rf"legnet {name}\b", README)


def test_flags_that_the_readme_names_exist():
    lines = re.findall(r"legnet (\w+)((?: [^`\n|]*)?)", README)
    used = {(verb, flag) for verb, rest in lines if verb in names() for flag in re.findall(r"(?<!\S)--[\w-]+", rest)}
    assert len(used) > 30
    assert not [(verb, flag) for verb, flag in used if verb not in REGISTRY.get(flag, "").split()]
    # and flags in running text are some command's
    prose = set(re.findall(r"`(--[\w-]+)", README)) - {"--install-completion", "--help"}
    assert prose <= set(REGISTRY), prose - set(REGISTRY)


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from legnet_cli.main import app;"
        "r = CliRunner().invoke(app, ['--help']); assert r.exit_code == 0, r.output;"
        "heavy = {'torch', 'numpy', 'rasterio', 'mmcv', 'matplotlib', 'shapely', 'pyogrio'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version():
    result = runner.invoke(app, ["--version"])
    assert result.exit_code == 0
    assert re.fullmatch(r"legnet \d+\.\d+\.\d+\n", result.output)


@pytest.mark.parametrize("args", [["frobnicate"], ["predict"], ["predict", "a.tif", "--bogus"]])
def test_wrong_usage_ends_with_2(args):
    assert runner.invoke(app, args).exit_code == 2


@pytest.mark.parametrize("given", [None, "0"])
def test_huge_pages_are_asked_for_by_the_command_line_alone(given):
    code = (
        "import os, sys; import legnet_cli; before = os.environ.get('THP_MEM_ALLOC_ENABLE');"
        "from legnet_cli import __main__; __main__.app = lambda: print(before, os.environ['THP_MEM_ALLOC_ENABLE'],"
        " 'torch' in sys.modules); __main__.main()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "THP_MEM_ALLOC_ENABLE"}
    environment |= {"THP_MEM_ALLOC_ENABLE": given} if given else {}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert out.stdout.split() == [str(given), given or "1", "False"]

"""``legnet convert``: from one label format to another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legnet_cli.commands.console import list_problems, number_table, print_json
from legnet_cli.commands.options import Terminal, command
from legnet_cli.engine.convert import ConvertConfig
from legnet_cli.errors import ConfigError
from legnet_cli.settings import documented, option

if TYPE_CHECKING:
    from legnet_cli.engine.convert import ConvertResult


def _convert(config: ConvertConfig, terminal: Terminal) -> None:
    """Convert labels from one format to another.

    Example: legnet convert DOTA DOTA-yolo --to yolo-obb
    """
    from legnet_cli.engine.convert import convert as run

    result = run(config)
    if not terminal.quiet:
        list_problems(result.left_out, "left out")
        list_problems(result.warnings, "warning")
    if terminal.json:
        print_json({"out": str(result.dst), **result.to_dict()})
    elif not terminal.quiet:
        _show(result)


@documented
@dataclass(frozen=True)
class _Terminal(Terminal):
    """What ``convert`` takes besides."""

    out: Path | None = option(None, "The same as DST.", "-o")  # noqa: RUF009


def _make(values: dict[str, Any], terminal: _Terminal) -> ConvertConfig:
    if (terminal.out is None) == ("dst" not in values):
        raise ConfigError("give what to create once: legnet convert SRC DST, or legnet convert SRC --out DST")
    return ConvertConfig(**{"dst": terminal.out, **values})


convert = command("convert", _convert, ConvertConfig, _Terminal, make=_make)


def _show(result: ConvertResult) -> None:
    from rich.console import Console

    table = number_table("split", "images", "objects", title=f"{result.from_format} to {result.to_format}")
    for name, (images, objects) in result.splits.items():
        table.add_row(name or "all", str(images), str(objects))
    console = Console()
    console.print(table)
    console.print(f"→ {result.dst}", highlight=False, soft_wrap=True)

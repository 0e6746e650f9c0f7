"""``legnet benchmark``: how fast a detector is on this machine, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from legnet_cli.commands.console import print_json
from legnet_cli.commands.options import Terminal, command, refuse_words
from legnet_cli.commands.progress import DownloadBar
from legnet_cli.engine.benchmark import BenchmarkConfig
from legnet_cli.errors import ConfigError, SlowerError
from legnet_cli.settings import documented, option

if TYPE_CHECKING:
    from legnet_cli.engine.benchmark import BenchmarkResult, Comparison


@documented
@dataclass(frozen=True)
class _Terminal(Terminal):
    """What ``benchmark`` shows."""

    layers: bool = option(False, "List layers, slowest first, against the roofline.")


def _benchmark(config: BenchmarkConfig, terminal: _Terminal) -> None:
    """Measure speed: latency, stages, memory, and how near the network comes to the machine's limits.

    Example: legnet benchmark --weights legnet-tiny-dota10 --precision fp32,bf16 --layers --plot speed.png
    """
    from legnet_cli.engine.benchmark import as_dict
    from legnet_cli.engine.benchmark import benchmark as run
    from legnet_cli.engine.process import keep_freed

    if config.fps and terminal.layers:
        raise ConfigError("--fps prints only the speed: leave out --layers")
    keep_freed()

    def say(text: str) -> None:
        if not terminal.quiet:
            typer.echo(f"measuring: {text}", err=True)

    if config.train:
        return _train(config, terminal, say)
    with DownloadBar(quiet=terminal.quiet) as arrived:
        result = run(config, say, arrived.show)
    if terminal.json:
        print_json(as_dict(result))
    else:
        _show(result, config, terminal)
    if result.comparison:
        _judge(result.comparison)


def _train(config: BenchmarkConfig, terminal: _Terminal, say: Callable[[str], None]) -> None:
    from legnet_cli.commands.benchmark_tables import show_training
    from legnet_cli.engine.benchmark import time_training, training_dict

    speed = time_training(config, say)
    if terminal.json:
        print_json(training_dict(speed))
    else:
        show_training(speed)


def _refuse_words(given: dict[str, Any], words: list[str]) -> None:
    if given["json"]:
        raise ConfigError(f"--json prints to stdout: write --json-file {words[0]} for a file")
    refuse_words(given, words)


benchmark = command("benchmark", _benchmark, BenchmarkConfig, _Terminal, words=_refuse_words)


def _show(result: BenchmarkResult, config: BenchmarkConfig, terminal: _Terminal) -> None:
    from legnet_cli.commands.benchmark_tables import show, show_comparison, show_fps, show_layers, show_tuning

    if config.fps:
        show_fps(result)
    elif not terminal.quiet:
        show(result)
    if result.tuning and not terminal.quiet:
        show_tuning(result.tuning)
    if terminal.layers and result.roofline:
        show_layers(result.roofline)
    for path in (config.json_file, config.plot):
        if path is not None and not terminal.quiet:
            typer.echo(f"report → {path}", err=True)
    if result.comparison:
        show_comparison(result.comparison)


def _judge(comparison: Comparison) -> None:
    if slow := comparison.too_slow:
        worst = max(slow, key=lambda change: change.slower)
        raise SlowerError(
            f"{worst.precision}, batch {worst.batch}: {worst.slower:.1%} slower than in {comparison.path} "
            f"(limit {comparison.limit:.0%}): repeat it on an idle machine, or find the cause with --layers"
        )

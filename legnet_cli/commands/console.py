"""What every command shares on the terminal: errors as one line, logging, results as text or JSON."""

from __future__ import annotations

import functools
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import typer

from legnet_cli.errors import LegnetError

if TYPE_CHECKING:
    from rich.table import Table

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED, TERMINATED = 130, 143  # the shell's codes for Ctrl-C and SIGTERM
_SHOWN = 20  # problems listed on the terminal


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Make ``command`` end with one line and the error's exit code; bugs keep their traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except LegnetError as error:
            list_problems(getattr(error, "problems", ())[1:], "error")  # the first is in the message
            typer.secho(f"error: {one_line(error)}", fg=typer.colors.RED, err=True)
            raise typer.Exit(error.exit_code) from None
        except KeyboardInterrupt:
            typer.secho("interrupted: no incomplete output is left", err=True)
            raise typer.Exit(INTERRUPTED) from None

    return run


class Terminated(KeyboardInterrupt):
    """SIGTERM, as clusters send it."""


@contextmanager
def resumable() -> Iterator[None]:
    """End with the shell's code on Ctrl-C and SIGTERM, and say that the same command goes on."""

    def stop(*_: object) -> None:
        raise Terminated

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt as error:
        typer.secho("interrupted: repeat the command to continue", err=True)
        raise typer.Exit(TERMINATED if isinstance(error, Terminated) else INTERRUPTED) from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def one_line(error: BaseException) -> str:
    """The message of ``error`` with its line breaks taken out."""
    return " ".join(str(error).split())


class _LineHandler(logging.Handler):
    """Log records as lines on stderr that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        tqdm.write(level + self.format(record), file=sys.stderr)


def list_problems(problems: Sequence[object], level: str) -> None:
    """Lines on stderr about labels and images; a few, for --json and the records of a folder have all."""
    for problem in problems[:_SHOWN]:
        typer.echo(f"{level}: {problem}", err=True)
    if len(problems) > _SHOWN:
        typer.echo(f"{level}: … and {len(problems) - _SHOWN:,} more", err=True)


def setup_logging(verbosity: int) -> None:
    """Show the package's log lines on stderr: errors (-1), warnings and notes (0), debug (1)."""
    logger = logging.getLogger("legnet_cli")
    logger.handlers = [_LineHandler()]
    logger.propagate = False
    logger.setLevel({-1: logging.ERROR, 0: logging.INFO}.get(verbosity, logging.DEBUG))


def print_json(value: Any) -> None:  # noqa: ANN401 - any JSON value
    """Write ``value`` to stdout as indented JSON."""
    import json

    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def number_table(*titles: str, **style: Any) -> Table:  # noqa: ANN401 - as rich takes it
    """A table of words in the first column and numbers in the others; ``style`` as of :class:`rich.table.Table`."""
    from rich.table import Table

    table = Table(**style)
    for place, title in enumerate(titles):
        table.add_column(title, justify="right" if place else "left")
    return table

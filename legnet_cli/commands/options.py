"""Flags of the command line, made from the fields of the verbs' settings.

``REGISTRY`` shows every flag and the verbs that have it; the flag itself (type, default, help) is declared beside the
field: in ``engine/<verb>/config.py``, or in ``engine/options.py`` where verbs share it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from legnet_cli.commands.completion import COMPLETIONS
from legnet_cli.commands.console import setup_logging
from legnet_cli.errors import ConfigError
from legnet_cli.settings import Declared, Settings, declared, documented, option

REGISTRY: dict[str, str] = {
    "--accumulate": "train",
    "--also": "train",
    "--aoi": "predict",
    "--asset": "predict",
    "--background": "split",
    "--bands": "split predict diff review eval",
    "--baseline": "benchmark",
    "--batch": "train predict diff eval benchmark",
    "--calibrate": "eval",
    "--class-field": "split diff review eval convert",
    "--classes": "split train predict diff review eval convert",
    "--cluster": "predict",
    "--compare": "eval benchmark",
    "--compile": "predict",
    "--config": "train",
    "--count-difficult": "eval",
    "--crs": "predict diff",
    "--data": "train eval export",
    "--device": "train predict diff eval benchmark",
    "--devices": "train predict",
    "--dry-run": "train",
    "--engine": "predict diff eval benchmark",
    "--epochs": "train",
    "--fail-if-slower": "benchmark",
    "--force-precision": "predict diff eval",
    "--format": "split",
    "--fps": "benchmark",
    "--from": "split train eval convert",
    "--fuse": "predict eval",
    "--gsd": "split train predict eval diff",
    "--hold-out": "train",
    "--ignore-others": "split train eval convert",
    "--images": "export benchmark convert",
    "--job": "predict",
    "--json": "split train predict diff review eval export benchmark convert models doctor",
    "--json-file": "benchmark",
    "--kernels": "predict eval benchmark",
    "--labels": "split train eval convert",
    "--layers": "benchmark",
    "--length-ratio": "diff",
    "--like-mmrotate": "split",
    "--lr": "train",
    "--mask": "diff",
    "--max-detections": "predict export",
    "--max-false-alarms": "eval",
    "--max-move": "diff",
    "--max-shift": "diff",
    "--max-tiles": "export",
    "--min-iou": "diff",
    "--min-precision": "eval",
    "--min-probability": "diff",
    "--most": "review",
    "--moved": "diff",
    "--names": "diff",
    "--no-register": "diff",
    "--nodes": "train",
    "--out": "split train predict diff review eval export convert",
    "--overlap": "split predict diff eval",
    "--overwrite": "split train predict diff review eval export benchmark convert",
    "--patience": "train",
    "--plot": "benchmark",
    "--precision": "train predict diff eval export benchmark",
    "--predictions": "eval",
    "--preview": "predict",
    "--quiet": "split train predict diff review eval export benchmark convert",
    "--recall": "diff",
    "--recipe": "train benchmark",
    "--rename": "split train eval convert",
    "--repeat": "benchmark",
    "--replay": "predict",
    "--report": "diff",
    "--resized": "diff",
    "--resume": "train",
    "--robustness": "eval",
    "--save-minutes": "train",
    "--scale": "split",
    "--scales": "predict eval",
    "--scene": "benchmark",
    "--scenes": "review",
    "--score": "predict diff eval export",
    "--seconds": "benchmark",
    "--seed": "split train eval",
    "--seen": "diff",
    "--set": "train",
    "--shard": "predict",
    "--share": "train",
    "--simplify": "export",
    "--size-check": "predict",
    "--skip-bad": "split train eval convert",
    "--split": "train eval",
    "--stac": "predict export",
    "--status": "predict",
    "--stretch": "split train predict diff review eval",
    "--strict": "predict",
    "--style": "predict diff",
    "--submission": "eval",
    "--tile": "split predict diff eval export benchmark",
    "--to": "convert",
    "--train": "benchmark",
    "--truncated": "split",
    "--tta": "predict eval",
    "--tune": "benchmark",
    "--turned": "diff",
    "--val-fraction": "split",
    "--verbose": "split train predict diff review eval export benchmark convert",
    "--verify": "export",
    "--weights": "train predict diff eval benchmark",
    "--workers": "split train predict diff eval",
    "--write-back": "eval",
}

# earlier spellings, refused with the new one
RENAMED = {
    ("train", "--override"): "--set key=value",
    ("export", "--score-threshold"): "--score",
    ("export", "--size"): "--tile",
    ("export", "--tiles"): "--images",
    ("benchmark", "--size"): "--tile",
}

C = TypeVar("C")
T = TypeVar("T", bound="Output")


@documented
@dataclass(frozen=True)
class Output(Settings):
    """How a command that only tells something does so."""

    json: bool = option(False, "Print the result as JSON on stdout.")


@documented
@dataclass(frozen=True)
class Terminal(Output):
    """How a command speaks to its user."""

    quiet: bool = option(False, "Print errors only.", "-q")
    verbose: bool = option(False, "Print details of each step.", "-v")


class Command(TyperCommand):
    """A command of :func:`command`, some of whose flags may stand alone (``bare`` of an option)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: D102
        alone: dict[str, Declared] = getattr(self.callback, "alone", {})
        whole = [
            f"{word}={alone[word].option.bare}" if word in alone and value not in alone[word].choices else word
            for word, value in zip(args, [*args[1:], ""], strict=False)  # no words: no pairs
        ]
        return super().parse_args(ctx, whole)


def refuse_words(_: dict[str, Any], words: list[str]) -> None:
    """Refuse arguments that no flag or position claims."""
    raise ConfigError(f"unexpected argument {words[0]!r}: see --help")


def command(
    name: str,
    run: Callable[[C, T], None],
    config: type[Any],
    terminal: type[T],
    *,
    make: Callable[[dict[str, Any], T], C] | None = None,
    words: Callable[[dict[str, Any], list[str]], None] = refuse_words,
) -> Callable[..., None]:
    """The function that Typer takes for a command: its parameters are the fields of ``config`` and ``terminal``.

    Args:
        name: of the command.
        run: does the work; its docstring is the help.
        config, terminal: settings that it gets.
        make: makes ``run``'s first argument of the values that were given; ``config`` by default.
        words: takes in arguments that no flag or position claims.
    """
    known = {one.name: one for kind in (config, terminal) for one in declared(kind)}

    def call(ctx: typer.Context, **given: Any) -> None:
        _refuse_renamed(name, given)
        if ctx.args:
            words(given, ctx.args)
        values = {key: _value(known[key], text) for key, text in given.items() if key in known and text is not None}
        shown = terminal(**{one.name: values.pop(one.name) for one in declared(terminal) if one.name in values})
        if isinstance(shown, Terminal):
            setup_logging(-1 if shown.quiet else int(shown.verbose))
        run(make(values, shown) if make else config(**values), shown)

    parameters = [_parameter(one) for one in known.values()]
    parameters += [_renamed(old) for verb, old in RENAMED if verb == name]
    parameters.insert(0, inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context))
    call.__name__, call.__doc__ = name, run.__doc__
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    call.alone = {one.flag: one for one in known.values() if one.option.bare}  # type: ignore[attr-defined]
    return call


def _value(known: Declared, given: Any) -> Any:
    """What the settings take, from what Typer made of the command line."""
    if known.many:
        return known.read_all(given)
    return known.read(given) if known.option.parse is not None else given


def _parameter(known: Declared) -> inspect.Parameter:
    """The parameter of a command for an option."""
    own = known.option
    kind: Any = list[str] if known.many else str if own.parse is not None else known.type
    default = known.default
    if default is MISSING:  # what may be None has to be said in Python, not here
        default = None if known.optional or own.lenient else inspect.Parameter.empty
    if known.many and known.default is not MISSING:
        default = [str(one) for one in known.default or ()] or None
    within = "" if own.most is None else f" ({known.range})"
    shared: dict[str, Any] = {
        "help": own.help + within,
        "show_default": own.unset or True,
        "autocompletion": COMPLETIONS.get(own.complete),
    }
    if own.argument:
        return _declare(known.name, kind, typer.Argument(metavar=known.name.upper(), **shared), default)
    listed = "|".join(known.choices) or known.type.__name__.lower() if known.many else ""
    return _declare(
        known.name, kind, typer.Option(*known.flags, metavar=f"<{listed},…>" if known.many else None, **shared), default
    )


def _renamed(old: str) -> inspect.Parameter:
    """The hidden parameter of a flag of an earlier version."""
    return _declare(_parameter_name(old), str, typer.Option(old, hidden=True), None)


def _refuse_renamed(name: str, given: dict[str, Any]) -> None:
    for (verb, old), new in RENAMED.items():
        if verb == name and given.pop(_parameter_name(old)) is not None:
            raise ConfigError(f"{old} is now {new}")


def _parameter_name(flag: str) -> str:
    return "old_" + flag.strip("-").replace("-", "_")


def _declare(name: str, kind: Any, info: Any, default: Any) -> inspect.Parameter:
    inner: Any = kind | None if default is None else kind
    annotation: Any = Annotated[inner, info]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

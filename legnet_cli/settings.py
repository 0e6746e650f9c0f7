"""Settings of a verb: a frozen dataclass whose fields say, once, all that is known of an option.

Name, type and default are the field's own; :func:`option` adds the help text, the range and how text is read. From that
the command line makes its flags (``commands/options.py``), :func:`documented` the table in the class's docstring, and
:class:`Settings` its checks.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from legnet_cli.errors import ConfigError

T = TypeVar("T")

Completion = Literal["", "weights", "recipes", "classes"]


@dataclass(frozen=True)
class Option:
    """What a field says of itself besides name, type and default.

    Attributes:
        help: one sentence.
        flags: on the command line; from the field's name if empty.
        unset: what happens when nothing is given, in place of a default.
        argument: given by position.
        lenient: the parser lets it be left out, for the command has another way to it.
        least, most: range of a number, or of each of several.
        below: whether ``most`` itself is out of range.
        parse: reads one text; by the field's type if None.
        commas: whether a text may list several values, for fields that hold a tuple.
        complete: what the shell completes.
        bare: what the flag stands for without a value; only for a closed set of values.
    """

    help: str
    flags: tuple[str, ...] = ()
    unset: str = ""
    argument: bool = False
    lenient: bool = False
    least: float | None = None
    most: float | None = None
    below: bool = False
    parse: Callable[[str], Any] | None = None
    commas: bool = True
    complete: Completion = ""
    bare: str = ""


def option(default: Any, help: str, *flags: str, **more: Any) -> Any:  # noqa: ANN401
    """A field of a settings class with a default; ``more`` as of :class:`Option`."""
    return field(default=default, metadata={"option": Option(help, flags, **more)})


def required(help: str, *flags: str, **more: Any) -> Any:  # noqa: ANN401
    """A field that must be given; ``more`` as of :class:`Option`."""
    return field(metadata={"option": Option(help, flags, **more)})


@dataclass(frozen=True)
class Declared:
    """An option with what its field says.

    Attributes:
        name: of the field.
        type: without ``None`` and ``tuple``.
        many: whether it holds a tuple of that type.
        optional: whether it may be None.
        default: MISSING if it is required.
        option: the rest.
    """

    name: str
    type: Any
    many: bool
    optional: bool
    default: Any
    option: Option

    @property
    def flags(self) -> tuple[str, ...]:
        """Its long flag and, perhaps, its short one."""
        long = f"--{self.name.replace('_', '-')}"
        named = self.option.flags
        return named if any(flag.startswith("--") for flag in named) else (long, *named)

    @property
    def flag(self) -> str:
        """What messages call it."""
        return self.name if self.option.argument else self.flags[0]

    @property
    def choices(self) -> tuple[str, ...]:
        """All values of a closed set; empty for any other type."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()

    def read(self, text: str) -> Any:  # noqa: ANN401
        """The value that one text stands for.

        Raises:
            ConfigError: it stands for none.
        """
        if self.option.parse is not None:
            return self.option.parse(text)
        if self.type in (int, float):
            try:
                return self.type(text)
            except ValueError:
                kind = "a whole number" if self.type is int else "a number"
                raise ConfigError(f"{self.flag}: {text!r} is not {kind}") from None
        return Path(text) if self.type is Path else text

    def read_all(self, texts: list[str]) -> tuple[Any, ...]:
        """The values of a repeated flag whose texts may list several, separated by commas."""
        parts = [part.strip() for text in texts for part in (self._split(text))]
        return tuple(dict.fromkeys(self.read(part) for part in parts if part))

    def _split(self, text: str) -> list[str]:
        if not self.option.commas or (self.type in (str, Path) and "," in text and Path(text).exists()):
            return [text]
        return text.split(",")

    def fault(self, value: Any) -> str | None:  # noqa: ANN401
        """What is wrong with a value, if anything."""
        if self.choices and value not in self.choices:
            return f"{self.flag} {value}: choose from {', '.join(self.choices)}"
        least, most = self.option.least, self.option.most
        low = least is not None and not value >= least
        high = most is not None and not (value < most if self.option.below else value <= most)
        return f"{self.flag} {value} is out of range: give {self.range}" if low or high else None

    @property
    def range(self) -> str:
        """The numbers that may be given, in words."""
        least, most = (None if end is None else f"{end:g}" for end in (self.option.least, self.option.most))
        if most is None:
            return f"{least} or more"
        return f"{least} to {'below ' if self.option.below else ''}{most}"


def declared(kind: type) -> Iterator[Declared]:
    """The options of a settings class, in order."""
    hints = get_type_hints(kind)
    for own in dataclasses.fields(kind):
        if "option" in own.metadata:
            known = hints[own.name]
            optional = get_origin(known) in (Union, types.UnionType)
            if optional:
                known = next(
                    part for part in get_args(known) if part is not type(None)
                )  # the first, if parse takes more
            many = get_origin(known) is tuple and get_args(known)[-1] is Ellipsis
            yield Declared(
                own.name,
                get_args(known)[0] if many else known,
                many,
                optional,
                own.default,
                own.metadata["option"],
            )


@dataclass(frozen=True)
class Settings:
    """Base of all settings: one value stands for a tuple of it, text for a path, and faults are told all at once.

    Raises:
        ConfigError: for values out of range or not among the choices, and for :meth:`faults`.
    """

    def __post_init__(self) -> None:
        problems = []
        for known in declared(type(self)):
            value = getattr(self, known.name)
            if known.many and value is not None:
                value = (value,) if isinstance(value, (str, Path, int, float)) else tuple(value)
            elif known.type is Path and isinstance(value, str):
                value = Path(value)
            object.__setattr__(self, known.name, value)
            values = value if isinstance(value, tuple) else (value,)
            problems += [known.fault(one) for one in values if one is not None]
        if not any(problems):
            problems = [message for wrong, message in self.faults() if wrong]
        if found := [problem for problem in problems if problem]:
            raise ConfigError("; ".join(dict.fromkeys(found)))

    def faults(self) -> list[tuple[object, str]]:
        """Conditions that must not hold, between several options, and what to say of each."""
        return []


def documented(kind: type[T]) -> type[T]:
    """Add the table of attributes to the docstring of a settings class."""
    rows = []
    for known in declared(kind):
        closed = f" One of {', '.join(known.choices)}." if known.choices else ""
        ranged = f" {known.range}." if known.option.least is not None else ""
        unset = f" If None or empty: {known.option.unset}." if known.option.unset else ""
        rows.append(f"        {known.name}: {known.option.help}{closed}{ranged}{unset}")
    kind.__doc__ = "\n".join([(kind.__doc__ or "").rstrip(), "", "    Attributes:", *rows, "    "])
    return kind

"""Errors a user can cause, and the exit code each one ends the command with.

    LegnetError            1
    ├── ConfigError        2   a flag or setting is wrong, or two of them disagree
    ├── DataError          3   an input or output file cannot be used
    │   ├── GeoError       3   its coordinates or reference system cannot
    │   └── CheckpointError 3  a weight file cannot
    ├── DependencyError    4   a package or device is missing
    └── SlowerError        5   a benchmark took longer than was allowed

A message is one line: it names the thing at fault, then the next step.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class LegnetError(Exception):
    """Root of every error that is shown to the user as one line."""

    exit_code = 1


class ConfigError(LegnetError, ValueError):
    """A flag or setting is wrong, or two of them disagree."""

    exit_code = 2


class DataError(LegnetError):
    """An input cannot be read, or an output cannot be written."""

    exit_code = 3


class GeoError(DataError):
    """Coordinates, reference systems or vector layers that cannot be used."""


class CheckpointError(DataError):
    """A weight file is missing, damaged, unsafe or of another model."""


class DependencyError(LegnetError):
    """A package, version or device that the work needs is absent."""

    exit_code = 4


class SlowerError(LegnetError):
    """A benchmark took longer than an earlier one allows."""

    exit_code = 5


_LONGEST = 200  # letters of a foreign library's message


@contextmanager
def reading(place: object, advice: str, fault: str = "cannot be read") -> Iterator[None]:
    """The boundary around a foreign reader: whatever it raises in the body becomes a DataError that names ``place``.

    The body should hold the reader's calls alone: errors in our own code are not to be hidden.
    """
    try:
        yield
    except LegnetError:
        raise
    except Exception as error:
        raise DataError(f"{place}: {fault} ({reason(error)}): {advice}") from error


def counted(number: int, one: str, many: str = "") -> str:
    """A number of things in words: ``1 scene``, ``1,200 scenes``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def reason(error: BaseException) -> str:
    """What a foreign library says about an error, on one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error.__cause__ or error).split()) or type(error).__name__
    return words if len(words) <= _LONGEST else f"{words[:_LONGEST]}…"

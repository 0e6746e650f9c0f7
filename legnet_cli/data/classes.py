"""Which classes of a dataset count: some of them, others renamed or merged, and regions in which nothing counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from legnet_cli.data.labels import IGNORED, Dataset, ImageLabels, Problem, names_region, nearest_class, unknown_class
from legnet_cli.errors import ConfigError, counted


@dataclass(frozen=True)
class ClassChoice:
    """What becomes of the classes that labels name.

    Attributes:
        keep: names to keep, after renaming, in the order of the labels; all when empty.
        rename: ``old=new``; several old names may become the same new one.
        ignore_others: make ignored regions of the objects of all other classes, which are background otherwise.

    Raises:
        ConfigError: a text of ``rename`` is not of that form, or a name is renamed twice or reserved.
    """

    keep: tuple[str, ...] = ()
    rename: tuple[str, ...] = ()
    ignore_others: bool = False

    def __post_init__(self) -> None:
        pairs = [text.partition("=")[::2] for text in self.rename]
        for text, (old, new) in zip(self.rename, pairs, strict=True):
            if not old.strip() or not new.strip():
                raise ConfigError(f"--rename {text!r}: write old=new, such as small-vehicle=vehicle")
        twice = [name for name, count in Counter(old.strip() for old, _ in pairs).items() if count > 1]
        if twice:
            raise ConfigError(f"--rename: {twice[0]!r} is renamed twice: keep one")
        if IGNORED in self.keep:
            raise ConfigError(f"--classes: {IGNORED!r} stands for ignored regions: give them a name with --rename")

    @property
    def renamed(self) -> dict[str, str]:
        """New names by old ones."""
        return {old.strip(): new.strip() for old, _, new in (text.partition("=") for text in self.rename)}

    def mapping(self, names: Iterable[str]) -> dict[str, str | None]:
        """What each of ``names`` becomes: a class, ``IGNORED``, or None for background."""
        renamed = self.renamed
        return {name: self._becomes(name, renamed) for name in names}

    def _becomes(self, name: str, renamed: Mapping[str, str]) -> str | None:
        new = renamed.get(name, name)
        if new not in self.keep and name not in renamed and names_region(name):
            return IGNORED
        if new == IGNORED or not self.keep or new in self.keep:
            return new
        return IGNORED if self.ignore_others else None

    def check(self, names: Sequence[str], *, complete: bool) -> None:
        """Refuse what was asked for but is not among ``names``, those of the labels before renaming.

        Args:
            names: of the classes.
            complete: whether there can be no others; if not, only a likely misspelling is refused.

        Raises:
            ConfigError: a name is unknown; the message has the nearest one.
        """
        renamed = self.renamed
        after = dict.fromkeys(renamed.get(name, name) for name in names)
        for flag, asked, known in (("--rename", [*renamed], names), ("--classes", self.keep, after)):
            others = [name for name in known if name not in asked]
            for name in asked:
                if name not in known and (complete or nearest_class(name, others)):
                    raise ConfigError(f"{flag}: {unknown_class(name, known)}")

    def apply(self, dataset: Dataset, *, complete: bool) -> Dataset:
        """``dataset`` with these classes alone; the problems say which classes are ignored regions.

        Raises:
            ConfigError: see :meth:`check`.
        """
        used = (name for image in dataset.images for name in image.names)
        names = tuple(dict.fromkeys((*dataset.classes, *used)))
        self.check([name for name in names if name != IGNORED], complete=complete)
        becomes = self.mapping(names)
        if all(name == new for name, new in becomes.items()) and not self.keep:
            return replace(dataset, classes=tuple(name for name in names if name != IGNORED))
        kept = dict.fromkeys(new for new in becomes.values() if new not in (None, IGNORED))
        images = tuple(_changed(image, becomes) for image in dataset.images)
        classes = self.keep or tuple(name for name in kept if name is not None)
        return replace(dataset, images=images, classes=classes, problems=(*dataset.problems, *_notes(dataset, becomes)))


ALL = ClassChoice()  # all classes but those that are ignored regions by their names


def _changed(image: ImageLabels, becomes: Mapping[str, str | None]) -> ImageLabels:
    """``image`` with other names, without the objects that become background."""
    if all(becomes[name] == name for name in image.names):
        return image
    kept = image.select(np.array([becomes[name] is not None for name in image.names], np.bool_))
    return replace(kept, names=tuple(str(becomes[name]) for name in kept.names))


def _notes(dataset: Dataset, becomes: Mapping[str, str | None]) -> Iterable[Problem]:
    """Which classes of the labels became ignored regions because of their names."""
    found = Counter(name for image in dataset.images for name in image.names)
    for name, count in found.items():
        if becomes[name] == IGNORED != name and names_region(name):
            source = next(str(image.source) for image in dataset.images if name in image.names)
            advice = f"--rename {name}=NAME makes a class of it"
            yield Problem(source, f"class {name!r} ({counted(count, 'object')}) stands for ignored regions: {advice}")


def without_regions(dataset: Dataset) -> Dataset:
    """``dataset`` without ignored regions, for formats that cannot tell them from objects."""
    images = (image.select(np.array([name != IGNORED for name in image.names], np.bool_)) for image in dataset.images)
    return replace(dataset, images=tuple(images))

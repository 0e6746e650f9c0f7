"""Stages of a search, reported to whoever measures how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

from torch import nn

StageObserver = Callable[[str], AbstractContextManager[object]]
"""Called with a stage's name as it begins; what it returns is entered then, and left as the stage ends."""

_NOTHING = nullcontext()


def unobserved(stage: str) -> AbstractContextManager[object]:
    """The observer that does nothing."""
    return _NOTHING


@contextmanager
def observed_modules(modules: Mapping[str, nn.Module], observer: StageObserver) -> Iterator[None]:
    """Report each forward pass of ``modules``, given by stage, to ``observer`` inside the ``with`` body."""
    with ExitStack() as hooks:
        for stage, module in modules.items():
            for handle in _hooks(stage, module, observer):
                hooks.callback(handle.remove)
        yield


def _hooks(stage: str, module: nn.Module, observer: StageObserver) -> tuple[Any, Any]:
    running: list[AbstractContextManager[object]] = []

    def enter(*_: object) -> None:
        running.append(observer(stage))
        running[-1].__enter__()

    def leave(*_: object) -> None:
        running.pop().__exit__(None, None, None)

    # always: a pass that fails ends its stage too
    return module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)

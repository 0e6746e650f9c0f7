"""What a model card says of one class, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CardEntry:
    """Base of what a model card says of one class."""

    def to_dict(self) -> dict[str, Any]:
        """As a model card holds it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

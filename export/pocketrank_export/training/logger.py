"""Where the curves of a training go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from pocketrank.errors import ExtraMissingError


class Logger(Protocol):
    """Takes the figures of each epoch."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """``values`` by name, after epoch ``step`` (1, 2, ...)."""


class TensorBoard:
    """Event files for TensorBoard: each figure a scalar under its name. To be closed, or used in a ``with``.

    Raises:
        ExtraMissingError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tensorboard.summary import Writer
        except ImportError as error:
            raise ExtraMissingError(
                'TensorBoard: tensorboard is missing; pip install "pocketrank[tensorboard]"'
            ) from error
        self._writer = Writer(str(folder))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """As ``Logger.log``; written when it returns."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

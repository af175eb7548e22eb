"""The command ``pocketrank``: verbs over stdin, stdout and exit codes; ``docs/commands.md`` describes them.

A package adds a verb with an entry point of the group ``pocketrank.commands``
that names a typer app. Nothing here is imported by ``import pocketrank``, and
typer and rich come with the extra ``cli``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from pocketrank.errors import (
    BundleError,
    ExtraMissingError,
    GateError,
    InputError,
    LeakError,
    ModelError,
    PocketRankError,
    PrivacyBudgetExceeded,
    RoundRefusedError,
    StoreError,
    UpdateError,
)

_TERMINAL: Final = frozenset({"typer", "click", "rich"})


class Exit(IntEnum):
    """How the command ended."""

    OK = 0
    """All was done."""
    FAILED = 1
    """Something of the work failed: some lines, a verification, a file that can't be written."""
    USAGE = 2
    """The command line is wrong; nothing was done."""
    INPUT = 3
    """What was handed over does not fit."""
    BUNDLE = 4
    """The bundle can't be read or trusted."""
    STORE = 5
    """The device store can't be used."""
    MISSING = 6
    """An extra or a TFLite runtime is not installed."""
    MODEL = 7
    """The model failed."""
    REFUSED = 8
    """An update, a round or a gate refused it."""
    INTERRUPTED = 130
    """Stopped by the person at the terminal."""

    @classmethod
    def of(cls, error: BaseException) -> Exit:
        """The code that ``error`` ends the command with."""
        return next((code for kind, code in _CODES.items() if isinstance(error, kind)), cls.FAILED)


_CODES: Final[Mapping[type[PocketRankError], Exit]] = {
    InputError: Exit.INPUT,
    BundleError: Exit.BUNDLE,
    StoreError: Exit.STORE,
    ExtraMissingError: Exit.MISSING,
    ModelError: Exit.MODEL,
    UpdateError: Exit.REFUSED,
    RoundRefusedError: Exit.REFUSED,
    PrivacyBudgetExceeded: Exit.REFUSED,
    GateError: Exit.REFUSED,
    LeakError: Exit.REFUSED,
}


def main() -> None:
    """Run the command of ``sys.argv``; ends the process with an ``Exit``."""
    try:
        from pocketrank.commands.program import program

        program()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TERMINAL:
            raise
        from pocketrank.commands.output import fail

        missing = ExtraMissingError('the command pocketrank needs: pip install "pocketrank[cli]"')
        sys.exit(fail(missing, as_json="--json" in sys.argv))

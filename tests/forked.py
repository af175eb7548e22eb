"""Work in a forked child, for tests of what a child may go on with."""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from typing import Final

TIMEOUT_S: Final = 60.0
"""What hangs for so long hangs for ever."""


def in_child(work: Callable[[], object]) -> str:
    """What ``work`` gives in a forked child, as text; a child that hangs is killed, and "hangs" is said of it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = str(work())
        except BaseException as error:  # noqa: BLE001  (a child must not go on as a second test run)
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe, selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        if not selector.select(TIMEOUT_S):
            os.kill(child, signal.SIGKILL)
        found = pipe.read() or "hangs"
    assert os.waitpid(child, 0)[0] == child
    return found

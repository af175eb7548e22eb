"""What a forked child goes on with: locks that no thread of its parent holds, and parts that it makes anew.

A child copies all memory, and one thread: the one that forked. A lock that another thread held would stay locked in
it for ever, and what the lock guards might be half changed. So a fork waits until no other thread is inside.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Final
from weakref import WeakKeyDictionary

PATIENCE_S: Final = 5.0
"""How long a fork waits for other threads, for all locks together."""


class Part:
    """Something that is told of forks as long as it lives; older parts first."""

    def __init__(self) -> None:
        _FORKS.parts[self] = None

    def before_fork(self, deadline_s: float) -> None:
        """This process is about to fork; wait for others until ``deadline_s`` of ``time.monotonic()`` at most."""

    def after_fork(self) -> None:
        """This process has forked, or failed to."""

    def begin_in_child(self) -> None:
        """This process is the child."""


class Lock(Part):
    """A lock that its holder may take again, and that no thread left behind by a fork holds.

    Attributes:
        whole: Whether no other thread was inside at the newest fork.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self.whole = False
        super().__init__()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self, deadline_s: float) -> None:
        """Wait until no other thread is inside, and keep others out."""
        self.whole = self._lock.acquire(timeout=max(0.0, deadline_s - time.monotonic()))

    def after_fork(self) -> None:
        """Let others in again."""
        if self.whole:
            self._lock.release()

    def begin_in_child(self) -> None:
        """Let others in; a thread that is still inside is not in this process."""
        if self.whole:
            self._lock.release()
        else:
            self._lock = threading.RLock()


class _Forks:
    """All parts, and the fork under way: one at a time."""

    def __init__(self) -> None:
        self.parts: WeakKeyDictionary[Part, None] = WeakKeyDictionary()
        self._told: list[Part] = []
        self._forking = threading.RLock()

    def before(self) -> None:
        self._forking.acquire()
        deadline_s = time.monotonic() + PATIENCE_S
        # A part that another thread makes meanwhile is known to that thread alone.
        for part in [found for ref in self.parts.keyrefs() if (found := ref()) is not None]:
            part.before_fork(deadline_s)
            self._told.append(part)

    def in_parent(self) -> None:
        for part in self._told:
            part.after_fork()
        self._end()

    def in_child(self) -> None:
        for part in self._told:
            part.begin_in_child()
        self._end()

    def _end(self) -> None:
        self._told.clear()
        self._forking.release()


_FORKS: Final = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_FORKS.before, after_in_parent=_FORKS.in_parent, after_in_child=_FORKS.in_child)

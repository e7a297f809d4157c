"""A setting that belongs to the process, and so to all of its threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from threading import Lock
from typing import Any


class SharedSetting:
    """A setting of the process that stays changed from the first entry to the last exit, among all threads.

    Two threads that each save and restore it would restore what the other one has set.

    Args:
        change: returns a context in which the setting is changed.
    """

    def __init__(self, change: Callable[[], AbstractContextManager[Any]]) -> None:
        self._change, self._changed, self._entries, self._lock = change, ExitStack(), 0, Lock()
        if hasattr(os, "register_at_fork"):  # a thread that holds the lock is not in the child
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = Lock()

    def __enter__(self) -> None:
        with self._lock:
            if self._entries == 0:
                self._changed.enter_context(self._change())
            self._entries += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._entries -= 1
            if self._entries == 0:
                self._changed.close()

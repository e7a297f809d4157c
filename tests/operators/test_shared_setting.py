"""A setting of the process is put back by the last thread that has changed it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from attnchain_interp.operators.shared_setting import SharedSetting


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def setting(log: list[str]) -> SharedSetting:
    @contextmanager
    def changed() -> Iterator[None]:
        log.append("changed")
        yield
        log.append("put back")

    return SharedSetting(changed)


def test_the_first_entry_changes_and_the_last_exit_puts_back(setting: SharedSetting, log: list[str]) -> None:
    setting.__enter__()
    with pytest.raises(KeyError), setting:
        raise KeyError
    assert log == ["changed"]
    setting.__exit__()
    assert log == ["changed", "put back"]
    with setting:
        pass
    assert log == ["changed", "put back"] * 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_does_not_wait_for_threads_that_it_lacks(setting: SharedSetting) -> None:
    with setting._lock:
        child = os.fork()
        if child == 0:
            with setting:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

"""Tiles grow with the threads of a CPU, and have rows enough."""

import pytest
import torch

from attnchain_interp.operators.tiles import entries_at_once, rows_at_once


@pytest.mark.parametrize(("threads", "times"), [(1, 1), (2, 2), (40, 16)])
def test_entries_grow_with_the_threads(monkeypatch: pytest.MonkeyPatch, threads: int, times: int) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert entries_at_once(1000, torch.device("cpu")) == 1000 * times
    assert rows_at_once(2000, 10, torch.device("cpu")) == 200 * times
    assert entries_at_once(1000, torch.device("cuda")) == 16000


def test_rows_are_at_least_128() -> None:
    assert rows_at_once(10, 1000, torch.device("cpu")) == 128

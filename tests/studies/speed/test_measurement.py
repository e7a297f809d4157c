import os
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

from studies.speed.measurement import Paired, memory_of, paired, seconds_and_peak

JOB = """
def job(size, text):
    bytes(2**27).upper()  # taken and given back before the measurement
    return lambda: (text.encode() * 2**size)[: 2**25]
"""


def test_sides_take_turns() -> None:
    calls: list[str] = []
    found = paired(lambda: calls.append("a"), lambda: calls.append("b"), rounds=3, seconds=0)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"
    assert len(found.ours) == len(found.theirs) == 3


def test_ratios_are_of_the_minima() -> None:
    found = Paired((4.0, 1.0, 2.0), (8.0, 4.0, 2.0))
    assert found.slowdown == 0.5
    assert found.median_slowdown == 0.5
    assert (found.times_as_fast("", 10).value, found.times_as_long("", 0.4).value) == (2.0, 0.5)
    assert found.times_as_fast("", 2).verdict == "pass"
    assert found.times_as_long("", 0.4).verdict == "falls short"
    assert "1 s against 2 s; median of 3 rounds 2×" in found.times_as_fast("").measured


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_is_the_peak_over_the_level_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "takes_memory.py").write_text(JOB, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
    found = memory_of(import_module("takes_memory").job, 26, "x")
    assert 90 < found.extra / 2**20 < 110, "64 MiB and half of them once more, not the 128 MiB of the preparation"


def test_the_peak_of_a_device_is_beyond_the_level_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of a device are stand-ins."""
    done: list[str] = []
    for name in ("empty_cache", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: done.append(name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 100)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 350)
    _, peak = seconds_and_peak(lambda: done.append("call"))
    assert peak == 250
    assert done.index("reset_peak_memory_stats") < done.index("call")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert seconds_and_peak(lambda: None)[1] == 0

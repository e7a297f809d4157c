"""Sides take turns, memory is what the work takes, and the table says what the figures say."""

import math
import os
import sys
from importlib import import_module
from pathlib import Path

import pytest

from studies.speed.__main__ import BEGIN, END, PAGE, ROWS, main, measure, refresh
from studies.speed.measurement import Paired, memory_of, paired
from studies.speed.rows import Bar, Figure, Result, Row, Skipped, table

FIGURES = (
    Figure("speed", 12.5, "×", Bar(10, "≥"), "0.1 s against 1.25 s"),
    Figure("peak", 134.2, "MB", Bar(128)),
    Figure("error", 3.14159e-6),
)
RESULT = Result("one", "a title", "cpu", FIGURES, "", "2 CPU threads", 1.0)


JOB = """
def job():
    bytes(2**27).upper()  # taken and given back before the measurement
    return lambda: (b"x" * 2**26)[: 2**25]
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
    found = memory_of(import_module("takes_memory").job)
    assert 90 < found.extra / 2**20 < 110, "64 MiB and half of them once more, not the 128 MiB of the preparation"


def test_verdicts() -> None:
    assert [figure.verdict for figure in FIGURES] == ["pass", "falls short", "for information"]
    assert Figure("", math.nan, bar=Bar(1)).verdict == Figure("", math.nan, bar=Bar(1, "≥")).verdict == "falls short"
    assert Figure("", 1, bar=Bar(1)).verdict == Figure("", 1, bar=Bar(1, "≥")).verdict == "pass"


def test_a_row_that_is_skipped_or_breaks() -> None:
    def skips() -> list[Figure]:
        raise Skipped("no reason")

    def breaks() -> list[Figure]:
        return [Figure("", 1 / 0)]

    skipped, broken = measure(Row("s", "", skips)), measure(Row("b", "", breaks))
    assert (skipped.reason, skipped.falls_short) == ("skipped: no reason", False)
    assert (broken.reason, broken.falls_short) == ("broke: ZeroDivisionError: division by zero", True)


def test_table_and_page() -> None:
    skipped = Result("two", "", "cuda", (), "skipped: no CUDA device", "", 0.0)
    shown = table([RESULT, skipped])
    assert "| `one` | speed | 12.5× (0.1 s against 1.25 s) | ≥ 10× | pass |" in shown
    assert "| `one` | peak | 134 MB | ≤ 128 MB | **falls short** |" in shown
    assert "| `one` | error | 3.14e-06 |  | for information |" in shown
    assert "| `two` |  |  |  | skipped: no CUDA device |" in shown
    assert shown.endswith("Measured on 2 CPU threads: `one`.\n")
    page = PAGE.read_text(encoding="utf-8")
    once = refresh(page, [RESULT])
    assert refresh(once, [RESULT]) == once
    assert once.split(BEGIN)[0] == page.split(BEGIN)[0]
    assert once.split(END)[1] == page.split(END)[1]


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "performance.json"
    for name, row in {
        "good": Row("good", "", lambda: [FIGURES[0]]),
        "bad": Row("bad", "", lambda: [FIGURES[1]]),
        "elsewhere": Row("elsewhere", "", lambda: [FIGURES[2]], "cuda"),
    }.items():
        monkeypatch.setitem(ROWS, name, row)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert main(["--only", "good", "elsewhere", "--output", str(file)]) == 0
    assert "skipped: no CUDA device" in capsys.readouterr().out
    assert main(["--only", "bad", "--output", str(file)]) == 1
    assert "peak 134 MB; bar ≤ 128 MB; falls short" in capsys.readouterr().out
    text = file.read_text(encoding="utf-8")
    assert [f'"name": "{name}"' in text for name in ("good", "bad", "elsewhere")] == [True, True, True]
    file.write_text(text.replace('"reason": "skipped: no CUDA device"', '"reason": ""'), encoding="utf-8")
    assert main(["--only", "elsewhere", "--output", str(file)]) == 0
    assert "skipped" not in file.read_text(encoding="utf-8"), "a figure measured elsewhere stays"


def test_every_row_is_explained() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in ROWS:
        assert f"`{name}`" in page or f"`{name.split('-')[0]}-…`" in page, name

from pathlib import Path

import pytest

from studies.report_pages import ROOT
from studies.speed.__main__ import BEGIN, END, PAGE, ROWS, main, measure
from studies.speed.rows import Figure, Result, Row, Skipped, table

from .figures import FIGURES, RESULT


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
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert (page.count(BEGIN), page.count(END)) == (1, 1)


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
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    for name in ROWS:
        assert f"`{name}`" in page or f"`{name.split('-')[0]}-…`" in page, name

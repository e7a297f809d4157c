import math

from studies.speed.rows import Bar, Figure

from .figures import FIGURES


def test_verdicts() -> None:
    assert [figure.verdict for figure in FIGURES] == ["pass", "falls short", "for information"]
    assert Figure("", math.nan, bar=Bar(1)).verdict == Figure("", math.nan, bar=Bar(1, "≥")).verdict == "falls short"
    assert Figure("", 1, bar=Bar(1)).verdict == Figure("", 1, bar=Bar(1, "≥")).verdict == "pass"

"""The pages that are made of a kept report say what it says."""

from __future__ import annotations

import pytest

from attnchain_evals.report.report import REPORT_SCHEMA
from studies import choices_page, results
from studies.report_pages import ROOT, kept


@pytest.mark.parametrize("made", [results, choices_page])
def test_no_page_is_stale(made) -> None:  # type: ignore[no-untyped-def]
    report = kept(made.KEPT)
    assert report["schema"] == REPORT_SCHEMA
    for path, text in made.pages(report).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, (
            f"{path} is stale: python -m {made.__name__} --report {made.KEPT}"
        )


def test_a_changed_figure_makes_its_pages_stale() -> None:
    report = kept(results.KEPT)
    report["scores"]["TokenRank"]["miou"]["value"] += 0.01
    stale = [path for path, text in results.pages(report).items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == ["docs/results.md", "README.md"]

from attnchain_evals.report.report import REPORT_SCHEMA
from studies import results
from studies.report_pages import ROOT, kept


def test_the_pages_say_what_the_kept_report_says() -> None:
    report = kept(results.KEPT)
    assert report["schema"] == REPORT_SCHEMA
    for path, text in results.pages(report).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: python -m studies.results --report {results.KEPT}"


def test_a_changed_figure_makes_its_pages_stale() -> None:
    report = kept(results.KEPT)
    report["scores"]["plain TokenRank"]["miou"]["value"] += 0.01
    stale = [path for path, text in results.pages(report).items() if (ROOT / path).read_text(encoding="utf-8") != text]
    assert stale == ["docs/results.md"]

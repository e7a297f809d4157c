from attnchain_evals.report.report import REPORT_SCHEMA
from studies import choices_page
from studies.report_pages import ROOT, kept


def test_the_page_says_what_the_kept_report_says() -> None:
    report = kept(choices_page.KEPT)
    assert report["schema"] == REPORT_SCHEMA
    for path, text in choices_page.pages(report).items():
        command = f"python -m studies.choices_page --report {choices_page.KEPT}"
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: {command}"

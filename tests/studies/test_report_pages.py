import json
from pathlib import Path

import pytest

from studies import report_pages


def test_a_kept_report_is_without_wins() -> None:
    assert json.loads(report_pages.as_kept({"scores": {"a": 1}, "wins": []})) == {"scores": {"a": 1}}


def test_only_the_text_between_markers_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_pages, "ROOT", tmp_path)
    report_pages.write({"page.md": "before <b> old <e> after"})
    assert report_pages.between("page.md", "<b>", "<e>", " new ") == "before <b> new <e> after"
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "before <b> old <e> after"

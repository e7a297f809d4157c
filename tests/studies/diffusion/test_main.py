from pathlib import Path

import pytest

from studies.diffusion import __main__ as study


def test_a_part_is_replaced_between_its_markers_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    begin, end = "<!-- classes: python -m studies.diffusion classes -->", "<!-- end of classes -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    monkeypatch.setattr(study, "PAGE", page)
    study.refresh("classes", "new\n")
    assert page.read_text(encoding="utf-8") == f"before\n{begin}\nnew\n{end}\nafter\n"


def test_the_page_has_the_markers_of_every_part() -> None:
    text = study.PAGE.read_text(encoding="utf-8")
    for part in ("classes", "unconditional", "segmentation"):
        assert text.count(f"<!-- {part}: python -m studies.diffusion {part} -->\n") == 1
        assert text.count(f"<!-- end of {part} -->") == 1

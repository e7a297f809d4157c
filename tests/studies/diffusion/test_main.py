from studies.diffusion import __main__ as study
from studies.report_pages import ROOT


def test_the_page_has_the_markers_of_every_part() -> None:
    text = (ROOT / study.PAGE).read_text(encoding="utf-8")
    for part in ("classes", "unconditional", "segmentation"):
        assert text.count(f"<!-- {part}: python -m studies.diffusion {part} -->\n") == 1
        assert text.count(f"<!-- end of {part} -->") == 1

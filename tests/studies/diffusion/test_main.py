import pytest

from studies.diffusion import __main__ as study
from studies.report_pages import ROOT


def test_the_page_has_the_markers_of_every_part() -> None:
    text = (ROOT / study.PAGE).read_text(encoding="utf-8")
    for part in ("classes", "unconditional", "segmentation"):
        assert text.count(f"<!-- {part}: python -m studies.diffusion {part} -->\n") == 1
        assert text.count(f"<!-- end of {part} -->") == 1


@pytest.mark.parametrize("options", [["--seeds", "1"], ["--images", "0"]])
def test_numbers_without_an_interval_are_refused_at_once(
    options: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", "segmentation", *options])
    monkeypatch.setattr(study, "bundled_diffusion", lambda: pytest.fail("it began"))
    with pytest.raises(SystemExit):
        study.main()
    assert "intervals need an image and two seeds" in capsys.readouterr().err

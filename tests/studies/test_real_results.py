from studies import real_results, real_text, real_vision
from studies.report_pages import ROOT, kept


def test_the_readme_says_what_the_kept_figures_say() -> None:
    for path, text in real_results.pages(kept(real_text.KEPT), kept(real_vision.KEPT)).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: python -m studies.real_results"


def test_a_changed_figure_makes_it_stale() -> None:
    texts = kept(real_text.KEPT)
    texts["invented-passages"]["scores"]["AttnLRP"]["evidence-ap"]["value"] += 0.01
    made = real_results.pages(texts, kept(real_vision.KEPT))["README.md"]
    assert (ROOT / "README.md").read_text(encoding="utf-8") != made

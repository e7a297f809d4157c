import pytest

from studies import real_vision
from studies.report_pages import ROOT, kept


def test_the_page_says_what_was_measured() -> None:
    found = kept(real_vision.KEPT)
    assert found
    assert set(found) <= set(real_vision.TASKS)
    page = (ROOT / real_vision.PAGE).read_text(encoding="utf-8")
    assert page == real_vision.page(found), "python -m studies.real_vision --page"


def test_a_changed_figure_makes_the_page_stale() -> None:
    found = kept(real_vision.KEPT)
    found["objects"]["scores"]["TokenRank"]["miou"]["value"] += 0.01
    assert (ROOT / real_vision.PAGE).read_text(encoding="utf-8") != real_vision.page(found)


def test_every_method_of_a_task_was_measured() -> None:
    found = kept(real_vision.KEPT)
    for name in found:
        task = real_vision.TASKS[name]
        assert sorted(found[name]["scores"]) == sorted(task.methods)
        assert list(found[name]["metrics"]) == [metric.name for metric in task.metrics]


@pytest.mark.parametrize(("low", "high", "says"), [(-0.2, -0.1, "below"), (0.1, 0.2, "above"), (-0.1, 0.1, "not told apart")])
def test_the_page_says_whether_the_masking_experiment_holds(low: float, high: float, says: str) -> None:
    gap = {"value": (low + high) / 2, "low": low, "high": high}
    methods = {"TokenRank(layers='all', balanced=False)": 0.3, "ColumnSum(layers='all')": 0.4}
    scores = {name: {"token-masking": {"value": value}} for name, value in methods.items()}
    told = real_vision.masking({"differences": {"TokenRank": {"token-masking": gap}}, "scores": scores})
    assert "TokenRank has 0.300 and the column sum 0.400" in told
    assert f"TokenRank's area is {says}" in told
    assert f"[{low:.3f}, {high:.3f}]" in told

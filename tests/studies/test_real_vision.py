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
        assert list(found[name]["scores"]) == list(task.methods)
        assert list(found[name]["metrics"]) == [metric.name for metric in task.metrics]

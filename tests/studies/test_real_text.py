from studies import real_text
from studies.report_pages import ROOT, kept


def test_the_page_says_what_was_measured() -> None:
    found = kept(real_text.KEPT)
    assert found
    assert set(found) <= set(real_text.TASKS)
    assert (ROOT / real_text.PAGE).read_text(encoding="utf-8") == real_text.page(found), "python -m studies.real_text --page"


def test_a_changed_figure_makes_the_page_stale() -> None:
    found = kept(real_text.KEPT)
    found["facts"]["scores"]["TokenRank"]["evidence-ap"]["value"] += 0.01
    assert (ROOT / real_text.PAGE).read_text(encoding="utf-8") != real_text.page(found)


def test_every_method_of_a_task_was_measured() -> None:
    found = kept(real_text.KEPT)
    for name in found:
        task = real_text.TASKS[name][2]
        assert sorted(found[name]["scores"]) == sorted(task.methods)
        assert list(found[name]["metrics"]) == [metric.name for metric in task.metrics]

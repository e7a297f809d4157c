import json
from pathlib import Path
from typing import ClassVar

import pytest

from attnchain_evals import KeyValues, bundled_decoder
from attnchain_evals.metrics import EvidenceAP
from attnchain_interp.errors import AttentionError
from studies.real_runs import Task, beside, carry_out, measure, section, versions


class Data(list):
    """Two texts, of five that were asked."""

    identity: ClassVar = {"name": "two texts", "asked": 5, "left_out": {"too long": 3, "unknown": 0}}


def test_a_task_is_measured_once_and_its_section_says_what_was_found(tmp_path: Path) -> None:
    task = Task("Texts", "Is it found?", ("RandomRanking", "RandomRanking(seed=1)"), [EvidenceAP()])
    model, examples = bundled_decoder(), KeyValues("validation", 2)
    data = Data(examples[number] for number in range(2))
    found = measure(model, data, task, None, tmp_path / "run", "RandomRanking", 1)
    again = measure(model, data, task, None, tmp_path / "run", "RandomRanking", 1)
    assert found == again
    text = section(task, found)
    assert "Is it found? 2 examples. 5 prompts were asked. Left out: 3 (too long)." in text
    assert "| method | evidence-ap ↑ |" in text
    assert "Difference from RandomRanking, paired:" in text
    assert text.count("`RandomRanking(seed=1)`") == 2
    assert versions([found]).startswith("Versions: ")


@pytest.mark.parametrize("higher", [True, False])
def test_a_method_without_a_figure_stands_last(higher: bool) -> None:
    values = {"low": -0.5, "undefined": None, "high": 0.5}
    scores = {method: {"m": {"value": value, "low": None, "high": None}} for method, value in values.items()}
    differences = {method: {"m": {**row["m"], "p_holm": None}} for method, row in scores.items()}
    found = {"examples": 2, "baseline": "low", "metrics": {"m": higher}, "scores": scores, "differences": differences}
    rows = section(Task("Texts", "Is it found?", (), []), {**found, "data": "two texts"}).splitlines()
    expected = ["`high`", "`low`"] if higher else ["`low`", "`high`"]
    assert [row.split(" | ")[0][2:] for row in rows if row.startswith("| `")][:3] == [*expected, "`undefined`"]


def test_further_methods_stand_beside_the_kept_ones_with_holms_p_of_all(tmp_path: Path) -> None:
    model, examples = bundled_decoder(), KeyValues("validation", 6)
    data = Data(examples[number] for number in range(6))
    names = ("RandomRanking", "RandomRanking(seed=1)", "TokenRank", "MultiBounce")
    whole = Task("Texts", "Is it found?", names, [EvidenceAP()])
    expected, first, then = (
        measure(model, data, task, None, tmp_path / str(k), "RandomRanking", 1)
        for k, task in enumerate((whole, whole.of(names[1:3], names[0]), whole.of(names[3:], names[0])))
    )
    assert whole.of(None, names[0]) is whole
    assert list(first["scores"]) == list(names[:3])
    assert beside(first, then) == expected
    assert first == measure(model, data, whole.of(names[1:3], names[0]), None, tmp_path / "1", names[0], 1), "unchanged"
    then["scores"]["RandomRanking"]["evidence-ap"]["value"] += 1
    with pytest.raises(AttentionError, match=r"(?s)kept figures have other scores of RandomRanking\..*leave out --methods"):
        beside(first, then)
    with pytest.raises(AttentionError, match="kept figures have other examples, data"):
        beside(first, {**then, "examples": 7, "data": "others"})


@pytest.mark.parametrize("limit", ["0", "-3"])
def test_a_limit_below_one_measures_nothing(
    limit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["study", "model", "data", "--limit", limit])
    with pytest.raises(SystemExit):
        carry_out("A study.", ["own"], lambda _: pytest.fail("it measures"), str(tmp_path / "f"), "page.md", lambda _: "")
    assert f"--limit is {limit}; it is a number of examples from 1 on." in capsys.readouterr().err


def test_runs_that_measure_at_the_same_time_keep_the_figures_of_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, page = tmp_path / "kept.json", tmp_path / "page.md"
    figures.write_text('{"old": 0}')

    def measured(_: object) -> dict[str, int]:
        figures.write_text('{"old": 0, "other": 1}')  # the other run ends
        return {"own": 2}

    monkeypatch.setattr("sys.argv", ["study", "model", "data"])
    carry_out("A study.", ["own"], measured, str(figures), str(page), lambda found: ", ".join(found))  # type: ignore[arg-type]
    assert json.loads(figures.read_text()) == {"old": 0, "other": 1, "own": 2}
    assert page.read_text() == "old, other, own"

from pathlib import Path
from typing import ClassVar

from attnchain_evals import KeyValues, bundled_decoder
from attnchain_evals.metrics import EvidenceAP
from studies.real_runs import Task, measure, section, versions


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
    assert "Is it found? 2 examples. Of 5 prompts some are left out (3: too long)." in text
    assert "| method | evidence-ap ↑ |" in text
    assert "Difference from RandomRanking, paired:" in text
    assert text.count("`RandomRanking(seed=1)`") == 2
    assert versions([found]).startswith("Versions: ")

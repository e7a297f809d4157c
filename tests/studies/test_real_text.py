import math
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from studies import real_text
from studies.real_runs import measure
from studies.report_pages import ROOT, kept

from ..evals.published_texts import CONTEXT, byte_tokenizer, write_lines


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


def test_whole_answers_are_measured_by_every_method_of_the_task(tmp_path: Path) -> None:
    file, reader, task = real_text.TASKS["answers"]
    line = {"id": "a", "context": CONTEXT, "question": "When?", "answer": "753", "answer_span": [36, 39]}
    lines = [line, line | {"id": "b", "answer": "in", "answer_span": [33, 35]}]
    data = reader(write_lines(tmp_path / file, lines), byte_tokenizer())
    assert [len(passage.explained) for passage in data] == [3, 2]
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=300, **sizes)).eval()
    found = measure(model, data, task, None, tmp_path / "run", real_text.BASELINE, 1)
    assert found["examples"] == 2
    assert found["data"]["explained"] == "answer"
    for scores in found["scores"].values():
        assert set(scores) == {"evidence-ap/word", "evidence-ap", "sentence-hit"}
        assert all(math.isfinite(score["value"]) for score in scores.values())

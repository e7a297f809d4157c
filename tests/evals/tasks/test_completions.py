from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals import Facts, IndirectObjects, Prompts
from attnchain_interp import AttentionError

from ..published_texts import COUNTERFACT, FACTS, OBJECTS, byte_tokenizer, text_of, write_json, write_lines

TOKENIZER = byte_tokenizer()


def test_the_published_formats(tmp_path: Path) -> None:
    lines = Facts(write_lines(tmp_path / "facts.jsonl", FACTS), TOKENIZER)
    known = Facts(write_json(tmp_path / "known_1000.json", FACTS), TOKENIZER)
    assert lines.prompts == known.prompts
    assert [prompt.answer for prompt in lines.prompts] == ["Italy", "America", "Germany"]
    subjects = [text_of(TOKENIZER, passage.input_ids, passage.evidence) for passage in lines]  # type: ignore[arg-type]
    assert subjects == ["Rome", "New York", "Bonn"]
    (rewrite,) = Facts(write_json(tmp_path / "counterfact.json", COUNTERFACT), TOKENIZER).prompts
    assert (rewrite.name, rewrite.text, rewrite.answer) == ("7", "Rome is a city of", "Italy")
    assert rewrite.evidence == ((0, 4),)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    for change, message in (
        ({"subject": "Paris"}, r"facts\.jsonl, line 2 has the subject 'Paris', which its prompt .* does not hold"),
        ({"attribute": 3}, "line 2 has 'attribute' of type int"),
        ({"known_id": None}, "(?s)line 2 has 'known_id' of type NoneType.*a fact has 'known_id'"),
    ):
        file = write_lines(tmp_path / "facts.jsonl", [FACTS[0], FACTS[1] | change])
        with pytest.raises(AttentionError, match=message):
            Facts(file, TOKENIZER)


def test_the_evidence_is_the_name_said_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "indirect_objects.jsonl", OBJECTS)
    data = IndirectObjects(tmp_path, TOKENIZER)
    assert [text_of(TOKENIZER, passage.input_ids, passage.evidence) for passage in data] == ["Ann", "Bob"]  # type: ignore[arg-type]
    assert [TOKENIZER.decode([passage.answer]) for passage in data] == ["A", "B"]


OWN: list[dict[str, Any]] = [
    {"prompt": "Rome is in", "answer": " Italy", "evidence": "Rome", "id": 7},
    {"prompt": "Ann met Bob in Rome in", "answer": "May", "evidence": ["Ann", "Bob"]},
    {"prompt": "Bonn lies in", "answer": "Germany"},
]


def test_prompts_of_your_own(tmp_path: Path) -> None:
    lines = Prompts(write_lines(tmp_path / "mine.jsonl", OWN), TOKENIZER)
    assert lines.prompts == Prompts(write_json(tmp_path / "mine.json", OWN), TOKENIZER).prompts
    assert [prompt.answer for prompt in lines.prompts] == ["Italy", "May", "Germany"]
    assert [prompt.evidence for prompt in lines.prompts] == [((0, 4),), ((0, 3), (8, 11)), ()]
    longer = Prompts(write_lines(tmp_path / "longer.jsonl", [OWN[2], *OWN]), TOKENIZER)
    assert [prompt.part for prompt in longer.prompts[1:]] == [prompt.part for prompt in lines.prompts]
    for change, message in (
        ({"answer": None}, "(?s)line 1 has 'answer' of type NoneType.*a prompt has 'prompt' and 'answer', and perhaps"),
        ({"evidence": "Bonn"}, "line 1 has the evidence 'Bonn', which its prompt"),
        ({"evidence": ["Rome", 3]}, "line 1 has the evidence 3, which is no part of a text"),
        ({"evidence": 3}, "line 1 has 'evidence' of type int"),
    ):
        with pytest.raises(AttentionError, match=message):
            Prompts(write_lines(tmp_path / "mine.jsonl", [OWN[0] | change]), TOKENIZER)


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [*OBJECTS, OBJECTS[0] | {"answer": "Anna"}])
    with pytest.raises(AttentionError, match=r"a\.jsonl, line 3 has the answer 'Anna', which its prompt"):
        IndirectObjects(file, TOKENIZER)

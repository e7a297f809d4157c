from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals import Facts, IndirectObjects
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


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [*OBJECTS, OBJECTS[0] | {"answer": "Anna"}])
    with pytest.raises(AttentionError, match=r"a\.jsonl, line 3 has the answer 'Anna', which its prompt"):
        IndirectObjects(file, TOKENIZER)

from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals import IndirectObjects
from attnchain_interp import AttentionError

from ..published_texts import OBJECTS, byte_tokenizer, text_of, write_lines

TOKENIZER = byte_tokenizer()


def test_the_evidence_is_the_name_said_once(tmp_path: Path) -> None:
    write_lines(tmp_path / "indirect_objects.jsonl", OBJECTS)
    data = IndirectObjects(tmp_path, TOKENIZER)
    assert [text_of(TOKENIZER, passage.input_ids, passage.evidence) for passage in data] == ["Ann", "Bob"]  # type: ignore[arg-type]
    assert [TOKENIZER.decode([passage.answer]) for passage in data] == ["A", "B"]


def test_a_name_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "a.jsonl", [*OBJECTS, OBJECTS[0] | {"answer": "Anna"}])
    with pytest.raises(AttentionError, match=r"a\.jsonl, line 3 has the answer 'Anna', which its prompt"):
        IndirectObjects(file, TOKENIZER)

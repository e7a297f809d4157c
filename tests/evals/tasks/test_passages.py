from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from attnchain_evals import Passages
from attnchain_interp import AttentionError

from ..published_texts import CONTEXT, Recites, byte_tokenizer, text_of, write_json, write_lines

TOKENIZER = byte_tokenizer()
LINE = {"id": "a", "context": CONTEXT, "question": "Who built Rome?", "answer": "Romulus", "answer_span": [43, 50]}
ANSWERED = {"id": "a", "question": "Who built Rome?", "answers": [{"text": "Romulus", "answer_start": 43}]}
IMPOSSIBLE = {"id": "b", "question": "Who built Bonn?", "answers": [], "is_impossible": True}


def squad(*questions: Any) -> dict[str, Any]:
    return {"version": "v2.0", "data": [{"title": "Rome", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}]}


def test_both_formats_are_one(tmp_path: Path) -> None:
    write_lines(tmp_path / "passages.jsonl", [LINE])
    lines = Passages(tmp_path, TOKENIZER)
    own = Passages(write_json(tmp_path / "dev-v2.0.json", squad(ANSWERED, IMPOSSIBLE)), TOKENIZER)
    assert lines.prompts == own.prompts, "a question without an answer is not an example"
    passage = own[0]
    assert passage.evidence is not None
    assert passage.sentences is not None
    assert passage.words is not None
    assert text_of(TOKENIZER, passage.input_ids, passage.evidence) == "Romulus"
    assert text_of(TOKENIZER, passage.input_ids, passage.words >= 0) == CONTEXT, "the question is not ranked"
    of_sentence = passage.sentences == int(passage.sentences[passage.evidence].unique())
    assert text_of(TOKENIZER, passage.input_ids, of_sentence) == "It was built in 753 by Romulus. "
    assert TOKENIZER.decode(passage.input_ids.tolist()).endswith(
        "Question: Who built Rome?\nAnswer with a few words from the passage.\nAnswer: "
    )


def test_a_passage_is_answered_by_a_whole_answer(tmp_path: Path) -> None:
    """The model writes "R." and not "Romulus"."""
    file, model = tmp_path / "a.jsonl", Recites(TOKENIZER.encode("R.")).eval()
    lines = [LINE, LINE | {"answer": "R", "answer_span": [0, 1]}]
    data = Passages(write_lines(file, lines), TOKENIZER, model)
    assert [prompt.answer for prompt in data.prompts] == ["R"]
    assert data.left_out == {"the model writes another answer": 1, "they are longer than the model's context": 0}
    assert TOKENIZER.decode([data[0].answer, *data[0].rest]) == "R"
    assert TOKENIZER.decode(list(Passages(file, TOKENIZER)[0].rest)) == "omulus"
    with pytest.raises(AttentionError, match="writes another answer"):
        Passages(write_lines(file, [LINE]), TOKENIZER, model)


def test_questions_about_a_passage_stay_together(tmp_path: Path) -> None:
    other = {"context": f" {CONTEXT}", "answer_span": [place + 1 for place in LINE["answer_span"]]}
    lines = [LINE | {"id": str(number)} | (other if number == 7 else {}) for number in range(12)]
    data = Passages(write_lines(tmp_path / "a.jsonl", lines), TOKENIZER)
    assert len({prompt.part for prompt in data.prompts if prompt.name != "7"}) == 1
    assert data.groups == [int(number == 7) for number in range(12)]


def test_what_is_refused(tmp_path: Path) -> None:
    for change, message in (
        ({"answer_span": [42, 50]}, r"a\.jsonl, line 1 has the answer 'Romulus', and its passage has ' Romulu' there"),
        ({"answer_span": [-7, 0]}, "line 1 has the answer 'Romulus'"),
        ({"answer_span": [43]}, "line 1 has the answer_span"),
        ({"question": ""}, "line 1 has an empty 'question'"),
    ):
        with pytest.raises(AttentionError, match=message):
            Passages(write_lines(tmp_path / "a.jsonl", [LINE | change]), TOKENIZER)
    for value, message in (
        ({"version": "1.1"}, r"(?s)a\.json has no 'data'.*SQuAD's own file has 'data'"),
        (squad({**ANSWERED, "answers": []}), r"'data', entry 0, 'paragraphs', entry 0, 'qas', entry 0 has no answer"),
        (squad(IMPOSSIBLE), "holds no prompt"),
    ):
        with pytest.raises(AttentionError, match=message):
            Passages(write_json(tmp_path / "a.json", value), TOKENIZER)

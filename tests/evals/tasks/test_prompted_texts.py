from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from attnchain_evals import Facts
from attnchain_evals.tasks.prompted_texts import OTHER, TOO_LONG, _goes_on
from attnchain_evals.tasks.prompts import part_of
from attnchain_interp import AttentionError

from ..published_texts import FACTS, Recites, Remembered, Remembers, Says, byte_tokenizer, write_lines

TOKENIZER = byte_tokenizer()
AMERICA = TOKENIZER.encode("A")[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "facts.jsonl", FACTS)


def test_prompts_that_the_model_does_not_answer_are_counted_and_left_out(file: Path) -> None:
    data = Facts(file, TOKENIZER, Says(AMERICA).eval())
    assert [prompt.name for prompt in data.prompts] == ["2"]
    assert len(data) == 1
    assert [int(passage.answer or -1) for passage in data] == [AMERICA]
    assert (data.asked, list(data.left_out.values())) == (3, [2, 0])
    assert repr(data) == f"Facts({str(file)!r}: 1 of 3 prompts)"
    assert "".join(data.labels(data[0].input_ids)) == "The city of New York is a part of "
    short = Facts(file, TOKENIZER, Says(TOKENIZER.encode("I")[0], context=20).eval())
    assert (len(short), list(short.left_out.values())) == (1, [0, 2]), "the model is not asked what it cannot read"
    with pytest.raises(AttentionError, match="(?s)none of 3 prompts of .* is left: .*the answer's first\": 3"):
        Facts(file, TOKENIZER, Says(0).eval())


def test_no_more_prompts_are_asked_than_are_wanted(file: Path) -> None:
    model = Says(TOKENIZER.encode("I")[0]).eval()
    data = Facts(file, TOKENIZER, model, limit=1)
    assert (len(data), data.asked, model.asked) == (1, 1, 1)
    assert len(Facts(file, TOKENIZER)) == 3, "without a model all are kept"


def test_splits_are_by_identifier(tmp_path: Path) -> None:
    facts = [{**FACTS[0], "known_id": number} for number in range(12)]
    file = write_lines(tmp_path / "facts.jsonl", facts)
    parts = [Facts(file, TOKENIZER, split=part) for part in ("validation", "test")]
    assert [[prompt.name for prompt in part.prompts] for part in parts] == [
        [str(number) for number in range(12) if part_of(str(number)) == part] for part in ("validation", "test")
    ]
    with pytest.raises(AttentionError, match="split='train' is unknown"):
        Facts(file, TOKENIZER, split="train")  # type: ignore[arg-type]
    with pytest.raises(AttentionError, match="holds no prompt of the split 'test'"):
        Facts(write_lines(file, facts[2:3]), TOKENIZER, split="test")


def test_whole_answers_are_explained_where_they_are_asked_for(file: Path) -> None:
    """The model writes "A." and not "America"."""
    first, whole = Facts(file, TOKENIZER), Facts(file, TOKENIZER, explained="answer")
    assert [passage.explained for passage in first] == [None] * 3
    answers = [TOKENIZER.decode(passage.explained.tolist()) for passage in whole if passage.explained is not None]
    assert answers == ["Italy", "America", "Germany"]
    assert "explained" not in first.identity, "kept figures of first tokens stay comparable"
    assert whole.identity["explained"] == "answer"
    assert whole.identity["examples"] != first.identity["examples"]
    lines = [FACTS[1], FACTS[1] | {"known_id": 3, "attribute": "A"}]
    model = Recites(TOKENIZER.encode("A.")).eval()
    assert len(Facts(write_lines(file, lines), TOKENIZER, model)) == 2
    written = Facts(file, TOKENIZER, model, explained="answer")
    assert [prompt.answer for prompt in written.prompts] == ["A"]
    assert list(written.left_out) == [OTHER, TOO_LONG]
    with pytest.raises(AttentionError, match="explained='last' is unknown"):
        Facts(file, TOKENIZER, explained="last")  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [Recites, Remembers, Remembered])
def test_a_model_may_begin_its_reply_with_its_own_words(model: type[Recites], file: Path) -> None:
    written = model(TOKENIZER.encode("It is America.")).eval()
    data = Facts(file, TOKENIZER, written, explained="answer", own_words=6)
    (example,), (prompt,) = data, data.prompts
    plain = Facts(file, TOKENIZER, explained="answer")[1]
    assert prompt.name == "2"
    assert example.words is not None
    assert plain.words is not None
    assert TOKENIZER.decode(example.input_ids.tolist()) == TOKENIZER.decode(plain.input_ids.tolist()) + "It is "
    assert example.words.tolist() == [*plain.words.tolist(), *[-1] * 6], "the model's own words are not ranked"
    assert example.explained is not None
    assert TOKENIZER.decode(example.explained.tolist()) == "America"
    for own_words in (0, 5):
        with pytest.raises(AttentionError, match="another answer': 3"):
            Facts(file, TOKENIZER, written, explained="answer", own_words=own_words)
    written.config.max_position_embeddings = len(plain.input_ids) + len("It is America.")
    assert len(Facts(file, TOKENIZER, written, explained="answer", own_words=99)) == 1, "as many as the context holds"
    ending = byte_tokenizer()
    ending.eos_token = "<end>"
    ended = model(ending.encode("It <end>America.")).eval()
    with pytest.raises(AttentionError, match="another answer': 3"):
        Facts(file, ending, ended, explained="answer", own_words=9)
    assert len(Facts(file, TOKENIZER, ended, explained="answer", own_words=9)) == 1, "this tokenizer has no end"
    assert Facts(file, TOKENIZER, own_words=6).identity != Facts(file, TOKENIZER).identity
    with pytest.raises(AttentionError, match="own_words"):
        Facts(file, TOKENIZER, own_words=-1)


@pytest.mark.parametrize(
    ("reply", "own_words", "kept"),
    [
        ("America.", 0, True),
        ("America.", 6, True),
        ("Americans", 0, False),
        ("Americans", 6, False),
        ("AmericaAmerica", 6, False),
        ("Americas; America,", 9, False),
        ("Americas; America,", 10, True),
    ],
)
def test_an_answer_is_no_part_of_a_longer_word(reply: str, own_words: int, kept: bool, file: Path) -> None:
    model = Recites(TOKENIZER.encode(reply)).eval()
    if kept:
        data = Facts(file, TOKENIZER, model, explained="answer", own_words=own_words)
        assert [prompt.answer for prompt in data.prompts] == ["America"]
    else:
        with pytest.raises(AttentionError, match="another answer': 3"):
            Facts(file, TOKENIZER, model, explained="answer", own_words=own_words)
    assert len(Facts(file, TOKENIZER, model)) >= 1, "the first token alone is asked for"


@pytest.mark.parametrize(
    ("text", "longer"),
    [("2010s", True), ("Rome.", False), ("Rome'", False), ("cafe\u0301", True), ("पान", True), ("किस", True)],
)
def test_a_word_goes_on_with_letters_digits_and_vowel_signs(text: str, longer: bool) -> None:
    letters: Any = SimpleNamespace(decode=lambda tokens: "".join(map(chr, tokens)))
    assert _goes_on([*map(ord, text)], letters) is longer


def test_the_identity_follows_file_tokens_and_answers(file: Path) -> None:
    identities = [
        Facts(file, TOKENIZER).identity,
        Facts(file, byte_tokenizer(begin=True)).identity,
        Facts(file, TOKENIZER, Says(AMERICA).eval()).identity,
        Facts(file, TOKENIZER, limit=2).identity,
        Facts(write_lines(file, FACTS[:2]), TOKENIZER).identity,
    ]
    assert all(left != right for place, left in enumerate(identities) for right in identities[:place])
    assert list(identities[2]["left_out"].values()) == [2, 0]

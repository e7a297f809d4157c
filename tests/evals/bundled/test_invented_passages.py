from __future__ import annotations

from collections import Counter

from attnchain_evals import INVENTED_PASSAGES, Passages

from ..published_texts import byte_tokenizer


def test_each_passage_has_two_questions_and_holds_each_answer_once() -> None:
    prompts = Passages(INVENTED_PASSAGES, byte_tokenizer()).prompts
    assert set(Counter(prompt.text for prompt in prompts).values()) == {2}
    assert len(prompts) == 780 == len({(prompt.text, prompt.question) for prompt in prompts})
    assert {prompt.text.count(prompt.answer) for prompt in prompts} == {1}
    assert sum(prompt.answer[0].isdigit() for prompt in prompts) < len(prompts) / 20, "the page says 19 of 20"


def test_both_questions_of_a_passage_are_in_one_part() -> None:
    parts = [Passages(INVENTED_PASSAGES, byte_tokenizer(), split=part) for part in ("validation", "test")]
    validation, test = ({prompt.text for prompt in part.prompts} for part in parts)
    assert not validation & test
    assert sum(map(len, parts)) == 780

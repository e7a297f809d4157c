from __future__ import annotations

from collections import Counter

from attnchain_evals import COMMON_FACTS, Facts

from ..published_texts import byte_tokenizer


def test_each_prompt_is_there_once_and_holds_its_subject_once() -> None:
    facts = Facts(COMMON_FACTS, byte_tokenizer())
    assert len(facts) == 652
    assert max(Counter(prompt.text for prompt in facts.prompts).values()) == 1
    assert {len(prompt.evidence) for prompt in facts.prompts} == {1}

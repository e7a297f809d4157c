"""Layers of one sequence are told from layers that run side by side, and from parts of a row."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import attnchain_interp as ac
from attnchain_adapters.torch_models.one_sequence import (
    check_in_a_row,
    check_one_sequence,
    check_whole,
    size_of,
    tower_of,
    towers_line,
)
from attnchain_adapters.torch_models.survey import Use


def use(module: str, number: int = 0, after: set[int] | None = None, **options: object) -> Use:
    return Use(module, "Attention", 0, shape=(2, 2, 5, 5), number=number, after=frozenset(after or ()), **options)  # type: ignore[arg-type]


FIRST, SECOND, BESIDE = use("left.0.attn"), use("left.1.attn", 1, {0}), use("right.0.attn", 2)


def test_layers_in_a_row() -> None:
    check_in_a_row("Model", [FIRST, SECOND])
    check_in_a_row("Model", [FIRST, use("left.0.side", 1)])  # in one block
    check_in_a_row("Model", [use("heads.0", 0, given=4), use("heads.1", 1, given=4)])  # heads that are modules
    check_one_sequence("Model", [FIRST, SECOND], 2, False)
    check_whole([FIRST, SECOND], [BESIDE])


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: check_in_a_row("Model", [FIRST, SECOND, BESIDE]),
            r'right.0.attn .* is not computed from left.0.attn.*\n.*"left"',
        ),
        (
            lambda: check_in_a_row("Model", [FIRST, use("left.1.attn", 1)]),
            r"left.1.attn .* not computed from .*\nName the layers",
        ),
        (lambda: check_one_sequence("Model", [FIRST, BESIDE], 2, False), 'several sequences(?s:.*)tower="left"'),
        (
            lambda: check_one_sequence("Model", [FIRST, use("left.1.attn", 1, {0}, moved=True)], 1, False),
            r"left.0.attn \(5 tokens\); left.1.attn \(5 tokens, sorted, shifted or turned\)",
        ),
        (lambda: check_whole([FIRST], [SECOND]), "left.0.attn .* and left.1.attn .* only one of them is causal"),
    ],
)
def test_others_are_refused_by_name(check: Callable[[], None], message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        check()


def test_a_folded_layer_belongs_to_the_batch_that_divides_it() -> None:
    folded = Use("left.1.attn", "Attention", 0, shape=(4, 1, 5, 5), folded=True)
    check_one_sequence("Model", [FIRST, folded], 1, False)


def test_words() -> None:
    assert tower_of("visual.blocks.3.attn") == "visual.blocks"
    assert size_of(FIRST) == "5 tokens"
    assert towers_line([FIRST, BESIDE]) == 'Write reading=ac.Reading(tower="left") or reading=ac.Reading(tower="right").'
    assert towers_line([]) == ""

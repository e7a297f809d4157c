"""The number of an output that a target means."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.gradients import SeveralScores, logits_of
from attnchain_interp.gradients.target import kept_by_target, position_read, selected_score, target_position
from attnchain_interp.store import TokenLayout

LOGITS = torch.arange(24.0).reshape(2, 3, 4)


def test_logits_are_the_output_or_its_attribute() -> None:
    assert logits_of(LOGITS) is LOGITS
    assert logits_of(SimpleNamespace(logits=LOGITS)) is LOGITS
    for output in (SimpleNamespace(pooled=LOGITS), SimpleNamespace(logits=None), (LOGITS,)):
        with pytest.raises(AttentionError, match=r"(?s)outputs \w+ without logits\.\nDo this\."):
            logits_of(output, "Do this.")


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ((1, 2), LOGITS[:, 1, 2]),
        ([(1, 2), (0, 3)], torch.stack([LOGITS[0, 1, 2], LOGITS[1, 0, 3]])),
        (lambda output: output[:, -1, 0], LOGITS[:, -1, 0]),
    ],
)
def test_scores_of_logits_with_a_position(target: Any, expected: torch.Tensor) -> None:
    assert torch.equal(selected_score(LOGITS, target, 2), expected)


def test_scores_of_plain_logits() -> None:
    logits = LOGITS[:, 0]
    for target in (
        3,
        torch.tensor(3),
        torch.tensor([3, 3]),
        [3, 3],
        (3,),
        np.int64(3),
        np.array([3, 3]),
        np.array([3, 2, 3])[::-2],
        np.array([3, 3], dtype=np.uint16),
        torch.tensor([3, 3], dtype=torch.int8),
        [torch.tensor(3)] * 2,
    ):
        assert torch.equal(selected_score(SimpleNamespace(logits=logits), target, 2), logits[:, 3])
    fixed = np.array([3, 3])
    fixed.flags.writeable = False
    assert torch.equal(selected_score(logits, fixed, 2), logits[:, 3])
    for none, dtype in (
        (np.array(["a", "b"]), "<U1"),
        (np.array([True, False]), "torch.bool"),
        (torch.ones(2) > 0, "torch.bool"),
    ):
        with pytest.raises(AttentionError, match=f"target holds {dtype}; a target is a number of a class"):
            selected_score(logits, none, 2)
    assert torch.equal(selected_score(logits[:, :1], None, 2), logits[:, 0])
    with pytest.raises(AttentionError, match=r"(?s)target=4 cannot be selected .*\nPass a class from 0 to 3 \(-4 to -1 count"):
        selected_score(logits, 4, 2)
    with pytest.raises(AttentionError, match="one score per example"):
        selected_score(logits, lambda output: output, 2)
    with pytest.raises(AttentionError, match=r"(?s)the function gives torch\.int64.*Return a logit"):
        selected_score(logits, lambda output: output.argmax(-1), 2)


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ((-99, 3), r"Pass an index from -\d to \d in place of -99\.$"),
        ([(0, 1), (0, 99)], r"Pass an index from -\d to \d in place of 99\.$"),
        ((1, 2, 3), r"Pass a tuple of 2 indices \(position, class\), or a list of one for each of the 2 examples\.$"),
        (99, r"Pass a tuple of 2 indices"),
        (("a", 3), r"Pass a tuple of 2 indices"),
        ("cat", r"model\.config\.label2id\[name\]\.$"),
    ],
)
def test_the_remedy_says_what_can_be_selected(target: Any, fix: str) -> None:
    with pytest.raises(AttentionError, match="cannot be selected") as caught:
        selected_score(LOGITS, target, 2)
    assert re.search(fix, str(caught.value)), str(caught.value)


def test_the_remedy_follows_the_axes_of_the_logits() -> None:
    with pytest.raises(AttentionError, match=r"\nPass target=None, or a function of the output"):
        selected_score(LOGITS[:, 0, 0], 3, 2)
    with pytest.raises(AttentionError, match=r"\nPass a tuple of 3 indices, or a list"):
        selected_score(LOGITS[..., None], 99, 2)


def test_the_position_that_a_target_names() -> None:
    assert target_position((4, 7), 2).tolist() == [4, 4]  # type: ignore[union-attr]
    assert target_position([(4, 7), (2, 9)], 2).tolist() == [4, 2]  # type: ignore[union-attr]
    for target in (3, (3,), None, [1, 2], torch.tensor([1, 2])):
        assert target_position(target, 2) is None


def test_the_position_that_a_target_is_read_at() -> None:
    tokens, logits = TokenLayout.text(torch.ones(2, 6)), torch.zeros(2, 4, 9)  # of the last four tokens
    assert position_read(logits, (1, 7), tokens).tolist() == [3, 3]  # type: ignore[union-attr]
    assert position_read(logits, [(-1, 7), (-4, 7)], tokens).tolist() == [5, 2]  # type: ignore[union-attr]
    assert position_read(logits, lambda output: output[:, 0, 0], tokens) is None
    assert position_read(torch.zeros(2, 9), 7, tokens) is None
    assert position_read(torch.zeros(2, 3, 4, 9), (0, 1, 7), tokens) is None, "several choices"
    assert position_read(torch.zeros(2, 8, 8), (0, 1), tokens) is None, "a picture"


def test_the_last_positions_that_targets_name() -> None:
    assert kept_by_target((-1, 7)) == 1
    assert kept_by_target([(-1, 7), (-3, 9)]) == 3
    for target in ((4, 7), [(-1, 7), (4, 9)], [(-1, 7), 3], 7, -1, (-1,), [], None, torch.tensor([-1, 7]), lambda x: x):
        assert kept_by_target(target) is None  # type: ignore[arg-type]


def test_several_scores_are_of_one_example() -> None:
    several = SeveralScores(lambda logits: logits[0, :2])
    assert selected_score(torch.tensor([[1.0, 2.0, 3.0]]), several, 1).tolist() == [[1.0], [2.0]]
    with pytest.raises(AttentionError, match="several scores are of one example, and the model reads 2"):
        selected_score(torch.zeros(2, 3), several, 2)

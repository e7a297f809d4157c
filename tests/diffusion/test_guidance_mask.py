"""Which tokens attention makes important, on a map that is small enough to check by hand."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import diffusion

MAP = torch.tensor([[0.2, 0.8, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0], [0.2, 0.2, 0.6, 0.0], [0.1, 0.3, 0.6, 0.0]])


def store() -> ac.AttentionStore:
    return ac.AttentionStore.from_maps([MAP[None, None]], ac.TokenLayout.image(1, (2, 2), []))


def test_column_sums_above_one() -> None:
    assert diffusion.important_tokens(store(), "column-sum").tolist() == [[False, True, True, False]]


def test_a_token_that_the_walk_leaves_is_not_important_by_token_rank() -> None:
    assert diffusion.important_tokens(store(), "token-rank").tolist() == [[False, True, False, False]]


def test_random_tokens_are_as_many_as_those_of_token_rank() -> None:
    drawn = [diffusion.important_tokens(store(), "random", torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert {int(mask.sum()) for mask in drawn} == {1}
    assert len({mask.long().argmax().item() for mask in drawn}) > 1


def test_another_importance_is_refused() -> None:
    with pytest.raises(ac.AttentionError, match="importance='rank' is unknown"):
        diffusion.important_tokens(store(), "rank")  # type: ignore[arg-type]

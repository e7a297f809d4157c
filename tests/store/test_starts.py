"""Where a walk begins, by every name that a start has. The damping that TokenRank takes where none is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import attnchain_interp as ac
from attnchain_adapters.tracing import functionals
from attnchain_interp import AttentionError, AttentionStore, Role, TokenLayout
from attnchain_interp.store.starts import (
    CLASS_OR_UNIFORM,
    DECODER_DAMPING,
    EVERYWHERE_DAMPING,
    default_damping,
    jump_to_last,
    last_state,
    start_distribution,
    token_positions,
)

IMAGE = TokenLayout.image(2, (2, 2), prefix=[Role.CLASS])


@pytest.fixture
def decoder() -> AttentionStore:
    """A causal map of five tokens; the second example ends with two pads."""
    maps = torch.ones(2, 1, 5, 5).tril() / torch.arange(1.0, 6)[:, None]
    return AttentionStore.from_maps([maps], TokenLayout.text(torch.tensor([[1] * 5, [1, 1, 1, 0, 0]])))


def test_a_class_token_comes_first(store: AttentionStore) -> None:
    chain = store.chain(tokens="all")
    for start in (None, CLASS_OR_UNIFORM, "class", 0, torch.eye(5)[0], torch.eye(5)[[0, 0]]):
        assert start_distribution(chain, IMAGE, start).tolist() == [[1, 0, 0, 0, 0]] * 2
    assert start_distribution(chain, IMAGE, "center").tolist() == [[0, 0, 0, 0, 1]] * 2


def test_without_a_class_token_a_decoder_starts_at_its_last(decoder: AttentionStore, logits: torch.Tensor) -> None:
    chain, tokens = decoder.chain(tokens="all"), decoder.tokens
    last = [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    for start in (None, "last"):
        assert start_distribution(chain, tokens, start).tolist() == last
    third = 1 / torch.tensor([[5.0] * 5, [3, 3, 3, torch.inf, torch.inf]])
    for start in ("uniform", CLASS_OR_UNIFORM):
        assert torch.allclose(start_distribution(chain, tokens, start), third)
    other = AttentionStore.from_maps(list(logits.softmax(-1)))
    assert torch.allclose(start_distribution(other.chain(tokens="all"), other.tokens, None), torch.tensor(0.2).double())


def test_each_example_has_a_class_token_of_its_own(logits: torch.Tensor) -> None:
    left = TokenLayout(torch.tensor([[5, 5, 0, 3, 3], [0, 3, 3, 3, 3]]))
    store = AttentionStore.from_maps(list(logits.softmax(-1)), left)
    assert token_positions(left, "class").tolist() == [2, 0]
    for heads in ("mean", "each"):
        found = start_distribution(store.chain(heads=heads), left, "class")
        assert found.argmax(-1).reshape(2, -1)[:, 0].tolist() == [2, 0]
        assert bool((found.sum(-1) == 1).all())
    for select in ("row", "column"):
        scores = ac.RawAttention(select=select).score(store)
        for example, position in enumerate([2, 0]):
            one = slice(example, example + 1)
            alone = AttentionStore.from_maps(list(logits.softmax(-1)[:, one]), TokenLayout(left.roles[one]))
            assert torch.equal(scores[example], ac.RawAttention(token=position, select=select).score(alone)[0])
    each = ac.RawAttention(heads="each").score(store)
    assert torch.allclose(each.mean(1), ac.RawAttention().score(store))


def test_one_start_for_every_head(store: AttentionStore) -> None:
    chain = store.chain(heads="each", tokens="all")
    each = torch.eye(5)[[1, 3]]
    assert torch.equal(start_distribution(chain, IMAGE, each)[:, 2], each.double())
    assert start_distribution(chain, IMAGE, "last").shape == (2, 3, 5)


def test_the_last_state_is_the_last_of_the_chain(decoder: AttentionStore) -> None:
    assert last_state(decoder.chain(tokens=[0, 2])).argmax(-1).tolist() == [2, 2]


def test_a_jump_to_the_last_token_lands_on_it_or_where_it_attends_to(decoder: AttentionStore) -> None:
    for heads in ("mean", "each"):
        found = jump_to_last(decoder.chain(heads=heads, tokens="all"), decoder.tokens)
        assert found.reshape(2, 5).argmax(-1).tolist() == [4, 2]
        outside = jump_to_last(decoder.chain(heads=heads, tokens=[0, 1]), decoder.tokens).reshape(2, 5)
        assert torch.allclose(outside, torch.tensor([[0.5, 0.5, 0, 0, 0]] * 2))
    mixed = torch.tensor([[True] * 5, [True, True, False, False, False]])
    assert jump_to_last(decoder.chain(tokens=mixed), decoder.tokens).tolist() == [[0, 0, 0, 0, 1], [0.5, 0.5, 0, 0, 0]]
    blind = torch.ones(1, 1, 3, 3).tril()
    blind[..., 2, :2] = 0
    store = AttentionStore.from_maps([blind / blind.sum(-1, keepdim=True)])
    assert jump_to_last(store.chain(tokens=[0, 1]), store.tokens).tolist() == [[0.5, 0.5, 0]]


def test_starts_that_do_not_exist(store: AttentionStore) -> None:
    with pytest.raises(AttentionError, match=r"(?s)'middle' is unknown\.\nUse \"class\", \"center\", \"last\" or a number"):
        token_positions(IMAGE, "middle")
    with pytest.raises(AttentionError, match="start is not a distribution"):
        start_distribution(store.chain(), IMAGE, torch.ones(5))


def test_a_member_of_role_is_no_position() -> None:
    after = TokenLayout(torch.tensor([[2, 2, 0]]))
    assert token_positions(after, Role.CLASS).tolist() == [2]
    with pytest.raises(AttentionError, match="the token 'patch' is unknown"):
        token_positions(after, Role.PATCH)


def test_jumps_to_the_last_state_are_damped_more() -> None:
    assert (default_damping(True), default_damping(False)) == (DECODER_DAMPING, EVERYWHERE_DAMPING) == (0.5, 0.99)


def test_every_ranking_of_the_core_reads_the_default(store: ac.AttentionStore) -> None:
    causal = ac.AttentionStore.from_maps([torch.ones(1, 1, 4, 4).tril() / torch.arange(1.0, 5)[:, None]])
    for found, damping in ((causal, DECODER_DAMPING), (store, EVERYWHERE_DAMPING)):
        assert torch.equal(ac.TokenRank().score(found), ac.TokenRank(damping=damping).score(found))


def test_traces_have_the_same_defaults(store: ac.AttentionStore) -> None:
    causal = torch.ones(1, 1, 4, 4).tril() / torch.arange(1.0, 5)[:, None]
    states = torch.ones(1, 1, 4, dtype=torch.bool)
    given = functionals.token_rank(causal, states, DECODER_DAMPING)
    assert torch.equal(functionals.token_rank(causal, states), given)
    assert torch.allclose(given[:, 0], ac.TokenRank(balanced=False).score(ac.AttentionStore.from_maps([causal])), atol=1e-6)
    maps = store[0].maps
    every = torch.ones(maps.shape[:-1], dtype=torch.bool)
    assert torch.equal(functionals.token_rank(maps, every), functionals.token_rank(maps, every, EVERYWHERE_DAMPING))


def test_padding_is_no_start() -> None:
    """Left-padded: position 0 is padding in the second example alone."""
    maps = torch.eye(3).expand(2, 1, 3, 3)
    store = AttentionStore.from_maps([maps], TokenLayout.text(torch.tensor([[1, 1, 1], [0, 1, 1]])))
    spread = torch.full((3,), 1 / 3)
    for method in (
        ac.MultiBounce(steps=1, start=0),
        ac.Rollout(start=-3),
        ac.RawAttention(token=0),
        ac.MultiBounce(start=spread),
    ):
        with pytest.raises(AttentionError, match=r"(?s)padding in example 1.*Pass \"last\""):
            method.score(store)
    with pytest.raises(AttentionError, match="the start has mass on padding in example 1"):
        ac.MultiBounce(start=spread).score(store)
    each = torch.tensor([[1.0, 0, 0], [0, 0.5, 0.5]])
    assert torch.equal(ac.MultiBounce(start=each).score(store), each)
    assert ac.MultiBounce(start=1).score(store).tolist() == [[0, 1, 0]] * 2


@pytest.mark.parametrize("start", [(3, 4), [0.5, 0.5], 0.5, torch.ones(2).numpy()], ids=lambda start: type(start).__name__)
def test_a_start_of_another_type_is_refused(store: ac.AttentionStore, start: Any) -> None:
    with pytest.raises(AttentionError, match="(?s)start is of type (tuple|list|float|ndarray); .*Pass the number of a token"):
        ac.MultiBounce(start=start).score(store)


def test_a_start_may_be_a_whole_number_of_numpy(store: ac.AttentionStore) -> None:
    for number in (1, -1):
        assert torch.equal(
            ac.MultiBounce(start=np.int64(number)).score(store),  # type: ignore[arg-type]
            ac.MultiBounce(start=number).score(store),
        )

# pyright: reportUnusedExpression=false
"""What tensors were computed from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_adapters.torch_models.provenance import Origin, Provenance

WEIGHTS = nn.Linear(4, 4)
X, Y = torch.randn(2, 3, 4), torch.randn(2, 5, 4)


class Followed(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.provenance = Provenance(WEIGHTS, {"x": X, "others": [Y]})
        self.values: Origin = Origin()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result, kwargs = func(*args, **(kwargs or {})), kwargs or {}
        origin = self.provenance.given(args, kwargs)
        self.values = self.provenance.values(func, args, kwargs)
        self.provenance.computed(func, args, kwargs, result, origin, ())
        return result


def test_arguments_are_followed_by_their_names() -> None:
    with Followed() as followed:
        joined = torch.cat([WEIGHTS(X), Y], 1)
        of_one = X.mean(1)
    assert followed.provenance.of(joined).arguments == {"x", "others"}
    assert followed.provenance.of(of_one).arguments == {"x"}
    assert followed.provenance.of(torch.zeros(1)) == Origin(), "nobody knows"


def test_what_is_made_of_weights_is_learnt() -> None:
    with Followed() as followed:
        memory = WEIGHTS.weight.mT.expand(2, -1, -1) * torch.ones(4)
        read = X @ memory
        written = torch.zeros(2, 3, 4)
        written[:, 0] = X[:, 0]
    assert followed.provenance.of(memory).learnt
    assert not followed.provenance.of(read).learnt
    assert not followed.provenance.of(written).learnt


def test_values_are_learnt_where_the_map_is_not() -> None:
    query = X[:, None]
    with Followed() as followed:
        memory: Tensor = WEIGHTS.weight.expand(2, 1, -1, -1) * 2
        F.scaled_dot_product_attention(query, memory, memory)
        assert followed.values.learnt
        F.scaled_dot_product_attention(query, key=query, value=query)
        assert not followed.values.learnt
        F.scaled_dot_product_attention(memory, memory, memory)
        assert not followed.values.learnt, "learnt queries are tokens of a kind"
        X.softmax(-1) @ memory[:, 0]
        assert followed.values.learnt
        (X @ Y.mT).softmax(-1) @ Y
        assert followed.values == Origin(arguments=frozenset(("others",)))


def test_learnt_tokens_are_counted_where_they_join_others() -> None:
    with Followed() as followed:
        joined = WEIGHTS(torch.cat([WEIGHTS.weight.expand(2, -1, -1), X], dim=1))
        same = torch.cat([torch.tensor([]), X, Y], 1)  # as a cache does, which was empty
    assert followed.provenance.of(joined).joined == {(3, 4)}
    assert not followed.provenance.of(same).joined


def test_a_module_returns_what_it_was_given() -> None:
    provenance, output = Provenance(WEIGHTS, {"x": X}), torch.zeros(2)
    provenance.returned((X,), [output], [3])
    assert provenance.of(output) == Origin(frozenset((3,)), frozenset(("x",)))


def test_what_is_moved_stays_so_until_the_unmoved_is_added() -> None:
    with Followed() as followed:
        turned = WEIGHTS(X.flip(1)) + WEIGHTS.bias
        shifted = X + X.roll(1, 1)
        with_class = torch.cat([WEIGHTS.weight[None, :1].expand(2, -1, -1), turned], 1)
        of_another = turned @ Y.mT
        learnt = WEIGHTS.weight.flip(0) * 2
        call = F.scaled_dot_product_attention, (X[:, None], turned[:, None], turned[:, None]), {}
    of = followed.provenance.of
    assert of(turned).moved == of(of_another).moved == {3}
    assert not of(shifted).moved
    assert not of(learnt).moved
    assert of(with_class).has_moved(2, 4)
    assert not of(turned).has_moved(2, 4)
    assert followed.provenance.places(*call, (2, 1, 3, 3)) == {True, False}
    named = {"attn_mask": X @ X.mT, "query": call[1][1], "key": call[1][1], "value": call[1][1]}
    assert followed.provenance.places(call[0], (), named, (2, 1, 3, 3)) == {True}
    assert followed.provenance.places(call[0], (Y[:, None], *call[1][1:]), {}, (2, 1, 5, 3)) == {True}

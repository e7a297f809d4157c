"""A forward that only looks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_adapters.torch_models.survey import survey


class Attend(nn.Module):
    """A helper without weights: (batch · head, token, width) to the same."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        logits = query @ key.mT
        return (logits if mask is None else logits.masked_fill(mask, -torch.inf)).softmax(-1) @ value


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend, self.fused = Attend(), nn.Identity()

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        heads = x.repeat_interleave(2, 0)
        x = x + self.attend(heads, heads + 0, heads * 2)[::2]
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        x = x + self.attend(x, other, other, causal)
        return x + F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None])[:, 0]


def test_each_use_is_seen_with_its_module() -> None:
    model, x, other = Model(), torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    first, second, third = survey(model, lambda: model(x, other))
    assert [use.layer for use in (first, second, third)] == ["attend[0]", "attend[1]", "Model"]
    assert (first.shape, first.folded, first.causal, first.same, first.route) == ((6, 1, 4, 4), True, False, None, "softmax")
    assert (second.causal, second.same, second.padded) == (True, None, False), "two sequences of as many tokens"
    assert (third.shape, third.folded, third.route, third.reason) == ((3, 1, 4, 4), False, "sdpa", "")
    assert str(third) == "Model (Model, 4 queries × 4 keys)"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_keys_without_any_attention_are_padding() -> None:
    model, x = Attend(), torch.randn(2, 4, 8)
    absent = torch.tensor([[False] * 4, [False, False, True, True]])[:, None]
    (use,) = survey(model, lambda: model(x, x, x, absent))
    assert (use.padded, use.same) == (True, True)


def test_keys_with_negative_weights_alone_are_not_padding() -> None:
    class Signed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -(x @ x.mT).softmax(-1) @ x

    (use,) = survey(model := Signed(), lambda: model(torch.randn(2, 4, 8)))
    assert not use.padded


class Channels(nn.Module):
    """Mixes the channels of an image (batch, channel, row, column) by their covariance."""

    def forward(self, x: Tensor) -> Tensor:
        heads = x.flatten(2).unflatten(1, (2, -1))
        return ((heads @ heads.mT).softmax(-1) @ heads).flatten(1, 2).unflatten(2, x.shape[2:])


class Memory(nn.Module):
    """Attends to three learnt keys beside the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.Parameter(torch.randn(1, 3, 8))

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        further = self.memory.expand(len(x), -1, -1) if context is None else context
        keys = torch.cat([further, x], 1)
        return (x @ keys.mT).softmax(-1) @ keys


def test_maps_over_channels_are_told_from_maps_over_tokens() -> None:
    (use,) = survey(model := Channels(), lambda: model(torch.randn(2, 6, 4, 4)))
    assert use.reason == "it mixes 3 channels, or windows of 3 tokens, and its map is not over the tokens"
    with pytest.raises(ac.AttentionError, match="attends, but its map cannot be read: it mixes 3 channels"):
        ac.capture(model, torch.randn(2, 6, 4, 4), reading=ac.Reading(tokens=ac.TokenLayout.text()))


class FoldedQueries(nn.Module):
    """Multi-query attention: the queries of all heads attend to one set of keys."""

    num_heads = 2

    def forward(self, x: Tensor) -> Tensor:
        queries = x.unflatten(-1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return ((queries @ x[..., :4].mT).softmax(-1) @ x[..., 4:]).unflatten(1, (2, -1)).transpose(1, 2).flatten(2)


def test_heads_that_are_folded_into_queries_are_refused() -> None:
    (use,) = survey(model := FoldedQueries(), lambda: model(torch.randn(3, 5, 8)))
    assert use.reason == "its 10 queries may be those of 2 heads of 5 tokens, folded into one axis"


def test_keys_that_no_module_was_given_are_told_from_a_context() -> None:
    model, x = Memory(), torch.randn(2, 5, 8)
    (use,) = survey(model, lambda: model(x))
    assert use.reason == "it attends to 3 keys beside its 5 tokens: a memory, a cache, or a key of zeros"
    context = torch.randn(2, 4, 8)
    (use,) = survey(model, lambda: model(x, context))
    assert (use.reason, use.same) == ("", False)


class Mix(nn.Module):
    def forward(self, x: Tensor, values: Tensor) -> Tensor:
        return (x @ x.mT).softmax(-1) @ values


class Doubtful(nn.Module):
    """The first of two calls has values that a softmax made, of as many channels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.last = Mix(), Mix()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mix(x, x.softmax(-1))
        x = x + self.mix(x, x)
        return x + self.last(x, x)


def test_a_product_in_doubt_stands_at_its_place() -> None:
    model, x = Doubtful(), torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(0))
    uses = survey(model, lambda: model(x))
    assert [use.layer for use in uses] == ["mix[0]", "mix[1]", "last"]
    assert [use.number for use in uses] == [0, 1, 2]
    assert [bool(use.reason) for use in uses] == [True, False, False]
    assert [sorted(use.after) for use in uses] == [[], [0], [0, 1]]
    assert uses[0].given == 0
    store = ac.capture(model, x, reading=ac.Reading(tokens=ac.TokenLayout.text()), layers=["mix[1]"])
    assert {*store.unread} == {"mix[0]", "last"}


def test_a_product_of_maps_is_no_use_of_its_own() -> None:
    class Maps(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.mT).softmax(-1) @ (x @ x.mT).softmax(-1) @ x

    (use,) = survey(model := Maps(), lambda: model(torch.randn(2, 4, 8)))
    assert (use.shape, use.reason) == ((2, 1, 4, 4), "")


class Pool(nn.Module):
    """Pools an image by a query that is the mean of the patches, and stands before them, as OpenAI's CLIP does."""

    def forward(self, images: Tensor) -> Tensor:
        patches = images.flatten(2).mT
        tokens = torch.cat([patches.mean(1, keepdim=True), patches], 1)[:, None]
        return F.scaled_dot_product_attention(tokens[:, :, :1], tokens, tokens)[:, 0, 0]


def test_one_fused_query_pools_tokens() -> None:
    model, images = Pool().eval(), torch.randn(2, 8, 4, 4)
    (use,) = survey(model, lambda: model(images))
    assert (use.shape, use.weighs, use.same) == ((2, 1, 1, 17), False, False)
    store = ac.capture(model, images, reading=ac.Reading(tokens=ac.TokenLayout.image(grid=(4, 4), class_token=True)))
    assert (store.names, store.metadata["kind"]) == (["Pool"], "cross")

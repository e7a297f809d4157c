"""Attention sinks that are planted, in maps and in a model, and attention without one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp import AttentionStore, Factors, LayerAttention, TokenLayout
from attnchain_interp.store import states_of


def logits(tokens: int, sink: int | None, strength: float = 4.0, heads: int = 2) -> Tensor:
    found = torch.randn(1, heads, tokens, tokens, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64) / 20
    if sink is not None:
        found[..., sink] += strength
    return found


def decoder(found: Tensor) -> Tensor:
    return found.masked_fill(torch.ones(found.shape[-2:]).triu(1).bool(), -torch.inf).softmax(-1)


def norms(tokens: int, heads: int = 2, **short: float) -> Tensor:
    found = torch.linspace(0.8, 1.2, tokens, dtype=torch.float64).expand(1, heads, -1).clone()
    for position, length in short.items():
        found[..., int(position[1:])] = length
    return found


def store(maps: Tensor, lengths: Tensor | None, tokens: TokenLayout | None = None, layers: int = 1) -> AttentionStore:
    tokens = tokens or TokenLayout.text(torch.ones(len(maps), maps.shape[-1]))
    return AttentionStore([LayerAttention(f"layer.{k}", maps, value_norms=lengths) for k in range(layers)], tokens)


def marked(sinks: Any, example: int = 0) -> list[int]:
    return sinks.tokens[example].nonzero()[:, 0].tolist()


@pytest.mark.parametrize("causal", [True, False])
def test_a_token_that_takes_attention_and_has_short_values(causal: bool) -> None:
    made = decoder if causal else lambda found: found.softmax(-1)
    planted = store(made(logits(24, 3, 1.1)), norms(24, t3=0.1))
    assert marked(ac.sinks(planted)) == [3]
    assert not marked(ac.sinks(store(planted.maps()[:, 0], norms(24, t4=0.1)))), "its values are as long as the others"
    assert not marked(ac.sinks(store(made(logits(24, None)), norms(24, t3=0.1)))), "it takes no attention"


def test_a_token_that_all_attend_to_gives_all_the_same() -> None:
    gathers = logits(20, 7, 8).softmax(-1)
    found = ac.sinks(store(gathers, norms(20, t7=2.5)))
    assert marked(found) == [7]
    assert float(found.shares[0, 0, 0, 7]) > 0.9
    assert float(found.value_norms[0, 0, 0, 7]) == pytest.approx(2.5 / float(norms(20, t7=2.5)[0, 0].median()))


def test_even_attention_gives_one_to_every_token_but_the_last_of_a_decoder() -> None:
    full = ac.sinks(store(torch.full((1, 1, 5, 5), 0.2), torch.ones(1, 1, 5)))
    assert torch.allclose(full.received, torch.ones(5))
    assert torch.allclose(full.shares, torch.full((5,), 0.2))
    causal = ac.sinks(store(decoder(torch.zeros(1, 1, 5, 5)), torch.ones(1, 1, 5)))
    assert torch.allclose(causal.received[0, 0, 0], torch.tensor([1.0, 1, 1, 1, 0])), "only itself sees the last token"
    assert causal.shares[0, 0, 0, 3] == pytest.approx(0.2)
    assert causal.shares[0, 0, 0, 0] == pytest.approx((1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4)


def test_a_rare_sink_is_one_of_its_layer_and_not_of_many() -> None:
    strong = store(logits(6, 2, 8).softmax(-1), norms(6))
    quiet = store(logits(6, None).softmax(-1), norms(6), layers=5)
    both = AttentionStore([LayerAttention("strong", strong[0].maps, value_norms=norms(6)), *quiet], strong.tokens)
    found = ac.sinks(both)
    assert marked(ac.sinks(both, "strong")) == [2]
    assert not marked(found)
    assert found.heads[0, :, :, 2].sum(1).tolist() == [2, 0, 0, 0, 0, 0]
    assert 0 < float(found.taken[0, 2]) < 1 < float(ac.sinks(both, 0).taken[0, 2])


def test_padding_is_no_query_no_key_and_no_part_of_the_median() -> None:
    inner = decoder(logits(6, 0))
    lengths = norms(6, t0=0.1)
    alone = ac.sinks(store(inner, lengths))
    maps = torch.full((2, 2, 9, 9), torch.nan, dtype=torch.float64)
    maps[:, :, :, :3] = 0
    maps[0, :, 3:, 3:] = inner[0]
    maps[1] = decoder(logits(9, 0))[0]
    padded = torch.cat([torch.cat([torch.full((1, 2, 3), 1e6), lengths], -1), norms(9, t0=0.1)])
    mask = torch.tensor([[0] * 3 + [1] * 6, [1] * 9])
    found = ac.sinks(store(maps, padded, TokenLayout.text(mask)))
    assert (marked(found), marked(found, 1)) == ([3], [0])
    for name in ("received", "shares", "value_norms", "heads"):
        assert torch.equal(getattr(found, name)[:1, ..., 3:], getattr(alone, name)), name
    assert not found.taken[0, :3].any()


@pytest.mark.parametrize("causal", [True, False])
def test_factors_and_maps_agree(causal: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(2, heads, 7, 4, generator=generator) for heads in (4, 2))
    query[..., 0], key[:, :, 0, 0] = 1, 8
    factors, lengths = Factors(query, key, causal=causal), norms(7, 4, t0=0.2).expand(2, -1, -1)
    layouts = TokenLayout.text(torch.tensor([[1] * 7, [1] * 6 + [0]]))
    dense = ac.sinks(store(factors.maps(), lengths, layouts))
    lazy = ac.sinks(AttentionStore([LayerAttention("layer.0", factors, value_norms=lengths)], layouts))
    assert torch.allclose(dense.received, lazy.received, atol=1e-5)
    assert torch.equal(dense.tokens, lazy.tokens)
    assert dense.tokens[:, 0].all()


def test_values_that_are_all_zero_are_no_shorter_than_the_others() -> None:
    found = ac.sinks(store(logits(12, 3, 1.1).softmax(-1), torch.zeros(1, 2, 12)))
    assert torch.equal(found.value_norms, torch.ones(1, 1, 2, 12, dtype=torch.float64))
    assert not marked(found)


def test_what_it_prints() -> None:
    planted = decoder(logits(8, 0))
    labels = TokenLayout.text(torch.ones(1, 8), [["The", *"abcdefg"]])
    text = repr(ac.sinks(store(planted, norms(8, t0=0.1), labels, layers=3)))
    assert text.startswith("Sinks(3 layers, batch 1, 8 tokens): 1\n  token 0 'The' takes 9")
    assert text.endswith("% of attention in 6 of 6 heads, and its values there are 0.1 times as long as the median")
    assert repr(ac.sinks(store(planted, norms(8)))) != text
    spelled = TokenLayout.text(torch.ones(1, 8), [["ĠÃ¯", *"abcdefg"]])
    assert "token 0 'ï' takes 9" in repr(ac.sinks(store(planted, norms(8, t0=0.1), spelled, layers=3)))
    image = TokenLayout.image(2, (2, 4), class_token=True)
    maps = logits(9, 6, 9).softmax(-1).expand(2, -1, -1, -1)
    both = ac.sinks(store(maps, norms(9).expand(2, -1, -1), image))
    assert repr(both).splitlines()[2].startswith("  example 1: patch 1,1 takes ")
    assert list(both.described(1)) == [6]
    with pytest.raises(ac.AttentionError, match="example 2 does not exist"):
        both.described(2)
    many = store(logits(9, 6, 9).softmax(-1).expand(14, -1, -1, -1), norms(9).expand(14, -1, -1))
    assert repr(ac.sinks(many)).splitlines()[-1] == "  … and 2 more"
    assert repr(ac.sinks(store(logits(9, None).softmax(-1), norms(9)))).endswith("9 tokens): none")


def test_stores_that_cannot_tell() -> None:
    maps = decoder(logits(5, 0))
    with pytest.raises(ac.AttentionError, match="the values of layer 'layer.0' are not known"):
        ac.sinks(AttentionStore.from_maps([maps]))
    with pytest.raises(ac.AttentionError, match=r"(?s)values of layer 'layer.0' are not known.*value_norms="):
        AttentionStore.from_maps([maps]).chain(tokens="no-sinks")
    probe = TokenLayout.text(torch.ones(1, 1))
    pooled = LayerAttention("pool", torch.full((1, 2, 1, 3), 1 / 3), value_norms=torch.ones(1, 2, 3))
    crossing = AttentionStore([pooled], TokenLayout.text(torch.ones(1, 3)), queries=probe)
    with pytest.raises(ac.AttentionError, match="'pool' leads from 1 queries to 3 other tokens"):
        ac.sinks(crossing)


def test_layers_with_other_numbers_of_heads() -> None:
    several = [store(decoder(logits(6, 0, heads=heads)), norms(6, heads, t0=0.1))[0] for heads in (2, 3)]
    both = AttentionStore(
        [LayerAttention(str(k), each.maps, value_norms=each.value_norms) for k, each in enumerate(several)],
        TokenLayout.text(torch.ones(1, 6)),
    )
    assert marked(ac.sinks(both)) == [0]
    with pytest.raises(ac.AttentionError, match=r"the layers have \[2, 3\] heads, so their received cannot be stacked"):
        _ = ac.sinks(both).received


def test_chains_and_weights_without_sinks() -> None:
    planted = store(decoder(logits(8, 0)), norms(8, t0=0.1))
    rest = torch.arange(8)[None] > 0
    assert torch.equal(states_of(planted, "no-sinks"), rest)
    assert torch.equal(planted.chain(tokens="no-sinks").matrix, planted.chain(tokens=~ac.sinks(planted).tokens).matrix)
    assert torch.equal(ac.head_weights(planted, tokens="no-sinks"), ac.head_weights(planted, tokens=rest))
    image = store(logits(9, 6, 9).softmax(-1), norms(9), TokenLayout.image(grid=(2, 4), class_token=True))
    assert image.chain(tokens="no-sinks").states.nonzero()[:, 1].tolist() == [1, 2, 3, 4, 5, 7, 8], "of the patches"


class Planted(nn.Module):
    """One causal layer, whose queries look for the first channel. Token 0 alone has it, and values do not read it."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.embedding = nn.Embedding(9, 8)
        table = torch.randn(9, 8, generator=generator) / 2
        table[:, 0], table[0] = 0, torch.eye(8)[0] * 6
        self.embedding.weight.data = table
        self.query, self.key, self.value = (nn.Linear(8, 8 if k == 0 else 4) for k in range(3))
        self.query.bias.data = torch.tensor([2.0, 0, 0, 0] * 2)
        self.key.weight.data[[0]], self.value.weight.data[:, 0] = torch.eye(8)[[0]], 0
        nn.init.zeros_(self.value.bias)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids)
        q, k, v = (part(x).unflatten(-1, (-1, 4)).transpose(1, 2) for part in (self.query, self.key, self.value))
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2).flatten(2)


def test_a_sink_that_is_planted_in_a_model() -> None:
    model, ids = Planted().eval(), torch.tensor([[0, 3, 5, 1, 2, 7]])
    reading = ac.Reading(tokens=TokenLayout.text())
    for keep in ("maps", "factors"):
        found = ac.capture(model, ids, keep=keep, reading=reading)
        assert marked(ac.sinks(found)) == [0], keep
    assert float(ac.sinks(found).value_norms[..., 0].max()) == 0
    swapped = ac.capture(model, torch.tensor([[4, 3, 5, 1, 2, 7]]), reading=reading)
    assert not marked(ac.sinks(swapped))

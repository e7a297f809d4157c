"""Causal decoders of transformers: maps, factors, padding on either side, and policies for the first token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

import attnchain_interp as ac

SMALL = {
    "vocab_size": 60,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", GROUPED),
    "mistral": ("Mistral", GROUPED),
    "mistral, sliding window": ("Mistral", {**GROUPED, "sliding_window": 4}),
    "qwen2": ("Qwen2", GROUPED),
    "qwen3": ("Qwen3", {**GROUPED, "head_dim": 16}),
    "olmo2": ("Olmo2", GROUPED),
    "phi3": ("Phi3", GROUPED),
    "gpt_neox": ("GPTNeoX", SMALL),
}
every_family = pytest.mark.parametrize("family", FAMILIES)


def build(family: str, implementation: str = "sdpa") -> Any:
    name, config = FAMILIES[family]
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**config))
    model.set_attn_implementation(implementation)
    generator = torch.Generator().manual_seed(1)
    for parameter_name, parameter in model.named_parameters():
        if any(part in parameter_name for part in ("q_proj", "k_proj", "qkv_proj", "query_key_value.weight")):
            parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def ids(batch: int = 2, n: int = 12) -> Tensor:
    return torch.randint(1, 60, (batch, n), generator=torch.Generator().manual_seed(2))


def eager(family: str, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        output = build(family, "eager")(tokens, attention_mask=mask, output_attentions=True)
    return torch.stack(output.attentions, 1)


@every_family
def test_maps_and_factors_equal_the_eager_maps(family: str) -> None:
    model, expected = build(family), eager(family, ids())
    assert float(expected[..., -1, :].std(-1).mean()) > 0.02, "a flat map proves nothing"
    store = ac.capture(model, ids(), keep="maps")
    assert (store.metadata["route"], len(store), store[0].heads) == ("sdpa", 3, 4)
    assert store.tokens.grid is None
    assert torch.allclose(store.maps(), expected, atol=1e-5)
    factored = ac.capture(model, input_ids=ids(), keep="factors")
    assert all(isinstance(layer.attention, ac.Factors) for layer in factored)
    assert torch.allclose(factored.maps(), expected, atol=1e-5)
    assert factored.chain().transitions.triangular(factored.chain().states, upper=False).all()


@every_family
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side(family: str, side: str) -> None:
    """Each example of a padded batch scores as it does alone."""
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, slice(0, 4) if side == "left" else slice(8, 12)] = 0
    model, tokens = build(family), ids() * mask
    for keep in ("maps", "factors"):
        store = ac.capture(model, tokens, attention_mask=mask, keep=keep)
        inside = mask.bool()
        assert torch.equal(store.tokens.mask, inside)
        rows = inside[:, None, None, :, None] & inside[:, None, None, None, :]
        assert torch.allclose(store.maps() * rows, eager(family, tokens, mask) * rows, atol=1e-5)
        for method in (ac.TokenRank(heads="lambda2"), ac.TokenRank(causal="absorb"), ac.Rollout(start=6)):
            scores = method.score(store)
            assert not scores[1][~inside[1]].any()
            if side == "right":  # positions of the left-padded example differ when it is alone
                alone = ac.capture(model, tokens[1:, :8], keep=keep)
                assert torch.allclose(scores[1, :8], method.score(alone)[0], atol=1e-5)
            lone = ac.AttentionStore.from_maps(list(store.maps().transpose(0, 1)[:, 1:, :, inside[1]][..., inside[1]]))
            if not isinstance(method, ac.Rollout):
                assert torch.allclose(scores[1][inside[1]], method.score(lone)[0], atol=1e-5)


def test_padding_keeps_attention_factored() -> None:
    """Causal attention with padding is known for what it is, whatever the mask that the model makes of it."""
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    for layer in ac.capture(build("llama"), ids(), attention_mask=mask, keep="factors"):
        assert isinstance(layer.attention, ac.Factors)
        assert layer.attention.causal
        assert layer.attention.mask is None or layer.attention.mask.numel() == 24


@pytest.mark.parametrize("method", [ac.TokenRank(), ac.TokenRank(heads="lambda2"), ac.MultiBounce(start=5), ac.ColumnSum(),
                                    ac.Rollout(start=11), ac.RawAttention(token=7), ac.RawAttention(token=0, select="column"),
                                    ac.TokenRank(heads="each", causal="absorb"), ac.TokenRank(causal="reverse")])  # fmt: skip
def test_methods_score_factors_as_maps(method: Any) -> None:
    model = build("llama")
    maps, factors = (method.score(ac.capture(model, ids(), keep=keep)) for keep in ("maps", "factors"))
    assert torch.allclose(maps, factors, atol=1e-5)


def test_attribution_of_a_decoder() -> None:
    scores = ac.TokenRank(build("llama")).attribute(ids())
    assert scores.shape == (2, 12)
    assert torch.allclose(scores.sum(1), torch.ones(2))


def test_factors_hold_no_more_than_themselves() -> None:
    """Queries of a joint projection would keep its keys and values alive."""
    store = ac.capture(build("phi3"), ids(), keep="factors")
    for layer in store:
        assert isinstance(layer.attention, ac.Factors)
        assert layer.attention.query.untyped_storage().nbytes() == layer.attention.query.nbytes


def test_a_cache_of_earlier_keys_is_refused() -> None:
    model = build("llama")
    with torch.no_grad():
        past = model(ids(), use_cache=True).past_key_values
    with pytest.raises(ac.AttentionError, match="a cache of earlier keys"):
        ac.capture(model, ids()[:, :1], past_key_values=past)


@pytest.mark.parametrize("name", ["llama", "mistral, sliding window"])
def test_a_mask_of_each_query_is_read_by_what_the_model_computes(name: str) -> None:
    """Two texts in one sequence. Such a mask does not say which tokens are padding."""
    model, seen = build(name), torch.ones(12, 12, dtype=torch.bool).tril()
    seen[6:, :6] = False
    added = torch.zeros(2, 1, 12, 12).masked_fill(~seen, torch.finfo(torch.float32).min)
    with pytest.raises(
        ac.AttentionError, match=r"(?s)shape \(2, 12\).*reading=ac\.Reading\(tokens=ac\.TokenLayout\.text\(\)\)"
    ):
        ac.capture(model, ids(), attention_mask=added)
    for mask in (added, seen.expand(2, 1, 12, 12)):
        for keep in ("maps", "factors"):
            store = ac.capture(model, ids(), attention_mask=mask, keep=keep, reading=ac.Reading(tokens=ac.TokenLayout.text()))
            assert torch.allclose(store.maps(), eager(name, ids(), added), atol=1e-5)


def test_queries_without_keys_in_an_earlier_layer_are_named() -> None:
    """In float64 the eager softmax of padding on the left is NaN, and NaN times zero reaches the other tokens."""
    model, mask = build("llama", "eager").double(), torch.ones(2, 12, dtype=torch.long)
    mask[1, :4] = 0
    with pytest.raises(
        ac.AttentionError, match=r"(?s)layers\.1\.self_attn' holds 32 rows with NaN.*every key masked.*float64"
    ):
        ac.capture(model, ids(), attention_mask=mask)
    with pytest.raises(
        ac.AttentionError, match=r"(?s)layers\.1\.self_attn': the output .* holds NaN.*every key masked.*float64"
    ):
        ac.capture(model, ids(), attention_mask=mask, maps="alti")
    for remedy in (build("llama").double(), build("llama", "eager")):
        assert ac.capture(remedy, ids(), attention_mask=mask).maps().isfinite().all()


def test_bad_inputs() -> None:
    model = build("llama")
    with pytest.raises(ac.AttentionError, match=r"token numbers as an integer tensor \(batch, token\); got torch.float32"):
        ac.capture(model, torch.rand(2, 5))
    with pytest.raises(ac.AttentionError, match=r"attention_mask must be a tensor of shape \(2, 12\)"):
        ac.capture(model, ids(), attention_mask=torch.ones(2, 11))
    with pytest.raises(ac.AttentionError, match='keep="factors": this model computes attention without the fused call'):
        ac.capture(build("llama", "eager"), ids(), keep="factors")

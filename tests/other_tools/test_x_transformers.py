"""x-transformers: encoders, decoders and cross-attention, with its many kinds of attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac

from .contract import TEXT, captured, every_second, fused, image, outputs_of, refused

package: Any = pytest.importorskip("x_transformers", reason="x-transformers is not installed")

NAME = "x-transformers"
IDS = torch.randint(0, 60, (2, 10), generator=torch.Generator().manual_seed(0))
SHAPE: dict[str, Any] = {"dim": 32, "depth": 2, "heads": 2}
ATTEND = outputs_of("attend", lambda out: out[1].post_softmax_attn)  # the maps that the package itself gives
FIRST = "attn_layers.layers.0.1.attend"


def model(kind: str = "Decoder", memory: int = 0, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    layers = getattr(package, kind)(**SHAPE, attn_dim_head=16, **options)
    return package.TransformerWrapper(num_tokens=60, max_seq_len=32, attn_layers=layers, num_memory_tokens=memory).eval()


def crossed(context: Tensor, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
    return model(cross_attend=True, **options), {"context": context}


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rel_pos_bias": True},
        {"alibi_pos_bias": True, "alibi_num_heads": 1},
        {"attn_pre_talking_heads": True},
        {"attn_one_kv_head": True},
        {"attn_sparse_topk": 3},
        {"attn_l2_distance": True},
        {"attn_softclamp_logits": True},
        {"attn_gate_values": True},
        {"add_value_residual": True},
        {"residual_attn": True},
        {"macaron": True},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
def test_maps_are_those_that_it_returns(kind: str, options: dict[str, Any]) -> None:
    padded = "attn_sparse_topk" in options  # some keys are among the best of no query
    store = captured(NAME, model(kind, **options), IDS, spy=ATTEND, target=(3, 1), reading=TEXT if padded else None)
    assert store.metadata["kind"] == kind.lower()


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize("options", [{}, {"rotary_pos_emb": True}, {"attn_kv_heads": 1}, {"alibi_pos_bias": True}])
def test_flash(kind: str, options: dict[str, Any]) -> None:
    flash = model(kind, attn_flash=True, **options)
    store = captured(NAME, flash, IDS, spy=fused, target=(3, 1))
    plain = model(kind, **options)
    plain.load_state_dict(flash.state_dict())
    assert torch.allclose(store.maps(), ac.capture(plain, IDS).maps(), atol=1e-5)


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize(
    "options", [{}, {"macaron": True}, {"attn_gate_values": True}, {"sandwich_norm": True}, {"pre_norm": False}]
)
def test_contributions(kind: str, options: dict[str, Any]) -> None:
    """Its blocks run in a loop of the model itself, which adds them up in modules of their own."""
    made = model(kind, **options)
    store = ac.capture(made, IDS, maps="alti")
    assert store.names == ac.capture(made, IDS).names
    assert torch.allclose(store.maps().sum(-1), torch.ones(()), atol=1e-5)
    assert ac.capture(made, IDS, maps=None).metadata["maps"] == "alti"


def test_a_learnt_sink() -> None:
    decoder = model(attn_head_learned_sink=True)
    store = captured(NAME, decoder, IDS, spy=outputs_of("attn_dropout"), target=(3, 1), attribute=False)
    assert all(layer.sink for layer in store)
    with ATTEND(decoder) as seen:
        decoder(IDS)
    assert torch.allclose(store[0].maps, seen[0][..., 1:], atol=1e-5)


def test_talking_heads_after_the_softmax() -> None:
    mixed = model(attn_post_talking_heads=True)
    talking = [each for name, each in mixed.named_parameters() if "post_softmax_talking_heads" in name]
    for parameter in talking:
        nn.init.constant_(parameter, 0.5)
    captured(NAME, mixed, IDS, spy=outputs_of("post_softmax_talking_heads"), target=(3, 1))
    for parameter in talking:
        nn.init.constant_(parameter, -0.5)
    refused(NAME, f"layer '{FIRST}' has negative entries", mixed, IDS)


@pytest.mark.parametrize("flash", [False, True])
def test_keys_of_a_memory_are_no_tokens(flash: bool) -> None:
    for options in ({"attn_num_mem_kv": 3}, {"attn_add_zero_kv": True}):
        beside = model("Decoder", 0, attn_flash=flash, **options)
        refused(NAME, f"{FIRST} .* attends, but .* beside its 10 tokens: a memory, a cache, or a key of zeros", beside, IDS)


def test_tokens_of_a_memory_have_roles() -> None:
    encoder, roles = model("Encoder", memory=2), torch.tensor([[ac.Role.REGISTER] * 2 + [ac.Role.TEXT] * 10])
    refused(NAME, rf"(?s)given \(2, 10\), .* the 12 tokens of layer '{FIRST}' lie.*roles \(1, 12\)", encoder, IDS)
    reading = ac.Reading(tokens=ac.TokenLayout(roles))
    captured(NAME, encoder, IDS, spy=ATTEND, target=(3, 1), reading=reading)


@pytest.mark.parametrize("flash", [False, True])
@pytest.mark.parametrize("tokens", [7, 10])
def test_cross_attention(tokens: int, flash: bool) -> None:
    decoder, context = crossed(torch.randn(2, tokens, 32), attn_flash=flash)
    spy = fused if flash else ATTEND
    store = captured(
        NAME, decoder, IDS, spy=every_second(spy, 1), reading=ac.Reading(kind="cross"), attribute=False, **context
    )
    assert store.maps().shape == (2, 2, 2, 10, tokens)
    reading = ac.Reading(kind="decoder")
    if tokens == 10:
        own = [f"attn_layers.layers.{place}.1.attend" for place in (0, 3)]
        doubt = rf"(?s)given two sequences of as many tokens.*kind=\"cross\".*{own[0]}.*{own[1]}"
        refused(NAME, doubt, decoder, IDS, **context)
        refused(NAME, doubt, decoder, IDS, reading=reading, **context)
        with every_second(spy, 0)(decoder) as seen:
            decoder(IDS, **context)
        named = ac.capture(decoder, IDS, layers=own, **context)
        assert all(torch.allclose(layer.maps, maps, atol=1e-5) for layer, maps in zip(named, seen, strict=True))
        return
    captured(NAME, decoder, IDS, spy=every_second(spy, 0), target=(3, 1), reading=reading, attribute=not flash, **context)


def test_an_encoder_and_a_decoder() -> None:
    shape = {f"{part}_{name}": value for part in ("enc", "dec") for name, value in {"depth": 1, "heads": 2}.items()}
    torch.manual_seed(0)
    sizes = {"enc_num_tokens": 60, "dec_num_tokens": 60, "enc_max_seq_len": 16, "dec_max_seq_len": 16}
    both = package.XTransformer(dim=32, **shape, **sizes).eval()
    with ATTEND(both) as seen:
        both(IDS, IDS[:, :6])
    refused(NAME, '(?s)several sequences: encoder.*10 tokens.*decoder.*6 tokens, causal.*kind="cross"', both, IDS, IDS[:, :6])
    for kind, expected in zip(("encoder", "decoder", "cross"), seen, strict=True):
        store = ac.capture(both, IDS, IDS[:, :6], reading=ac.Reading(kind=kind))
        assert torch.allclose(store[0].maps, expected, atol=1e-5)


def test_padding() -> None:
    mask = torch.ones(2, 10, dtype=torch.bool)
    mask[1, 6:] = False
    for flash, spy in ((False, ATTEND), (True, fused)):
        encoder = model("Encoder", attn_flash=flash)
        refused(NAME, r"(?s)no attention at all, as padding.*TokenLayout.text\(attention_mask\)", encoder, IDS, mask=mask)
        reading = ac.Reading(tokens=ac.TokenLayout.text(mask))
        captured(NAME, encoder, IDS, spy=spy, target=(3, 1), reading=reading, mask=mask)


def test_images_and_series() -> None:
    torch.manual_seed(0)
    layers = package.Encoder(**SHAPE)
    vit = package.ViTransformerWrapper(image_size=32, patch_size=8, attn_layers=layers, num_classes=5)
    captured(NAME, vit, torch.rand(2, 3, 32, 32), spy=ATTEND, reading=image(4, 4, False))
    series = package.ContinuousTransformerWrapper(max_seq_len=16, dim_in=8, dim_out=3, attn_layers=package.Encoder(**SHAPE))
    captured(NAME, series, torch.randn(2, 10, 8), spy=ATTEND, target=(3, 1))


def test_what_is_no_softmax_over_keys() -> None:
    refused(NAME, "(?s)no module of TransformerWrapper attends.*from_maps", model(attn_sigmoid=True), IDS)
    refused(NAME, f"layer '{FIRST}' has negative entries", model(attn_cog_signed=True), IDS, reading=TEXT)

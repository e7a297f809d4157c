"""The stacks of a model: by kind, by tower, and the names of their layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

import attnchain_interp as ac

from ..transformers_zoo import SIZES
from .test_adapter import member


def test_several_sequences_are_told_apart() -> None:
    model, given = member("bart")
    with pytest.raises(
        ac.AttentionError, match='(?s)several sequences.*Reading.…. with kind="encoder"; kind="decoder"; kind="cross"'
    ):
        ac.capture(model, **given)
    encoder, decoder, cross = (
        ac.capture(model, **given, reading=ac.Reading(kind=kind)) for kind in ("encoder", "decoder", "cross")
    )
    assert [len(store.tokens) for store in (encoder, decoder, cross)] == [12, 9, 12]
    assert cross.queries is not None
    assert torch.equal(cross.queries.roles, decoder.tokens.roles)
    assert cross.metadata["kind"] == "cross"
    assert all("encoder_attn" in name for name in cross.names)
    # a decoder's token looks at the encoder, and the walk goes on there
    start = cross.maps()[:, -1].mean(1)[:, -1]
    assert ac.bounce(encoder.chain(), start, 2).shape == (2, 12)
    with pytest.raises(ac.AttentionError, match="(?s)kind='both' is unknown.*'encoder', 'decoder'"):
        ac.capture(model, **given, reading=ac.Reading(kind="both"))
    with pytest.raises(ac.AttentionError, match=r'(?s)no attention of kind=.pool.*Choose one of kind="encoder"'):
        ac.capture(model, **given, reading=ac.Reading(kind="pool"))
    with pytest.raises(ac.AttentionError, match="(?s)is not a chain.*Keep maps or factors"):
        ac.capture(model, **given, reading=ac.Reading(kind="cross"), keep=[ac.ColumnSums()])


def test_towers_are_told_apart() -> None:
    model, given = member("clip")
    text, vision = (ac.capture(model, **given, reading=ac.Reading(tower=tower)) for tower in ("text", "vision"))
    assert (text.tokens.grid, vision.tokens.grid) == (None, (4, 4))
    assert all(name.startswith("vision_model.") for name in vision.names)
    alone = ac.capture(model.vision_model, given["pixel_values"])
    assert torch.equal(alone.maps(), vision.maps())
    with pytest.raises(ac.AttentionError, match=r"(?s)no attention of tower='audio'.*Choose one of tower=\"text\""):
        ac.capture(model, **given, reading=ac.Reading(tower="audio"))


@pytest.mark.parametrize("name", ["llava", "gemma3", "gemma4", "qwen2_vl", "internvl", "idefics3", "smolvlm"])
def test_a_decoder_without_images_reads_its_text(name: str) -> None:
    """The tower of images does not run. With images, one of the two is meant."""
    model, given = member(name)
    ids = torch.arange(1, 10)[None]
    cases: tuple[dict[str, Any], ...] = ({}, {"pixel_values": None})
    for named in cases:
        found = ac.capture(model, ids, **named)
        assert found.metadata["tower"] == "text"
        assert torch.equal(found.maps(), ac.capture(model, ids, reading=ac.Reading(tower="text")).maps())
    with pytest.raises(ac.AttentionError, match=r'(?s)several sequences.*tower="vision".*tower="text"'):
        ac.capture(model, **given)
    clip, both = member("clip")
    with pytest.raises(ac.AttentionError, match="several sequences"):
        ac.capture(clip, both["input_ids"])


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Electra"])
def test_an_encoder_that_is_made_a_decoder(name: str) -> None:
    """Its first token is no class token: walks start at the last one, as in every decoder."""
    torch.manual_seed(0)
    sizes = {key: SIZES[key] for key in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")}
    config = getattr(transformers, f"{name}Config")(**sizes, intermediate_size=32, is_decoder=True)
    model, ids = getattr(transformers, f"{name}ForCausalLM", transformers.BertLMHeadModel)(config).eval(), torch.arange(3, 12)
    store = ac.capture(model, ids[None])
    assert (store.metadata["kind"], store.kind) == ("decoder", "decoder")
    assert not store.tokens.roles.eq(ac.Role.CLASS).any()
    scores = ac.MultiBounce(model, maps="attention").attribute(ids[None])
    assert torch.equal(scores, ac.MultiBounce(model, maps="attention", start=-1).attribute(ids[None]))


def test_an_encoder_that_does_not_read_is_decoder_stays_an_encoder() -> None:
    torch.manual_seed(0)
    config = transformers.DistilBertConfig(vocab_size=60, dim=48, n_layers=2, n_heads=4, hidden_dim=32)
    config.is_decoder = True
    store = ac.capture(transformers.DistilBertModel(config).eval(), torch.arange(3, 12)[None])
    assert (store.metadata["kind"], store.kind, store.causal) == ("encoder", "encoder", False)
    assert store.tokens.roles[0, 0] == ac.Role.CLASS


def test_layers_are_known_by_name_where_some_have_no_attention() -> None:
    model, given = member("qwen3_next")
    assert ac.capture(model, **given).names == ["layers.1.self_attn", "layers.2.self_attn"]
    model, given = member("albert")
    names = ac.capture(model, **given).names
    assert [name[-3:] for name in names] == ["[0]", "[1]", "[0]", "[1]"]
    assert torch.equal(ac.capture(model, **given, layers=names[1]).maps(), ac.capture(model, **given, layers=1).maps())

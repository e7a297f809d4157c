"""Which sequence of a transformers model is meant, what its tokens are, generated text, and models that are not as usual."""

from __future__ import annotations

import logging
from typing import Any

import accelerate
import pytest
import torch
import transformers
from tokenizers import processors
from torch import Tensor, nn

import attnchain_interp as ac

from ...word_tokenizer import word_tokenizer
from ..transformers_zoo import MEMBERS, build, inputs


def member(name: str) -> tuple[Any, dict[str, Any]]:
    model = build(MEMBERS[name])
    return model, inputs(MEMBERS[name], model)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    words = ["[PAD]", "[CLS]", "[SEP]", "a", "walk", "moves", "on", "[UNK]"]
    made = word_tokenizer(words, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", padding_side="left")
    ends = [("[CLS]", 1), ("[SEP]", 2)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return made


def test_cross_attention_as_factors_and_as_a_file(tmp_path: Any) -> None:
    model, given = member("bart")
    maps, factors = (ac.capture(model, **given, reading=ac.Reading(kind="cross"), keep=keep) for keep in ("maps", "factors"))
    assert torch.allclose(maps.maps(), factors.maps(), atol=1e-6)
    factors.write(tmp_path / "cross.safetensors")
    read = ac.AttentionStore.read(tmp_path / "cross.safetensors")
    assert read.queries is not None
    assert maps.queries is not None
    assert torch.equal(read.queries.roles, maps.queries.roles)
    assert torch.allclose(read.maps(), maps.maps(), atol=1e-6)


def test_a_sink_leaves_rows_below_one() -> None:
    model, given = member("gpt_oss")
    store = ac.capture(model, **given)
    assert store[0].below_one
    sums = store.maps().sum(-1)
    assert float(sums.min()) < 0.5
    assert float(sums.max()) < 1 + 1e-5
    assert not ac.TokenRank(causal="absorb").score(store)[:, 0].any()
    found = ac.capture(model, **given, keep=[ac.StationaryVectors()])["stationary"]
    assert torch.allclose(found[:, 1], ac.stationary(store.chain(1, "each"), 0.99), atol=1e-5)


def test_a_tokenizer_gives_labels_and_special_tokens(tokenizer: Any) -> None:
    model, _ = member("bert")
    given = tokenizer(["a walk moves on", "a walk"], return_tensors="pt", padding=True)
    given.pop("token_type_ids", None)
    tokens = ac.capture(model, **given, reading=ac.Reading(tokenizer=tokenizer)).tokens
    assert tokens.labels is not None
    assert tokens.labels[0] == ["[CLS]", "a", "walk", "moves", "on", "[SEP]"]
    assert tokens.labels[1][:2] == ["[PAD]", "[PAD]"]
    text, special, pad, first = ac.Role.TEXT, ac.Role.SPECIAL, ac.Role.PAD, ac.Role.CLASS
    assert tokens.roles.tolist() == [[first, text, text, text, text, special], [pad, pad, first, text, text, special]]
    without = ac.capture(model, **given).tokens
    assert without.labels is None
    assert torch.equal(without.roles == pad, tokens.roles == pad)


def test_embeddings_in_place_of_numbers(tokenizer: Any) -> None:
    model, given = member("gpt2")
    embedded = model.wte(given["input_ids"]).detach()
    store = ac.capture(model, inputs_embeds=embedded)
    assert ac.capture(model, inputs_embeds=embedded, reading=ac.Reading(tokenizer=tokenizer)).tokens.labels is None
    assert torch.allclose(store.maps(), ac.capture(model, **given).maps(), atol=1e-6)


def test_a_model_without_weights() -> None:
    with torch.device("meta"):
        model = transformers.BertModel(transformers.BertConfig()).eval()
    with pytest.raises(ac.AttentionError, match="the model is on the meta device .* have no weights"):
        ac.capture(model, torch.ones(1, 5, dtype=torch.long))


@pytest.mark.parametrize("implementation", ["flex_attention"])
def test_implementations_that_hide_their_weights(implementation: str) -> None:
    model, given = member("llama")
    model.config._attn_implementation = implementation
    with pytest.raises(ac.AttentionError, match=f"'{implementation}', which shows none. Load the model with"):
        ac.capture(model, **given)


def test_a_compiled_model_is_unwrapped_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    model, given = member("bert")
    expected = ac.capture(model, **given)
    with caplog.at_level(logging.WARNING, "attnchain_interp"):
        store = ac.capture(torch.compile(model), **given)
    assert "BertModel is compiled; the attention is that of the uncompiled model" in caplog.text
    assert store.names == expected.names
    assert torch.equal(store.maps(), expected.maps())


def test_offloaded_weights() -> None:
    model, given = member("llama")
    expected = ac.capture(model, **given).maps()
    accelerate.cpu_offload(model)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert torch.allclose(ac.capture(model, **given).maps(), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_quantised_weights() -> None:
    model, given = member("bert")
    exact = ac.capture(model, **given).maps()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    store = ac.capture(quantised, **given)
    assert 0 < float((store.maps() - exact).abs().max()) < 0.2
    with torch.no_grad():
        quantised.set_attn_implementation("eager")
        own = quantised(**given, output_attentions=True).attentions
    assert torch.allclose(store.maps(), torch.stack(own, 1), atol=1e-5)


def test_padding_on_either_side_of_an_encoder() -> None:
    model, given = member("bert")
    for side in ("left", "right"):
        mask = torch.ones_like(given["input_ids"])
        mask[1, slice(0, 3) if side == "left" else slice(9, 12)] = 0
        store = ac.capture(model, given["input_ids"], mask)
        assert torch.equal(store.tokens.mask, mask.bool())
        assert not store.maps()[1, ..., ~mask[1].bool()].any()
        alone = store.maps()[1:, :, :, mask[1].bool()][..., mask[1].bool()]
        expected = ac.TokenRank().score(ac.AttentionStore.from_maps(list(alone.transpose(0, 1))))
        assert torch.allclose(ac.TokenRank().score(store)[1:, mask[1].bool()], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["bamba", "falcon_h1"])
def test_the_decays_of_a_recurrence_are_no_attention(name: str) -> None:
    """Eight tokens fill a chunk, whose decays are so fast that the rows of their matrix sum to nearly one."""
    model, given = member(name)
    longer = ac.capture(model, given["input_ids"])
    store = ac.capture(model, given["input_ids"][:, :8])
    assert (store.names, store.unread) == (longer.names, ())
    assert torch.allclose(store[0].maps, longer[0].maps[..., :8, :8], atol=1e-5)


def test_attention_of_one_token() -> None:
    model, _ = member("gpt2")
    scores: Tensor = ac.TokenRank(model).attribute(torch.tensor([[7]]))
    assert scores.tolist() == [[1]]


def test_a_pipeline_is_refused_before_it_runs(tokenizer: Any) -> None:
    """A method of texts gives it numbers, at which it stopped with an error of its own."""
    config = transformers.LlamaConfig(vocab_size=60, hidden_size=48, num_hidden_layers=2, num_attention_heads=4)
    llama = transformers.LlamaForCausalLM(config)
    pipeline: Any = transformers.pipeline("text-generation", model=llama, tokenizer=tokenizer)
    with pytest.raises(ac.AttentionError, match=r"(?s)is a pipeline; .*TextGenerationPipeline.model"):
        ac.TokenRank(pipeline).attribute(torch.tensor([[3, 4, 5]]))
    with pytest.raises(ac.AttentionError, match="is a pipeline"):
        ac.TokenRank(pipeline).attribute_text([3, 4, 5], tokenizer=tokenizer)

    own: Any = type("Own", (type(pipeline),), {})
    with pytest.raises(ac.AttentionError, match="is a pipeline"):
        ac.capture(own(model=llama, tokenizer=tokenizer), "three")

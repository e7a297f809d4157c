"""Token numbers and embeddings as inputs, as Captum calls a transformers model: by position."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import transformers
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from PIL import Image
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp import attribution
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.gradients import logits_kept

from . import small_models as small


def bert() -> Any:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return transformers.BertModel(transformers.BertConfig(vocab_size=99, **shape)).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    return transformers.GPT2Model(transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=2, n_head=4)).eval()


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(3, 99, (2, 7), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("build", [bert, gpt2])
def test_embeddings_score_as_the_token_numbers_they_are_of(build: Any, ids: Tensor) -> None:
    model = build()
    method, embeddings = ac.TokenRank(model, tokens="all"), model.get_input_embeddings()(ids)
    of_numbers = method.attribute(ids)
    assert of_numbers.shape == ids.shape
    found = method.attribute(embeddings, 3)
    assert (found.shape, found.dtype, found.is_contiguous()) == (embeddings.shape, embeddings.dtype, True)
    assert torch.allclose(found, of_numbers[..., None].expand_as(found), atol=1e-6)
    assert torch.allclose(method.attribute(embeddings, output="tokens"), of_numbers, atol=1e-6)
    assert torch.allclose(method.attribute((embeddings,), internal_batch_size=1)[0], found, atol=1e-6)


def test_the_mask_is_the_second_argument_either_way(ids: Tensor) -> None:
    model = bert()
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    method = ac.ColumnSum(model)
    of_numbers = method.attribute(ids, None, mask)
    found = method.attribute(model.get_input_embeddings()(ids), None, (mask,), output="tokens")
    assert torch.allclose(found, of_numbers, atol=1e-6)
    assert not found[1, 4:].any()
    assert bool(found[0].all())


def test_noise_goes_on_embeddings(ids: Tensor) -> None:
    model = bert()
    method, embeddings = ac.Rollout(model), model.get_input_embeddings()(ids).detach()
    smooth = NoiseTunnel(method).attribute(embeddings, nt_samples=3, stdevs=0.05)
    assert isinstance(smooth, Tensor)
    assert smooth.shape == embeddings.shape
    assert bool((sensitivity_max(method.attribute, embeddings) > 0).all())


@pytest.mark.parametrize("name", ["CLIP", "Siglip"])
def test_images_in_the_place_of_a_text_have_a_remedy(name: str) -> None:
    model, images, input_ids = small.two_towers(name), torch.randn(1, 3, 16, 16).double(), torch.tensor([[5, 6, 2]])
    method = ac.TokenRank(model)
    with pytest.raises(ac.AttentionError, match="Pass the images beside the token numbers") as error:
        method.attribute(images, model_kwargs={"input_ids": input_ids})
    call = str(error.value).split("numbers: ")[1].rstrip(".")
    named = {"attribute": method.attribute, "input_ids": input_ids, "images": images, "ac": ac}
    assert eval(call, named).shape == (1, 2, 2)  # noqa: S307 - the remedy of the message


def test_noise_on_token_numbers_is_refused(ids: Tensor) -> None:
    method = ac.Rollout(bert())
    message = (
        r"(?s)inputs is torch.float32 of shape \(4, 7\); BertModel takes token numbers .* attribute the embeddings, model.get"
    )
    with pytest.raises(ac.AttentionError, match=message):
        NoiseTunnel(method).attribute(ids, nt_samples=2)
    with pytest.raises(ac.AttentionError, match="Noise cannot be added to token numbers"):
        sensitivity_max(method.attribute, ids)


def test_other_models_are_called_as_they_come() -> None:
    images, embedded = torch.randn(1, 3, 8, 8), torch.randn(1, 5, 8)

    class Numbers(nn.Module):
        def forward(self, input_ids: Tensor) -> None: ...

    class Anything(nn.Module):
        def forward(self, *arguments: Tensor, **named: Tensor) -> None: ...

    assert Call(images, extra=(1,)).arguments(nn.Linear(8, 8)) == ((images, 1), {})
    assert Call(images, extra=(1,)).arguments(Anything()) == ((images, 1), {})
    assert Call(embedded).arguments(lambda x: x) == ((embedded,), {})
    assert Call(torch.tensor([[1]]), extra=(None,)).arguments(bert())[1] == {}
    with pytest.raises(ac.AttentionError, match="Numbers takes token numbers"):
        Call(embedded).arguments(Numbers())


class Keywords(transformers.ViTForImageClassification):
    def forward(self, *, pixel_values: Tensor, interpolate_pos_encoding: bool | None = None) -> Any:  # type: ignore[override]
        return super().forward(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding)


@pytest.mark.parametrize("build", [ac.TokenRank, ac.GradientAttention])
def test_a_model_that_takes_keywords_alone(build: Any) -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.ViTConfig(image_size=8, patch_size=4, **shape)
    model, images = Keywords(config).eval(), torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    plain = transformers.ViTForImageClassification(config).eval()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(build(model).attribute(images, 1), build(plain).attribute(images, 1))
    with pytest.raises(
        ac.AttentionError,
        match=r"(?s)additional_forward_args holds 1, .* Keywords takes keywords alone.*model_kwargs=.*interpol",
    ):
        build(model).attribute(images, 1, additional_forward_args=(None,))


def test_token_numbers_and_embeddings_by_keyword(ids: Tensor) -> None:
    class Named(nn.Module):
        def forward(self, *, input_ids: Tensor | None = None, inputs_embeds: Tensor | None = None) -> None: ...

    embedded = torch.randn(2, 7, 4)
    assert Call(ids).arguments(Named()) == ((), {"input_ids": ids})
    assert Call(embedded).arguments(Named()) == ((), {"inputs_embeds": embedded})


def test_keywords_of_the_model(ids: Tensor) -> None:
    model, mask = gpt2(), torch.ones_like(ids)
    mask[0, 5:] = 0
    method = ac.ColumnSum(model, tokens="all")
    found = method.attribute(ids, model_kwargs={"attention_mask": mask})
    assert torch.equal(found, method.score(ac.capture(model, ids, attention_mask=mask)))
    assert not torch.equal(found, method.attribute(ids))
    apart = method.attribute(ids, model_kwargs={"attention_mask": mask}, internal_batch_size=1)
    assert torch.allclose(apart, found, atol=1e-6)
    with pytest.raises(ac.AttentionError, match=r"(?s)in the place of cache, .*model_kwargs=\{\"attention_mask\": …\}"):
        method.attribute(ids, additional_forward_args=(mask,))


def test_a_larger_image_is_told_of_interpolation() -> None:
    shape: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    model = transformers.ViTModel(transformers.ViTConfig(image_size=8, patch_size=4, **shape)).eval()
    images = torch.rand(2, 3, 12, 8)
    with pytest.raises(ac.AttentionError, match=r'images are 12×8 (?s:.*)model_kwargs=\{"interpolate_pos_encoding": True\}'):
        ac.Rollout(model).attribute(images)
    found = ac.Rollout(model).attribute(images, output="grid", model_kwargs={"interpolate_pos_encoding": True})
    assert found.shape == (2, 3, 2)


def test_the_options_of_a_capture_are_divided_with_the_batch() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False).eval(), torch.randn(3, 4, 8)
    reading = ac.Reading(tokens=ac.TokenLayout.image(3, (2, 2)))
    whole = ac.ColumnSum(model).attribute(x, output="grid", reading=reading)
    apart = ac.ColumnSum(model).attribute(x, output="grid", reading=reading, internal_batch_size=2)
    assert whole.shape == (3, 2, 2)
    assert torch.allclose(whole, apart, atol=1e-6)
    text = ac.Reading(tokens=ac.TokenLayout.text())  # of any length
    assert torch.allclose(ac.ColumnSum(model).attribute(x, output="tokens", reading=text), whole.flatten(1))


def test_other_inputs_are_refused_by_their_type(ids: Tensor) -> None:
    method: Any = ac.Rollout(bert())
    images = torch.rand(1, 3, 8, 8)
    for given, message in (
        (images.numpy(), r"inputs is of type ndarray(?s:.*)pixel_values, else torch.from_numpy\(inputs\)"),
        (
            Image.new("RGB", (8, 8)),
            r"inputs is of type Image(?s:.*)processor\(images=image, return_tensors=.pt.\).pixel_values",
        ),
        ([images[0]], r"inputs is of type list(?s:.*)attribute\(torch.stack\(inputs\)\)"),
        ([Image.new("RGB", (8, 8))] * 2, r"inputs is of type list(?s:.*)processor\(images=image"),
        ("text", r"inputs is of type str(?s:.*)attribute_text"),
        (["text", "other"], r"inputs is of type list(?s:.*)attribute_text\(text, tokenizer=…\) for each"),
        (
            {"input_ids": ids, "attention_mask": ids},
            r"inputs is of type dict(?s:.*)attribute\(inputs\['input_ids'\], model_kwargs=",
        ),
        (transformers.BatchEncoding({"input_ids": ids}), r"BatchEncoding(?s:.*)attribute\(inputs\['input_ids'\]\)"),
        (None, r"inputs is of type NoneType(?s:.*)Pass the tensor"),
        ((images.numpy(),), "inputs is of type ndarray"),
        ((ids, ids), r"inputs holds 2 items(?s:.*)model_kwargs"),
    ):
        with pytest.raises(ac.AttentionError, match=message):
            method.attribute(given)


def test_a_compiled_model_takes_embeddings(ids: Tensor) -> None:
    model = bert()
    embedded = model.get_input_embeddings()(ids)
    assert Call(embedded).arguments(torch.compile(model)) == Call(embedded).arguments(model)


def test_keywords_of_any_name_alone(ids: Tensor) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = bert()

        def forward(self, **batch: Tensor) -> Any:
            return self.bert(**batch)

    model = Named().eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)Named takes \*\*batch alone.*score\(capture\(model, input_ids=…\)\)"):
        ac.ColumnSum(model).attribute(ids)
    store = ac.capture(model, input_ids=ids)
    assert torch.equal(ac.ColumnSum(model).score(store), ac.ColumnSum(model.bert).attribute(ids, output="tokens"))


def test_the_logits_of_the_last_positions_alone_are_asked_for() -> None:
    model: Any = small.llama()
    assert logits_kept(model, 3) == {"logits_to_keep": 3}
    assert (
        logits_kept(model, 3, {"labels": None})
        == logits_kept(model, 3, {"reading": ac.Reading(arguments={"labels": 1})})
        == {}
    )
    ids = small.ids()
    found = ac.TokenRank(model).attribute(ids, output="tokens", model_kwargs={"labels": ids})
    assert torch.equal(found, ac.TokenRank(model).attribute(ids, output="tokens"))
    assert logits_kept(small.bert(), 3) == logits_kept(lambda x: x, 3) == logits_kept(getattr, 3) == logits_kept(None, 3) == {}
    seen: list[Any] = []
    with model.register_forward_hook(lambda _, __, output: seen.append(output.logits.shape[1])):
        ac.TokenRank(model).attribute(small.ids())
        ac.TokenRank(model).attribute(small.ids(), model_kwargs={"logits_to_keep": 2})
    assert seen == [1, 2]


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    "method",
    [
        *(ac.TokenRank, ac.LogitTokenRank, ac.GradientTokenRank, attribution.LeaveOneOut, attribution.IntegratedGradients),
        partial(attribution.ShapleyValues, n_samples=1),
    ],
)
def test_an_empty_cache_is_left_out(method: Any, fixed: bool) -> None:
    model, ids = small.llama(), small.ids()
    make: Any = partial(transformers.StaticCache, max_cache_len=32) if fixed else transformers.DynamicCache
    cache = make(config=model.config)
    expected = method(model).attribute(ids, (-1, 5))
    for options in ({"model_kwargs": {"cache": cache}}, {"additional_forward_args": (None, None, cache)}):
        found = method(model).attribute(ids, (-1, 5), internal_batch_size=1, **options)
        assert torch.allclose(found, expected, atol=1e-5)
    assert int(cache.get_seq_length()) == 0
    assert ac.prove(model, ids, cache=cache).holds


def test_a_filled_cache_is_refused_by_name() -> None:
    model, ids = small.llama(), small.ids()
    for method in (ac.TokenRank, ac.LogitTokenRank, attribution.LeaveOneOut, attribution.IntegratedGradients):
        cache = transformers.DynamicCache(config=model.config)
        model(ids, cache=cache)
        assert cache.get_seq_length() == 7
        with pytest.raises(ac.AttentionError, match="(?s)cache that the model is given holds 7 tokens.*the whole text"):
            method(model).attribute(ids, (-1, 5), model_kwargs={"cache": cache})

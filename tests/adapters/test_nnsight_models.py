"""Models that nnsight has wrapped: captured from outside, and reduced layer by layer inside their own traces."""

from __future__ import annotations

import ast
import gc
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import cloudpickle.cloudpickle
import nnsight
import pytest
import torch
import transformers
from nnsight.intervention import serialization
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters import tracing
from attnchain_adapters.tracing import bounce, column_sum, entropy, reduce_layers, second_eigenvalue, stationary, token_rank
from attnchain_interp.capture import adapter_named

from .nnsight_zoo import (
    IMAGES,
    LONG,
    SHORT,
    SIZES,
    WORDS,
    decoder,
    encoder,
    gpt2,
    language_model,
    refused,
    timm_model,
    tokenizer,
    wrapped,
)

FOUR = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
EVERYTHING = (stationary, second_eigenvalue, partial(bounce, start=-1, steps=3), column_sum, entropy)


def encoded(prompts: Any) -> dict[str, Any]:
    return dict(tokenizer()(prompts, padding=True, return_tensors="pt"))


def core(store: Any, tokens: Tensor | str = "all") -> list[Tensor]:
    """`EVERYTHING` of a store, by the functions of the core."""
    states = tokens.expand(store.batch, -1) if isinstance(tokens, Tensor) else store.tokens.select(tokens)
    every = states[:, None, None].expand(store.maps().shape[:-1])
    padding = ~store.tokens.mask[:, None, None, :, None]
    heads = ac.restrict(torch.where(padding, 1 / len(store.tokens), store.maps()), every)  # padding may be NaN or zero
    entropies = torch.where(every, torch.special.entr(heads.matrix).sum(-1), 0).sum(-1) / every.sum(-1)
    walks = ac.bounce(heads, len(store.tokens) - 1, 3)
    return [ac.stationary(heads), ac.second_eigenvalue(heads), walks, ac.bounce(heads, heads.uniform, 1), entropies]


def ranked(maps: Tensor) -> Tensor:
    """TokenRank of every map of a decoder, where jumps lead to the last token."""
    return ac.stationary(maps, 0.5, torch.eye(maps.shape[-1])[-1])


def assert_alike(found: list[Tensor], wanted: list[Tensor]) -> None:
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert torch.allclose(one, other, atol=1e-5)


MODELS: dict[str, tuple[Callable[[], Any], Any]] = {
    "decoder": (decoder, LONG),
    "fused decoder": (partial(decoder, "sdpa"), [LONG, SHORT]),
    "encoder": (partial(encoder, "sdpa"), IMAGES),
    "timm": (timm_model, IMAGES),
}


@pytest.mark.parametrize(("build", "inputs"), MODELS.values(), ids=MODELS)
def test_a_capture_is_that_of_the_module(build: Callable[[], Any], inputs: Any) -> None:
    model = build()
    store = ac.capture(model, inputs)
    if isinstance(inputs, Tensor):
        direct = ac.capture(model._module, inputs)
    else:
        direct = ac.capture(model._module, **tokenizer()(inputs, padding=True, padding_side="left", return_tensors="pt"))
    assert torch.allclose(store.maps(), direct.maps(), atol=1e-6)
    assert torch.equal(store.tokens.roles, direct.tokens.roles)
    assert store.names == direct.names
    assert store.metadata == {**direct.metadata, "adapter": f"nnsight, {direct.metadata['adapter']}"}


def test_a_capture_keeps_what_is_asked_for() -> None:
    model = decoder("sdpa")
    whole = ac.capture(model, LONG, reading=ac.Reading(kind="decoder"))
    assert whole.tokens.labels == [LONG.split()]
    factors = ac.capture(model, LONG, keep="factors", layers=-1)
    assert isinstance(factors[0].attention, ac.Factors)
    assert torch.allclose(factors.maps(), whole.maps()[:, -1:], atol=1e-6)
    reduced = ac.capture(model, LONG, keep=[ac.StationaryVectors()])
    assert reduced.metadata["adapter"] == "nnsight, transformers"
    assert torch.allclose(reduced["stationary"], ac.stationary(whole.maps()), atol=1e-6)


def test_contributions_are_those_of_the_module() -> None:
    model = decoder("sdpa")
    store = ac.capture(model, LONG, layers=-1, maps="alti")
    direct = ac.capture(model._module, **tokenizer()(LONG, return_tensors="pt"), layers=-1, maps="alti")
    assert torch.equal(store.maps(), direct.maps())
    assert store.tokens.labels == [LONG.split()]


def silence(model: Any) -> None:
    """Edits an nnsight model in place."""
    with model.edit(inplace=True):
        model.model.layers[0].output[:, 2] = 0


def silenced(module: Any, call: Callable[[], Any]) -> Any:
    """What a call gives while a hook does what `silence` does."""

    def zero(_: nn.Module, __: Any, output: Tensor) -> None:
        if output.shape[1] > 2:  # an edit applies to the first step of a generation
            output[:, 2] = 0

    with module.model.layers[0].register_forward_hook(zero):
        return call()


def test_edits_apply_to_a_capture() -> None:
    model = decoder("sdpa")
    module, before = model._module, ac.capture(model, LONG)
    silence(model)
    store = ac.capture(model, LONG)
    assert float((store.maps() - before.maps()).abs().max()) > 1e-2
    assert torch.equal(store.maps(), silenced(module, lambda: ac.capture(model._module, **encoded(LONG))).maps())
    factors = ac.capture(model, LONG, keep="factors")
    assert torch.allclose(factors.maps(), store.maps(), atol=1e-6)
    contributions = ac.capture(model, LONG, layers=[1, 2], maps="alti")
    direct = silenced(module, lambda: ac.capture(module, **encoded(LONG), layers=[1, 2], maps="alti"))
    assert torch.equal(contributions.maps(), direct.maps())
    gradients = ac.capture_gradients(model, LONG, target=(-1, 3), layers=-1)
    wanted = silenced(module, lambda: ac.capture_gradients(module, **encoded(LONG), target=(-1, 3), layers=-1))
    assert torch.allclose(gradients.gradient(0), wanted.gradient(0), atol=1e-6)
    model.clear_edits()
    assert torch.equal(ac.capture(model, LONG).maps(), before.maps())
    assert torch.equal(ac.capture(module, **encoded(LONG)).maps(), before.maps())


def copied(bound: Any) -> Any:
    """The edited copy, which 0.8 binds beside its tracer."""
    return bound[1] if isinstance(bound, tuple) else bound


def test_an_edited_copy_leaves_its_model_alone() -> None:
    model = decoder()
    with model.edit() as bound:
        copied(bound).model.layers[0].output[:, 2] = 0
    edited = copied(bound)
    assert torch.equal(ac.capture(model, LONG).maps(), ac.capture(model._module, **encoded(LONG)).maps())
    wanted = silenced(model._module, lambda: ac.capture(model._module, **encoded(LONG)))
    assert torch.equal(ac.capture(edited, LONG).maps(), wanted.maps())
    with edited.trace(LONG):
        ranks = nnsight.save(token_rank(edited))
    assert torch.allclose(ranks, ranked(wanted.maps()), atol=1e-5)


def test_an_edit_of_the_map_after_its_softmax_is_seen() -> None:
    model, call = decoder(), "attention_interface_0" if nnsight.__version__ < "0.8" else "attention_interface_1"
    before = ac.capture(model, LONG).maps()
    with model.edit(inplace=True):
        inside = getattr(model.model.layers[1].self_attn.source, call).source.nn_functional_dropout_0
        inside.output = inside.output.flip(1)  # each head gets the map of another
    store = ac.capture(model, LONG)
    assert torch.equal(store.maps()[:, :2], torch.stack([before[:, 0], before[:, 1].flip(1)], 1))
    if nnsight.__version__ < "0.8":
        return
    with model.trace(LONG):
        ranks = nnsight.save(token_rank(model))
    assert torch.allclose(ranks, ranked(store.maps()), atol=1e-5)


def test_edits_apply_to_a_trace() -> None:
    model = decoder()
    silence(model)
    with model.trace(LONG):
        ranks = nnsight.save(token_rank(model))
    assert torch.allclose(ranks, ranked(ac.capture(model, LONG).maps()), atol=1e-5)


@pytest.mark.parametrize("prompts", [LONG, [LONG, SHORT]], ids=["one", "padded"])
def test_a_generation_is_captured(prompts: Any) -> None:
    model = decoder("sdpa")
    store = ac.capture(model.generate, prompts, **FOUR)
    direct = ac.capture(model._module.generate, **encoded(prompts), **FOUR)
    assert store.maps().shape[-1] == 10
    assert torch.equal(store.maps().nan_to_num(), direct.maps().nan_to_num())
    assert torch.equal(store.tokens.roles, direct.tokens.roles)
    assert store.metadata["adapter"] == "nnsight, transformers"
    assert store.tokens.labels is not None
    assert store.tokens.labels[0][:7] == LONG.split()
    few = ac.capture(model.generate, prompts, keep=[ac.StationaryVectors()], layers=-1, **FOUR)
    assert few["stationary"].shape == (len(store.tokens.labels), 1, 4, 10)


def test_edits_apply_to_a_generation() -> None:
    model = decoder("sdpa")
    silence(model)
    store = ac.capture(model.generate, LONG, **FOUR)
    direct = silenced(model._module, lambda: ac.capture(model._module.generate, **encoded(LONG), **FOUR))
    assert torch.equal(store.maps(), direct.maps())


def assert_same_text(found: Any, wanted: Any) -> None:
    assert (found.input_tokens, found.output_tokens, found.policy) == (
        wanted.input_tokens,
        wanted.output_tokens,
        wanted.policy,
    )
    assert torch.allclose(found.token_attr, wanted.token_attr, atol=1e-6)
    assert torch.allclose(found.output_probs, wanted.output_probs, atol=1e-6)


TEXT_METHODS = [
    ac.TokenRank,
    ac.MultiBounce,
    partial(ac.Rollout, maps="alti"),
    ac.GradientAttention,
    ac.TransitionAttentionMaps,
]


@pytest.mark.parametrize("method", TEXT_METHODS)
def test_a_text_has_a_row_for_each_token_that_is_generated(method: Any) -> None:
    model = decoder("sdpa")
    prompt = " ".join(LONG.split()[:4])
    if method(model).reads_embeddings and nnsight.__version__ < "0.8":
        with pytest.raises(ac.AttentionError, match="the traces of nnsight 0.7 take no embeddings"):
            method(model).attribute_text(prompt, target="city of")
        return
    model._module.generation_config.eos_token_id = None  # nothing ends early
    result = method(model).attribute_text(prompt, max_new_tokens=3)  # by the model's own tokenizer
    direct = method(model._module).attribute_text(prompt, tokenizer=tokenizer(), max_new_tokens=3)
    assert (result.input_tokens, len(result.output_tokens)) == (prompt.split(), 3)
    assert_same_text(result, direct)
    given = method(model).attribute_text(prompt, target="city of", tokenizer=model.tokenizer)
    assert given.output_tokens == ["city", "of"]


def test_edits_apply_to_a_text() -> None:
    model = decoder("sdpa")
    module = model._module
    module.generation_config.eos_token_id = None
    before = ac.TokenRank(model).attribute_text(LONG, max_new_tokens=4)
    silence(model)
    result = ac.TokenRank(model).attribute_text(LONG, max_new_tokens=4)
    method = ac.TokenRank(module)
    direct = silenced(module, lambda: method.attribute_text(LONG, tokenizer=tokenizer(), max_new_tokens=4))
    assert_same_text(result, direct)
    with pytest.raises(AssertionError):
        assert_same_text(result, before)


def test_weights_are_loaded_for_a_text(tmp_path: Path) -> None:
    model = decoder("sdpa")
    model._module.save_pretrained(tmp_path)
    result = ac.TokenRank(language_model(str(tmp_path))).attribute_text(LONG, target="tower")
    assert_same_text(result, ac.TokenRank(model).attribute_text(LONG, target="tower"))


def test_an_encoder_decoder_writes_a_text() -> None:
    module = cross_attending(transformers.T5ForConditionalGeneration)
    model = language_model(module)
    result = ac.MultiBounce(model).attribute_text("the tower in a", max_new_tokens=3)
    direct = ac.MultiBounce(module).attribute_text("the tower in a", tokenizer=tokenizer(), max_new_tokens=3)
    assert len(result.output_tokens) == 3
    assert_same_text(result, direct)


class Head(nn.Module):
    """A module of a user's, around a known model."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.head = backbone, nn.Linear(48, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def test_a_known_model_inside_the_module_is_captured() -> None:
    inside = timm_model()._module
    inside.reset_classifier(0)
    model: Any = nnsight.NNsight(Head(inside))
    with model.edit(inplace=True):
        model.backbone.blocks[0].output[:, 3] = 0
    store = ac.capture(model, IMAGES)
    assert store.names == [f"backbone.blocks.{k}.attn" for k in range(3)]
    with model.trace(IMAGES):
        ranks = nnsight.save(token_rank(model, layers=store.names))
    assert torch.allclose(ranks, ac.stationary(store.maps()), atol=1e-5)
    assert not torch.allclose(store.maps(), ac.capture(model._module, IMAGES).maps(), atol=1e-3)


def test_a_capture_runs_the_model_once() -> None:
    model, runs = decoder(), []
    model._module.model.layers[0].register_forward_hook(lambda *_: runs.append(1))
    ac.capture(model, LONG)
    assert len(runs) == 1


def test_weights_are_loaded_for_a_capture(tmp_path: Path) -> None:
    model = decoder("sdpa")
    model._module.save_pretrained(tmp_path)
    lazy = language_model(str(tmp_path))
    assert next(lazy.parameters()).is_meta
    assert torch.allclose(ac.capture(lazy, LONG).maps(), ac.capture(model, LONG).maps(), atol=1e-6)


READ = {
    "decoder": (decoder, LONG, None),
    "padded decoder": (decoder, [LONG, SHORT], None),
    "padded decoder of learned positions": (gpt2, [LONG, SHORT], None),
    "decoder, not its first token": (decoder, LONG, torch.arange(7) > 0),
    "encoder": (encoder, IMAGES, None),
    "encoder, patches": (encoder, IMAGES, torch.arange(17) > 0),
    "timm, fused": (timm_model, IMAGES, None),
    "timm, fused, patches": (timm_model, IMAGES, torch.arange(17) > 0),
    "timm, eager": (partial(timm_model, fused=False), IMAGES, None),
    "timm beit": (partial(timm_model, name="beit_base_patch16_224"), IMAGES, None),
    "timm dinov3": (partial(timm_model, name="vit_small_patch16_dinov3"), IMAGES, None),
}


def test_the_maps_of_a_layer_are_gone_before_the_next_is_computed() -> None:
    model, shapes, held = encoder(), list[torch.Size](), list[int]()

    def column(P: Tensor, _: Tensor) -> Tensor:
        shapes.append(P.shape)
        return P[..., 0].clone()

    def tensors() -> list[Tensor]:
        return [each for each in gc.get_objects() if type(each) is Tensor]

    earlier = tensors()  # of other tests
    known = {id(each) for each in earlier}

    def count(*_: Any) -> None:
        held.append(sum(each.shape in shapes and id(each) not in known for each in tensors()))

    hooks = [layer.attention.register_forward_pre_hook(count) for layer in model._module.layers]
    with torch.no_grad(), model.trace(IMAGES):
        nnsight.save(reduce_layers(model, column))
    for hook in hooks:
        hook.remove()
    assert held == [0] * len(hooks)


@pytest.mark.parametrize(("build", "inputs", "tokens"), READ.values(), ids=READ)
def test_a_trace_gives_what_a_capture_gives(build: Callable[[], Any], inputs: Any, tokens: Tensor | None) -> None:
    model = build()
    with model.trace(inputs):
        found = nnsight.save(reduce_layers(model, *EVERYTHING, tokens=tokens))
        output = nnsight.save(model.output)
    wanted = core(ac.capture(model, inputs), "all" if tokens is None else tokens)
    assert float(wanted[0].std(-1).mean()) > 0.01, "flat vectors prove nothing"
    assert_alike(found, wanted)
    assert not any(result.requires_grad for result in found)
    with model.trace(inputs):
        ranks = nnsight.save(token_rank(model, damping=0.8, tokens=tokens))
        undisturbed = nnsight.save(model.output)
    assert not torch.allclose(ranks, found[0], atol=1e-3)
    assert torch.equal(*(one if isinstance(one, Tensor) else one[0] for one in (output, undisturbed)))


@pytest.mark.parametrize(("build", "inputs", "tokens"), READ.values(), ids=READ)
def test_the_rank_is_that_of_the_method(build: Callable[[], Any], inputs: Any, tokens: Tensor | None) -> None:
    model = build()
    with model.trace(inputs):
        ranks = nnsight.save(token_rank(model, tokens=tokens))
    store = ac.capture(model, inputs)
    states = "all" if tokens is None else tokens.expand(store.batch, -1)
    for k in range(len(store)):
        wanted = ac.TokenRank(layers=k, heads="each", tokens=states, balanced=False).score(store)
        assert torch.allclose(ranks[:, k], wanted, atol=1e-5)


FAMILIES: dict[str, tuple[Any, Any]] = {
    "bert": (transformers.BertConfig, transformers.BertModel),
    "distilbert": (transformers.DistilBertConfig, transformers.DistilBertModel),
    "gpt2": (transformers.GPT2Config, transformers.GPT2LMHeadModel),
    "gemma3": (transformers.Gemma3TextConfig, transformers.Gemma3ForCausalLM),
    "markuplm": (transformers.MarkupLMConfig, transformers.MarkupLMModel),  # hides a key by −10⁴
    "t5": (transformers.T5Config, transformers.T5EncoderModel),
}


@pytest.mark.filterwarnings("ignore:Module .* has a submodule named 'output'")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_known_by_the_mask_of_each_family(family: str, side: str) -> None:
    config, kind = FAMILIES[family]
    small = {"n_embd": 48, "n_layer": 3, "n_head": 4, "dim": 48, "n_layers": 3, "n_heads": 4, "hidden_dim": 32}
    small |= {"d_model": 48, "d_kv": 12, "d_ff": 32, "num_layers": 3, "num_heads": 4, "head_dim": 12, "sliding_window": 4}
    torch.manual_seed(0)
    model: Any = kind(config(**SIZES, **small)).eval()
    model.set_attn_implementation("eager")
    ids, mask = torch.randint(3, 10, (2, 8)), torch.ones(2, 8, dtype=torch.long)
    mask[1, slice(0, 3) if side == "left" else slice(5, 8)] = 0
    with torch.no_grad():
        maps = torch.stack(model(ids, attention_mask=mask, output_attentions=True).attentions, 1)
    traced: Any = nnsight.NNsight(model)
    with traced.trace(ids, attention_mask=mask):
        found = nnsight.save(reduce_layers(traced, *EVERYTHING[:2]))
    states = mask.bool()[:, None, None].expand(maps.shape[:-1])
    wanted = ac.restrict(torch.where(states[..., None], maps, 1 / 8), states)
    assert not found[0].masked_select(~states).any()
    assert_alike(found, [ac.stationary(wanted), ac.second_eigenvalue(wanted)])


def test_invokes_of_different_lengths_give_what_each_gives_alone() -> None:
    model, alone = decoder(), {}
    for prompt in (LONG, SHORT):
        with model.trace(prompt):
            alone[prompt] = nnsight.save(reduce_layers(model, *EVERYTHING))
    with model.trace() as tracer:
        with tracer.invoke(LONG):
            long = nnsight.save(reduce_layers(model, *EVERYTHING))
        with tracer.invoke(SHORT):
            short = nnsight.save(reduce_layers(model, *EVERYTHING))
    assert_alike(long, alone[LONG])
    assert not any(result[..., :3].any() for result in (short[0], short[2], short[3])), "padding scores nothing"
    assert_alike([result[..., 3:] if result.ndim == 4 else result for result in short], alone[SHORT])


def test_interventions_upstream_change_the_result() -> None:
    model = decoder()
    layers = tracing.attention_modules(model)
    with model.trace(LONG):
        before = nnsight.save(token_rank(model, layers=layers[:1]))
        model.model.layers[0].output[:, 2] = 0
        after = nnsight.save(token_rank(model, layers=layers[1:]))
    with model.trace() as tracer:
        with tracer.invoke(LONG):
            model.model.layers[0].output[:, 2] = 0
        with tracer.invoke():  # the same batch, a walk of its own
            together = nnsight.save(token_rank(model))

    def intervene(_: nn.Module, __: Any, output: Tensor) -> None:
        output[:, 2] = 0

    with model._module.model.layers[0].register_forward_hook(intervene):
        wanted = ranked(ac.capture(model, LONG).maps())
    untouched = ranked(ac.capture(model, LONG).maps())
    assert float((wanted - untouched)[:, 1:].abs().max()) > 1e-2
    assert torch.allclose(torch.cat([before, after], 1), wanted, atol=1e-5)
    assert torch.allclose(together, wanted, atol=1e-5)


def test_a_session_carries_results_from_trace_to_trace() -> None:
    model = decoder()
    with model.session():
        with model.trace(LONG):
            first = token_rank(model)
        with model.trace(LONG):
            model.model.layers[0].output[:, first[0, 0].sum(0).argmax()] = 0
            second = token_rank(model, layers=tracing.attention_modules(model)[1:])
        change = nnsight.save((second - first[:, 1:]).abs().sum(-1))
    assert change.shape == (1, 2, 4)
    assert float(change.max()) > 1e-2


def test_gradients_inside_a_trace() -> None:
    model = decoder()
    with model.trace(LONG):
        embedded = model.model.embed_tokens.output
        ranks = token_rank(model, detach=False)
        with ranks[..., 3].sum().backward():  # type: ignore[reportOptionalContextManager]
            found = nnsight.save(embedded.grad)
    module = model._module
    inputs = module.model.embed_tokens(model.tokenizer(LONG, return_tensors="pt").input_ids).detach().requires_grad_()
    maps = torch.stack(module(inputs_embeds=inputs, output_attentions=True).attentions, 1)
    (wanted,) = torch.autograd.grad(ranked(maps)[..., 3].sum(), inputs)
    assert float(wanted.abs().max()) > 1e-3
    assert torch.allclose(found, wanted, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("function", EVERYTHING, ids=["stationary", "second_eigenvalue", "bounce", "column_sum", "entropy"])
def test_gradients_are_finite_where_maps_are_zero(function: Any) -> None:
    model = decoder()
    with model.trace(LONG):
        embedded = model.model.embed_tokens.output
        (result,) = reduce_layers(model, function, detach=False)
        with result.square().sum().backward():  # type: ignore[reportOptionalContextManager]
            gradient = nnsight.save(embedded.grad)
    assert bool(gradient.isfinite().all())
    assert bool(gradient.any())


class Own(nn.Module):
    """An attention that nobody knows, with what it returns."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax = nn.Softmax(-1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = self.softmax(3 * x @ x.mT)[:, None]
        return (weights @ x[:, None])[:, 0], weights


class Doubled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Own(), Own()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x)[0])[0]


def test_modules_of_ones_own_are_named() -> None:
    model, x = wrapped(Doubled()), torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    with model.trace(x):
        ranks = nnsight.save(token_rank(model, layers=[model.first, model.second]))
    with model.trace(x):
        maps = model.first.softmax.output[:, None]
        by_hand = nnsight.save(stationary(maps, torch.ones(2, 1, 5, dtype=torch.bool)))
    wanted = ac.stationary((3 * x @ x.mT).softmax(-1))
    assert torch.allclose(ranks[:, 0, 0], wanted, atol=1e-5)
    assert torch.allclose(by_hand[:, 0], wanted, atol=1e-5)
    with pytest.raises(ValueError, match=r"0 attention modules of Doubled are known here.*layers=\[model"), model.trace(x):
        token_rank(model)


def test_torchs_own_encoder() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, dropout=0)
    model = wrapped(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False))
    x, padding = torch.randn(2, 6, 16), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    with model.trace(x, src_key_padding_mask=padding):
        found = nnsight.save(reduce_layers(model, *EVERYTHING[:2]))
        output = nnsight.save(model.output)
    assert torch.allclose(output[0], model._module(x, src_key_padding_mask=padding)[0], atol=1e-5)
    first: Any = model._module.layers[0].self_attn
    _, maps = first(x, x, x, key_padding_mask=padding, average_attn_weights=False)
    wanted = ac.restrict(maps, ~padding[:, None])
    assert torch.allclose(found[0][:, 0], ac.stationary(wanted), atol=1e-5)
    assert torch.allclose(found[1][:, 0], ac.second_eigenvalue(wanted), atol=1e-4)
    if nnsight.__version__ >= "0.8":  # the hooks of 0.7 shut the fast path
        with torch.no_grad():
            refused(r"it never runs.*set_fastpath_enabled\(False\)", model, token_rank, x)


def test_padding_of_torchs_attention_may_be_boolean() -> None:
    torch.manual_seed(0)
    model = wrapped(nn.MultiheadAttention(16, 2, batch_first=True))
    x, padding = torch.randn(2, 6, 16), torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    with model.trace(x, x, x, padding, False):
        ranks = nnsight.save(token_rank(model))
    _, maps = model._module(x, x, x, padding, average_attn_weights=False)
    assert torch.allclose(ranks[:, 0], ac.stationary(ac.restrict(maps, ~padding[:, None])), atol=1e-5)


def test_functions_of_ones_own_and_layers_by_name() -> None:
    model = decoder()
    last = model.model.layers[-1].self_attn
    with model.trace(LONG):
        (returns,) = nnsight.save(reduce_layers(model, lambda P, states: (P * P.mT).sum((-2, -1)), layers=[last]))
        found = nnsight.save(returns)
    maps = ac.capture(model, LONG, layers=-1).maps()
    assert torch.allclose(found, (maps * maps.mT).sum((-2, -1)), atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    model = decoder()
    model._module.to(dtype)
    with model.trace(LONG):
        ranks = nnsight.save(token_rank(model))
    maps = torch.stack(model._module(**encoded(LONG), output_attentions=True).attentions, 1)
    assert (maps.dtype, ranks.dtype) == (dtype, torch.float32)
    assert torch.allclose(ranks, ranked(maps), atol=1e-5)
    store = ac.capture(model, LONG)
    assert torch.allclose(store.maps(), maps.float(), atol=2e-3)
    assert ac.TokenRank().score(store).dtype == torch.float32


def test_chains_stay_exact_under_autocast() -> None:
    model, walk = decoder(), partial(bounce, start=-1, steps=3)
    with torch.autocast("cpu", dtype=torch.bfloat16), model.trace(LONG):
        maps = nnsight.save(reduce_layers(model, lambda P, _: P))
    with torch.autocast("cpu", dtype=torch.bfloat16), model.trace(LONG):
        found = nnsight.save(reduce_layers(model, walk, column_sum))
    every = torch.ones(1, 1, 7, dtype=torch.bool)
    wanted = [torch.stack([function(P, every) for P in maps[0].unbind(1)], 1) for function in (walk, column_sum)]
    assert_alike([result.double() for result in found], [result.double() for result in wanted])
    assert float((maps[0] - ac.capture(model, LONG).maps()).abs().max()) > 1e-3, "the model ran in half precision"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> None:
    """remote="local", which runs what a request would carry, where this distribution is not installed."""
    travelling: set[str] = set()
    monkeypatch.setattr(cloudpickle.cloudpickle, "_PICKLE_BY_VALUE_MODULES", travelling)
    monkeypatch.setattr(nnsight.ndif, "_PICKLE_BY_VALUE_MODULES", travelling, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    simulation = import_module(f"nnsight.intervention.backends.local{'_simulation' if nnsight.__version__ < '0.8' else ''}")
    backend = simulation.LocalSimulationBackend
    hides = "_block_user_modules" if nnsight.__version__ < "0.8" else "_hide_local_modules"
    hide = getattr(backend, hides)

    def hide_all(self: Any) -> dict[str, Any]:
        monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
        return hide(self)

    monkeypatch.setattr(backend, hides, hide_all)
    registers = simulation if hasattr(simulation, "pull_env") else nnsight.ndif
    monkeypatch.setattr(registers, "pull_env", lambda: None)  # it registers modules of working trees, not those installed


class Absent:
    """Finds nothing of ours, and lets nothing else find it."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name.startswith("attnchain"):
            raise ModuleNotFoundError(f"No module named {name!r}")


def test_what_travels_imports_torch_alone() -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in Path(tracing.__file__).parent.glob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)}
    foreign = {name for name in imported if name.split(".")[0] not in {*sys.stdlib_module_names, "torch"}}
    assert len(imported) > 10
    assert all(name.startswith(tracing.__name__) for name in foreign), foreign


@pytest.mark.usefixtures("server")
def test_remotely_the_package_travels() -> None:
    model = decoder()
    with model.trace(LONG):
        wanted = nnsight.save(reduce_layers(model, *EVERYTHING))
    ninths = ac.stationary(ac.capture(model, LONG).maps(), 0.9, torch.eye(7)[-1])
    tracing.register()
    with model.trace(LONG, remote="local"):
        found = nnsight.save(reduce_layers(model, *EVERYTHING))
    assert_alike(found, wanted)
    with model.trace(LONG, remote="local"):
        ranks = nnsight.save(tracing.token_rank(model, damping=0.9))
    assert torch.allclose(ranks, ninths, atol=1e-5)

    def late() -> None:
        with model.trace(LONG, remote="local"):
            model.model.layers[1].output[:] = 0
            token_rank(model)

    with pytest.raises(ValueError, match=r"(?s)had run already.*with tracer.invoke\(\):"):
        late()


@pytest.mark.usefixtures("server")
def test_what_has_travelled_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A local simulation unpacks the request and then runs what is here; this runs what was unpacked."""
    model = decoder()
    with model.trace(LONG):
        wanted = nnsight.save(reduce_layers(model, *EVERYTHING))
    tracing.register()
    request = serialization.dumps((reduce_layers, EVERYTHING))
    for name in [name for name in sys.modules if name.startswith("attnchain")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    travelled, functions = serialization.loads(request)
    assert travelled is not reduce_layers
    with model.trace(LONG):
        found = nnsight.save(travelled(model, *functions))
    assert_alike(found, wanted)
    fused = timm_model()
    with fused.trace(IMAGES):
        ranks = nnsight.save(travelled(fused, functions[0]))
    assert ranks[0].shape == (2, 3, 3, 17)


@pytest.mark.usefixtures("server")
def test_remotely_it_does_not_travel_unregistered() -> None:
    model = decoder()
    with pytest.raises(ModuleNotFoundError, match="attnchain_adapters"), model.trace(LONG, remote="local"):
        nnsight.save(token_rank(model))


def test_without_weights_the_remedy_is_named() -> None:
    model = decoder("sdpa")
    refused("model.model.layers.0.self_attn returned no weights: its implementation is 'sdpa'", model, token_rank, LONG)
    model.set_attn_implementation("eager")
    with model.trace(LONG):
        ranks = nnsight.save(token_rank(model))
    assert ranks.shape == (1, 3, 4, 7)


def test_layers_asked_for_too_late() -> None:
    model = decoder()

    def behind_a_later_value() -> None:
        with model.trace(LONG):
            nnsight.save(model.model.layers[1].output)
            token_rank(model)

    def twice() -> None:
        with model.trace(LONG):
            token_rank(model)
            reduce_layers(model, entropy)

    with pytest.raises(ValueError, match="layers.0.self_attn had run already.*in forward order.*A tower .* is read by itself"):
        behind_a_later_value()
    with pytest.raises(ValueError, match="all functions in one call"):
        twice()


def test_what_is_no_chain_is_refused() -> None:
    model = decoder()
    model._module.train()
    for layer in model._module.model.layers:
        layer.self_attn.attention_dropout = 0.5
    refused(r"a row of model.model.layers.0.self_attn sums to 1 ±.*call \.eval\(\)", model, token_rank, LONG)
    config = transformers.SwinConfig(image_size=32, patch_size=2, embed_dim=16, depths=[1, 1], num_heads=[2, 2], window_size=4)
    windows: Any = transformers.SwinModel(config, add_pooling_layer=False).eval()
    windows.set_attn_implementation("eager")
    swin = wrapped(windows)
    refused("attends within windows", swin, token_rank, torch.randn(2, 3, 32, 32))
    sound = wrapped(wavlm())
    refused("one map for all heads, which may be their mean", sound, token_rank, torch.randn(1, 4000))
    both = wrapped(nn.TransformerDecoderLayer(16, 2, 32, batch_first=True, dropout=0))
    other_tokens = "attends to other tokens than it attends from"
    refused(f"multihead_attn {other_tokens}", both, token_rank, torch.randn(1, 4, 16), torch.randn(1, 6, 16))
    t5 = wrapped(cross_attending())
    ids, six = torch.ones(1, 4, dtype=torch.long), torch.ones(1, 6, dtype=torch.long)
    lengths = r"differ in shape, \[\(1, 2, 4\), \(1, 2, 6\)\], .* or a part of the model"
    with pytest.raises(ValueError, match=lengths), t5.trace(six, decoder_input_ids=ids):
        token_rank(t5)
    crossed = t5.decoder.block[0].layer[1].EncDecAttention  # as many tokens in both, so that nothing but its inputs tells
    with pytest.raises(ValueError, match=f"EncDecAttention {other_tokens}"), t5.trace(ids, decoder_input_ids=ids):
        token_rank(t5, layers=[crossed])
    with t5.trace(input_ids=ids, decoder_input_ids=ids):
        ranks = nnsight.save(token_rank(t5, layers=tracing.attention_modules(t5.encoder)))
    assert ranks.shape == (1, 2, 2, 4)


def wavlm() -> Any:
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return transformers.WavLMModel(transformers.WavLMConfig(**sizes, num_conv_pos_embedding_groups=2)).eval()


def cross_attending(kind: Any = transformers.T5Model) -> Any:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"vocab_size": len(WORDS), "d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    sizes |= {"dropout_rate": 0, "decoder_start_token_id": 0, "eos_token_id": None}
    model: Any = kind(transformers.T5Config(**sizes)).eval()
    model.set_attn_implementation("eager")
    return model


def test_arguments_that_are_refused() -> None:
    model = decoder()
    with pytest.raises(ValueError, match="model is a LlamaForCausalLM; pass the nnsight model"):
        token_rank(model._module)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"damping": 1}, "damping is 1; in a trace it must be at least 0 and below 1"),
        (
            {"tokens": torch.ones(3, dtype=torch.bool)},
            r"of shape \(3,\); the states are a bool tensor, \(7,\)",
        ),
        ({"tokens": torch.zeros(7, dtype=torch.bool)}, "an example has no state"),
        ({"layers": []}, "1 functions and 0 layers"),
    ]
    for arguments, message in refused:
        with pytest.raises(ValueError, match=message), model.trace(LONG):
            token_rank(model, **arguments)
    with pytest.raises(ValueError, match="start is 9 and steps 2; there are 7 tokens"), model.trace(LONG):
        reduce_layers(model, partial(bounce, start=9))


def test_a_scan_has_no_values_to_reduce() -> None:
    model = decoder()
    with pytest.raises(ValueError, match="under scan .* has shapes alone, and there are no values to reduce"):  # noqa: SIM117
        with model.scan(LONG):  # a block of its own: nnsight before 0.8 finds no other
            token_rank(model)


def test_captures_that_are_refused() -> None:
    model = decoder()
    within = "(?s)cannot do so inside a trace.*Use attnchain_adapters.tracing.token_rank"
    refused(within, model, lambda model: ac.capture(model, LONG), LONG, kind=ac.AttentionError)
    with pytest.raises(ac.AttentionError, match=r"(?s)no inputs came.*capture\(model, prompt\)"):
        ac.capture(model)
    with pytest.raises(ac.AttentionError, match="remote=True: capture runs here"):
        ac.capture(model, LONG, remote=True)
    with pytest.raises(
        ac.AttentionError, match=r"(?s)the method 'scan' of the nnsight model.*capture\(model.generate, prompt\)"
    ):
        ac.capture(model.scan, LONG)
    silence(model)
    with pytest.raises(ac.AttentionError, match="^layer 9 does not exist"):  # also where an edit waits in vain
        ac.capture(model, LONG, layers=9)
    assert ac.capture(wrapped(Doubled()), torch.randn(1, 5, 4)).names == ["first", "second"]


def test_an_untried_nnsight_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder()
    monkeypatch.setattr(nnsight, "__version__", "0.9.2")
    with pytest.warns(UserWarning, match=r"this is nnsight 0.9.2, and only nnsight 0.7 and 0.8 have been tried"):
        ac.capture(model, LONG)
    with pytest.warns(UserWarning, match="this is nnsight 0.9.2"), model.trace(LONG):
        token_rank(model)


def test_a_missing_extra_has_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nnsight", None)
    with pytest.raises(ImportError, match=r"pip install 'attnchain-interp\[nnsight\]'"):
        tracing.register()
    monkeypatch.delitem(sys.modules, "attnchain_adapters.nnsight_models", raising=False)
    with pytest.raises(ImportError, match=r"pip install 'attnchain-interp\[nnsight\]'"):
        adapter_named("nnsight")

"""Whole samplings: the pipeline's own image, the mean over what was captured step by step, and everything put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import accelerate
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor

import attnchain_interp as ac
from attnchain_interp import diffusion

from ...tiny_pipelines import diffusers, flux, stable_diffusion, stable_diffusion_xl

PROMPT = "a photo of corgi with blue hat"


def sampled(pipe: Any, steps: int = 2, prompt: str = PROMPT, **options: Any) -> torch.Tensor:
    size = 16 if pipe.__class__.__name__ == "FluxPipeline" else 32
    extra = {"max_sequence_length": 12, "guidance_scale": 0.0} if size == 16 else {}
    call = {"num_inference_steps": steps, "height": size, "width": size, "output_type": "latent", **extra, **options}
    return pipe(prompt, generator=torch.Generator().manual_seed(0), **call).images


def by_hand(pipe: Any, which: dict[str, Any], steps: int, **options: Any) -> list[ac.AttentionStore]:
    """Captures of the denoiser's own forwards, each run again by itself."""
    denoiser, calls = getattr(pipe, "transformer", None) or pipe.unet, []

    def remember(_: Any, inputs: Any, kwargs: Any) -> None:
        calls.append((inputs, kwargs))

    with denoiser.register_forward_pre_hook(remember, with_kwargs=True):
        sampled(pipe, steps, **options)
    return [ac.capture(denoiser, *inputs, reading=ac.Reading(**which), **kwargs) for inputs, kwargs in calls]


CASES: list[tuple[Callable[[], Any], dict[str, Any]]] = [
    (flux, {}),
    (stable_diffusion, {"kind": "self", "grid": (8, 8)}),
    (stable_diffusion, {"kind": "cross", "grid": (16, 16)}),
    (stable_diffusion_xl, {"kind": "self", "grid": (16, 16)}),
]


@pytest.mark.parametrize(("build", "which"), CASES)
def test_the_mean_is_that_of_the_forwards(build: Callable[[], Any], which: dict[str, Any]) -> None:
    pipe = build()
    plain = sampled(pipe)
    with diffusion.capture_pipeline(pipe, prompt=PROMPT, **which) as run:
        image = sampled(pipe)
    assert torch.equal(image, plain)
    stores = by_hand(pipe, which, 2)
    half = len(stores[0].tokens.roles) // 2  # of classifier-free guidance, the prompt's
    expected = torch.stack([store.maps().mean((1, 2))[half:] for store in stores]).mean(0)
    torch.testing.assert_close(run.store.maps()[:, 0, 0], expected, atol=1e-6, rtol=1e-5)
    assert (run.forwards, run.store.names) == (2, ["mean"])
    labelled = run.store.tokens.labels
    assert which.get("kind") == "self" or (labelled and "cor" in labelled[0])


@pytest.mark.parametrize(("name", "options"), [("DDPMScheduler", {}), ("DDIMScheduler", {"eta": 0.5})])
def test_pictures_of_several_calls_in_one_block_are_the_same(name: str, options: dict[str, Any]) -> None:
    pipe = stable_diffusion()
    pipe.scheduler = getattr(diffusers, name)()  # it draws noise in each step, by the generator of the call
    plain = sampled(pipe, **options)
    with diffusion.capture_pipeline(pipe, "self", grid=(8, 8)):
        assert all(torch.equal(sampled(pipe, **options), plain) for _ in range(2))


def test_some_steps_and_each_layer_with_heads_by_lambda2() -> None:
    pipe = flux()
    with diffusion.capture_pipeline(pipe, steps=[1], heads="lambda2", each_layer=True) as run:
        sampled(pipe, 3)
    second = by_hand(pipe, {}, 3)[1]
    weights = ac.head_weights(second, "lambda2", tokens="all")
    expected = torch.einsum("blh,blhqk->blqk", weights, second.maps())
    torch.testing.assert_close(run.store.maps()[:, :, 0], expected, atol=1e-5, rtol=1e-4)
    assert (run.forwards, run.store.names) == (1, second.names)


def test_a_word_is_bounced_through_text_and_image() -> None:
    pipe = flux()
    with diffusion.capture_pipeline(pipe, prompt=PROMPT) as run:
        sampled(pipe)
    store = run.store
    corgi = diffusion.tokens_of_word(store.tokens, "corgi")
    assert corgi == [4, 5]
    start = torch.zeros(1, len(store.tokens))
    start[:, corgi] = 1 / len(corgi)
    found = store.tokens.to_grid(ac.MultiBounce(steps=3, start=start, layers="all", tokens="all", balanced=False).score(store))
    matrix = store.maps()[0, 0, 0]
    walked = start[0] @ matrix @ matrix @ matrix
    torch.testing.assert_close(found[0].flatten(), walked[12:], atol=1e-6, rtol=1e-4)


def test_everything_is_put_back_also_after_an_error() -> None:
    pipe = flux()
    hooks = {name: len(module._forward_hooks) for name, module in pipe.transformer.named_modules()}
    processors = dict(pipe.transformer.attn_processors)
    with pytest.raises(ZeroDivisionError), diffusion.capture_pipeline(pipe):
        sampled(pipe, callback_on_step_end=lambda *_: 1 / 0)
    assert {name: len(module._forward_hooks) for name, module in pipe.transformer.named_modules()} == hooks
    assert not pipe.transformer._forward_pre_hooks
    assert all(pipe.transformer.attn_processors[name] is own for name, own in processors.items())


def test_what_is_refused_says_why() -> None:
    pipe = stable_diffusion()
    with pytest.raises(ac.AttentionError, match="several sequences"), diffusion.capture_pipeline(pipe):
        sampled(pipe)
    with pytest.raises(ac.AttentionError, match="ran 0 times in the block, never as steps="), diffusion.capture_pipeline(pipe):
        pass
    with pytest.raises(ac.AttentionError, match="heads='max' is unknown"), diffusion.capture_pipeline(pipe, heads="max"):  # type: ignore[arg-type]
        pass
    with (
        pytest.raises(ac.AttentionError, match="object is not a pipeline that is known"),
        diffusion.capture_pipeline(object()),
    ):
        pass
    cross: Any = {"kind": "cross", "grid": (8, 8)}
    with pytest.raises(ac.AttentionError, match="needs chains"), diffusion.capture_pipeline(pipe, heads="lambda2", **cross):
        sampled(pipe)
    with (
        pytest.raises(ac.AttentionError, match=r"14 tokens and the model reads 12.*sees 'of hat'"),
        diffusion.capture_pipeline(pipe, prompt="a photo of a blue hat with a blue hat of hat", **cross),
    ):
        sampled(pipe)
    pipe.enable_attention_slicing("max")
    with (
        pytest.raises(ac.AttentionError, match=r"disable_attention_slicing\(\)"),
        diffusion.capture_pipeline(pipe, **cross),
    ):
        sampled(pipe)
    pipe.disable_attention_slicing()
    with diffusion.capture_pipeline(pipe, **cross) as run:
        with pytest.raises(ac.AttentionError, match="when the with block is left"):
            _ = run.store
        sampled(pipe)


def test_forwards_that_are_not_there_are_refused() -> None:
    pipe, which = stable_diffusion(), {"kind": "self", "grid": (8, 8)}
    others: list[Any] = [[0, -1], 1, None, ["0"], [0.5], slice(-1, None), slice(0, None, 0), slice(None, None, 0.5)]
    for steps in others:
        with (
            pytest.raises(ac.AttentionError, match="(?s)a slice or a list of the numbers of forwards, from 0 on.*slice"),
            diffusion.capture_pipeline(pipe, steps=steps, **which),
        ):
            pass
    for steps, how in (([0, 9], "not"), ([], "never"), (slice(2, 2), "never")):
        with (
            pytest.raises(ac.AttentionError, match=rf"the denoiser ran 2 times in the block, {how} as steps="),
            diffusion.capture_pipeline(pipe, steps=steps, **which) as run,
        ):
            sampled(pipe)
        assert (run.gathered is not None) == (how == "not"), "the forwards that ran are not lost"
    with diffusion.capture_pipeline(pipe, steps=torch.tensor([1]), **which) as run:  # type: ignore[arg-type]
        sampled(pipe)
    assert run.forwards == 1


class Pooled:
    """A user's processor, whose self-attention goes to every other token."""

    def __call__(self, attn: Any, hidden_states: Any, encoder_hidden_states: Any = None, attention_mask: Any = None) -> Any:
        others = hidden_states[:, ::2] if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projection(states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projection, states in ((attn.to_q, hidden_states), (attn.to_k, others), (attn.to_v, others))
        )
        mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


def test_tokens_that_a_processor_merges_are_refused_in_the_first_forward() -> None:
    pipe, ran = stable_diffusion(), []
    which: dict[str, Any] = {"grid": (8, 8)}
    pipe.unet.set_attn_processor(Pooled())
    pipe.unet.register_forward_hook(lambda *_: ran.append(1))
    for context in (diffusion.capture_pipeline(pipe, "self", **which), diffusion.self_attention_guidance(pipe, **which)):
        with pytest.raises(ac.AttentionError, match="attends from 64 to 32 tokens, not from 64 to 64"), context:
            sampled(pipe)
    assert not ran


def test_another_size_is_refused() -> None:
    pipe = stable_diffusion()
    with (
        pytest.raises(ac.AttentionError, match=r"size of an image changes from \(4, 16, 16\) to \(4, 8, 8\)"),
        diffusion.capture_pipeline(pipe, "self", grid=(8, 8)),
    ):
        [sampled(pipe, height=side, width=side) for side in (32, 16)]


def test_a_negative_prompt_in_forwards_of_its_own_is_refused() -> None:
    pipe, negative = flux(), {"negative_prompt": "a dog", "true_cfg_scale": 3.0}
    with (
        pytest.raises(ac.AttentionError, match=r"(?s)forward 1 .* reads another text than forward 0.*slice\(0, None, 2\)"),
        diffusion.capture_pipeline(pipe),
    ):
        sampled(pipe, **negative)
    with diffusion.capture_pipeline(pipe, steps=slice(0, None, 2)) as run:
        sampled(pipe, **negative)
    stores = by_hand(pipe, {}, 2, **negative)[::2]
    expected = torch.stack([store.maps().mean((1, 2)) for store in stores]).mean(0)
    torch.testing.assert_close(run.store.maps()[:, 0, 0], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["transformer", "unet"])
def test_a_compiled_denoiser_runs_uncompiled_and_is_put_back(name: str) -> None:
    pipe, which = (flux(), {}) if name == "transformer" else (stable_diffusion(), {"kind": "cross", "grid": (8, 8)})
    with diffusion.capture_pipeline(pipe, **which) as plain:
        sampled(pipe)
    compiled = torch.compile(getattr(pipe, name), backend="eager")
    setattr(pipe, name, compiled)
    with diffusion.capture_pipeline(pipe, **which) as run:
        sampled(pipe)
    assert torch.equal(run.store.maps(), plain.store.maps())
    assert getattr(pipe, name) is compiled
    grid: dict[str, Any] = {"grid": (8, 8)} if which else {"max_sequence_length": 12}
    assert diffusion.concept_map(pipe, torch.rand(1, 3, 16, 16), PROMPT, "corgi", **grid).shape[0] == 1


def test_a_denoiser_compiled_in_place_runs_uncompiled() -> None:
    pipe, which = stable_diffusion(), {"kind": "cross", "grid": (8, 8)}
    with diffusion.capture_pipeline(pipe, **which) as plain:
        sampled(pipe)
    with diffusion.self_attention_guidance(pipe, grid=(8, 8)):
        guided = sampled(pipe)
    ran = []

    def backend(graph: Any, _: Any) -> Any:
        ran.append(graph)
        return graph

    for part in (pipe.unet.mid_block, pipe.unet):
        part.compile(backend=backend)
        with diffusion.capture_pipeline(pipe, **which) as run:
            sampled(pipe)
        assert torch.equal(run.store.maps(), plain.store.maps())
        with diffusion.self_attention_guidance(pipe, grid=(8, 8)):
            assert torch.equal(sampled(pipe), guided)
        assert not ran


def test_a_cache_that_skips_layers_is_refused() -> None:
    pipe, which = stable_diffusion(), {"kind": "cross", "grid": (8, 8)}
    plain, held = pipe.unet.mid_block.forward, []

    def cached(*inputs: Any, **kwargs: Any) -> Any:
        if len(held) % 2 == 0:
            held.append(plain(*inputs, **kwargs))
            return held[-1]
        held.append(None)
        return held[-2]

    pipe.unet.mid_block.forward = cached
    with (
        pytest.raises(ac.AttentionError, match=r"(?s)1 of 4 attention layers.*mid_block.*disable_cache\(\)"),
        diffusion.capture_pipeline(pipe, **which),
    ):
        sampled(pipe)
    held.clear()
    with diffusion.capture_pipeline(pipe, steps=[0], **which) as run:
        sampled(pipe)
    assert run.forwards == 1


def test_offloaded_weights() -> None:
    def mean(pipe: Any) -> torch.Tensor:
        with diffusion.capture_pipeline(pipe) as run:
            sampled(pipe)
        return run.store.maps()

    expected = mean(flux())
    by_layer, by_model, by_group, cpu = flux(), flux(), flux(), torch.device("cpu")
    accelerate.cpu_offload(by_layer.transformer, execution_device=cpu)
    by_model.enable_model_cpu_offload(device="cpu")
    by_group.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")
    assert all(parameter.is_meta for parameter in by_layer.transformer.parameters())
    for pipe in (by_layer, by_model, by_group):
        torch.testing.assert_close(mean(pipe), expected)
    assert all(parameter.is_meta for parameter in by_layer.transformer.parameters())


def test_processors_of_the_users_are_read_and_stay() -> None:
    which: Any = {"kind": "cross", "grid": (8, 8)}
    pipe, own = stable_diffusion(), AttnProcessor()
    with diffusion.capture_pipeline(pipe, **which) as fused:
        sampled(pipe)
    pipe.unet.set_attn_processor(own)
    with diffusion.capture_pipeline(pipe, **which) as eager:
        sampled(pipe)
    torch.testing.assert_close(eager.store.maps(), fused.store.maps(), atol=1e-6, rtol=1e-4)
    assert all(processor is own for processor in pipe.unet.attn_processors.values())


def test_words() -> None:
    pipe = stable_diffusion()
    with diffusion.capture_pipeline(pipe, kind="cross", grid=(8, 8), prompt="a hat of a corgi hat") as run:
        sampled(pipe, prompt="a hat of a corgi hat")
    tokens = run.store.tokens
    assert diffusion.tokens_of_word(tokens, "hat") == [2, 7]
    assert diffusion.tokens_of_word(tokens, "Corgi") == [5, 6]
    with pytest.raises(ac.AttentionError, match=r"'cat' is not among the tokens of the prompt: <s> a hat of cor ##gi"):
        diffusion.tokens_of_word(tokens, "cat")
    with pytest.raises(ac.AttentionError, match="no labels"):
        diffusion.tokens_of_word(ac.TokenLayout(tokens.roles), "hat")

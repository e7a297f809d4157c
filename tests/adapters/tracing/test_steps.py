"""The steps of a generation: the chain of each step is that of the tokens so far."""

from __future__ import annotations

from functools import partial
from typing import Any

import nnsight
import pytest
import torch
import transformers

import attnchain_interp as ac
from attnchain_adapters.tracing import bounce, reduce_layers, token_rank
from attnchain_adapters.tracing.shown_attention import Attention
from attnchain_adapters.tracing.steps import whole

from ..nnsight_zoo import LONG, SHORT, SIZES, causal, decoder, gpt2, language_model

FOUR: dict[str, Any] = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}


@pytest.mark.parametrize("build", [decoder, gpt2])
def test_each_step_has_the_chain_of_a_capture(build: Any) -> None:
    model = build()
    with torch.no_grad(), model.generate(LONG, **FOUR) as tracer:
        rows: dict[str, Any] = {}
        found = nnsight.save([])
        for _ in tracer.iter[:4]:
            found.append(reduce_layers(model, partial(bounce, start=-1, steps=1), layers=[0, -1], rows=rows))
    maps = ac.capture(model.generate, LONG, layers=[0, -1], **FOUR).maps()
    assert [step[0].shape[-1] for step in found] == [7, 8, 9, 10]
    for step, (row,) in enumerate(found):
        assert torch.allclose(row, maps[..., 6 + step, : 7 + step], atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*was n.*:UserWarning")  # an open loop ends so
def test_ranks_of_each_step() -> None:
    model = decoder()
    with model.generate(LONG, **FOUR) as tracer:
        rows: dict[str, Any] = {}
        ranks = nnsight.save([])
        for _ in tracer.iter[:]:
            ranks.append(token_rank(model, rows=rows))
    maps = ac.capture(model.generate, LONG, **FOUR).maps()
    for step, rank in enumerate(ranks):
        wanted = ac.stationary(maps[..., : 7 + step, : 7 + step], 0.5, torch.eye(7 + step)[-1])
        assert torch.allclose(rank, wanted, atol=1e-5)
    assert len(ranks) == 4


def test_padding_stays_padding() -> None:
    model = decoder()
    with model.generate([LONG, SHORT], **FOUR) as tracer:
        rows: dict[str, Any] = {}
        ranks = nnsight.save([])
        for _ in tracer.iter[:4]:
            ranks.append(token_rank(model, rows=rows))
    with model.generate(SHORT, **FOUR) as tracer:
        rows = {}
        alone = nnsight.save([])
        for _ in tracer.iter[:4]:
            alone.append(token_rank(model, rows=rows))
    for both, one in zip(ranks, alone, strict=True):
        assert not both[1, ..., :3].any()
        assert torch.allclose(both[1, ..., 3:], one[0], atol=1e-5)


def test_interventions_of_each_step_count() -> None:
    model = decoder()
    with model.generate(LONG, **FOUR) as tracer:
        rows: dict[str, Any] = {}
        ranks = nnsight.save([])
        for _ in tracer.iter[:4]:
            model.model.embed_tokens.output[:, -1] = 0
            ranks.append(token_rank(model, rows=rows))

    def zero(_: Any, __: Any, output: torch.Tensor) -> None:
        output[:, -1] = 0

    with model._module.model.embed_tokens.register_forward_hook(zero):
        maps = ac.capture(model._module.generate, **model.tokenizer(LONG, return_tensors="pt"), **FOUR).maps()
    assert torch.allclose(ranks[-1], ac.stationary(maps, 0.5, torch.eye(10)[-1]), atol=1e-5)


def test_a_later_step_needs_the_earlier_rows() -> None:
    model = decoder()

    def trace() -> None:
        with model.generate(LONG, **FOUR) as tracer:
            for _ in tracer.iter[:4]:
                token_rank(model)

    with pytest.raises(ValueError, match=r"from 1 of 8 tokens.*0 earlier ones are kept.*rows = \{\} before the loop"):
        trace()


def test_a_value_of_a_later_step_is_not_taken_from_the_next() -> None:
    model = decoder()

    def trace() -> None:
        with model.generate(LONG, **FOUR) as tracer:
            for _ in tracer.iter[1:3]:
                model.model.layers[-1].output[:] = 0
                token_rank(model)

    with pytest.raises(ValueError, match="layers.0.self_attn had run already"):
        trace()


def bart() -> Any:
    torch.manual_seed(0)
    options: dict[str, Any] = {"vocab_size": SIZES["vocab_size"], "d_model": 48, "init_std": 0.3, "pad_token_id": 0}
    options |= {f"{side}_{size}": 2 for side in ("encoder", "decoder") for size in ("layers", "attention_heads")}
    options |= {"bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": None}
    model = transformers.BartForConditionalGeneration(transformers.BartConfig(**options)).eval()
    model.set_attn_implementation("eager")
    return language_model(model)


def gpt_neox() -> Any:
    return causal(transformers.GPTNeoXForCausalLM, transformers.GPTNeoXConfig(**SIZES))


@pytest.mark.parametrize("build", [decoder, gpt2, gpt_neox, bart])
def test_beams_that_change_texts_are_refused(build: Any) -> None:
    model = build()
    part = model.model.decoder if build is bart else model
    layers = [layer.self_attn for layer in part.layers] if build is bart else "all"

    def trace(beams: int) -> None:
        with torch.no_grad(), model.generate(LONG, **FOUR, num_beams=beams) as tracer:
            rows: dict[str, Any] = {}
            for _ in tracer.iter[:4]:
                token_rank(part, rows=rows, layers=layers)

    trace(1)
    ours, of_transformers = "has other keys.*search with beams.*Use num_beams=1", "`streamer` cannot be used with beam search"
    with pytest.raises(ValueError, match=of_transformers if nnsight.__version__ < "0.8" else f"(?s){ours}"):
        trace(3)


def test_a_sliding_cache_that_drops_a_token_is_no_search_with_beams() -> None:
    config = transformers.MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=8)
    model = causal(transformers.MistralForCausalLM, config)
    two: dict[str, Any] = {"max_new_tokens": 2, "min_new_tokens": 2, "do_sample": False}
    with torch.no_grad(), model.generate(LONG, **two) as tracer:
        rows: dict[str, Any] = {}
        found = nnsight.save([])
        for _ in tracer.iter[:2]:
            found.append(token_rank(model, rows=rows))
    assert [each.shape[-1] for each in found] == [7, 8]


@pytest.mark.parametrize("cached", [True, False])
def test_the_other_text_of_guidance_is_refused(cached: bool) -> None:
    """It was read as the next step, of one token. The steps of the prompt are those of the finished text."""
    model = decoder()
    guided: dict[str, Any] = {**FOUR, "guidance_scale": 1.5, "use_cache": cached}

    def trace(steps: list[int]) -> list[torch.Tensor]:
        with torch.no_grad(), model.generate(LONG, **guided) as tracer:
            rows: dict[str, Any] = {}
            found = nnsight.save([])
            for _ in tracer.iter[steps]:
                found.append(token_rank(model, rows=rows))
        return found

    text = model._module.generate(**model.tokenizer(LONG, return_tensors="pt"), **guided)
    maps = ac.capture(model._module, text[:, :-1]).maps()
    *_, last = trace([0, 2, 4, 6])
    assert torch.allclose(last, ac.stationary(maps, 0.5, torch.eye(10)[-1]), atol=1e-5)
    with pytest.raises(ValueError, match=r"in step 1 from 1 tokens to themselves alone.*tracer.iter\[\[0, 2, 4\]\]"):
        trace([0, 1])


def test_rows_that_do_not_follow_on() -> None:
    def attention(queries: int, keys: int) -> Attention:
        maps = torch.ones(2, 3, queries, keys).tril(keys - queries)
        maps = maps / maps.sum(-1, keepdim=True)
        return Attention(lambda heads: maps[:, heads], 3, torch.ones(2, keys, dtype=torch.bool) if queries > 1 else None)

    rows: dict[str, Any] = {}
    assert whole(attention(4, 4), None, "layer").maps(slice(0, 2)).shape == (2, 2, 4, 4)
    whole(attention(4, 4), rows, "layer")
    fifth = whole(attention(1, 5), rows, "layer")
    assert fifth.keys is not None
    assert fifth.keys.shape == (2, 5)
    assert torch.equal(fifth.maps(slice(None)), attention(5, 5).maps(slice(None)))
    with pytest.raises(
        ValueError, match="layer attends from 1 of 5 tokens, .*; 5 earlier ones are kept.*sliding or static cache"
    ):
        whole(attention(1, 5), rows, "layer")
    with pytest.raises(ValueError, match="0 earlier ones"):
        whole(attention(1, 5), rows, "another layer")

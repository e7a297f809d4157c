"""Uses of attention, by route: the map and the values make what the torch function returned."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right, causal_upper_left

import attnchain_interp as ac
from attnchain_adapters.recording.attention_calls import AttentionCall, AttentionCalls


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def maps_of(call: AttentionCall) -> Tensor:
    return call.attention.maps() if isinstance(call.attention, ac.Factors) else call.attention


@pytest.mark.parametrize(
    ("query", "key", "options"),
    [
        ((2, 4, 5, 8), (2, 4, 6, 8), {}),
        ((2, 4, 5, 8), (2, 2, 5, 8), {"is_causal": True, "enable_gqa": True}),
        ((6, 5, 8), (6, 5, 8), {"attn_mask": torch.ones(6, 5, 5, dtype=torch.bool).tril()}),
        ((5, 8), (7, 8), {"scale": 0.3}),
    ],
)
def test_the_fused_call(query: tuple[int, ...], key: tuple[int, ...], options: dict[str, Any]) -> None:
    args = numbers(*query), numbers(*key), numbers(*key[:-1], 3)
    result = F.scaled_dot_product_attention(*args, **options)
    call = AttentionCalls().seen(F.scaled_dot_product_attention, args, options, result)
    assert isinstance(call, AttentionCall)
    assert call.folded == (len(query) == 3)
    assert torch.allclose(call.with_maps(maps_of(call)), result, atol=1e-5)
    heads = call.unfolded(3)
    assert heads.attention.shape[:2] == ((2, 3) if call.folded else call.attention.shape[:2])
    assert torch.allclose(heads.with_maps(maps_of(heads)), result, atol=1e-5)
    assert torch.allclose(heads.value_norms(), heads.values.norm(dim=-1))
    assert heads.value_norms().shape == (*heads.attention.shape[:2], heads.attention.shape[3])


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("need_weights", [True, False])
def test_multi_head_attention(batch_first: bool, single: bool, need_weights: bool) -> None:
    module = nn.MultiheadAttention(8, 2, batch_first=batch_first).eval()
    x = numbers(5, 8) if single else numbers(2, 5, 8)
    seen: list[tuple[AttentionCall, Any]] = []

    class Spy(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is not F.multi_head_attention_forward:
                return func(*args, **(kwargs or {}))
            call, result = AttentionCalls().multi_head(args, kwargs or {})
            assert isinstance(call, AttentionCall)
            seen.append((call, result))
            return result

    with torch.no_grad(), Spy():
        output, weights = module(x, x, x, need_weights=need_weights)
    plain, own = module(x, x, x, need_weights=need_weights)
    assert torch.allclose(output, plain, atol=1e-6)
    assert (weights is None) == (own is None) == (not need_weights)
    ((call, result),) = seen
    assert call.same_tokens
    assert torch.allclose(call.with_maps(maps_of(call))[0], result[0], atol=1e-6)
    projected = F.linear(x, module.in_proj_weight[16:], module.in_proj_bias[16:]).unflatten(-1, (2, 4))
    projected = projected if single or batch_first else projected.transpose(0, 1)
    expected = projected.norm(dim=-1).transpose(-1, -2)
    assert torch.allclose(call.value_norms(), expected[None] if single else expected, atol=1e-6)


def test_keys_that_are_not_tokens_cannot_be_read() -> None:
    module = nn.MultiheadAttention(8, 2, add_zero_attn=True).eval()
    x = numbers(5, 1, 8)
    call, _ = AttentionCalls().multi_head(
        (x, x, x, 8, 2, module.in_proj_weight, module.in_proj_bias, None, None, True, 0.0, *vars_of(module)), {}
    )
    assert call == "add_zero_attn adds a key that is not a token"


def vars_of(module: nn.MultiheadAttention) -> tuple[Any, Any, bool]:
    return module.out_proj.weight, module.out_proj.bias, False


@pytest.mark.parametrize(
    "name", ["memory_efficient_attention", "flash_attn_forward", "varlen_attn", "_transformer_encoder_layer_fwd"]
)
def test_a_kernel_that_shows_no_map_is_named(name: str) -> None:
    def kernel(*_: Any) -> Tensor:
        return torch.zeros(1)

    kernel.__name__, calls = name, AttentionCalls()
    assert calls.seen(kernel, (), {}, torch.zeros(1)) == f"it calls {name}, which shows no map"
    assert calls.seen(torch.relu, (numbers(2),), {}, torch.relu(numbers(2))) is None


def test_a_function_that_makes_a_mask_for_attention_is_no_kernel() -> None:
    def attn_bias(*_: Any) -> Tensor:
        return torch.zeros(1)

    assert AttentionCalls().seen(attn_bias, (), {}, torch.zeros(1)) is None


@pytest.mark.parametrize(("bias", "shift"), [(causal_upper_left, 0), (causal_lower_right, 2)])
def test_a_causal_bias_of_torch_is_a_mask(bias: Any, shift: int) -> None:
    args, mask = (numbers(2, 4, 5, 8), *numbers(2, 2, 4, 7, 8)), bias(5, 7)
    result = F.scaled_dot_product_attention(*args, attn_mask=mask)
    call = AttentionCalls().seen(F.scaled_dot_product_attention, args, {"attn_mask": mask}, result)
    assert isinstance(call, AttentionCall)
    assert torch.equal(maps_of(call) > 0, torch.ones(5, 7, dtype=torch.bool).tril(shift).expand(2, 4, 5, 7))
    assert torch.allclose(call.with_maps(maps_of(call)), result, atol=1e-5)


def test_windows_with_five_axes_cannot_be_read() -> None:
    x = numbers(2, 3, 2, 4, 8)
    found = AttentionCalls().seen(F.scaled_dot_product_attention, (x, x, x), {}, x)
    assert found == "it attends within groups of tokens: its queries are (2, 3, 2, 4, 8)"

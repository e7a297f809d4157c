"""The rules of AttnLRP, each by hand on a few numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac
from attnchain_interp.gradients.relevance_rules import RelevanceRules


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result of a function, and the gradient of its sum by the rules."""
    x = x.clone().requires_grad_()
    with RelevanceRules(x):
        result = function(x)
    return result.detach(), torch.autograd.grad(result.sum(), x)[0]


def written_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1.0 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * torch.pow(x, 3.0))))


def in_place(x: Tensor) -> Tensor:
    return nn.ReLU(inplace=True)(x * 2)


@pytest.mark.parametrize(
    "function",
    [F.gelu, F.silu, torch.tanh, torch.relu, lambda x: x**2, lambda x: x * x, lambda x: x * torch.sigmoid(1.702 * x),
     written_gelu, lambda x: 30 * torch.tanh(x / 30), lambda x: x.clamp(-1, 1), lambda x: x / (1 + torch.exp(-x)), in_place],
)  # fmt: skip
def test_a_function_of_each_entry_has_the_slope_of_its_chord(function: Any) -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64)
    result, found = gradient(function, x)
    assert torch.equal(result, function(x.clone()))
    assert torch.allclose(found * x, result), "x ⊙ g is the relevance that came in"
    assert found[2] in (0, 1, 2, 30), "finite at zero"


def test_a_product_of_two_gives_each_its_half() -> None:
    x, weight = numbers(3, 4), numbers(4, 4, seed=1)
    for product in (
        lambda x: x @ weight * x,
        lambda x: (x @ weight) @ x.mT,
        lambda x: torch.einsum("ij,kj->ik", x @ weight, x),
    ):
        result, found = gradient(product, x)
        assert torch.allclose((x * found).sum(), result.sum()), "the plain gradient gives it twice"
    for linear in (lambda x: x @ weight, lambda x: weight[:3] * x, lambda x: F.linear(x, weight), lambda x: x / weight[:3]):
        plain = x.clone().requires_grad_()
        assert torch.equal(gradient(linear, x)[1], torch.autograd.grad(linear(plain).sum(), plain)[0])


def test_a_product_with_a_bias_keeps_the_bias_out() -> None:
    x, bias, weight = numbers(3, 4), numbers(4, seed=1), numbers(4, 4, seed=2)
    assert torch.allclose(gradient(lambda x: torch.addmm(bias, x, weight), x)[1], weight.sum(1).expand(3, 4))
    result, found = gradient(lambda x: torch.baddbmm(bias[:3], x[None], (x @ weight).mT[None]), x)
    assert torch.allclose((x * found).sum(), (result - bias[:3]).sum())


@pytest.mark.parametrize("causal", [True, False])
def test_fused_attention_is_attention_written_out(causal: bool) -> None:
    x, weight = numbers(1, 2, 5, 4), numbers(3, 4, 4, seed=1)

    def fused(x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x @ weight[0], x @ weight[1], x @ weight[2], is_causal=causal).pow(2)

    def written(x: Tensor) -> Tensor:
        logits = (x @ weight[0]) @ (x @ weight[1]).mT / 2
        hidden = torch.ones(5, 5).triu(1).bool() if causal else torch.zeros(5, 5).bool()
        return (logits.masked_fill(hidden, -torch.inf).softmax(-1) @ (x @ weight[2])).pow(2)

    assert torch.allclose(gradient(fused, x)[1], gradient(written, x)[1])


def test_learned_queries_get_no_part() -> None:
    x, learned = numbers(1, 1, 5, 4), numbers(1, 1, 2, 4, seed=1)
    fused = gradient(lambda x: F.scaled_dot_product_attention(learned, x, x), x)[1]
    written = gradient(lambda x: (learned @ x.mT / 2).softmax(-1) @ x, x)[1]
    assert torch.allclose(fused, written)
    values = gradient(lambda x: F.scaled_dot_product_attention(learned, learned, x[:, :, :2]), x)[1]
    assert torch.allclose(values[:, :, :2].sum(), torch.tensor(8.0).double()), "rows of a map sum to one"


def test_multi_head_attention_is_its_parts() -> None:
    torch.manual_seed(0)
    module, x = nn.MultiheadAttention(6, 2, batch_first=True).double().eval(), numbers(1, 5, 6)

    def written(x: Tensor) -> Tensor:
        parts = F.linear(x, module.in_proj_weight, module.in_proj_bias).unflatten(-1, (3, 2, 3)).movedim(-3, 0)
        q, k, v = (part.transpose(1, 2) for part in parts)
        mixed = (q @ k.mT / 3**0.5).softmax(-1) @ v
        return F.linear(mixed.transpose(1, 2).flatten(2), module.out_proj.weight, module.out_proj.bias)

    assert torch.allclose(gradient(lambda x: module(x, x, x)[0], x)[1], gradient(written, x)[1])
    assert torch.allclose(gradient(lambda x: module(x, x, x, need_weights=False)[0], x)[1], gradient(written, x)[1])


def test_the_scale_of_a_norm_is_a_constant() -> None:
    x, weight, bias = numbers(3, 4), numbers(4, seed=1), numbers(4, seed=2)
    result, found = gradient(lambda x: F.layer_norm(x, (4,), weight, bias), x)
    assert torch.allclose(result, F.layer_norm(x, (4,), weight, bias))
    assert torch.allclose((x * found).sum(-1), (result - bias).sum(-1)), "the bias alone is left over"
    deviation = (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert torch.allclose(found, (weight - weight.mean()) / deviation)

    def written(x: Tensor) -> Tensor:
        return weight * (x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).double()

    result, found = gradient(lambda x: F.rms_norm(x, (4,), weight, 1e-5), x)
    assert torch.allclose(result, F.rms_norm(x, (4,), weight, 1e-5))
    assert torch.allclose(x * found, result)
    assert torch.allclose(gradient(written, x)[1], found, atol=1e-6)
    assert torch.allclose(gradient(lambda x: F.normalize(x, dim=-1), x)[1], 1 / x.norm(dim=-1, keepdim=True).expand(3, 4))


def test_weights_are_constants_and_stay_weights() -> None:
    linear, x = nn.Linear(4, 4).double(), numbers(2, 4)
    assert torch.allclose(gradient(linear, x)[1], linear.weight.detach().sum(0).expand(2, 4))
    assert linear.weight.requires_grad
    assert linear.weight.grad is None
    assert torch.allclose(gradient(lambda x: x * linear.weight.exp()[0], x)[1], linear.weight.detach().exp()[0].expand(2, 4))


def test_a_gated_block_with_a_norm_keeps_all_relevance() -> None:
    x, (gate, up), down = numbers(2, 4), numbers(2, 4, 8, seed=1), numbers(8, 4, seed=2)

    def block(x: Tensor) -> Tensor:
        h = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
        return x + (F.silu(h @ gate) * (h @ up)) @ down

    result, found = gradient(lambda x: block(block(x)), x)
    assert torch.allclose((x * found).sum(), result.sum())


def test_what_a_rule_gave_may_be_changed_in_place() -> None:
    x, weight = numbers(3, 3), numbers(3, 3, seed=1)

    def written(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.silu(x), (x @ weight) @ x.mT, F.scaled_dot_product_attention(x[None], x[None] @ weight, x[None])[0]

    def changed(x: Tensor) -> Tensor:
        gate, product, attended = written(x)
        gate *= 3
        product += x
        product += attended
        product[0] = gate[0]
        return product

    def apart(x: Tensor) -> Tensor:
        gate, product, attended = written(x)
        return torch.cat([(gate * 3)[:1], (attended + (product + x))[1:]])

    for one, other in zip(gradient(changed, x), gradient(apart, x), strict=True):
        assert torch.allclose(one, other)


def test_a_tensor_that_another_was_added_to_is_no_expression() -> None:
    """The product has two factors then."""
    x, weight = numbers(3, 3), numbers(3, 3, seed=1)

    def added(x: Tensor) -> Tensor:
        gate = torch.sigmoid(x)
        gate += x @ weight
        return gate * x

    for one, other in zip(gradient(added, x), gradient(lambda x: (torch.sigmoid(x) + x @ weight) * x, x), strict=True):
        assert torch.allclose(one, other)


def test_a_refusal_waits_for_its_gradient_after_a_change_in_place() -> None:
    """Routers divide what they sorted in place."""

    def sorted_in_place(x: Tensor) -> Tensor:
        best = x.sort(-1).values
        best += 1
        return best * 2

    with pytest.raises(ac.AttentionError, match="sort, for which there is no rule"):
        gradient(sorted_in_place, numbers(2, 3))


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda x: x.log(), "log"), (lambda x: x.sum() / x.mean(), "__truediv__|div"), (lambda x: x.cumprod(0), "cumprod"),
     (lambda x: (x * 1).relu_(), "relu_"), (lambda x: x.clone().mul_(x.sum(0)), "mul_"), (lambda x: x.max(0).values, "max"),
     (lambda x: F.log_softmax(x, 0), "log_softmax"), (lambda x: torch.pow(x, x.sum()), "pow")],
)  # fmt: skip
def test_a_function_without_a_rule_is_named(function: Any, name: str) -> None:
    class Strange(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x)

    with pytest.raises(ac.AttentionError, match=rf"Strange calls ({name}), for which there is no rule"):
        gradient(Strange(), numbers(3, 4))


def test_a_function_that_the_score_does_not_depend_on_needs_no_rule() -> None:
    def watched(x: Tensor) -> Tensor:
        assert float(x.cumprod(0).amax().detach()) < 100
        return x * 2

    assert torch.equal(gradient(watched, numbers(3, 4))[1], torch.full((3, 4), 2.0).double())


def test_what_has_no_gradient_needs_no_rule() -> None:
    x = numbers(3, 4)
    found = gradient(lambda x: x * (x.argmax(-1, keepdim=True) + x.detach().log().nan_to_num()), x)[1]
    assert torch.allclose(found, x.argmax(-1, keepdim=True) + x.log().nan_to_num())

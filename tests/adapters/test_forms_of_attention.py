"""Forms of attention that no softmax function shows are read, or are refused by the name of their module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac

TOKENS, WIDTH, SLOTS = 7, 8, 5
TEXT = ac.Reading(tokens=ac.TokenLayout.text())


class Block(nn.Module):
    """Attention of one head, in the form that `mix` gives it."""

    def __init__(self, mix: Callable[..., Tensor], slots: int = SLOTS) -> None:
        super().__init__()
        self.qkv, self.mix = nn.Linear(WIDTH, 3 * WIDTH), mix
        self.keys, self.values = nn.Parameter(torch.randn(slots, WIDTH)), nn.Parameter(torch.randn(slots, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(self, *self.qkv(x).chunk(3, -1))


def softmax(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


def late(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = (q @ k.mT).exp()
    return (weights @ v) / weights.sum(-1, keepdim=True)


def operators(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.aten.bmm.default(torch.ops.aten._softmax.default(q @ k.mT, -1, False), v)


def fused_operator(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ops.aten.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], scale=1.0)[:, 0]


def numpy(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.from_numpy((q @ k.mT).softmax(-1).detach().numpy()) @ v


def memory(block: Block, q: Tensor, *_: Tensor) -> Tensor:
    return (q @ block.keys.mT).softmax(-1) @ block.values


def memory_of_each_example(block: Block, q: Tensor, *_: Tensor) -> Tensor:
    return (q @ block.keys.mT).softmax(-1) @ block.values.expand(len(q), -1, -1)


def fused_memory(block: Block, q: Tensor, *_: Tensor) -> Tensor:
    keys, values = (each.expand(len(q), 1, -1, -1) for each in (block.keys, block.values))
    return F.scaled_dot_product_attention(q[:, None], keys, values)[:, 0]


def memory_beside(block: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    keys, values = (torch.cat([each.expand(len(q), -1, -1), own], 1) for each, own in ((block.keys, k), (block.values, v)))
    return (q @ keys.mT).softmax(-1) @ values


def online(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    total, mixed = torch.zeros(*q.shape[:2], 1), torch.zeros_like(q)
    for keys, values in zip(k.split(3, 1), v.split(3, 1), strict=True):
        weights = (q @ keys.mT).exp()
        total, mixed = total + weights.sum(-1, keepdim=True), mixed + weights @ values
    return mixed / total


def mapped(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.vmap(lambda q, k, v: (q @ k.mT).softmax(-1) @ v)(q, k, v)


def mapped_fused(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    causal = torch.ones(TOKENS, TOKENS, dtype=torch.bool).tril()
    return torch.vmap(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, causal))(q, k, v)


def built(*mixes: Callable[..., Tensor], slots: int = SLOTS) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(*(Block(mix, slots) for mix in mixes)).eval().requires_grad_(False)


X = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("mix", [late, operators, fused_operator, numpy])
def test_forms_that_are_read(mix: Callable[..., Tensor]) -> None:
    plain, own = built(softmax, softmax), built(softmax, mix)
    own.load_state_dict(plain.state_dict())
    proof = ac.prove(own, X, reading=TEXT)
    assert proof.holds, proof.layers
    assert proof.store.names == ["0", "1"]
    assert torch.allclose(proof.store.maps(), ac.capture(plain, X, reading=TEXT).maps(), atol=1e-5)


@pytest.mark.parametrize("decomposed", [False, True])
def test_exported_programs_are_read(decomposed: bool) -> None:
    model, x = built(softmax), X[:1]
    program = torch.export.export(model, (x,))
    store = ac.capture((program.run_decompositions() if decomposed else program).module(), x, reading=TEXT)
    assert torch.allclose(store.maps(), ac.capture(model, x, reading=TEXT).maps(), atol=1e-5)


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = x + (x @ x.mT).softmax(-1) @ x
        return x


def test_graphs_of_several_layers_are_refused_with_the_line_that_reads_them() -> None:
    model, x = built(softmax, softmax), X[:1]
    program = torch.export.export(model, (x,))
    for graph in (program.module(), torch.fx.symbolic_trace(Twice())):
        with pytest.raises(ac.AttentionError, match=r"(?s)attends 2 times.*torch\.export\.unflatten\(program\)"):
            ac.capture(graph, x, reading=TEXT)
    store = ac.capture(torch.export.unflatten(program), x, reading=TEXT)
    assert store.names == ["0", "1"]
    assert torch.allclose(store.maps(), ac.capture(model, x, reading=TEXT).maps(), atol=1e-5)


@pytest.mark.parametrize("slots", [SLOTS, TOKENS, WIDTH])
@pytest.mark.parametrize("mix", [memory, memory_of_each_example, fused_memory])
def test_a_memory_of_learnt_values_is_left_unread(mix: Callable[..., Tensor], slots: int) -> None:
    store = ac.capture(built(softmax, mix, slots=slots), X, reading=TEXT)
    assert (store.names, store.unread) == (["0"], ("1",))
    with pytest.raises(ac.AttentionError, match="0 weighs experts or a learnt memory, which are not tokens"):
        ac.capture(built(mix, slots=slots), X, reading=TEXT)


@pytest.mark.parametrize("slots", [SLOTS, TOKENS])
def test_a_memory_beside_the_tokens_is_refused(slots: int) -> None:
    with pytest.raises(ac.AttentionError, match=f"it attends to {slots} keys beside its 7 tokens: a memory"):
        ac.capture(built(softmax, memory_beside, slots=slots), X, reading=TEXT)


def test_a_sum_over_several_products_is_refused_by_name() -> None:
    with pytest.raises(ac.AttentionError, match=r"1 \(Block\) attends, but .* divides by the sum of its weights after"):
        ac.capture(built(softmax, online), X, reading=TEXT)


@pytest.mark.parametrize("mix", [mapped, mapped_fused])
@pytest.mark.filterwarnings("ignore:There is a performance drop")
def test_transforms_are_refused_with_the_remedy(mix: Callable[..., Tensor]) -> None:
    with pytest.raises(ac.AttentionError, match=r"0 \(Block\) attends, but .* within torch\.vmap .*write the mapped axis"):
        ac.capture(built(mix), X, reading=TEXT)
    store = ac.capture(built(softmax, mix), X, reading=TEXT, layers=["0"])
    assert store.names == ["0"]


def test_overflow_is_named_before_layers_are_known() -> None:
    def overflow(_: Block, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q[:, None] * float("inf"), k[:, None], v[:, None])[:, 0]

    with pytest.raises(ac.AttentionError, match="layer '1': query holds NaN or infinity"):
        ac.capture(built(softmax, overflow), X, reading=TEXT)


GATES: dict[str, Callable[..., Tensor]] = {
    "times": lambda x, gate, out: x * gate(x).softmax(-1),
    "beside": lambda x, gate, out: x + out(x) * gate(x).softmax(-1),
    "of positive numbers": lambda x, gate, out: x + out(x).relu() * gate(x).softmax(-1),
    "alone": lambda x, gate, out: gate(x).softmax(-1),
    "through a layer": lambda x, gate, out: out(gate(x).softmax(-1)),
    "over tokens": lambda x, gate, out: x * gate(x).softmax(1),
    "normalised": lambda x, gate, out: F.layer_norm(x * gate(x).softmax(-1), (WIDTH,)),
}


class Gated(nn.Module):
    """Attention of a head whose values are as wide as the stream, and then a softmax over channels."""

    def __init__(self, gate: Callable[..., Tensor], added: bool, einsum: bool) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out, self.gate = (nn.Linear(WIDTH, WIDTH) for _ in range(5))
        self.gated, self.added, self.einsum = gate, added, einsum

    def forward(self, x: Tensor) -> Tensor:
        def projected(layer: nn.Linear) -> Tensor:
            return torch.addmm(layer.bias, x.flatten(0, 1), layer.weight.T).view(x.shape) if self.added else layer(x)

        maps, values = (projected(self.q) @ projected(self.k).mT).softmax(-1), projected(self.v)
        x = x + self.out(torch.einsum("bij,bjd->bid", maps, values) if self.einsum else maps @ values)
        return self.gated(x, self.gate, self.out)


@pytest.mark.parametrize(("added", "einsum"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("gate", GATES)
def test_a_softmax_over_channels_hides_no_attention_behind_it(gate: str, added: bool, einsum: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(Gated(GATES[gate], added, einsum) for _ in range(3))).eval().requires_grad_(False)
    store = ac.capture(model, X, reading=TEXT)
    assert store.names == ["0", "1", "2"]
    x = X
    for layer, block in zip(store, model.children(), strict=True):
        assert isinstance(block, Gated)
        assert torch.allclose(layer.maps[:, 0], (block.q(x) @ block.k(x).mT).softmax(-1), atol=1e-6)
        x = block(x)

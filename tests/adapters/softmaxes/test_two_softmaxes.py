# pyright: reportUnusedExpression=false
"""Products of two tensors that were both made of softmaxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

import attnchain_interp as ac
from attnchain_adapters.softmaxes.marks import Mark, Marks
from attnchain_adapters.softmaxes.trail import SoftmaxTrail
from attnchain_adapters.softmaxes.two_softmaxes import Doubt, Doubts, map_of_two, may_attend, told

from ..random_attention import sparsemax

TOKENS, WIDTH = 7, 8
TEXT = ac.Reading(tokens=ac.TokenLayout.text())


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


SQUARE, WIDE, TALL = numbers(2, 5, 5).softmax(-1), numbers(2, 3, 5).softmax(-1), numbers(2, 5, 3).softmax(-1)


@pytest.mark.parametrize(
    ("first", "second", "place"),
    [
        (SQUARE, numbers(2, 3, 5).softmax(-2), 0),  # values that are probabilities over channels
        (SQUARE, WIDE, 0),  # over keys
        (WIDE, SQUARE, 1),
        (SQUARE[:, 1:], 3 * numbers(2, 3, 5).softmax(-2), 0),
        (SQUARE[:, 1:], 3 * WIDE, None),  # the other may be a scaled map
        (SQUARE - 0.5, 3 * WIDE, 0),  # neither is of probabilities: the map is square
        (SQUARE, SQUARE.mT, None),
        (SQUARE, numbers(2, 5, 5).softmax(-2), None),
        (SQUARE[:, 1:], WIDE, None),  # fewer queries than keys: either may be
        (TALL, numbers(2, 5, 3).softmax(-2), None),  # queries and keys of linear attention
        (SQUARE[0], WIDE, None),  # a mixing of heads has no examples
        (WIDE - 0.5, 3 * TALL.mT, None),
        (2 * SQUARE - SQUARE.mT.softmax(-1), WIDE, None),  # a signed map
        (3 * SQUARE, WIDE, None),
        (SQUARE - SQUARE.mT.softmax(-1), SQUARE, None),  # a difference of maps, with as many channels as tokens
        (SQUARE, SQUARE - SQUARE.mT.softmax(-1), 0),
        (2 * WIDE - WIDE.flip(0), numbers(2, 6, 5).softmax(-1), None),
    ],
)
def test_a_map_is_told_from_its_values(first: Tensor, second: Tensor, place: int | None) -> None:
    assert map_of_two(first, second) == place


def test_a_map_has_the_lower_rank() -> None:
    marks, rows, values = Marks(), (SQUARE, WIDE), WIDE.clone()
    marks[SQUARE], marks[WIDE] = Mark(5, True), Mark(5, True)
    assert told(marks, (WIDE, SQUARE), rows[::-1]) == (1, 0)
    assert told(marks, rows, None) is None
    assert told(marks, (SQUARE, values), rows) == (0, 2)
    marks[WIDE] = Mark(5, True, gated=True)
    assert told(marks, rows, None) == (0, 1)
    assert told(marks, (SQUARE, WIDE), (SQUARE, SQUARE.mT)) is None


@pytest.mark.parametrize(
    ("first", "second", "gated", "expected"),
    [
        (numbers(2, 5, 4), numbers(2, 4, 5), False, False),  # queries and keys
        (numbers(2, 5, 4), WIDE.mT, False, True),
        (2 * SQUARE - SQUARE.flip(0), numbers(2, 5, 3), False, True),  # signed
        (numbers(2, 5, 4), 3 * numbers(2, 4, 5).softmax(-2), False, True),
        (numbers(2, 5, 4), numbers(2, 4, 5), True, True),
    ],
)
def test_a_product_of_queries_and_keys_is_no_doubt(first: Tensor, second: Tensor, gated: bool, expected: bool) -> None:
    marks = Marks()
    marks[first], marks[second] = Mark(5, True, gated=gated), Mark(5, True)
    assert may_attend(marks, first, second) is expected


def test_a_doubt_is_settled_by_what_is_made_of_the_result() -> None:
    doubts, result, other = Doubts(), numbers(2, 2), numbers(2, 3)
    first, second = doubts.add(result), doubts.add(other)
    doubts.inherit(derived := result + 1, (result, None))
    doubts.settle(derived)
    assert (first.settled, second.settled) == (True, False)


class Block(nn.Module):
    def __init__(self, mix: Callable[..., Tensor], width: int) -> None:
        super().__init__()
        self.qkv, self.out, self.mix = nn.Linear(WIDTH, 3 * width), nn.Linear(width, WIDTH), mix

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(self.mix(*self.qkv(x).chunk(3, -1)))


def softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1) @ v


def built(mix: Callable[..., Tensor], width: int = WIDTH) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(Block(softmax, WIDTH), Block(mix, width)).eval().requires_grad_(False)


def maps(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.mT).softmax(-1)


def with_sink(x: Tensor) -> Tensor:
    return F.pad(x, (0, 1)).softmax(-1)[..., :-1]


def mixed(q: Tensor, k: Tensor) -> Tensor:
    return 0.7 * maps(q, k) + 0.3 * maps(k, q)


# queries, keys and values → mixed values; queries and keys → the map
READ: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "over channels": (lambda q, k, v: maps(q, k) @ v.softmax(-1), maps),
    "over tokens": (lambda q, k, v: maps(q, k) @ v.softmax(-2), maps),
    "half": (lambda q, k, v: maps(q, k) @ (v.softmax(-1) / 2), maps),
    "transposed": (lambda q, k, v: (v.softmax(-1).mT @ maps(q, k).mT).mT, maps),
    "einsum": (lambda q, k, v: torch.einsum("bjd,bij->bid", v.softmax(-1), maps(q, k)), maps),
    "entries of an einsum": (lambda q, k, v: torch.einsum("bjd,bij->bijd", v.softmax(-1), maps(q, k)).sum(-2), maps),
    "sparsemax": (lambda q, k, v: sparsemax(q @ k.mT) @ v.softmax(-1), lambda q, k: sparsemax(q @ k.mT)),
    "sparsemax of both": (lambda q, k, v: sparsemax(q @ k.mT) @ sparsemax(v), lambda q, k: sparsemax(q @ k.mT)),
    "sink": (lambda q, k, v: with_sink(q @ k.mT) @ v.softmax(-1), lambda q, k: with_sink(q @ k.mT)),
    "a mixture of maps": (lambda q, k, v: mixed(q, k) @ v.softmax(-1), mixed),
    "maps by maps": (lambda q, k, v: maps(q, k) @ maps(k, q) @ v, lambda q, k: maps(q, k) @ maps(k, q)),
    "maps by maps, over channels": (
        lambda q, k, v: maps(q, k) @ maps(k, q) @ v.softmax(-1),
        lambda q, k: maps(q, k) @ maps(k, q),
    ),
    "linear attention": (
        lambda q, k, v: q.softmax(-1) @ k.softmax(-2).mT @ v,
        lambda q, k: q.softmax(-1) @ k.softmax(-2).mT,
    ),
    "a kernel of softmaxes": (
        lambda q, k, v: F.normalize(q.softmax(-1) @ k.softmax(-1).mT, 1, -1) @ v,
        lambda q, k: F.normalize(q.softmax(-1) @ k.softmax(-1).mT, 1, -1),
    ),
    "a kernel of softmaxes, late": (
        lambda q, k, v: (w := q.softmax(-1) @ k.softmax(-1).mT) @ v / w.sum(-1, keepdim=True),
        lambda q, k: F.normalize(q.softmax(-1) @ k.softmax(-1).mT, 1, -1),
    ),
}


@pytest.mark.parametrize("form", READ)
def test_what_can_be_told_apart_is_read(form: str) -> None:
    mix, expected = READ[form]
    model, x = built(mix), numbers(2, TOKENS, WIDTH)
    store = ac.capture(model, x, reading=TEXT)
    assert store.names == ["0", "1"]
    q, k, _ = model[1].qkv(model[0](x)).chunk(3, -1)
    assert torch.allclose(store[1].maps[:, 0], expected(q, k), atol=1e-5)
    assert ac.prove(model, x, reading=TEXT).holds


def signed(q: Tensor, k: Tensor) -> Tensor:
    return 1.5 * maps(q, k) - 0.5 * maps(k, q)


def gated(q: Tensor, k: Tensor) -> Tensor:
    return maps(q, k) * q.mean(-1, keepdim=True).tanh()


IN_DOUBT: dict[str, Callable[..., Tensor]] = {  # of as many channels as tokens
    "@": lambda q, k, v: maps(q, k) @ v.softmax(-1),
    "einsum": lambda q, k, v: torch.einsum("bij,bjd->bid", maps(q, k), v.softmax(-1)),
    "fewer queries": lambda q, k, v: F.pad(maps(q[:, 1:], k) @ v[..., 1:].softmax(-1), (0, 1, 0, 1)),
    "linear": lambda q, k, v: torch.stack([F.linear(a, b.T) for a, b in zip(maps(q, k), v.softmax(-1), strict=True)]),
    "signed": lambda q, k, v: (2 * maps(q, k) - maps(k, q)) @ v.softmax(-1),
    "linear attention": lambda q, k, v: q.softmax(-1) @ (k.softmax(-2).mT @ v.softmax(-1)),
    "a kernel that nothing divides": lambda q, k, v: q[..., 1:].softmax(-1) @ k[..., 1:].softmax(-1).mT @ v,
}


@pytest.mark.parametrize("form", IN_DOUBT)
def test_what_cannot_be_told_apart_is_named(form: str) -> None:
    check_named(built(IN_DOUBT[form], TOKENS))


SIGNED: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "over tokens": (WIDTH, lambda q, k, v: signed(q, k) @ v.softmax(-2)),
    "over many channels": (64, lambda q, k, v: signed(q, k) @ v.softmax(-1)),
    "einsum": (WIDTH, lambda q, k, v: torch.einsum("bij,bjd->bid", signed(q, k), v.softmax(-2))),
    "three times a map": (WIDTH, lambda q, k, v: (3 * maps(q, k)) @ v.softmax(-2)),
    "fewer queries": (WIDTH, lambda q, k, v: F.pad(signed(q, k)[:, 1:] @ v.softmax(-2), (0, 0, 0, 1))),
    "scaled values": (TOKENS, lambda q, k, v: signed(q, k) @ (3 * v.softmax(-1))),
    "centred values": (TOKENS, lambda q, k, v: signed(q, k) @ (v.softmax(-1) - 1 / TOKENS)),
    "a difference, over tokens": (TOKENS, lambda q, k, v: (maps(q, k) - maps(k, q)) @ v.softmax(-2)),
    "a difference, fewer queries": (
        WIDTH,
        lambda q, k, v: F.pad((maps(q, k) - maps(k, q))[:, 1:] @ v.softmax(-2), (0, 0, 0, 1)),
    ),
    "a gate, over tokens": (TOKENS, lambda q, k, v: gated(q, k) @ v.softmax(-2)),
    "a gate": (WIDTH, lambda q, k, v: gated(q, k) @ v.softmax(-1)),
    "a gate, einsum": (WIDTH, lambda q, k, v: torch.einsum("bij,bjd->bid", gated(q, k), v.softmax(-2))),
}


@pytest.mark.parametrize("form", SIGNED)
def test_a_map_that_is_not_of_probabilities_is_named(form: str) -> None:
    width, mix = SIGNED[form]
    check_named(built(mix, width))


def check_named(model: Any) -> None:
    x = numbers(2, TOKENS, WIDTH)
    with pytest.raises(ac.AttentionError, match=r"1 \(Block\) attends, but .* nothing tells the map from the values"):
        ac.capture(model, x, reading=TEXT)
    store = ac.capture(model, x, reading=TEXT, layers=["0"])
    assert store.names == ["0"]
    assert "1" in store.unread


class Followed(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.trail, self.doubts = SoftmaxTrail(), list[Doubt]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(found := self.trail.follow(func, args, kwargs or {}, result), Doubt):
            self.doubts.append(found)
        return result


@pytest.mark.parametrize(
    ("use", "settled"),
    [
        (lambda mixed, values: mixed @ values, True),
        (lambda mixed, values: F.dropout(mixed, 0.1, False)[:, 1:] / 2 @ values, True),
        (lambda mixed, values: mixed.softmax(-1) @ values, False),  # attention again
        (lambda mixed, values: F.linear(mixed, nn.Parameter(numbers(5, 5))) @ values, False),  # queries of the next one
        (lambda mixed, values: (values + mixed) @ values.mT, False),
    ],
)
def test_a_map_of_maps_alone_settles_a_doubt(use: Callable[[Tensor, Tensor], Tensor], settled: bool) -> None:
    with Followed() as followed:
        use(numbers(2, 5, 5).softmax(-1) @ numbers(2, 5, 5).softmax(-1), numbers(2, 5, 5))
    (doubt,) = followed.doubts
    assert doubt.settled is settled


def test_a_wanted_layer_of_a_family_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertConfig, BertModel
    from transformers.models.bert import modeling_bert

    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *_: Any, **__: Any) -> tuple[Tensor, None]:
        return (maps(query, key) @ value.softmax(-1)).transpose(1, 2).contiguous(), None

    config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    model = BertModel(config, add_pooling_layer=False).eval()
    model.set_attn_implementation("eager")
    monkeypatch.setattr(modeling_bert, "eager_attention_forward", eager)
    store = ac.capture(model, torch.tensor([[1, 2, 3, 4, 5]]))
    assert torch.allclose(store.maps().sum(-1), torch.ones(()))
    with pytest.raises(
        ac.AttentionError, match=r"layer 'encoder.layer.0.attention.self' attends, but .* nothing tells the map"
    ):
        ac.capture(model, torch.tensor([[1, 2, 3, 4]]))  # as many tokens as a head has channels

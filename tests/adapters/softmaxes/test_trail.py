# pyright: reportUnusedExpression=false
"""A softmax is followed to the product that multiplies values, in whatever form the model writes both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from attnchain_adapters.softmaxes.map_product import Product
from attnchain_adapters.softmaxes.trail import SoftmaxTrail
from attnchain_adapters.softmaxes.two_softmaxes import Doubt

from ..random_attention import sparsemax

B, H, Q, K, D = 2, 3, 4, 5, 6


class Followed(TorchFunctionMode):
    def __init__(self) -> None:
        super().__init__()
        self.trail, self.products = SoftmaxTrail(), list[Product | Doubt | str]()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (product := self.trail.follow(func, args, kwargs or {}, result)) is not None:
            self.products.append(product)
        return result


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))


LOGITS, VALUES = numbers(B, H, Q, K), numbers(B, H, K, D)
MAPS = LOGITS.softmax(-1)
FOLDED = MAPS.flatten(0, 1)[:, None]
TOP = MAPS.masked_fill(MAPS.topk(2).values[..., -1:] > MAPS, 0)
TOP = TOP / TOP.sum(-1, keepdim=True)


def in_place(logits: Tensor) -> Tensor:
    maps = logits.softmax(-1)
    maps[..., 0] = 0
    maps /= maps.sum(-1, keepdim=True)
    return maps


def top_two(logits: Tensor) -> Tensor:
    maps = logits.softmax(-1)
    maps = maps.masked_fill(maps < maps.topk(2).values[..., -1:], 0)
    return maps / maps.sum(-1, keepdim=True)


def by_hand(logits: Tensor) -> Tensor:
    weights = (logits - logits.amax(-1, keepdim=True)).exp()
    return weights / (weights.sum(-1, keepdim=True) + 1e-12)


# name: (what a model computes, the map that multiplies the values)
FORMS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = {
    "@": (lambda logits, values: torch.softmax(logits, -1) @ values, MAPS),
    "dropout": (lambda logits, values: F.dropout(logits.softmax(-1), 0.1, training=False).matmul(values), MAPS),
    "module": (lambda logits, values: nn.Softmax(-1)(logits) @ values, MAPS),
    "log-softmax": (lambda logits, values: F.log_softmax(logits, -1).exp() @ values, MAPS),
    "by hand": (lambda logits, values: by_hand(logits) @ values, MAPS),
    "by name": (lambda logits, values: torch.matmul(other=values, input=logits.softmax(-1)), MAPS),
    "another axis": (lambda logits, values: logits.mT.softmax(-2).mT @ values, MAPS),
    "folded": (
        lambda logits, values: torch.bmm(logits.flatten(0, 1).softmax(-1), values.flatten(0, 1)).unflatten(0, (B, H)),
        FOLDED,
    ),
    "transposed": (lambda logits, values: (values.mT @ logits.softmax(-1).mT).mT, MAPS),
    "einsum": (lambda logits, values: torch.einsum("bhij,bhjd->bhid", logits.softmax(-1), values), MAPS),
    "einsum, values first": (lambda logits, values: torch.einsum("bhjd, bhij -> bihd", values, logits.softmax(-1)), MAPS),
    "einsum, heads last": (
        lambda logits, values: torch.einsum("bijh,bjhd->bihd", logits.softmax(-1).permute(0, 2, 3, 1), values.transpose(1, 2)),
        MAPS,
    ),
    "einsum, dots": (lambda logits, values: torch.einsum("...ij,...jd->...id", logits.softmax(-1), values), MAPS),
    "shared values": (
        lambda logits, values: torch.einsum("bhij,bjd->bhid", logits.softmax(-1), values[:, 0]),
        MAPS,
    ),
    "entry by entry": (lambda logits, values: (logits.softmax(-1)[..., None] * values[:, :, None]).sum(-2), MAPS),
    "less the log-sum-exp": (lambda logits, values: (logits - logits.logsumexp(-1, keepdim=True)).exp() @ values, MAPS),
    "scattered": (
        lambda logits, values: torch.zeros_like(logits).scatter(-1, *logits.softmax(-1).topk(2)[::-1]) @ values,
        MAPS.masked_fill(MAPS.topk(2).values[..., -1:] > MAPS, 0),
    ),
    "padded": (
        lambda logits, values: F.pad(logits[..., 1:].softmax(-1), (1, 0)) @ values,
        F.pad(LOGITS[..., 1:].softmax(-1), (1, 0)),
    ),
    "changed: the greatest two": (lambda logits, values: top_two(logits) @ values, TOP),
    "changed: in place": (lambda logits, values: in_place(logits) @ values, in_place(LOGITS)),
    "changed: a head is off": (
        lambda logits, values: (logits.softmax(-1) * torch.tensor([1.0, 0, 1])[:, None, None]) @ values,
        MAPS * torch.tensor([1.0, 0, 1])[:, None, None],
    ),
    "changed: heads are mixed": (
        lambda logits, values: F.linear(logits.softmax(-1).movedim(1, -1), torch.ones(H, H) / H).movedim(-1, 1) @ values,
        MAPS.mean(1, keepdim=True).expand_as(MAPS),
    ),
    "changed: heads are mixed by an einsum": (
        lambda logits, values: torch.einsum("gh,bhij->bgij", torch.ones(H, H) / H, logits.softmax(-1)) @ values,
        MAPS.mean(1, keepdim=True).expand_as(MAPS),
    ),
    "changed: heads are mixed by a product": (
        lambda logits, values: (logits.softmax(-1).movedim(1, -1) @ (torch.ones(H, H) / H)).movedim(-1, 1) @ values,
        MAPS.mean(1, keepdim=True).expand_as(MAPS),
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_map_is_what_multiplies_the_values(form: str) -> None:
    compute, maps = FORMS[form]
    with Followed() as followed:
        result = compute(LOGITS, VALUES)
    (product,) = followed.products
    assert isinstance(product, Product)
    assert torch.allclose(product.maps, maps, atol=1e-6)
    again = product.output(product.maps @ product.values)
    assert torch.allclose(again.sum(), result.sum(), atol=1e-4)
    assert sorted(again.shape) == sorted(result.shape) or form == "folded"
    assert product.folded == (form == "folded")


def test_the_output_is_laid_out_as_the_functions_result() -> None:
    for form in ("einsum, values first", "transposed", "einsum, heads last"):
        raw: list[Tensor] = []

        class Last(Followed):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                before = len(self.products)
                result = super().__torch_function__(func, types, args, kwargs)
                if len(self.products) > before:
                    raw.append(result)  # noqa: B023
                return result

        with Last() as followed:
            FORMS[form][0](LOGITS, VALUES)
        (product,) = followed.products
        assert isinstance(product, Product)
        assert torch.allclose(product.output(product.maps @ product.values), raw[0], atol=1e-5), form


def test_a_rounded_map_is_read_before_rounding() -> None:
    with Followed() as followed:
        F.softmax(LOGITS, -1, dtype=torch.float32).to(torch.bfloat16) @ VALUES.to(torch.bfloat16)
        F.softmax(LOGITS, -1).half().flatten(0, 1) @ VALUES.half().flatten(0, 1)
    for product, maps in zip(followed.products, (MAPS, FOLDED), strict=True):
        assert isinstance(product, Product)
        assert (product.maps.dtype, torch.equal(product.maps, maps)) == (torch.float32, True)


def test_a_map_of_complex_values_is_real() -> None:
    with Followed() as followed:
        result = LOGITS.softmax(-1).to(torch.complex64) @ torch.complex(VALUES, VALUES)
    (product,) = followed.products
    assert isinstance(product, Product)
    assert torch.equal(product.maps, MAPS)
    assert torch.allclose(product.output(product.maps.to(torch.complex64) @ product.values), result)


def test_a_sink_is_a_key_without_values() -> None:
    with Followed() as followed:
        probabilities = torch.cat([LOGITS, LOGITS[..., :1]], -1).softmax(-1)
        probabilities[..., :-1] @ VALUES
    (product,) = followed.products
    assert isinstance(product, Product)
    assert product.sink
    assert float(product.maps.sum(-1).max()) < 1


def test_pools_have_one_query() -> None:
    with Followed() as followed:
        torch.bmm(numbers(B, K, 1).softmax(1).mT, VALUES[:, 0])
        torch.einsum("bk,bkd->bd", numbers(B, K).softmax(-1), VALUES[:, 0])
    first, second = followed.products
    assert isinstance(first, Product)
    assert isinstance(second, Product)
    assert (first.pooled, tuple(first.maps.shape)) == (True, (B, 1, 1, K))
    assert (second.pooled, tuple(second.maps.shape)) == (False, (B, 1, 1, K))


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda: (numbers(B, K, K).softmax(-1)[..., None] * numbers(B, K, K, D)).sum(-2), "entry by entry"),
        (lambda: numbers(2, 2, 2, Q, K).softmax(-1) @ numbers(2, 2, 2, K, D), "within groups"),
        (lambda: torch.baddbmm(numbers(B, Q, D), numbers(B, Q, K).softmax(-1), numbers(B, K, D)), "baddbmm"),
        (lambda: torch.einsum("bii,bij->bij", numbers(B, K, K).softmax(-1), numbers(B, K, K).softmax(-1)), "'bii,bij->bij'"),
        (lambda: torch.einsum("bqk,bkd,d->bqd", numbers(B, Q, K).softmax(-1), numbers(B, K, D), numbers(D)), "3 tensors"),
    ],
)
def test_products_that_cannot_be_read_say_why(compute: Callable[[], Any], reason: str) -> None:
    with Followed() as followed:
        compute()
    (found,) = followed.products
    assert reason in str(found)


def test_one_key_at_a_time_is_refused_where_values_are_as_wide_as_a_row() -> None:
    with Followed() as followed:
        maps = numbers(B, Q, K).softmax(-1) @ numbers(B, K, K).softmax(-1)
        maps[..., :1] * numbers(B, K, K).softmax(-1)[:, :1]
    doubt, reason = followed.products
    assert isinstance(doubt, Doubt)
    assert (doubt.settled, reason) == (True, "it multiplies values by one key of its map at a time")


def test_a_softmax_that_multiplies_no_values_is_no_attention() -> None:
    experts, mixing = numbers(Q, K), nn.Parameter(numbers(K, K))
    with Followed() as followed:
        routing = experts.softmax(-1)
        weights, chosen = routing.topk(2, -1)
        hidden = (weights / weights.sum(-1, keepdim=True))[..., None] * numbers(Q, 2, D)
        hidden = hidden.sum(1) + chosen.sum()
        hidden @ hidden.mT @ hidden  # the hidden states are not probabilities any more
        routing @ mixing  # another map
        F.linear(routing, mixing)
    assert all(isinstance(product, Product) and product.weighs for product in followed.products)


def test_a_router_of_experts_weighs_values_of_each_token() -> None:
    with Followed() as followed:
        (numbers(B, Q, K).softmax(-1)[..., None] * numbers(B, Q, K, D)).sum(-2)
        (numbers(B, K, 1).softmax(1) * numbers(B, K, D)).sum(1)
    assert [isinstance(product, Product) and product.weighs for product in followed.products] == [True, True]


@pytest.mark.parametrize(
    "use",
    [
        lambda values: torch.inner(numbers(Q, K).softmax(-1), values[0]),
        lambda values: (numbers(B, Q, K).softmax(-1)[..., None] * values[:, None]).sum(-2),
        lambda values: (values[:, None] * numbers(B, Q, K).softmax(-1)[..., None]).sum(-2),
        lambda values: numbers(B, Q, K).softmax(-1)[..., :1] * values[:, :1],
        lambda values: torch.einsum("bqk,bkd,d->bqd", numbers(B, Q, K).softmax(-1), values, numbers(K)),
    ],
)
def test_a_doubt_about_values_is_settled_by_no_product(use: Callable[[Tensor], Any]) -> None:
    with Followed() as followed:
        use(numbers(B, K, K).softmax(-1) @ numbers(B, K, K).softmax(-1))
    doubt, product = followed.products
    assert isinstance(doubt, Doubt)
    assert isinstance(product, Product | str)
    assert not doubt.settled


def test_a_linear_function_without_learnt_weights_is_a_product() -> None:
    maps, values = LOGITS[0, 0].softmax(-1), VALUES[0, 0]
    with Followed() as followed:
        F.linear(LOGITS[0, 0].softmax(-1), values.T)
        F.linear(weight=values.T, input=LOGITS[0, 0].softmax(-1))
        F.linear(LOGITS[0, 0].softmax(-1), nn.Parameter(values.T))
        F.linear(LOGITS[0, 0].softmax(-1), values.T, torch.zeros(D))
    for product in followed.products:
        assert isinstance(product, Product)
        assert torch.equal(product.maps[0, 0], maps)
        assert torch.equal(product.values[0, 0], values)
    assert [product.weighs for product in followed.products if isinstance(product, Product)] == [False, False, True, True]


MEMORY = nn.Parameter(numbers(K, D))


@pytest.mark.parametrize(
    "read",
    [
        lambda maps: maps @ MEMORY,
        lambda maps: maps[:, 0] @ MEMORY,
        lambda maps: maps @ (2 * MEMORY),
        lambda maps: torch.einsum("bhqk,kd->bhqd", maps, MEMORY),
        lambda maps: torch.einsum("bqk,kd->bqd", maps[:, 0], MEMORY),
        lambda maps: F.linear(maps, nn.Parameter(MEMORY.T)),
    ],
)
def test_a_memory_of_learnt_values_is_weighed(read: Callable[[Tensor], Tensor]) -> None:
    with Followed() as followed:
        read(LOGITS.softmax(-1))
    (product,) = followed.products
    assert isinstance(product, Product)
    assert product.weighs


def test_maps_that_square_weights_mix_are_maps_still() -> None:
    with Followed() as followed:
        LOGITS.softmax(-1) @ nn.Parameter(torch.eye(K).roll(1, 0)) @ VALUES
    mixing, attention = followed.products
    assert isinstance(mixing, Product)
    assert isinstance(attention, Product)
    assert (mixing.weighs, attention.weighs) == (True, False), "either may be a memory as wide as it is long"
    assert torch.allclose(attention.maps, MAPS.roll(-1, -1), atol=1e-6)


class Hidden(torch.autograd.Function):
    """A softmax that no torch function shows."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return torch.from_numpy(logits.numpy() * 0) + sparsemax(logits)


def sum_without_axis(logits: Tensor) -> Tensor:
    weights = logits.exp()
    return weights / weights.sum(-1).unsqueeze(-1)


@pytest.mark.parametrize(
    ("probabilities", "maps"),
    [
        (sparsemax, sparsemax(LOGITS)),
        (Hidden.apply, sparsemax(LOGITS)),
        (lambda logits: torch.from_numpy(logits.softmax(-1).numpy()), MAPS),
        (sum_without_axis, MAPS),
        (lambda logits: logits.sigmoid() * logits.sigmoid().sum(-1, keepdim=True).reciprocal(), LOGITS.sigmoid()),
    ],
)
@pytest.mark.parametrize(
    "multiply",
    [
        torch.matmul,
        lambda maps, values: (values.mT @ maps.mT).mT,
        lambda maps, values: torch.einsum("bhij,bhjd->bhid", maps, values),
        lambda maps, values: torch.einsum("bhjd,bhij->bhid", values, maps),
    ],
)
def test_rows_that_sum_to_one_are_a_map_whatever_made_them(
    probabilities: Callable[[Tensor], Tensor], maps: Tensor, multiply: Callable[[Tensor, Tensor], Tensor]
) -> None:
    with Followed() as followed:
        multiply(probabilities(LOGITS), VALUES)
    (product,) = followed.products
    assert isinstance(product, Product)
    assert torch.allclose(product.maps, maps / maps.sum(-1, keepdim=True), atol=1e-6)


def test_no_tensor_is_kept_alive() -> None:
    with Followed() as followed:
        LOGITS.softmax(-1).to(torch.bfloat16)
    assert len(followed.trail._marks) == 0


def test_an_einsum_of_one_number_a_key_is_a_product() -> None:
    with Followed() as followed:
        out = torch.einsum("bhqk,bhk->bhq", LOGITS.softmax(-1), VALUES[..., 0])
    (product,) = followed.products
    assert isinstance(product, Product)
    assert torch.allclose(product.maps, MAPS)
    assert torch.allclose(product.output(product.maps @ product.values), out)


def test_an_einsum_over_heads_is_none() -> None:
    with Followed() as followed:
        torch.einsum("bhk,bhk->bk", LOGITS.softmax(-1)[:, :, 0], VALUES[..., 0])
    assert not followed.products


def test_nested_sequences_have_no_map_of_one_size() -> None:
    nested = torch.nested.nested_tensor([LOGITS[0], LOGITS[0, :, :2]], layout=torch.jagged).transpose(1, 2)
    with Followed() as followed:
        nested.softmax(-1) @ nested.transpose(-1, -2)
    assert followed.products == ["its sequences are nested in one tensor, and have no map of one size"]

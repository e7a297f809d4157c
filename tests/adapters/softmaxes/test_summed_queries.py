"""Products with values whose queries are summed over next are those of linear attention."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_adapters.softmaxes.summed_queries import REFUSAL, SummedQueries

SIZE = 8  # of a head, and of a sequence


def linear(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q @ (k.softmax(-2).mT @ v)


def linear_by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhnc,bhcd->bhnd", q, torch.einsum("bhnc,bhnd->bhcd", k.softmax(-2), v))


def linear_of_channels_first(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    context = torch.einsum("bhdn,bhen->bhde", k.mT.softmax(-1), v.mT)
    return torch.einsum("bhde,bhdn->bhen", context, q.mT).mT


def linear_of_positive_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k = k.exp()
    return (q @ ((k / k.sum(-2, keepdim=True)).mT @ v)).relu()


def compared(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # a product over channels of what tokens took
    mixed = (q @ k.mT).softmax(-1) @ v
    return (mixed @ v.mT) @ v.relu()


class Model(nn.Module):
    def __init__(self, form: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form, self.qkv, self.num_heads = form, nn.Linear(16, 48), 2

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, SIZE)).permute(2, 0, 3, 1, 4)
        return self.form(q, k, v).transpose(1, 2).flatten(2)


def pooled(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.ones(2, 2, 1, q.shape[2]) @ ((q @ k.mT).softmax(-1) @ v)


def pooled_by_einsum(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhn,bhnd->bhd", torch.ones(2, 2, q.shape[2]), (q @ k.mT).softmax(-1) @ v)[:, :, None]


def pooled_by_gram(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mixed = (q @ k.mT).softmax(-1) @ v
    return (mixed @ mixed.mT) @ mixed


@pytest.mark.parametrize("tokens", [SIZE, 5])
@pytest.mark.parametrize("form", [pooled, pooled_by_einsum, pooled_by_gram])
def test_what_tokens_took_may_be_pooled(form: Callable[[Tensor, Tensor, Tensor], Tensor], tokens: int) -> None:
    assert ac.capture(Model(form).eval(), torch.rand(2, tokens, 16)).maps().shape == (2, 1, 2, tokens, tokens)


def test_few_rows_pool_what_channels_took() -> None:
    followed, context = SummedQueries(), torch.rand(2, 4, 3)
    followed.multiplied(context, -2, 5, False)
    for rows, refusal in ((1, None), (2, None), (5, REFUSAL)):
        weights = torch.rand(2, rows, 4)
        assert followed.follow(torch.matmul, (weights, context), [weights, context], weights @ context) == refusal


@pytest.mark.parametrize(
    ("form", "tokens"),
    [
        *((form, tokens) for form in (linear, linear_by_einsum, linear_of_positive_keys) for tokens in (SIZE, 5)),
        (linear_of_channels_first, 5),
    ],
)
def test_linear_attention_is_refused(form: Callable[[Tensor, Tensor, Tensor], Tensor], tokens: int) -> None:
    with pytest.raises(ac.AttentionError, match=f"(?s){REFUSAL}.*Pass the maps yourself"):
        ac.capture(Model(form).eval(), torch.rand(2, tokens, 16))


def test_what_tokens_took_may_be_compared_by_its_channels() -> None:
    assert ac.capture(Model(compared).eval(), torch.rand(2, SIZE, 16)).maps().shape == (2, 1, 2, SIZE, SIZE)


def test_learnt_weights_may_mix_what_tokens_took() -> None:
    followed, result = SummedQueries(), torch.rand(2, 4, 3)
    followed.multiplied(result, -2, 5, False)
    for weights, refusal in ((torch.rand(5, 4), REFUSAL), (nn.Parameter(torch.rand(5, 4)), None)):
        assert followed.follow(torch.matmul, (weights, result), [weights, result], weights @ result) == refusal
    other = torch.rand(3, 5)
    assert followed.follow(torch.matmul, (result, other), [result, other], result @ other) is None
    assert followed.follow(torch.relu, (result,), [result], result.relu()) is None

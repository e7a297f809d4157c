"""Every composed operator equals the dense matrix that it stands for."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attnchain_interp.operators.composed import total
from attnchain_interp.operators.factored_map import FactoredMap
from attnchain_interp.operators.factors import Factors
from attnchain_interp.operators.operator import Dense, Operator


def factors(n: int = 12, heads: int = 3, causal: bool = False, seed: int = 0) -> Factors:
    query, key = torch.randn(2, 2, heads, n, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Factors(query, key, causal=causal)


def vector(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


ROWS, COLUMNS = vector(1, 2, 3, 12), vector(2, 2, 3, 12)
WEIGHTS = torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.4, 0.0]], dtype=torch.float64)
STATES = torch.tensor([[True] * 9 + [False] * 3, [False] * 2 + [True] * 10])[:, None].expand(2, 3, 12)

EXPRESSIONS: dict[str, Callable[[Operator], Operator]] = {
    "itself": lambda M: M,
    "rows scaled": lambda M: M.scaled(ROWS),
    "columns scaled": lambda M: M.scaled(columns=COLUMNS),
    "transposed": lambda M: M.transposed(),
    "transposed twice": lambda M: M.transposed().transposed(),
    "plus an outer product": lambda M: M.plus(ROWS, COLUMNS),
    "conditioned": lambda M: M.conditioned(STATES),
    "reversed": lambda M: M.conditioned(STATES).transposed().conditioned(STATES).scaled(columns=STATES),
    "mean of heads": lambda M: M.conditioned(STATES).head_mean(WEIGHTS).scaled(columns=STATES[:, 0]),
    "sum of layers": lambda M: total([M.scaled(ROWS), M, M.transposed()]),
    "scaled twice": lambda M: M.scaled(ROWS).scaled(COLUMNS, ROWS),
    "scaled in several ways": lambda M: total([M.scaled(ROWS, COLUMNS), M.scaled(COLUMNS), M.scaled()]).scaled(ROWS),
    "held and remembered": lambda M: total([Dense(factors(seed=1).maps()), M]).scaled(ROWS),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_products_are_those_of_the_matrix(expression: Callable[[Operator], Operator], causal: bool) -> None:
    lazy = expression(FactoredMap(factors(causal=causal)))
    matrix = expression(Dense(factors(causal=causal).maps())).dense()
    assert not isinstance(lazy, Dense)
    assert torch.allclose(lazy.dense(), matrix, atol=1e-12)
    with torch.no_grad():  # in place
        assert torch.equal(lazy.dense(), lazy.dense())
        assert torch.allclose(lazy.dense(), matrix, atol=1e-12)
    assert lazy.shape == matrix.shape
    v = vector(3, *matrix.shape[:-2], 2, 12)
    assert torch.allclose(lazy.left(v), v @ matrix, atol=1e-12)
    assert torch.allclose(lazy.right(v), v @ matrix.mT, atol=1e-12)
    assert torch.allclose(lazy.rows(2, 5), matrix[..., 2:5, :], atol=1e-12)
    assert torch.allclose(lazy.columns(2, 5), matrix[..., 2:5].mT, atol=1e-12)
    assert torch.allclose(lazy.diagonal(), matrix.diagonal(dim1=-2, dim2=-1), atol=1e-12)
    block = lazy.part(slice(6, 12), slice(0, 6))
    assert block.shape[-2:] == (6, 6)
    assert torch.allclose(block.left(v[..., 6:]), v[..., 6:] @ matrix[..., 6:, :6], atol=1e-12)
    assert torch.allclose(block.right(v[..., :6]), v[..., :6] @ matrix[..., 6:, :6].mT, atol=1e-12)


def test_one_vector_serves_a_whole_batch_of_a_map_scaled_in_several_ways() -> None:
    lazy, matrix = (total([M.scaled(ROWS, COLUMNS), M.scaled()]) for M in (FactoredMap(factors()), Dense(factors().maps())))
    v = vector(3, 1, 1, 2, 12)
    assert torch.allclose(lazy.left(v), v @ matrix.dense(), atol=1e-12)
    assert torch.allclose(lazy.right(v), v @ matrix.dense().mT, atol=1e-12)


def test_a_map_scaled_in_several_ways_takes_one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = EXPRESSIONS["scaled in several ways"](FactoredMap(factors()))
    calls = []
    for name in ("left", "right", "dense"):
        own = getattr(FactoredMap, name)
        monkeypatch.setattr(FactoredMap, name, lambda self, *given, own=own: calls.append(own) or own(self, *given))
        v = () if name == "dense" else (vector(3, 2, 3, 2, 12),)
        calls.clear()
        getattr(lazy, name)(*v)
        assert calls.count(own) == 1


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_triangular_is_told_alike(expression: Callable[[Operator], Operator]) -> None:
    for causal in (False, True):
        lazy = expression(FactoredMap(factors(causal=causal)))
        dense = expression(Dense(factors(causal=causal).maps()))
        among = STATES if lazy.shape[1] == 3 else STATES[:, 0]
        for upper in (False, True):
            assert torch.equal(lazy.triangular(among, upper), dense.triangular(among, upper))


def test_gradients_reach_through_every_operator() -> None:
    given = factors()
    query = given.query.clone().requires_grad_()
    lazy = FactoredMap(Factors(query, given.key)).conditioned(STATES).head_mean(WEIGHTS)
    assert lazy.requires_grad
    v = vector(3, 2, 2, 12)
    (own,) = torch.autograd.grad(lazy.left(v).square().sum(), query)
    dense = Dense(Factors(query, given.key).maps()).conditioned(STATES).head_mean(WEIGHTS)
    (expected,) = torch.autograd.grad(dense.left(v).square().sum(), query)
    assert torch.allclose(own, expected, atol=1e-10)

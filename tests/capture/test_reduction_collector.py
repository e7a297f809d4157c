"""Reducers see each layer as it passes, and nothing else of it is kept."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

import attnchain_interp as ac
from attnchain_interp.capture import ReductionCollector, Shown, reduction_collector
from attnchain_interp.capture.collector import Expected
from attnchain_interp.numerics.solver import solve

REDUCERS = [
    ac.StationaryVectors(),
    ac.SecondEigenvalues(),
    ac.Bounces(start="class", steps=3),
    ac.Bounces(start="center", steps=1, name="center_row"),
    ac.ColumnSums(),
    ac.ClassRows(),
    ac.Entropies(),
]


def expected(store: ac.AttentionStore, function: Callable[[ac.Chain], Tensor]) -> Tensor:
    return torch.stack([function(store.chain(layer, "each")) for layer in range(len(store))], 1)


def entropy(chain: ac.Chain) -> Tensor:
    rows = -(chain.matrix * chain.matrix.clamp_min(1e-30).log()).sum(-1)
    return rows[..., 1:].mean(-1)


@pytest.mark.parametrize("built", [True, False], ids=["multiplied out", "factored"])
def test_reducers_give_what_the_whole_store_gives(
    vit: nn.Module, images: Tensor, built: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not built:
        monkeypatch.setattr(reduction_collector, "_BUILT", 0)
    else:
        monkeypatch.setattr(reduction_collector, "_TOGETHER", 1)  # a head at a time
    store, found = ac.capture(vit, images), ac.capture(vit, images, keep=REDUCERS)
    assert found.names == store.names
    assert found.tokens.grid == (4, 4)
    assert list(found.results) == [reducer.name for reducer in REDUCERS]
    P = lambda function: expected(store, function)  # noqa: E731
    assert found["stationary"].shape == (2, 3, 3, 17)
    assert torch.allclose(found["stationary"], P(ac.stationary), atol=1e-5)
    assert torch.allclose(found["second_eigenvalue"], P(ac.second_eigenvalue), atol=1e-4)
    assert torch.allclose(found["bounce"], P(lambda chain: ac.bounce(chain, 0, 3)), atol=1e-5)
    assert torch.allclose(found["center_row"], P(lambda chain: ac.bounce(chain, store.tokens.center, 1)), atol=1e-5)
    assert torch.allclose(found["column_sum"], P(lambda chain: ac.bounce(chain, chain.uniform, 1)), atol=1e-5)
    assert torch.allclose(found["class_row"], P(lambda chain: ac.bounce(chain, 0, 1)), atol=1e-5)
    assert torch.allclose(found["entropy"], P(entropy), atol=1e-5)


def test_masks_that_print_alike_are_told_apart() -> None:
    """Torch prints three entries at each end of a tensor of more than 1,000."""
    first = torch.ones(6, 200, dtype=torch.bool)
    second = first.clone()
    second[:, 50:150] = False
    assert repr(first) == repr(second)
    maps = torch.rand(6, 1, 200, 200, generator=torch.Generator().manual_seed(0)).softmax(-1)
    one, other = (ac.StationaryVectors(tokens=mask, name=name) for mask, name in ((first, "a"), (second, "b")))
    results = []
    for reducers in ([one, other], [other]):
        collector = ReductionCollector(reducers)
        collector.expect(Expected(ac.TokenLayout.text(torch.ones(6, 200)), 1, 1, fused=False))
        collector.take("layer", Shown(maps))
        results.append(collector.result(["layer"], {})["b"])
    assert torch.equal(*results)
    assert torch.allclose(results[0][..., second[0]].sum(-1), torch.ones(6, 1, 1))


def test_reducers_choose_their_tokens(vit: nn.Module, images: Tensor) -> None:
    found = ac.capture(vit, images, keep=[ac.ColumnSums(), ac.ColumnSums(tokens="all", name="of all")], layers=[0, -1])
    store = ac.capture(vit, images, layers=[-1, 0])
    assert store.names == found.names == ["blocks.0.attn", "blocks.2.attn"], "in the order in which they run"
    assert not found["column_sum"][..., 0].any()
    assert torch.allclose(found["of all"], store.maps().mean(-2), atol=1e-6)


def test_reducers_on_eager_maps_and_on_any_source(vit: nn.Module, images: Tensor) -> None:
    fused = ac.capture(vit, images, keep=REDUCERS)
    for block in vit.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = False
    try:
        eager = ac.capture(vit, images, keep=REDUCERS)
        store = ac.capture(vit, images)
    finally:
        for block in vit.blocks:  # type: ignore[union-attr]
            block.attn.fused_attn = True
    called = ac.capture(lambda _: store, images, keep=REDUCERS)
    for reducer in REDUCERS:
        assert torch.allclose(eager[reducer.name], fused[reducer.name], atol=1e-4)
        assert torch.allclose(called[reducer.name], fused[reducer.name], atol=1e-4)


def test_nothing_of_a_layer_outlives_its_reduction(vit: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    import gc
    import weakref

    seen: list[Any] = []
    take = ReductionCollector.take

    def watched(self: Any, name: str, shown: Shown) -> None:
        gc.collect()
        assert all(earlier() is None for earlier in seen), "an earlier layer's attention is still there"
        seen.append(weakref.ref(shown.attention))
        take(self, name, shown)

    monkeypatch.setattr(ReductionCollector, "take", watched)
    ac.capture(vit, images, keep=REDUCERS)
    assert len(seen) == 3


def test_stationary_vectors_come_with_the_second_eigenvalues(
    vit: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def again(*arguments: Any, radius: bool = True) -> Any:
        if not radius:  # the stationary vector alone
            raise AssertionError("a second pass")
        return solve(*arguments)

    monkeypatch.setattr("attnchain_interp.chain.functionals.solve", again)
    ac.capture(vit, images, keep=[ac.StationaryVectors(), ac.SecondEigenvalues()])
    with pytest.raises(AssertionError, match="a second pass"):
        ac.capture(vit, images, keep=[ac.StationaryVectors()])


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("everything", "keep='everything' is unknown"),
        ([], r"(?s)is unknown.*StationaryVectors"),
        ([ac.Entropies], r"(?s)is unknown.*StationaryVectors"),
        (ac.Entropies(), r"(?s)is unknown.*StationaryVectors"),
        ([torch.sum], r"(?s)is unknown.*StationaryVectors"),
        ([ac.Bounces(start=0), ac.Bounces(start=1)], r"(?s)two reducers share a name .bounce, bounce.*Bounces\(…, name=…\)"),
    ],
)
def test_bad_keeps_are_refused(vit: nn.Module, images: Tensor, keep: Any, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.capture(vit, images, keep=keep)


class Norm:
    name, tokens = "norm", "all"
    starts_anywhere: ClassVar[bool] = False

    def __init__(self, made: Callable[[Tensor], Any]) -> None:
        self.made = made

    def reduce(self, heads: ac.Chain, layout: ac.TokenLayout) -> Any:
        return self.made(heads.matrix)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda matrix: 3, r"the reducer 'norm' returned 3; .*\(batch, head, …\) of \(2, 3\)"),
        (lambda matrix: matrix.flatten(1).norm(dim=1), r"returned float32 \(2,\)"),
        (lambda matrix: matrix.norm(axis="key"), "(?s)the reducer 'norm' raised a TypeError.*Correct Norm.reduce"),
    ],
    ids=["a number", "no heads", "an error"],
)
@pytest.mark.parametrize("keep", ["fused", "eager"])
def test_a_reducer_of_your_own_is_told_what_it_returns(
    vit: nn.Module, images: Tensor, made: Callable[[Tensor], Any], message: str, keep: str
) -> None:
    source = ac.capture(vit, images)
    with pytest.raises(ac.AttentionError, match=message):
        ac.capture(vit if keep == "fused" else lambda _: source, images, keep=[Norm(made)])


def test_a_reducer_that_lacks_an_attribute_is_refused(vit: nn.Module, images: Tensor) -> None:
    class Short:
        name = "short"

        def reduce(self, heads: ac.Chain, layout: ac.TokenLayout) -> Tensor:
            return heads.matrix

    with pytest.raises(ac.AttentionError, match="Short has no tokens and no starts_anywhere"):
        ac.capture(vit, images, keep=[Short()])  # type: ignore[list-item]


def test_bad_reducers_are_refused(vit: nn.Module, images: Tensor) -> None:
    with pytest.raises(ac.AttentionError, match="damping is 2"):
        ac.StationaryVectors(damping=2)
    with pytest.raises(ac.AttentionError, match="nothing is called 'rank'; the capture kept column_sum"):
        ac.capture(vit, images, keep=[ac.ColumnSums()])["rank"]
    with pytest.raises(ac.AttentionError, match="'middle' is unknown"):
        ac.capture(vit, images, keep=[ac.Bounces(start="middle")])

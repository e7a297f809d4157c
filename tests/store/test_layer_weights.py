import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.store import layer_weights


def test_weights_beside_a_dense_replica(store: AttentionStore, logits: Tensor) -> None:
    """|λ₂| of the mean of each layer's heads over the patches, by float64 eigenvalues."""
    values = torch.linalg.eigvals(logits[..., 1:, 1:].softmax(-1).mean(2)).abs()
    own = values.topk(2).values[..., 1].T
    assert torch.allclose(layer_weights(store, "lambda2"), own / own.sum(-1, keepdim=True))
    inverse = 1 - own
    assert torch.allclose(layer_weights(store, "inverse-lambda2"), inverse / inverse.sum(-1, keepdim=True))
    assert torch.equal(layer_weights(store, "mean"), torch.full((2, 3), 1 / 3, dtype=torch.float64))


def test_late_counts_all_layers_of_the_model(store: AttentionStore) -> None:
    third = torch.tensor([0.0, 1 / 3, 2 / 3], dtype=torch.float64)
    assert torch.allclose(layer_weights(store), third.expand(2, 3))
    assert torch.allclose(layer_weights(store, layers=[-1, 1]), third[1:].expand(2, 2)), "as without the selection"
    some = AttentionStore.from_maps(list(torch.ones(2, 1, 1, 1, 1)))
    assert layer_weights(some).tolist() == [[0, 1]]
    assert layer_weights(store.only([0, 1]).only("all"), layers=[0, 1]).tolist() == [[0, 1]] * 2
    assert layer_weights(store.only([1, 2]).only([0, 1])).tolist() == third[1:].expand(2, 2).tolist()


@pytest.mark.parametrize("layer", [0, 1, -1])
def test_one_layer_alone_weighs_one(store: AttentionStore, layer: int) -> None:
    for weights in ("mean", "late", "lambda2", [0.3]):
        assert layer_weights(store, weights, layers=layer).tolist() == [[1], [1]]
    assert layer_weights(store.only(layer)).tolist() == [[1], [1]]


def test_weights_by_hand_are_in_the_order_of_the_model(store: AttentionStore) -> None:
    for layers in ([0, 2], ["layer.2", 0]):
        assert torch.allclose(layer_weights(store, [1, 3], layers=layers), torch.tensor([[0.25, 0.75]] * 2).double())
    assert layer_weights(store, [0, 0, 2]).tolist() == [[0, 0, 1]] * 2


def test_a_function_gets_the_selected_layers_alone(store: AttentionStore) -> None:
    def named(given: AttentionStore) -> Tensor:
        return torch.tensor([2.0 if layer.name == "layer.2" else 1.0 for layer in given])

    assert torch.allclose(layer_weights(store, named, layers=[2, 0]), torch.tensor([[1 / 3, 2 / 3]] * 2).double())
    by_example = layer_weights(store, lambda given: torch.tensor([[1.0, 1.0], [3.0, 1.0]]), layers=[0, 1])
    assert by_example.tolist() == [[0.5, 0.5], [0.75, 0.25]]
    assert layer_weights(store, lambda given: torch.zeros(3)).tolist() == [[pytest.approx(1 / 3)] * 3] * 2


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("each", "layer_weights='each' is unknown"),
        ([1, 2], r"shape \(2,\), the least 1, and 3 layers"),
        ([1, -1, 1], "least -1"),
        ([1, float("nan"), 1], "finite"),
        ([], r"shape \(0,\), and 3 layers"),
        ([0, 0, 0], "zeros alone"),
        (["0.2", 1, 1], "weights are numbers"),
        (None, "None; weights are numbers"),
        (lambda store: torch.ones(3, 2), r"shape \(3, 2\)"),
        (lambda store: torch.full((2, 3), torch.inf), "finite"),
    ],
)
def test_bad_weights(store: AttentionStore, weights: object, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        layer_weights(store, weights)  # type: ignore[arg-type]


def test_numbers_by_hand_are_as_wide_as_the_store(store: AttentionStore) -> None:
    assert layer_weights(store, [0.1, 0.2, 0.7])[0].tolist() == pytest.approx([0.1, 0.2, 0.7], abs=1e-15)

import pytest
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_interp import AttentionStore
from attnchain_interp.store import NAMED_WEIGHTS, eigenvalue_weights, normalised_weights


def lambda2(logits: Tensor) -> Tensor:
    """|λ₂| (batch, layer, head) of the patches' chains, by float64 eigenvalues."""
    values = torch.linalg.eigvals(logits[..., 1:, 1:].softmax(-1)).abs()
    return values.topk(2).values[..., 1].transpose(0, 1)


def test_weights_beside_a_dense_replica(store: AttentionStore, logits: Tensor) -> None:
    own = lambda2(logits)
    assert torch.allclose(ac.head_weights(store), own / own.sum(-1, keepdim=True))
    inverse = 1 - own
    assert torch.allclose(ac.head_weights(store, "inverse-lambda2"), inverse / inverse.sum(-1, keepdim=True))
    assert torch.equal(ac.head_weights(store, "mean"), torch.full((2, 3, 3), 1 / 3, dtype=torch.float64))
    assert ac.head_weights(store, [0, 1], layers=-1)[0].tolist() == [[0.5, 0.5, 0]]


def test_weights_of_a_function_are_normalised(store: AttentionStore) -> None:
    weights = ac.head_weights(store, lambda maps: maps.amax((-1, -2)))
    assert torch.allclose(weights.sum(-1), torch.ones(2, 3, dtype=torch.float64))
    assert not torch.allclose(weights, ac.head_weights(store, "mean"))


def test_the_weighted_chain(store: AttentionStore, logits: Tensor) -> None:
    own = lambda2(logits)[:, 0]
    weights = own / own.sum(-1, keepdim=True)
    expected = torch.einsum("bh,bhij->bij", weights, logits[0][..., 1:, 1:].softmax(-1))
    assert torch.allclose(store.chain(0, "lambda2").matrix[:, 1:, 1:], expected)


def test_heads_that_all_mix_at_once_count_the_same() -> None:
    store = AttentionStore.from_maps([torch.full((1, 2, 4, 4), 0.25, dtype=torch.float64)])
    assert ac.head_weights(store, lambda maps: maps.new_zeros(1, 2)).tolist() == [[[0.5, 0.5]]]


def test_the_one_formula() -> None:
    """|λ₂| above 1 by rounding counts as 1; heads that never mix leave nothing to the inverse, so they count the same."""
    second = torch.tensor([[0.2, 0.6], [1.0, 1.0 + 1e-6]])
    found = [normalised_weights(eigenvalue_weights(second, name)) for name in NAMED_WEIGHTS]
    expected = torch.tensor([[[0.5, 0.5], [0.5, 0.5]], [[0.25, 0.75], [0.5, 0.5]], [[2 / 3, 1 / 3], [0.5, 0.5]]])
    assert torch.allclose(torch.stack(found), expected)
    with pytest.raises(ac.AttentionError, match="heads='each' is unknown"):
        eigenvalue_weights(second, "each")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        (lambda maps: maps.new_ones(2), r"shape \(2,\)"),
        (lambda maps: -maps.new_ones(2, 3), "least -1"),
        (lambda maps: maps.new_full((2, 3), torch.nan), "finite"),
        ([-4], "head -4 does not exist"),
        ([], "empty list"),
        ("each", "heads='each' is unknown"),
        (4, r"(?s)heads is of type int.*Pass heads=\[4\] for one head"),
    ],
)
def test_bad_weights(store: AttentionStore, heads: object, message: str) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        ac.head_weights(store, heads)  # type: ignore[arg-type]

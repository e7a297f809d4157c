import torch

from attnchain_evals.metrics.subsets import drops, random_subsets
from attnchain_evals.perturbation.perturbation_curve import Perturbation

from .planted import WEIGHTS, trial


def test_subsets_have_their_sizes_and_belong_to_the_number_of_the_example() -> None:
    subsets = random_subsets([1, 3, 5], features=6, examples=2, first=4, seed=0)
    assert subsets.sum(2).tolist() == [[1, 3, 5]] * 2
    assert torch.equal(random_subsets([1, 3, 5], 6, 1, first=5, seed=0), subsets[1:])
    assert not torch.equal(random_subsets([1, 3, 5], 6, 1, first=5, seed=1), subsets[1:])


def test_drops_of_a_linear_model_are_the_sums_of_its_weights() -> None:
    on = trial()
    experiment = Perturbation(on.model, on.inputs, "zero")
    labels = torch.arange(16).view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1).expand(2, -1, -1)
    subsets = random_subsets([2, 8], 16, 2, first=0, seed=0)
    expected = 8 * (subsets.double() @ WEIGHTS.double().flatten())
    found = drops(experiment, labels, subsets, on.explained, "logit")
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)

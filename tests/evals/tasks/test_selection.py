import pytest
import torch

from attnchain_evals import ClutteredDigits
from attnchain_evals.tasks.selection import Selection
from attnchain_interp import AttentionError


def test_examples_of_the_numbers_in_their_order() -> None:
    data = ClutteredDigits("test", 6)
    chosen = Selection(data, [4, 1])
    assert len(chosen) == 2
    assert torch.equal(chosen[0].image, data[4].image)
    assert chosen.identity == {"name": "Selection", "numbers": [4, 1], "of": data.identity}


def test_data_without_an_identity_are_refused() -> None:
    with pytest.raises(AttentionError, match="have no `identity`"):
        _ = Selection([1, 2], range(1)).identity

"""Sizes of summands, by hand. `test_attention_block.py` has them beside dense replicas."""

import pytest
import torch

import attnchain_interp as ac
from attnchain_interp.capture import AttentionBlock, contributions_of
from attnchain_interp.capture.contribution_sizes import check_measure, sizes_of

# One head, width 2: token 0 holds (2, 0) and token 1 (0, 1). Each token reads both by one half, and its input is nothing.
MAPS, ZERO = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 2, 2)
VALUES = torch.tensor([[[[2.0, 0.0], [0.0, 1.0]]]])
OUTPUT = torch.tensor([[[1.0, 0.5], [1.0, 0.5]]])
BLOCK = AttentionBlock("M", MAPS, VALUES, torch.zeros(2), OUTPUT, ZERO, None, OUTPUT)


@pytest.mark.parametrize(("measure", "expected"), [
    ("norm", [1.0, 0.5]),  # the lengths of (1, 0) and (0, ½)
    ("projection", [1.0, 0.25]),  # along the output (1, ½)
    ("alti", [1.0, 0.5]),  # the output has 1½, and without each of them ½ and 1
])  # fmt: skip
def test_two_tokens(measure: str, expected: list[float]) -> None:
    found = sizes_of(BLOCK, measure)(slice(0, 2), MAPS)  # type: ignore[arg-type]
    assert torch.allclose(found, torch.tensor(expected).expand(1, 2, 2))


def test_summands_against_the_output_count_for_nothing() -> None:
    """The value of token 1 points away from what both give together."""
    values = torch.tensor([[[[2.0, 0.0], [-1.0, 0.0]]]])
    output = (MAPS @ values).sum(1)
    block = AttentionBlock("M", MAPS, values, torch.zeros(2), output, ZERO, None, output)
    shares = contributions_of(block, "projection", torch.ones(1, 2, dtype=torch.bool))
    assert torch.equal(shares, torch.tensor([1.0, 0.0]).expand(1, 1, 2, 2))


def test_an_unknown_measure() -> None:
    check_measure("projection")
    with pytest.raises(ac.AttentionError, match="(?s)measure='size' is unknown.*'alti'"):
        check_measure("size")

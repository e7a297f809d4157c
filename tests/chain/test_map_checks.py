"""The checks that every map passes before it is called a chain."""

import pytest
import torch

from attnchain_interp import AttentionError
from attnchain_interp.chain.map_checks import check_rows, check_square

ROWS = torch.tensor([[0.5, 0.5], [0.25, 0.75]])


@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-6), (torch.float32, 1e-3), (torch.bfloat16, 2e-2)])
def test_the_tolerance_is_that_of_the_type(dtype: torch.dtype, off: float) -> None:
    check_rows((ROWS * (1 + 0.4 * off)).to(dtype), "A")
    with pytest.raises(AttentionError, match="A is not row-stochastic"):
        check_rows((ROWS * (1 + 3 * off)).to(dtype), "A")


def test_rows_of_padding_are_not_looked_at() -> None:
    maps = torch.cat([ROWS, torch.full((1, 2), torch.nan)])
    check_rows(maps, "A", torch.tensor([True, True, False]))
    with pytest.raises(AttentionError, match="A holds 1 rows with NaN"):
        check_rows(maps, "A")


def test_a_sink_leaves_rows_below_one_but_never_above() -> None:
    check_rows(ROWS / 2, "A", below_one=True)
    with pytest.raises(AttentionError, match=r"sums to 1 \+ 0\.1"):
        check_rows(ROWS * 1.1, "A", below_one=True)


def test_square() -> None:
    check_square(ROWS, "A")
    for maps in (ROWS[:1], ROWS[0], torch.zeros(0, 0)):
        with pytest.raises(AttentionError, match="a chain needs square maps"):
            check_square(maps, "A")

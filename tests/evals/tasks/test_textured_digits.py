from __future__ import annotations

from typing import Any

import pytest
import torch

from attnchain_evals.tasks.cluttered_digits import ClutteredDigits
from attnchain_evals.tasks.textured_digits import TexturedDigits
from attnchain_interp import AttentionError


def test_digits_depend_on_seed_and_index_alone_and_lie_under_their_mask() -> None:
    batch = next(TexturedDigits("validation", 40).batches(40))
    assert batch.image.shape == (40, 1, 32, 32)
    assert batch.mask.shape == (40, 32, 32)
    assert 0 <= float(batch.image.min()) <= float(batch.image.max()) <= 1
    again = TexturedDigits("validation", 10)
    assert torch.equal(again[7].image, batch.image[7])
    assert not torch.equal(TexturedDigits("validation", 10, seed=1)[7].image, batch.image[7])
    inside, outside = (batch.image[:, 0].where(where, torch.nan).nanmean((1, 2)) for where in (batch.mask, ~batch.mask))
    assert bool((inside > outside + 0.15).all())


@pytest.mark.parametrize(("given", "said"), [({"split": "all"}, "split"), ({"length": 0}, "length")])
def test_digits_refuse_what_they_cannot_draw(given: dict[str, Any], said: str) -> None:
    with pytest.raises(AttentionError, match=said):
        TexturedDigits(**given)


def test_the_two_tasks_share_scans_of_a_split() -> None:
    assert torch.equal(TexturedDigits("test", 1)._glyphs, ClutteredDigits("test", 1)._glyphs)

import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import attnchain_interp as ac
from attnchain_evals import ClutteredDigits, InputMagnitude


def test_shapes_and_ranges() -> None:
    batch = next(ClutteredDigits("validation", 40).batches(32))
    assert batch.image.shape == (32, 3, 56, 56)
    assert batch.mask.shape == batch.decoy.shape == (32, 56, 56)
    assert 0 <= float(batch.image.min()) <= float(batch.image.max()) <= 1
    assert (batch.mask.dtype, batch.decoy.dtype) == (torch.bool, torch.bool)
    assert [len(part.label) for part in ClutteredDigits("validation", 40).batches(32)] == [32, 8]


def test_an_example_depends_on_seed_and_index_alone() -> None:
    data = ClutteredDigits("test", 300, seed=5)
    backwards = [data[i] for i in (299, 130, 3)]
    fresh = ClutteredDigits("test", 1000, seed=5)
    for index, example in zip((299, 130, 3), backwards, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(fresh[index], example, strict=True))
    loaded = next(iter(DataLoader(data, 16)))
    assert torch.equal(loaded[0], next(data.batches(16)).image)
    assert torch.equal(data[-1].image, data[299].image)
    for other in (ClutteredDigits("test", 4, seed=6), ClutteredDigits("validation", 4, seed=5)):
        assert not torch.equal(other[3].image, data[3].image)


def test_the_deciding_digit_is_lighter_and_the_decoy_darker_than_the_rest() -> None:
    batch = next(ClutteredDigits("test", 128).batches(128))
    grey = batch.image.mean(1)

    def mean(where: torch.Tensor) -> torch.Tensor:
        return (grey * where).sum((1, 2)) / where.sum((1, 2))

    rest = mean(~batch.mask & ~batch.decoy)
    assert bool((mean(batch.mask) > rest + 0.1).all())
    assert bool((mean(batch.decoy) < rest - 0.1).all())
    assert float((batch.mask & batch.decoy).float().mean()) < 1e-3
    assert bool(batch.mask.flatten(1).any(1).all())
    assert len(batch.label.unique()) == 10


def test_brightness_does_not_give_the_digit_away() -> None:
    """The decoy and the fragments are as far from the mean colour as the deciding digit."""
    batch = next(ClutteredDigits("test", 128).batches(128))
    magnitude = InputMagnitude((14, 14)).attribute(batch.image, output="grid")
    digit, decoy = (F.adaptive_avg_pool2d(mask[:, None].float(), 14)[:, 0] for mask in (batch.mask, batch.decoy))
    on_digit, on_decoy = ((magnitude * part).sum((1, 2)) / part.sum((1, 2)) for part in (digit, decoy))
    assert float(on_digit.mean() / on_decoy.mean()) == pytest.approx(1, abs=0.1)


def test_difficulty_zero_is_plain_and_centred() -> None:
    batch = next(ClutteredDigits("train", 64, difficulty=0).batches(64))
    assert not batch.decoy.any()
    rows = torch.arange(56.0)
    for axis in (1, 2):
        profile = batch.mask.float().sum(axis)
        centre = (profile * rows).sum(1) / profile.sum(1)
        assert bool(((centre - 27.5).abs() < 4).all())


def test_bad_arguments() -> None:
    with pytest.raises(ac.AttentionError, match="split='dev' is unknown"):
        ClutteredDigits("dev")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="length is 0"):
        ClutteredDigits("test", 0)
    with pytest.raises(ac.AttentionError, match="difficulty is 2"):
        ClutteredDigits("test", 1, difficulty=2)
    with pytest.raises(IndexError, match="example 1 of 1"):
        ClutteredDigits("test", 1)[1]

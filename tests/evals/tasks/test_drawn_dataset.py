from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_evals.tasks.drawn_dataset import BLOCK, DrawnDataset, Split, glyphs
from attnchain_interp import AttentionError


class Number(NamedTuple):
    value: Tensor


class Numbers(DrawnDataset[Number]):
    settings = ("bounds",)

    def __init__(self, split: Split = "test", length: int = 300, seed: int = 0, bounds: tuple[int, int] = (0, 9)) -> None:
        super().__init__(split, length, seed)
        self.bounds = bounds
        self.drawn = 0

    def draw(self, rng: np.random.Generator) -> Number:
        self.drawn += 1
        return Number(torch.from_numpy(rng.integers(*self.bounds, size=BLOCK)))


def test_a_block_is_drawn_once_while_its_examples_are_read() -> None:
    data = Numbers()
    whole = torch.cat([batch.value for batch in data.batches(100)])
    assert len(data) == len(whole) == 300
    assert data.drawn == 3, "blocks of 128"
    expected = np.random.default_rng([0, 2, 1]).integers(0, 9, size=BLOCK)
    assert whole[128:256].tolist() == expected.tolist()
    assert int(data[-1].value) == int(whole[299])
    assert isinstance(data[0], Number)


def test_the_identity_names_all_settings() -> None:
    data = Numbers("train", 5, 2, (1, 3))
    assert data.identity == {"name": "Numbers", "split": "train", "length": 5, "seed": 2, "bounds": [1, 3]}
    assert repr(data) == "Numbers(split='train', length=5, seed=2, bounds=(1, 3))"


def test_bad_arguments() -> None:
    with pytest.raises(AttentionError, match="split='dev' is unknown"):
        Numbers("dev")  # type: ignore[arg-type]
    with pytest.raises(AttentionError, match="length is 0"):
        Numbers(length=0)
    with pytest.raises(AttentionError, match="batch_size is 0"):
        next(Numbers().batches(0))
    with pytest.raises(IndexError, match="example 300 of 300"):
        Numbers()[300]


def test_no_scan_is_in_two_splits() -> None:
    splits = [{scan.numpy().tobytes() for scan in glyphs(split)[0]} for split in ("train", "validation", "test")]
    assert [len(glyphs(split)[0]) for split in ("train", "validation", "test")] == [1097, 300, 400]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]

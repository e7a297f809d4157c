from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attnchain_evals import ClutteredDigits
from attnchain_evals.tasks.examples import Passage, Picture, Selection, batches, groups_of
from attnchain_interp import AttentionError


def test_only_wanted_examples_are_read() -> None:
    read: list[int] = []

    class Counting:
        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> Tensor:
            read.append(index)
            return torch.full((3, 2, 2), float(index))

    found = list(batches(Counting(), 4, 9, lambda number, size: number != 1))
    assert [(batch.number, batch.first, len(batch.inputs)) for batch in found] == [(0, 0, 4), (2, 8, 1)]
    assert read == [0, 1, 2, 3, 8]


def test_labels_of_digits_and_of_pairs() -> None:
    digits = ClutteredDigits("validation", 3)
    for data in (digits, [(digits[k].image, int(digits[k].label)) for k in range(3)]):
        (batch,) = batches(data, 3, None, lambda *_: True)
        assert batch.labels is not None
        assert batch.labels.tolist() == [int(digits[k].label) for k in range(3)]


@pytest.mark.parametrize(
    "label", [3, np.int64(3), np.uint8(3), np.array([3]), np.array(3), torch.tensor(3), torch.tensor([3])]
)
def test_whole_numbers_of_numpy_and_torch_are_labels(label: Any) -> None:
    for row in ((torch.zeros(3, 2, 2), label), Picture(torch.zeros(3, 2, 2), label=label)):
        (batch,) = batches([row, row], 2, None, lambda *_: True)
        assert batch.labels is not None
        assert batch.labels.tolist() == [3, 3]


@pytest.mark.parametrize("label", [0.5, True, "cat", np.array([1, 2]), torch.ones(2, 2), np.float32(1), {"class": 1}, [], 1j])
def test_labels_that_are_not_whole_numbers_are_refused(label: Any) -> None:
    for row in ((torch.zeros(3, 2, 2), label), Picture(torch.zeros(3, 2, 2), label=label)):
        with pytest.raises(AttentionError, match="the label of an example is .*, which is not one whole number"):
            list(batches([row], 1, None, lambda *_: True))


def test_an_example_without_a_label_has_none() -> None:
    for row in ((torch.zeros(3, 2, 2), None), (torch.zeros(3, 2, 2),), torch.zeros(3, 2, 2)):
        (batch,) = batches([row], 1, None, lambda *_: True)
        assert batch.labels is None


def test_examples_of_the_numbers_in_their_order() -> None:
    data: Any = ClutteredDigits("test", 6)
    chosen = Selection(data, [4, 1])
    assert len(chosen) == 2
    assert torch.equal(chosen[0].image, data[4].image)
    assert chosen.identity == {"name": "Selection", "numbers": [4, 1], "of": data.identity}
    assert chosen.groups is None
    data.groups = [0, 0, 1, 1, 2, 3]
    assert chosen.groups == [2, 0]
    for groups in (data.groups, torch.tensor(data.groups), np.array(data.groups) - 1, [*"aabbcd"]):
        data.groups = groups
        assert groups_of(data, None) == {"groups": [0, 0, 1, 1, 2, 3]}
        assert groups_of(data, 3) == {"groups": [0, 0, 1]}
    assert groups_of(data, 1) == groups_of(chosen, None) == groups_of([1, 2], None) == {}, "each is alone in its group"


@pytest.mark.parametrize("groups", [[0, 0, 1], "aab", 3, [[0], [1], [2], [3], [4], [5]], {"a": 0}, torch.zeros(6, 2)])
def test_groups_that_do_not_fit_are_refused(groups: Any) -> None:
    data: Any = ClutteredDigits("test", 6)
    data.groups = groups
    with pytest.raises(AttentionError, match="(?s)the `groups` of the data are .*hold 6 examples.*one name or number"):
        groups_of(data, None)


def test_answers_of_a_batch_are_equally_long() -> None:
    texts = [Passage(torch.arange(4), explained=torch.arange(length)) for length in (2, 2, 1)]
    (batch,) = batches(texts[:2], 2, None, lambda *_: True)
    assert batch.answers is not None
    assert batch.answers.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(AttentionError, match=r"batch 0 has answers of the shapes \[\(1,\), \(2,\)\].*\n.*batch_size=1"):
        list(batches(texts, 3, None, lambda *_: True))
    assert [batch.number for batch in batches(texts, 1, None, lambda *_: True)] == [0, 1, 2]
    with pytest.raises(AttentionError, match="has answers for 1 of 2 examples"):
        list(batches([texts[0], Passage(torch.arange(4))], 2, None, lambda *_: True))


def test_data_without_an_identity_are_refused() -> None:
    with pytest.raises(AttentionError, match="have no `identity`"):
        _ = Selection([1, 2], range(1)).identity

import pytest
import torch
from torch import Tensor

from attnchain_evals import ClutteredDigits
from attnchain_evals.tasks.examples import Passage, Selection, batches
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


def test_examples_of_the_numbers_in_their_order() -> None:
    data = ClutteredDigits("test", 6)
    chosen = Selection(data, [4, 1])
    assert len(chosen) == 2
    assert torch.equal(chosen[0].image, data[4].image)
    assert chosen.identity == {"name": "Selection", "numbers": [4, 1], "of": data.identity}


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

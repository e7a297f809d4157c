import pytest
import torch
from torch.utils.data import DataLoader

import attnchain_interp as ac
from attnchain_evals import KeyValues
from attnchain_evals.tasks.key_values import CONTEXT, KEYS, QUESTION, START, VALUES, as_words


def is_in(tokens: torch.Tensor, numbers: range) -> torch.Tensor:
    return (tokens >= numbers.start) & (tokens < numbers.stop)


def test_shapes() -> None:
    batch = next(KeyValues("validation", 40).batches(32))
    assert batch.input_ids.shape == batch.evidence.shape == batch.query.shape == batch.context.shape == (32, 27)
    assert [len(part.label) for part in KeyValues("validation", 40).batches(32)] == [32, 8]
    assert bool((batch.context.sum(1) == CONTEXT).all())
    assert bool((batch.input_ids[:, 0] == START).all())
    assert bool((batch.input_ids[:, -2] == QUESTION).all())
    assert torch.equal(batch.query, torch.arange(27).expand(32, -1) >= 25)


def test_an_example_depends_on_seed_and_index_alone() -> None:
    data = KeyValues("test", 300, seed=5)
    backwards = [data[i] for i in (299, 130, 3)]
    fresh = KeyValues("test", 1000, seed=5)
    for index, example in zip((299, 130, 3), backwards, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(fresh[index], example, strict=True))
    assert torch.equal(next(iter(DataLoader(data, 16)))[0], next(data.batches(16)).input_ids)
    assert torch.equal(data[-1].input_ids, data[299].input_ids)
    assert not torch.equal(KeyValues("test", 4, seed=6)[3].input_ids, data[3].input_ids)


def test_no_sequence_is_in_two_splits() -> None:
    for split, residues in (("train", {0, 1}), ("validation", {2}), ("test", {3})):
        for seed in (0, 1):
            ids = next(KeyValues(split, 256, seed=seed).batches(256)).input_ids  # type: ignore[arg-type]
            assert set((ids.sum(1) % 4).tolist()) == residues


def test_the_evidence_is_the_asked_key_and_the_answer_after_it() -> None:
    batch = next(KeyValues("test", 512).batches(512))
    for ids, evidence, answer in zip(batch.input_ids, batch.evidence, batch.answer, strict=True):
        key, value = evidence.nonzero()[:, 0].tolist()
        assert (value, int(ids[key]), int(ids[value])) == (key + 1, int(ids[-1]), int(answer))
        assert int((ids == ids[-1]).sum()) == 2  # in its pair and in the query
        assert int((ids == answer).sum()) == 1


def test_every_other_pair_and_value_looks_like_the_answer() -> None:
    """As many values as keys, none twice; two of them in no pair."""
    ids = next(KeyValues("test", 512).batches(512)).input_ids[:, 1:-2]
    pairs = (is_in(ids[:, :-1], KEYS) & is_in(ids[:, 1:], VALUES)).sum(1)
    assert set(pairs.tolist()) == {3, 4, 5, 6}
    for numbers in (KEYS, VALUES):
        assert torch.equal(is_in(ids, numbers).sum(1), pairs + 2)
        for row in ids:
            found = row[is_in(row, numbers)]
            assert len(found.unique()) == len(found)


def test_the_place_gives_nothing_away() -> None:
    """The asked pair stands where other pairs stand, and is the first, …, the last of the values equally often."""
    batch = next(KeyValues("test", 4096).batches(4096))
    place = batch.evidence.float().argmax(1)
    asked = torch.bincount(place, minlength=24) / 4096  # of the key of the pair
    pairs = is_in(batch.input_ids[:, :-1], KEYS) & is_in(batch.input_ids[:, 1:], VALUES)
    others = pairs[:, :24].sum(0) / pairs.sum()
    assert torch.allclose(asked, others, atol=0.015)
    values = is_in(batch.input_ids, VALUES)
    order = values.cumsum(1).gather(1, place[:, None] + 1)[:, 0]
    for count in (5, 6, 7, 8):  # values in the context
        ranks = order[values.sum(1) == count]
        shares = torch.bincount(ranks, minlength=count + 1)[1:] / len(ranks)
        assert float(shares.max()) < 1 / count + 0.07
    assert float((torch.bincount(batch.label, minlength=16) / 4096).max()) < 0.08


def test_fewer_pairs() -> None:
    ids = next(KeyValues("train", 128, pairs=(1, 1)).batches(128)).input_ids
    assert bool(((is_in(ids[:, :-1], KEYS) & is_in(ids[:, 1:], VALUES)).sum(1) == 1).all())


def test_words() -> None:
    assert as_words(torch.tensor([1, 4, 20, 36, 2, 19, 0])) == ["<start>", "k0", "v0", "w0", "?", "k15", "<pad>"]


def test_bad_arguments() -> None:
    with pytest.raises(ac.AttentionError, match="split='dev' is unknown"):
        KeyValues("dev")  # type: ignore[arg-type]
    with pytest.raises(ac.AttentionError, match="length is 0"):
        KeyValues("test", 0)
    with pytest.raises(ac.AttentionError, match=r"pairs is \(0, 7\)"):
        KeyValues("test", 1, pairs=(0, 7))
    with pytest.raises(IndexError, match="example 1 of 1"):
        KeyValues("test", 1)[1]

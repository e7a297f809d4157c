"""The hunt without its hunter: what atheris is given, and that it would be told of a fault."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from attnchain_interp import AttentionStore
from studies.fuzz import NAMES, arguments, target


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_are_no_store_are_survived_and_a_fault_is_raised(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called, seeds = target(name, nullcontext())
    inputs = [*seeds, b"", b"\0" * 9, bytes(range(256)) * 4]
    for data in inputs:
        called(data)

    def faulty(*_: object) -> None:
        raise KeyError

    monkeypatch.setattr(AttentionStore, "read", faulty)
    with pytest.raises(KeyError):
        [called(data) for data in inputs]


def test_the_corpus_begins_with_stores_and_stays(tmp_path: Path) -> None:
    seeds = target("store", nullcontext())[1]
    words = arguments(tmp_path / "corpus", 0.5, seeds)
    assert words[1:3] == [str(tmp_path / "corpus"), f"-artifact_prefix={tmp_path}/corpus/"]
    assert "-max_total_time=30" in words
    (tmp_path / "corpus" / "found").touch()
    arguments(tmp_path / "corpus", 0.5, seeds)
    assert len(list((tmp_path / "corpus").iterdir())) == len(seeds) + 1

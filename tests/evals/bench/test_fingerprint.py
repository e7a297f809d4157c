"""The identity of a run: what changes it, and what does not."""

from __future__ import annotations

import functools
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

import attnchain_interp as ac
from attnchain_evals.bench.fingerprint import (
    code_identity,
    code_of,
    differences,
    key_of,
    method_identity,
    metric_identity,
    plain,
    public_name,
)
from attnchain_evals.bench.names import method_classes
from attnchain_evals.metrics import MeanIoU
from attnchain_evals.tasks.digest import model_identity
from attnchain_interp import AttentionError, TokenRank

from ..bench_tasks import Noise, tiny_vit


def test_the_key_depends_on_every_entry_and_not_on_their_order() -> None:
    assert key_of({"a": 1, "b": 2}) == key_of({"b": 2, "a": 1})
    assert key_of({"a": 1, "b": 2}) != key_of({"a": 1, "b": 3})


def test_differences_are_named_by_their_paths() -> None:
    here, there = {"methods": {"TokenRank": {"damping": 0.99}}, "limit": 3}, {"methods": {"TokenRank": {"damping": 0.85}}}
    assert differences(here, there) == ["methods.TokenRank.damping: 0.99, not 0.85", "limit: 3, not nothing"]
    assert differences({"a": 1}, {}) == ["a: 1, not nothing"]
    assert differences({}, {"a": {}}) == ["a: nothing, not {}"]
    assert differences({"methods": {"Rollout": {"layers": None, "heads": "mean"}}, "seed": 1}, {"methods": {}, "seed": 0}) == [
        "methods.Rollout: {…}, not nothing",
        "seed: 1, not 0",
    ], "a part that is absent is said once"


def test_a_weight_and_the_structure_change_the_identity_of_a_model() -> None:
    model, before = tiny_vit(), model_identity(tiny_vit())
    assert model_identity(model) == before
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    assert model_identity(model)["sha256"] != before["sha256"]
    one, other = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()), torch.nn.Sequential(torch.nn.Linear(2, 2))
    other.load_state_dict(one.state_dict())
    assert model_identity(one)["sha256"] != model_identity(other)["sha256"]


def test_a_method_is_its_public_name_and_its_settings() -> None:
    found = method_identity(ac.MultiBounce(tiny_vit(), steps=3))
    assert (found["class"], found["steps"]) == ("attnchain_interp.MultiBounce", 3)
    assert "forward_func" not in found
    assert method_identity(IntegratedGradients(torch.nn.ReLU()))["class"] == "captum.attr.IntegratedGradients"
    assert public_name(Noise).endswith("bench_tasks.Noise"), "a class that no package offers is named by its module"


def test_no_move_within_the_package_changes_the_name_of_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Public names only: none has a module in it."""
    rooms = {"attnchain_interp", "attnchain_interp.attribution"}
    assert {public_name(kind).rpartition(".")[0] for kind in method_classes().values()} <= rooms
    elsewhere = ModuleType("attnchain_interp.elsewhere")
    monkeypatch.setitem(sys.modules, elsewhere.__name__, elsewhere)
    before = public_name(ac.TokenRank)
    monkeypatch.setattr(ac.TokenRank, "__module__", elsewhere.__name__)
    assert public_name(ac.TokenRank) == before == "attnchain_interp.TokenRank"


def test_a_metric_is_its_version_columns_direction_and_settings() -> None:
    found = metric_identity(MeanIoU())
    assert {"version", "columns", "higher_is_better"} <= set(found)
    assert found["higher_is_better"] is True


def test_the_sources_have_one_digest() -> None:
    found = code_identity()
    assert found == code_identity()
    assert len(found["sources"]) == 64
    assert torch.__version__.startswith(found["torch"])


class Own:
    def __init__(self, value: Any) -> None:
        self._value = value

    def double(self) -> int:
        return 2 * self._value


def adds(number: int) -> Any:
    return lambda value: value + number


PAIRS: list[tuple[Any, Any]] = [
    (np.float32(0.2), np.float32(0.99)),
    (np.int64(1), np.int64(5)),
    (np.array([1.0]), np.array([-1.0])),
    (np.array([1.0]), np.array([1.0], np.float32)),
    (range(1), range(5, 6)),
    (slice(1), slice(2)),
    ({0}, {5}),
    (torch.ones(2), torch.zeros(2)),
    (torch.float32, torch.float16),
    (Own(0), Own(1)),
    (Own([Own(0)]), Own([Own(1)])),
    (Own(1).double, Own(2).double),
    (functools.partial(max, 1), functools.partial(max, 2)),
    (functools.partial(max, 1), functools.partial(min, 1)),
    (lambda value: value + 1, lambda value: value + 2),
    (adds(1), adds(2)),
    (torch.nn.ReLU(), torch.nn.GELU()),
    ({"a": 1}, {"a": 2}),
    (1, "1"),
    (None, False),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_settings_are_told_apart_and_one_is_itself(one: Any, other: Any) -> None:
    assert plain(one) == plain(one)
    assert plain(one) != plain(other)
    assert plain([{"a": one}]) != plain([{"a": other}])


def test_numbers_of_numpy_are_numbers() -> None:
    assert plain(np.float64(0.5)) == 0.5
    assert plain({2, 1}) == plain({1, 2})


def test_what_cannot_be_compared_is_refused() -> None:
    itself: list[Any] = []
    itself.append(itself)
    for value in (object(), itself, torch.Generator(), iter([1]), np.array([object()]), open(__file__)):  # noqa: SIM115
        with pytest.raises(AttentionError, match="a setting holds an object of type .* cannot be compared"):
            plain(value)


def test_a_class_of_the_same_name_and_other_code_is_another() -> None:
    def build(source: str) -> type:
        names: dict[str, Any] = {"__name__": "__main__"}
        exec(source, names)  # noqa: S102
        return names["Method"]

    codes = [code_of(build("class Method:\n    scale = 1\n    def attribute(self, x): return x")) for _ in range(2)]
    assert codes[0] == codes[1]
    for source in (
        "class Method:\n    scale = 1\n    def attribute(self, x): return -x",
        "class Method:\n    scale = 2\n    def attribute(self, x): return x",
        "class Method:\n    scale = 1\n    @property\n    def attribute(self): return 1",
    ):
        assert code_of(build(source)) != codes[0]
    assert code_of(TokenRank) is None, "of installed packages the versions tell"

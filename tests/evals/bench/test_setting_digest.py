"""Settings that differ are told apart, and those that cannot be are refused."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from attnchain_evals.bench.setting_digest import code_of, plain
from attnchain_interp import AttentionError, TokenRank


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

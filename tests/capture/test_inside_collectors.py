"""Collectors of a model inside another: paths of layers, and the kind of collector. `test_inside.py` runs models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from attnchain_interp.capture import BlockCollector, Expected, OutputCollector, Shown, StoreCollector
from attnchain_interp.capture.contribution_collector import collector_of
from attnchain_interp.capture.inside_collectors import collector_inside
from attnchain_interp.store import TokenLayout

TEXT, MAPS = TokenLayout.text(torch.ones(1, 2)), torch.full((1, 1, 2, 2), 0.5)


class Passing:
    """A collector in the graph, which tells the names of the layers."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def expect(self, expected: Expected) -> None:
        pass

    def take(self, name: str, shown: Shown) -> None:
        self.seen.append(name)

    def take_output(self, name: str, values: Tensor, output: Callable[[Tensor], Any], result: Any) -> Any:
        self.seen.append(f"{name}: {output(values)}")
        return result

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> list[str]:
        return [*names, *metadata]


def test_layers_have_their_paths_in_the_whole() -> None:
    inside: Any = collector_inside(StoreCollector("maps"), "tower.", {"inside": "Whole.tower"})
    inside.expect(Expected(TEXT, 1, 1, False))
    inside.take("block", Shown(MAPS))
    store = inside.result(["block"], {"stack": "block, last", "unread": "other"}).finished(["head"])
    assert store.names == ["tower.block"]
    assert store.metadata["inside"] == "Whole.tower"
    assert store.metadata["unread"] == "tower.other, head"


@pytest.mark.parametrize("passes", [False, True])
def test_the_kind_of_collector_stays(passes: bool) -> None:
    collector: Any = Passing() if passes else collector_of("alti", "auto", 100)
    inside = collector_inside(collector, "tower.", {})
    assert isinstance(inside, OutputCollector) == passes
    assert isinstance(inside, BlockCollector) != passes
    assert not isinstance(collector_inside(StoreCollector(), "", {}), OutputCollector | BlockCollector)
    if isinstance(inside, OutputCollector):
        inside.take("block", Shown(MAPS))
        assert inside.take_output("block", torch.tensor(1), lambda values: values.item() + 1, "result") == "result"
        assert collector.seen == ["tower.block", "tower.block: 2"]

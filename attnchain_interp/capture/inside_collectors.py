"""Collectors that stand between the adapter of a model inside another and the collector of the capture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from torch import Tensor

from attnchain_interp.capture.collector import Block, BlockCollector, Collector, Expected, OutputCollector, Shown
from attnchain_interp.store.layers import STACK

Result = TypeVar("Result")


def collector_inside(collector: Collector[Result], prefix: str, metadata: Mapping[str, str]) -> CollectorInside[Result]:
    """Returns the collector of a model inside another, of the same kind. It adds `metadata`, and `prefix` to paths."""
    if isinstance(collector, BlockCollector):
        return _BlocksInside(collector, prefix, metadata)
    if isinstance(collector, OutputCollector):
        return _OutputsInside(collector, prefix, metadata)
    return CollectorInside(collector, prefix, metadata)


class CollectorInside(Generic[Result]):
    """Hands attention to a collector under the full paths of the layers. Its result is itself, until the whole has run."""

    def __init__(self, collector: Collector[Result], prefix: str, metadata: Mapping[str, str]) -> None:
        self._collector, self._prefix, self._metadata = collector, prefix, dict(metadata)
        self._names: list[str] = []

    def expect(self, expected: Expected) -> None:
        self._collector.expect(expected)

    def take(self, name: str, shown: Shown) -> None:
        self._collector.take(self._prefix + name, shown)

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> CollectorInside[Result]:
        self._names = [self._prefix + name for name in names]
        self._metadata |= metadata
        return self

    def finished(self, outside: Sequence[str]) -> Result:
        """Returns the collector's result. Modules that attended outside are unread, beside those inside."""
        beside = filter(None, self._metadata.pop("unread", "").split(", "))
        unread = ", ".join([*(self._prefix + name for name in beside), *outside])
        if STACK in self._metadata:
            self._metadata[STACK] = ", ".join(self._prefix + name for name in self._metadata[STACK].split(", "))
        return self._collector.result(self._names, self._metadata | ({"unread": unread} if unread else {}))


class _BlocksInside(CollectorInside[Result]):
    """The same for a collector of attention blocks."""

    _collector: BlockCollector[Result]

    @property
    def wants_blocks(self) -> bool:
        return self._collector.wants_blocks

    def take_block(self, name: str, block: Block, shown: Shown) -> None:
        self._collector.take_block(self._prefix + name, block, shown)


class _OutputsInside(CollectorInside[Result]):
    """The same for a collector in the graph of the model."""

    _collector: OutputCollector[Result]

    def take_output(self, name: str, values: Tensor, output: Callable[[Tensor], Any], result: Any) -> Any:
        return self._collector.take_output(self._prefix + name, values, output, result)

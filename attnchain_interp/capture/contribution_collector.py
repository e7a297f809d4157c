"""Collects contributions, or for a model whose attention tells, whichever of contributions and attention is its default."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Generic, Literal, NoReturn, TypeVar, final, get_args, overload

from attnchain_interp.capture.collector import Block, BlockCollector, Collector, Expected, Shown, told
from attnchain_interp.capture.contribution_sizes import Measure, check_measure, contributions_of
from attnchain_interp.capture.mean_collector import LayerMean, MeanCollector
from attnchain_interp.capture.reducers import Reducer
from attnchain_interp.capture.reduction_collector import ReductionCollector, Reductions
from attnchain_interp.capture.store_collector import StoreCollector, bytes_in_words
from attnchain_interp.checks import check_one_of
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import full_precision
from attnchain_interp.store import AttentionStore, LayerAttention, Role

Maps = Literal["attention", Measure]
Keep = Literal["auto", "maps", "factors"]
Result = TypeVar("Result")

TEXT_MAPS: Final[Measure] = "alti"  # `maps=None` of texts: docs/real-text.md


@final
class ContributionCollector(Generic[Result]):
    """Measures the contributions of each attention block, and hands one map (batch, 1, query, key) per layer to a collector.

    Args:
        measure: the size of a contribution. See `contributions_of`.
        collector: keeps or reduces the maps.
        most_bytes: the greatest size of all maps; None for no limit.
        one_map: the collector keeps one map of all layers of a text.

    Raises:
        AttentionError: an unknown measure.
    """

    def __init__(
        self, measure: Measure, collector: Collector[Result], most_bytes: int | None = None, one_map: bool = False
    ) -> None:
        check_measure(measure)
        self._measure: Measure = measure
        self._collector, self._most_bytes, self._one_map = collector, most_bytes, one_map
        self._expected: Expected | None = None

    def __repr__(self) -> str:
        return f"ContributionCollector({self._measure!r}, {self._collector!r})"

    @property
    def wants_blocks(self) -> bool:
        """Returns true."""
        return True

    def expect(self, expected: Expected) -> None:
        """Refuses attention to other tokens, and maps that do not fit. See `Collector.expect`."""
        if expected.queries is not None:
            raise AttentionError(
                "contributions belong to self-attention, whose output is added to its own tokens; this is attention to other"
                " tokens (cross-attention, a pooling head).",
                'Capture its attention: maps="attention".',
            )
        self._expected, one = expected, replace(expected, heads=1, fused=False)
        summed = self._one_map and not bool((expected.tokens.roles == Role.PATCH).any())
        size = one.map_bytes // one.layers if summed else one.map_bytes
        if self._most_bytes is not None and size > self._most_bytes:
            what = "the mean contributions" if summed else "the contributions"
            raise AttentionError(
                f"{what} of {one.layers} layers × {len(one.tokens)} tokens take {bytes_in_words(size)},"
                f" over max_bytes={self._most_bytes:,}, and contributions have no queries and keys to keep instead.",
                "Choose layers=…, raise max_bytes, keep reducers, keep=[attnchain_interp.StationaryVectors()], keep the maps"
                ' all the same, keep="maps", or read the attention: maps="attention".',
            )
        self._collector.expect(one)

    def take(self, name: str, shown: Shown) -> None:
        """Refuses attention without its values. See `Collector.take`."""
        raise _alone(name)

    @full_precision()
    def take_block(self, name: str, block: Block, shown: Shown) -> None:
        """Takes the contributions of one layer.

        Raises:
            AttentionError: `block`; or as `Expected.check_layer` and `contributions_of`.
        """
        expected = told(self._expected)
        expected.check_layer(name, shown.attention, ())
        if isinstance(block, AttentionError):
            raise block
        self._collector.take(name, Shown(contributions_of(block, self._measure, expected.tokens.mask)))

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Result:
        """Returns the collector's result. The metadata name the measure. See `Collector.result`."""
        return self._collector.result(names, {**metadata, "maps": self._measure})


@final
class DefaultCollector(Generic[Result]):
    """Collects contributions of texts whose blocks can be taken apart, and else attention.

    A text has no patches, or its attention is causal (an image in the prompt of a decoder). The first layer decides. Where the
    attention of a text is read all the same, a warning gives the reason.

    Args:
        contributions, attention: the collectors of either.

    Attributes:
        refusal: why a later layer shows no contributions, where the first one did; None else. The collector raises it, and
            `capture` captures the attention of all layers, by a second forward.
    """

    def __init__(self, contributions: BlockCollector[Result], attention: Collector[Result]) -> None:
        self._contributions, self._attention = contributions, attention
        self._chosen: Collector[Result] | None = None
        self._expected: Expected | None = None
        self.refusal: AttentionError | None = None

    def __repr__(self) -> str:
        return f"DefaultCollector({self._chosen or 'undecided'})"

    @property
    def wants_blocks(self) -> bool:
        """Returns whether blocks are still taken apart."""
        return self._chosen is not self._attention

    def expect(self, expected: Expected) -> None:
        """See `Collector.expect`. Attention to other tokens is read as attention."""
        self._expected = expected
        if expected.queries is not None:
            self._attend()

    def take(self, name: str, shown: Shown) -> None:
        """Takes attention without its values, which is read as attention. See `Collector.take`."""
        if self._chosen is self._contributions:
            self._refuse(_alone(name))
        if self._chosen is None and self._of_text(shown):
            warn_of(_alone(name))
        self._take(name, shown)

    def take_block(self, name: str, block: Block, shown: Shown) -> None:
        """Takes one layer, as the first one decided. See `BlockCollector.take_block`.

        Raises:
            AttentionError: `refusal`.
        """
        if self._chosen is None and self._of_text(shown):
            try:
                self._contributions.expect(told(self._expected))
                self._contributions.take_block(name, block, shown)
                self._chosen = self._contributions
            except AttentionError as refusal:
                warn_of(refusal)
            else:
                return
        if self._chosen is self._contributions:
            try:
                self._contributions.take_block(name, block, shown)
            except AttentionError as refusal:
                self._refuse(refusal)
        else:
            self._take(name, shown)

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Result:
        """Returns the result of the collector that was chosen. See `Collector.result`."""
        return (self._chosen or self._attention).result(names, metadata)

    @full_precision()
    def _of_text(self, shown: Shown) -> bool:
        tokens = told(self._expected).tokens
        images = bool((tokens.roles == Role.PATCH).any())
        return not images or LayerAttention("", shown.attention, shown.sink).causal(tokens.mask)

    def _refuse(self, refusal: AttentionError) -> NoReturn:
        self.refusal = refusal
        raise refusal

    def _attend(self) -> None:
        self._chosen = self._attention
        self._attention.expect(told(self._expected))

    def _take(self, name: str, shown: Shown) -> None:
        if self._chosen is None:
            self._attend()
        (self._chosen or self._attention).take(name, shown)


@overload
def collector_of(maps: Maps | None, keep: Keep | LayerMean, max_bytes: int) -> Collector[AttentionStore]: ...
@overload
def collector_of(maps: Maps | None, keep: Sequence[Reducer], max_bytes: int) -> Collector[Reductions]: ...
def collector_of(maps: Maps | None, keep: Keep | LayerMean | Sequence[Reducer], max_bytes: int) -> Collector[Any]:
    """Returns the collector of a capture. See `capture`."""
    if maps is not None:
        check_one_of("maps", maps, get_args(Maps))
    mean, keep = (keep, "auto") if isinstance(keep, LayerMean) else (None, keep)
    attention: Any = StoreCollector(keep, max_bytes) if isinstance(keep, str) else ReductionCollector(keep)
    attention = attention if mean is None else MeanCollector(mean, attention, max_bytes)
    if maps == "attention" or (maps is None and keep == "factors"):
        return attention
    if keep == "factors":
        raise AttentionError(
            f'keep="factors" and maps={maps!r}: contributions have no queries and keys.',
            'Keep maps, or reducers: keep=[attnchain_interp.StationaryVectors()]; or read the attention: maps="attention".',
        )
    kept: Any = StoreCollector("maps") if isinstance(keep, str) else ReductionCollector(keep)
    kept = kept if mean is None else MeanCollector(mean)
    one_map = mean is not None and mean.one
    contributions = ContributionCollector(maps or TEXT_MAPS, kept, max_bytes if keep == "auto" else None, one_map)
    return contributions if maps else DefaultCollector(contributions, attention)


def _alone(name: str) -> AttentionError:
    return AttentionError(
        f"layer {name!r} showed its attention alone, and contributions are computed from its values too: text is being"
        " generated, or the adapter does not follow values.",
        'Capture one forward of the finished text, or the attention: maps="attention".',
    )


def warn_of(refusal: AttentionError) -> None:
    """Says why the attention of a text is read in place of contributions."""
    cause = str(refusal).splitlines()[0]
    warnings.warn(f'{cause} Attention is read instead. maps="attention" says so, without this warning.', stacklevel=2)

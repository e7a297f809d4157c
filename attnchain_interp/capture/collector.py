"""The protocol of a collector: takes each layer's attention during a forward, and makes the result of the capture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, final, runtime_checkable

from torch import Tensor

from attnchain_interp.capture.attention_block import AttentionBlock
from attnchain_interp.errors import AttentionError
from attnchain_interp.operators import Factors
from attnchain_interp.store import TokenLayout

Result_co = TypeVar("Result_co", covariant=True)
MakeNorms = Callable[[], Tensor]
Block = AttentionBlock | AttentionError  # or the reason why it is not known


@dataclass(frozen=True, eq=False)
class Expected:
    """Says what a forward will show, before it runs.

    Attributes:
        tokens: the layout of the keys' tokens.
        layers, heads: the numbers of layers to record and of heads in a layer.
        fused: whether attention goes through `scaled_dot_product_attention`, so that factors can be had.
        queries: the layout of the queries where they are other tokens (cross-attention, a pooling head); else None.
    """

    tokens: TokenLayout
    layers: int
    heads: int
    fused: bool
    queries: TokenLayout | None = None

    @property
    def map_bytes(self) -> int:
        """The size of all maps in float32."""
        return 4 * self.layers * self.heads * self.tokens.batch * len(self.queries or self.tokens) * len(self.tokens)

    def check_layer(self, name: str, attention: Tensor | Factors, taken: Iterable[str]) -> None:
        """Refuses a layer that comes for the second time, or with other tokens than expected.

        Raises:
            AttentionError: either of them.
        """
        if name in taken:
            raise AttentionError(
                f"layer {name!r} computed attention twice in one forward; its maps cannot be told apart.",
                "Choose other layers by layers=…, or take off what attends a second time, such as an adapter of images.",
            )
        batch, queries, keys = self.tokens.batch, len(self.queries or self.tokens), len(self.tokens)
        if (attention.shape[0], *attention.shape[2:]) != (batch, queries, keys):
            beside = " (a cache of earlier keys, a learnt prefix, or a pooled sequence gives rectangular maps)"
            further = attention.shape[-1] - keys
            fix = "Choose the layers that attend among the input's tokens: layers=…."
            if further > 0 and (attention.shape[0], attention.shape[2]) == (batch, queries):
                among = f"P[..., {further}:] / P[..., {further}:].sum(-1, keepdim=True)"
                fix = (
                    "Pass the whole text, without a cache. Of a model with a learnt prefix (prefix tuning) pass the maps among"
                    f" the tokens: AttentionStore.from_maps([{among} for P in your_maps]). Where other layers have no such"
                    " keys, choose them: layers=…."
                )
            raise AttentionError(
                f"layer {name!r} attends from {attention.shape[-2]} to {attention.shape[-1]} tokens in a batch of"
                f" {attention.shape[0]}{'' if attention.shape[-2] == attention.shape[-1] else beside}, not from {queries} to"
                f" {keys} in a batch of {batch} as its inputs say. Its sequence is not laid out as usual for this family, so"
                " scores could not be put back onto the input.",
                fix,
            )


@final
@dataclass(frozen=True, eq=False)
class Shown:
    """The attention that a layer shows in a forward.

    Attributes:
        attention: maps (batch, head, query, key), or factors, detached from the model's graph.
        sink: whether the softmax had a sink, which was dropped from the maps.
        value_norms: returns the length of each value (batch, head, key), which the attention moves. It costs nothing where it
            is not called. None where the values are not known.
    """

    attention: Tensor | Factors
    sink: bool = False
    value_norms: MakeNorms | None = None


def told(expected: Expected | None) -> Expected:
    """Returns what `expect` was told."""
    if expected is None:
        raise AttentionError("a collector was given attention before expect.", "Call expect before the forward.")
    return expected


class Collector(Protocol[Result_co]):
    """Takes attention as it is recorded. An adapter calls `expect`, then `take` for every layer, then `result`."""

    def expect(self, expected: Expected) -> None:
        """Is told before the forward what will come.

        Raises:
            AttentionError: the collector cannot keep it: maps that do not fit, factors that are not to be had, or maps that
                are not chains.
        """
        ...

    def take(self, name: str, shown: Shown) -> None:
        """Takes the attention of the layer `name`.

        Raises:
            AttentionError: as `Expected.check_layer`.
        """
        ...

    def result(self, names: Sequence[str], metadata: Mapping[str, str]) -> Result_co:
        """Returns the result for the layers `names`, in the order in which they ran."""
        ...


@runtime_checkable
class BlockCollector(Collector[Result_co], Protocol[Result_co]):
    """A collector that takes whole attention blocks: attention with its values, up to the output of the block."""

    @property
    def wants_blocks(self) -> bool:
        """Returns whether blocks are wanted. Where they are not, `take` takes attention as that of another collector."""
        ...

    def take_block(self, name: str, block: Block, shown: Shown) -> None:
        """Takes the attention block of one layer.

        Args:
            name, shown: as of `take`.
            block: the block, or the reason why it is not known.

        Raises:
            AttentionError: `block`; or as `Expected.check_layer`.
        """
        ...


@runtime_checkable
class OutputCollector(Collector[Result_co], Protocol[Result_co]):
    """A collector that stands in the graph of the model, between attention and whatever reads its output."""

    def take_output(self, name: str, values: Tensor, output: Callable[[Tensor], Any], result: Any) -> Any:
        """Takes the output of the attention of one layer, after `take`.

        Args:
            name: of the layer.
            values: (batch, key head, key, dim), which the map mixes. Each key head serves head / key head heads.
            output: turns the mixed values of the heads (batch, head, query, dim) into the result of a torch function.
            result: of that torch function: the output in the graph of the model, or a tuple that begins with the output.

        Returns:
            The result with which the model goes on.
        """
        ...

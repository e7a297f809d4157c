"""Products of two tensors that were both made of softmaxes: values that are probabilities, or maps that make another map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from attnchain_adapters.softmaxes.marks import Marks
from attnchain_adapters.softmaxes.probability_rows import even_rows, excess

DOUBT: Final = "it multiplies two tensors that were both made of softmaxes, and nothing tells the map from the values"


@final
@dataclass(eq=False)
class Doubt:
    """A product of two such tensors that may be attention. It is none once its result is a map that multiplies values.

    Attributes:
        settled: whether its result, or something made of it, has multiplied values.
    """

    settled: bool = False


@final
class Doubts:
    """Remembers which tensors were made of the results of doubtful products. No tensor is kept alive."""

    def __init__(self) -> None:
        self._of: Any = WeakIdKeyDictionary()

    def add(self, result: Tensor) -> Doubt:
        """Returns a doubt about the product that gave a tensor."""
        doubt = Doubt()
        self._of[result] = (*self._of.get(result, ()), doubt)
        return doubt

    def inherit(self, result: Tensor, sources: Iterable[Any]) -> None:
        """Takes a tensor that was made of others, and may be a map where they may."""
        if self._of and (
            found := [each for source in sources if isinstance(source, Tensor) for each in self._of.get(source, ())]
        ):
            self._of[result] = tuple(dict.fromkeys((*self._of.get(result, ()), *found)))

    def settle(self, maps: Tensor) -> None:
        """Takes a map that has multiplied values: the products that made it were of maps."""
        for doubt in self._of.get(maps, ()):
            doubt.settled = True


def map_of_two(first: Tensor, second: Tensor) -> int | None:
    """Returns which of two factors, both made of softmaxes, is a map that multiplies the other: 0, 1; None if nothing tells.

    A map's rows are probabilities over what is summed. It is told where it alone has as many queries as keys, or where it
    comes first and the other factor can be no map: it is not of probabilities, nor do its rows sum to one number. Where
    neither is of probabilities, as after learnt weights, the shape alone tells.

    Args:
        first, second: (…, row, summed), with the same axes before.
    """
    pairs = ((first, second), (second, first))
    square = [one.ndim == other.ndim and one.shape[-1] == one.shape[-2] != other.shape[-2] for one, other in pairs]
    far = [excess(one) for one, _ in pairs]
    maps = square
    if min(far) < 2:
        values = far[1] == 2 and not square[1] and not even_rows(second)
        maps = [excess(first, (-1,)) < 2 and (square[0] or values), excess(second, (-1,)) < 2 and square[1]]
    return maps.index(True) if sum(maps) == 1 else None


def told(marks: Marks, factors: Sequence[Tensor], rows: Sequence[Tensor] | None) -> tuple[int, int] | None:
    """Returns the ranks of two factors, of which a map has the lower one; None where nothing tells it.

    Args:
        marks: of the factors.
        factors: of a product.
        rows: the factors as `map_of_two` takes them; None where they have no such form.
    """
    one, other = (marks.rank(each) for each in factors)
    if rows is None or max(one, other) == 2:
        return (one, other) if one != other else None
    place = map_of_two(rows[0], rows[1])
    return None if place is None else (place, 1 - place)


def may_attend(marks: Marks, first: Tensor, second: Tensor) -> bool:
    """Returns whether a product may be attention, of which nothing tells the map. That of queries and keys is none.

    A factor is of probabilities, or its rows or columns sum to one number, or one alone may be the output of a gate.
    """
    even = any(even_rows(each) for factor in (first, second) for each in (factor, factor.mT))
    return even or min(excess(first), excess(second)) < 2 or marks.rank(first) != marks.rank(second)

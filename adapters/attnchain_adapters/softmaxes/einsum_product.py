"""The product of values with a map that an einsum is."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from attnchain_adapters.softmaxes.map_product import Product


def einsum_product(
    factors: tuple[Tensor, Tensor], labels: Sequence[Sequence[str]], keys: int, last: bool
) -> Product | str | None:
    """Returns the product of a map with values; None where the sum is over several axes, or the map has several of queries.

    A text says why it cannot be read.

    Args:
        factors: the map and the values.
        labels: those of the map, of the values and of the result.
        keys: the number of probabilities in a row of the softmax.
        last: whether the softmax went over its last axis.
    """
    (exact, values), (of_map, of_values, out) = factors, labels
    sizes = dict(zip(of_map, exact.shape, strict=True)) | dict(zip(of_values, values.shape, strict=True))
    summed = [each for each in of_map if each in of_values and each not in out]
    queries = [each for each in of_map if each in out and each not in of_values][-1:]
    groups = [each for each in of_map if each in out and each not in queries]
    if len(summed) > 1 or len(groups) + len(queries) + 1 != len(of_map):
        return None
    rest = [each for each in of_values if each not in (*groups, *summed)]
    exact = exact.permute([of_map.index(each) for each in (*groups, *queries, *summed)])
    exact = exact if queries else exact.unsqueeze(-2)
    there = [each for each in groups if each in of_values]
    values = values.permute([of_values.index(each) for each in (*there, *summed, *rest)])
    values = values[tuple(slice(None) if each in there else None for each in groups)]
    values = values.flatten(len(groups) + 1) if rest else values[..., None]
    values = values.expand(*(sizes[each] for each in groups), *values.shape[-2:])

    def output(heads: Tensor) -> Tensor:
        heads = heads.reshape(*heads.shape[:-1], *(sizes[each] for each in rest))
        heads = heads if queries else heads.squeeze(len(groups))
        order = [*groups, *queries, *rest]
        return heads.permute([order.index(each) for each in out]).contiguous()

    return Product.grouped(exact, values, output, keys, last)

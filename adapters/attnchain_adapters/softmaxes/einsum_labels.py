"""The labels of the axes in an einsum's equation."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_letters

from torch import Tensor


def einsum_labels(equation: str, operands: Sequence[Tensor]) -> list[list[str]]:
    """Returns the labels of each factor of an einsum, and of its result. An ellipsis becomes labels of its own.

    >>> einsum_labels("bij,bjd", [torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)])[2]
    ['d', 'i']
    """
    terms, arrow, out = equation.replace(" ", "").partition("->")
    parts = terms.split(",")
    free = [each for each in ascii_letters if each not in equation]
    hidden = max(operand.ndim - len(part.replace("...", "")) for operand, part in zip(operands, parts, strict=True))
    dots = free[: max(hidden, 0)]
    if not arrow:
        letters = terms.replace(",", "").replace("...", "")
        out = "..." + "".join(sorted(each for each in letters if letters.count(each) == 1))
    found = []
    for part, operand in zip([*parts, out], [*operands, None], strict=True):
        before, there, after = part.partition("...")
        count = len(dots) if operand is None else operand.ndim - len(before) - len(after)
        found.append([*before, *(dots[len(dots) - count :] if there else []), *after])
    return found


def aligned(operand: Tensor, labels: Sequence[str], out: Sequence[str]) -> Tensor:
    """Returns a factor of an einsum with the axes of its result; those that it lacks have the size 1.

    >>> aligned(torch.zeros(2, 3), ["i", "b"], ["b", "h", "i"]).shape
    torch.Size([3, 1, 2])
    """
    there = operand.permute([labels.index(each) for each in out if each in labels])
    return there[tuple(slice(None) if each in labels else None for each in out)]


def rows_over(operands: Sequence[Tensor], labels: Sequence[Sequence[str]]) -> list[Tensor] | None:
    """Returns the two factors of an einsum as (…, row, summed), with the same axes before; None where it has no such form.

    >>> factors = [torch.zeros(2, 3, 4), torch.zeros(2, 4, 5)]
    >>> [each.shape for each in rows_over(factors, einsum_labels("bij,bjd->bid", factors)) or []]
    [torch.Size([2, 3, 4]), torch.Size([2, 5, 4])]
    """
    *both, out = labels
    shared = [each for each in out if all(each in of for of in both)]
    summed = [each for each in both[0] if each in both[1] and each not in out]
    rows = [[each for each in of if each not in (*shared, *summed)] for of in both]
    if [len(each) for each in (summed, *rows)] != [1, 1, 1] or not {*rows[0], *rows[1]} <= {*out}:
        return None
    orders = [[*shared, *row, *summed] for row in rows]
    return [each.permute([of.index(one) for one in order]) for each, of, order in zip(operands, both, orders, strict=True)]

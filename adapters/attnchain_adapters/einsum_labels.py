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

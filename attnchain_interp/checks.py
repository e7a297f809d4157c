"""Checks of plain arguments: whole numbers, positions in a sequence, names out of a list, probabilities, types, tensors."""

from __future__ import annotations

import math
from collections.abc import Collection
from operator import index
from typing import Any, Final

import torch
from torch import Tensor

from attnchain_interp.errors import AttentionError

__all__ = [
    "as_number",
    "check_one_of",
    "check_position",
    "check_probability",
    "check_tensor",
    "check_type",
    "check_whole_number",
]

WHOLE: Final = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
"""The types of tensors of whole numbers; bool is none of them."""


def as_number(value: Any) -> float:
    """Returns a number as a float, and NaN for what is none, so that no comparison holds.

    >>> as_number(0.5), as_number("0.5")
    (0.5, nan)
    """
    try:
        return math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):  # the last is torch's, of a tensor of several numbers
        return math.nan


def check_whole_number(name: str, value: Any, meaning: str, least: int = 1) -> None:
    """Refuses everything but a whole number that is at least `least`. A bool is not a number.

    Args:
        name: of the argument, for the message.
        value: of the argument.
        meaning: completes "steps is 0.5; it is …": "the number of steps of the walk".
        least: the smallest number that is allowed.

    Raises:
        AttentionError: another type, or a smaller number.

    >>> check_whole_number("steps", 0.5, "the number of steps of the walk")
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: steps is 0.5; it is the number of steps of the walk, a whole number from 1 on.
    Pass steps=1 or more.
    """
    try:
        least_reached = not isinstance(value, bool) and index(value) >= least
    except TypeError:
        least_reached = False
    if not least_reached:
        raise AttentionError(
            f"{name} is {value!r}; it is {meaning}, a whole number from {least} on.", f"Pass {name}={least} or more."
        )


def check_position(name: str, value: Any, count: int) -> int:
    """Returns the position, from 0 to `count` − 1, of a number that is counted from either end. A bool is not a number.

    Raises:
        AttentionError: another type, or out of range.

    >>> check_position("layer", -1, 12)
    11
    >>> check_position("layer", 12, 12)
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: layer 12 does not exist; there are 12, numbered 0 to 11.
    Use one of these numbers, or a negative number to count from the end.
    """
    try:
        position = count if isinstance(value, bool) else index(value)
    except TypeError:
        position = count
    if not -count <= position < count:
        raise AttentionError(
            f"{name} {value!r} does not exist; there are {count}, numbered 0 to {count - 1}.",
            "Use one of these numbers, or a negative number to count from the end.",
        )
    return position % count


def check_one_of(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Refuses a value that is not in `allowed`.

    Raises:
        AttentionError: another value. The message lists the allowed ones.

    >>> check_one_of("direction", "left", ("incoming", "outgoing"))
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: direction='left' is unknown.
    Use 'incoming' or 'outgoing'.
    """
    try:
        known = value in allowed
    except (TypeError, ValueError):  # an array has no one answer
        known = False
    if not known:
        *others, last = map(repr, allowed)
        raise AttentionError(
            f"{name}={value!r} is unknown.", f"Use {', '.join(others)} or {last}." if others else f"Use {last}."
        )


def check_probability(name: str, value: float, meaning: str, usual: float) -> None:
    """Refuses a number outside [0, 1].

    Args:
        name: of the argument, for the message.
        value: of the argument.
        meaning: completes "damping is 2; it is …": "the probability of following the chain".
        usual: a value that the message proposes.

    Raises:
        AttentionError: a number below 0 or above 1, NaN, or no number.
    """
    if not 0 <= as_number(value) <= 1:
        raise AttentionError(f"{name} is {value!r}; it is {meaning}, from 0 to 1.", f"Pass {name}={usual}, which is usual.")


def check_type(name: str, value: Any, kind: type, fix: str) -> None:
    """Refuses a value of another class.

    Args:
        name: of the argument, for the message.
        value: of the argument.
        kind: the class that is required.
        fix: tells the user what to pass instead.

    Raises:
        AttentionError: another class.

    >>> check_type("mask", "", list, "Pass mask=[].")
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: mask is of type str; it must be of type list.
    Pass mask=[].
    """
    if not isinstance(value, kind):
        came = f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
        raise AttentionError(f"{name} is {came}; it must be of type {kind.__name__}.", fix)


def check_tensor(name: str, value: Any, axes: str) -> None:
    """Refuses everything but a dense tensor.

    Args:
        name: of the argument, for the message.
        value: of the argument.
        axes: of the tensor, such as "(batch, token)".

    Raises:
        AttentionError: an array of another library, a list, anything else; a sparse or nested tensor.

    >>> import numpy as np
    >>> check_tensor("mask", np.ones((1, 2)), "(batch, token)")
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: mask is of type ndarray; it must be a tensor (batch, token).
    Pass torch.from_numpy(mask).
    """
    if not isinstance(value, Tensor):
        raise AttentionError(
            f"{name} is of type {type(value).__name__}; it must be a tensor {axes}.",
            f"Pass {as_tensor(name, value) or f'a tensor {axes}'}.",
        )
    if value.is_nested or value.layout != torch.strided:
        held, instead = ("nested", "to_padded_tensor(0)") if value.is_nested else ("sparse", "to_dense()")
        raise AttentionError(f"{name} is a {held} tensor; it must be a dense tensor {axes}.", f"Call .{instead} on it.")


def as_device(device: Any) -> torch.device:
    """Returns a device given as torch takes it: an object, a string, a number of a GPU. It refuses a type and a tensor.

    `tensor.to` also takes those, and makes numbers of a mask.

    Raises:
        AttentionError: no device.

    >>> as_device(torch.float16)
    Traceback (most recent call last):
    ...
    attnchain_interp.errors.AttentionError: device is torch.float16; it must be a device.
    Pass a device, such as "cpu" or "cuda:0". Chains are made in float32 or wider of maps of any type.
    """
    try:
        return torch.device(device)
    except (TypeError, RuntimeError):
        raise AttentionError(
            f"device is {device!r}; it must be a device.",
            'Pass a device, such as "cpu" or "cuda:0". Chains are made in float32 or wider of maps of any type.',
        ) from None


def wide_scores(name: str, value: Any, axes: str, shape: tuple[int, ...]) -> Tensor:
    """Returns scores in float32 or float64, as sums of many need. It refuses others than finite numbers of a shape.

    Args:
        name, axes: see `check_tensor`.
        value: of the argument: of any type of numbers.
        shape: that the scores must have, none of it zero.
    """
    check_tensor(name, value, axes)
    if tuple(value.shape) != shape or 0 in shape:
        raise AttentionError(
            f"{name} has shape {tuple(value.shape)} beside {' × '.join(map(str, shape))} labels; it must be {axes}, none"
            " empty.",
            "Give a label for each score, one at least.",
        )
    if not bool(value.isfinite().all()):
        raise AttentionError(f"{name} holds NaN or infinity.", "Give finite scores.")
    return value.to(torch.promote_types(value.dtype, torch.float32))


def as_tensor(name: str, value: Any) -> str:
    """Returns the code that makes a tensor of an array of another library, or of a list; empty for anything else."""
    if type(value).__module__ == "numpy":
        return f"torch.from_numpy({name})"
    if hasattr(value, "__array__"):  # of JAX, TensorFlow, CuPy, xarray
        return f"torch.from_numpy(np.array({name}))"
    return f"torch.tensor({name})" if isinstance(value, list | tuple) else ""

"""The sizes of the parts of a map that are worked on together: few enough entries for a cache, and enough for each call."""

from __future__ import annotations

from typing import Final

import torch

_LEAST: Final = 128  # rows: fewer make slow products


def entries_at_once(entries: int, device: torch.device) -> int:
    """Returns how many numbers are worked on together: `entries` for each thread of a CPU, whose own cache holds them.

    On other devices, and on a CPU of 16 threads and more, there are 16 times `entries`.

    >>> entries_at_once(1000, torch.device("cuda"))
    16000
    """
    return entries * (min(16, torch.get_num_threads()) if device.type == "cpu" else 16)


def rows_at_once(entries: int, row: int, device: torch.device) -> int:
    """Returns how many rows of a map are built at once, of which each has `row` entries. See `entries_at_once`.

    >>> rows_at_once(1000, 20, torch.device("cuda"))
    800
    """
    return max(_LEAST, entries_at_once(entries, device) // row)

"""The precision of chains, which `torch.autocast` does not lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def full_precision() -> Iterator[None]:
    """Turns `torch.autocast` off while open, on the CPU and on the accelerator. Decorates functions too.

    A model runs under its user's autocast. The arithmetic of its chains stays in float32 or better.

    >>> with torch.autocast("cpu", torch.bfloat16), full_precision():
    ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
    torch.float32
    """
    accelerator = torch.accelerator.current_accelerator()
    with ExitStack() as turned_off:
        for device in {"cpu", "cpu" if accelerator is None else accelerator.type}:
            if torch.is_autocast_enabled(device):
                turned_off.enter_context(torch.autocast(device, enabled=False))
        yield

"""Products of float32 matrices in float32, whatever `torch.set_float32_matmul_precision` says."""

from __future__ import annotations

from threading import Lock
from typing import Any, Final, final

import torch
from torch import Tensor

_NARROWED: Final = {"high": torch.float16, "tf32": torch.float16, "medium": torch.bfloat16, "bf16": torch.bfloat16}
# types with as wide steps as the factors have; every other setting leaves them in float32

_PLACES: Final = {"cuda": torch.backends.cuda.matmul, "cpu": getattr(torch.backends.mkldnn, "matmul", None)}
_BACKENDS: Final[dict[str, Any]] = {name: place for name, place in _PLACES.items() if hasattr(place, "fp32_precision")}
# they hold the setting of each device; before torch 2.9 one setting holds for all


@final
class ExactProducts:
    """Keeps products of float32 matrices in float32 while open.

    `torch.set_float32_matmul_precision` lets a processor round the factors of float32 products to bfloat16 or TensorFloat-32.
    The setting belongs to the process: it is set aside from the first entry to the last exit, among all threads.
    """

    def __init__(self) -> None:
        self._lock, self._entries, self._asked = Lock(), 0, dict[str, str]()

    def __enter__(self) -> None:
        with self._lock:
            if self._entries == 0:
                self._asked = {device: asked for device, asked in _settings().items() if asked in _NARROWED}
                for device in self._asked:
                    _set(device, "ieee")
            self._entries += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._entries -= 1
            if self._entries == 0:
                for device, asked in self._asked.items():
                    _set(device, asked)

    def rounded(self, product: Tensor) -> torch.dtype:
        """Returns a type with steps as wide as those of the factors of a product that was made outside of this."""
        with self._lock:
            asked = self._asked if self._entries else _settings()
        narrowed = _NARROWED.get(asked.get(product.device.type, ""), torch.float32)
        return narrowed if product.dtype == torch.float32 else product.dtype


def _settings() -> dict[str, str]:
    if not _BACKENDS:
        return dict.fromkeys(("cuda", "cpu"), torch.get_float32_matmul_precision())
    return {device: backend.fp32_precision for device, backend in _BACKENDS.items()}


def _set(device: str, asked: str) -> None:
    if not _BACKENDS:
        torch.set_float32_matmul_precision("highest" if asked == "ieee" else asked)
        return
    backend = _BACKENDS[device]
    backend.fp32_precision = "none"  # the setting of all backends holds where a backend has none of its own
    if backend.fp32_precision != asked:
        backend.fp32_precision = asked


exact_products: Final = ExactProducts()

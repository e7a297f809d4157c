"""Products of float32 matrices in float32, whatever `torch.set_float32_matmul_precision` says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, final

import torch
from torch import Tensor

from attnchain_interp.operators.shared_setting import SharedSetting

_NARROWED: Final = {"high": torch.float16, "tf32": torch.float16, "medium": torch.bfloat16, "bf16": torch.bfloat16}
# types with as wide steps as the factors have; every other setting leaves them in float32

_PLACES: Final = {"cuda": torch.backends.cuda.matmul, "cpu": getattr(torch.backends.mkldnn, "matmul", None)}
_BACKENDS: Final[dict[str, Any]] = {name: place for name, place in _PLACES.items() if hasattr(place, "fp32_precision")}
# they hold the setting of each device; before torch 2.9 one setting holds for all


@final
class ExactProducts(SharedSetting):
    """Keeps products of float32 matrices in float32 while open, in all threads.

    `torch.set_float32_matmul_precision` lets a processor round the factors of float32 products to bfloat16 or TensorFloat-32.
    """

    def __init__(self) -> None:
        super().__init__(self._exact)
        self._asked = dict[str, str]()

    @contextmanager
    def _exact(self) -> Iterator[None]:
        overall = _overall()
        self._asked = {device: asked for device, asked in _settings().items() if asked in _NARROWED}
        if overall != "highest":  # torch's older switches can be read then: each agrees with the newer one
            torch.set_float32_matmul_precision("highest")
        for device, asked in _settings().items():
            if asked in _NARROWED:
                _set(device, "ieee")
        try:
            yield
        finally:
            if overall != "highest":
                torch.set_float32_matmul_precision(overall)
            for device, asked in self._asked.items():
                _set(device, asked)
            self._asked = {}

    def rounded(self, product: Tensor) -> torch.dtype:
        """Returns a type with steps as wide as those of the factors of a product that was made outside of this."""
        narrowed = _NARROWED.get((self._asked or _settings()).get(product.device.type, ""), torch.float32)
        return narrowed if product.dtype == torch.float32 else product.dtype


def _overall() -> str:
    """Returns the setting of `torch.set_float32_matmul_precision`; "highest" where backends have settings of their own."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # torch refuses to read one setting where several hold
        return "highest"


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

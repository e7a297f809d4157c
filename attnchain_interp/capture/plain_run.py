"""The plain run of a model that is watched: nothing of it is compiled, and nothing is computed again in the backward."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import Lock
from typing import Any, Final, final

import torch
from torch import nn

from attnchain_interp.capture.source import module_of

_CHECKPOINTING: Final = ("grad_checkpointing", "gradient_checkpointing")  # switches of timm; of transformers and diffusers


@contextmanager
def plain_run(source: Any) -> Iterator[None]:
    """Runs what `torch.compile` compiled as it is written while open, and turns gradient checkpointing off.

    Compiled code cannot be watched, and a block that is computed again in the backward is not watched then. Neither changes
    the numbers. A model that calls `torch.utils.checkpoint` itself has no switch.

    Args:
        source: the model, or a bound method of it.
    """
    module, switched = module_of(source), list[tuple[nn.Module, str]]()
    for each in () if module is None else module.modules():
        switched += [(each, name) for name in _CHECKPOINTING if vars(each).get(name) is True]
    _uncompiled.enter()
    try:
        for each, name in switched:
            setattr(each, name, False)
        yield
    finally:
        for each, name in switched:
            setattr(each, name, True)
        _uncompiled.leave()


@final
class _Uncompiled:
    """Sets torch's compiler aside from the first run that is entered to the last one that is left, among all threads.

    The stance of the compiler belongs to the process. Where nothing was compiled, its modules are not even loaded.
    """

    def __init__(self) -> None:
        self._lock, self._runs, self._stance = Lock(), 0, ExitStack()

    def enter(self) -> None:
        with self._lock:
            if self._runs == 0 and "torch._dynamo" in sys.modules:
                self._stance.enter_context(torch.compiler.set_stance("force_eager"))
            self._runs += 1

    def leave(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                self._stance.close()


_uncompiled: Final = _Uncompiled()

"""The plain run of a model that is watched: nothing of it is compiled, and nothing is computed again in the backward."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

import torch
from torch import nn

from attnchain_interp.capture.source import module_of
from attnchain_interp.operators.shared_setting import SharedSetting

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
    with _uncompiled:
        try:
            for each, name in switched:
                setattr(each, name, False)
            yield
        finally:
            for each, name in switched:
                setattr(each, name, True)


def _stance() -> AbstractContextManager[Any]:
    """Sets torch's compiler aside. Where nothing was compiled, its modules are not even loaded."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()


_uncompiled: Final = SharedSetting(_stance)

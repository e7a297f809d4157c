"""Attribution in the shape that Quantus calls: arrays in, arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from attnchain_interp import AttentionError


def explain_func(
    model: nn.Module,
    inputs: ArrayLike,
    targets: ArrayLike | None = None,
    method: str | Callable[[nn.Module], Any] = "TokenRank",
    device: Any = None,
) -> NDArray[np.float32]:
    """Returns attributions (batch, 1, height, width) of images. Each pixel has the score of its patch.

    Quantus' metrics call it: `metric(model=…, x_batch=…, y_batch=…, explain_func=explain_func, explain_func_kwargs=
    {"method": "Rollout"})`; and `quantus.evaluate(…, xai_methods={"Rollout": explain_func})`, which gives `method` the name.

    Args:
        model: one that an adapter recognises, in eval mode.
        inputs: images (batch, channel, height, width).
        targets: (batch,) classes, handed on as the method's `target`; methods that read attention alone know none.
        method: as `attnchain bench ls methods` has it, settings as "MultiBounce(steps=3)"; or a callable from a model to a
            method: a class, or a class with arguments, `functools.partial(attnchain_interp.TokenRank, layers=-1)`.
        device: accepted because Quantus passes it on; the images go to where the model is.

    Raises:
        AttentionError: an unknown method, inputs that are not images, or an error of the method.
    """
    parameter = next(model.parameters())
    images = torch.as_tensor(np.asarray(inputs)).to(parameter)  # perturbed inputs come as float64
    if images.ndim != 4:
        raise AttentionError(
            f"inputs has shape {tuple(images.shape)}; it must have four dimensions.",
            "Pass images (batch, channel, height, width).",
        )
    if isinstance(method, str):
        from attnchain_evals.bench.names import method_of

        method = method_of(method)
    target = None if targets is None else torch.as_tensor(np.asarray(targets)).to(parameter.device)
    scores = method(model).attribute(images, target)[:, :1]  # the same in every channel
    return scores.float().cpu().numpy()

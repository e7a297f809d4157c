"""How a model is called with the tensor that is attributed: by position, or as `inputs_embeds`."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from attnchain_interp.errors import AttentionError


def model_call(model: Any, inputs: Tensor, extra: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of a call of `model` on `inputs`, as Captum would make it: (inputs, *extra).

    A model whose first argument is `input_ids` and which takes `inputs_embeds` gets a floating-point (batch, token, width)
    tensor as the latter, and None in its place.

    Raises:
        AttentionError: floating-point inputs of another shape for a model of token numbers.
    """
    if not inputs.is_floating_point() or not isinstance(model, nn.Module):
        return (inputs, *extra), {}
    names = [name for name in inspect.signature(type(model).forward).parameters if name != "self"]
    if names[:1] != ["input_ids"]:
        return (inputs, *extra), {}
    if inputs.ndim != 3 or "inputs_embeds" not in names:
        raise AttentionError(
            f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}; {type(model).__name__} takes token numbers (integers),"
            " or embeddings (batch, token, width) where it has inputs_embeds. Noise cannot be added to token numbers"
            " (NoiseTunnel, sensitivity_max): attribute the embeddings, model.get_input_embeddings()(input_ids)."
        )
    return (None, *extra), {"inputs_embeds": inputs}

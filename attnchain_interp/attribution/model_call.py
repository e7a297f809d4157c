"""How a model is called with the tensor that is attributed: by position, or by keyword."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn

from attnchain_interp.errors import AttentionError


def model_call(model: Any, inputs: Tensor, extra: tuple[Any, ...]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The positional and keyword arguments of a call of `model` on `inputs`, as Captum would make it: (inputs, *extra).

    A model whose first argument is `input_ids` and which takes `inputs_embeds` gets a floating-point (batch, token, width)
    tensor as the latter, and None in its place. A model that takes keywords alone gets `inputs` as the first of them.

    Raises:
        AttentionError: floating-point inputs of another shape for a model of token numbers; further arguments for a model
            that takes keywords alone.
    """
    if not isinstance(model, nn.Module):
        return (inputs, *extra), {}
    parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
    names = [parameter.name for parameter in parameters]
    embedded = inputs.is_floating_point() and names[:1] == ["input_ids"]
    if embedded and (inputs.ndim != 3 or "inputs_embeds" not in names):
        raise AttentionError(
            f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}; {type(model).__name__} takes token numbers (integers),"
            " or embeddings (batch, token, width) where it has inputs_embeds. Noise cannot be added to token numbers"
            " (NoiseTunnel, sensitivity_max): attribute the embeddings, model.get_input_embeddings()(input_ids)."
        )
    if parameters and parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
        if extra:
            raise AttentionError(
                f"additional_forward_args holds {len(extra)}, which are passed by position, and {type(model).__name__} takes"
                f" keywords alone. Capture with them, capture(model, {names[0]}=…, …) or capture_gradients(model, …,"
                " target=…), and give the result to the method's score."
            )
        return (), {"inputs_embeds" if embedded else names[0]: inputs}
    return ((None, *extra), {"inputs_embeds": inputs}) if embedded else ((inputs, *extra), {})

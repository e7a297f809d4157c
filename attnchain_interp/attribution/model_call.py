"""One call of a model: the inputs, the target, and how the inputs are passed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor, nn

from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import Target


class Call(NamedTuple):
    """Some examples of a batch, as the model is called with them.

    Attributes:
        inputs: the tensor that is attributed.
        target: the score of each example that is explained.
        extra: further positional arguments of the model.
        first: the number of the first example in the whole batch.
        options: keyword arguments of the model and of the capture.
    """

    inputs: Tensor
    target: Target = None
    extra: tuple[Any, ...] = ()
    first: int = 0
    options: Mapping[str, Any] | None = None

    def arguments(self, model: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the positional and keyword arguments of the call: (inputs, *extra), as in Captum, and the options.

        A model whose first argument is `input_ids` and which takes `inputs_embeds` gets a floating-point tensor (batch, token,
        width) as `inputs_embeds`. A model that takes keywords alone gets `inputs` as its first keyword.

        Raises:
            AttentionError: floating-point inputs of another shape for a model of token ids; further arguments for a model
                that takes keywords alone.
        """
        inputs, extra, options = self.inputs, self.extra, self.options or {}
        if not isinstance(model, nn.Module):
            return (inputs, *extra), {**options}
        parameters = list(inspect.signature(type(model).forward).parameters.values())[1:]
        names = [parameter.name for parameter in parameters]
        embedded = inputs.is_floating_point() and names[:1] == ["input_ids"]
        if embedded and (inputs.ndim != 3 or "inputs_embeds" not in names):
            raise AttentionError(
                f"inputs is {inputs.dtype} of shape {tuple(inputs.shape)}; {type(model).__name__} takes token numbers"
                " (integers), or embeddings (batch, token, width) where it has inputs_embeds.",
                "Noise cannot be added to token numbers (NoiseTunnel, sensitivity_max): attribute the embeddings,"
                " model.get_input_embeddings()(input_ids).",
            )
        if parameters and parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            if extra:
                raise AttentionError(
                    f"additional_forward_args holds {len(extra)}, which are passed by position, and {type(model).__name__}"
                    " takes keywords alone.",
                    f"Capture with the keywords, capture(model, {names[0]}=…, …) or capture_gradients(model, …, target=…), and"
                    " pass the result to the method's score.",
                )
            return (), {"inputs_embeds" if embedded else names[0]: inputs, **options}
        return ((None, *extra), {"inputs_embeds": inputs, **options}) if embedded else ((inputs, *extra), {**options})

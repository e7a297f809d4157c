"""A model of one's own by the name of the function that builds it: "python:my_module:build"."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from typing import Any

from torch import nn

from attnchain_interp import AttentionError
from attnchain_interp.capture import LoadedModel

RETURNS = "Return (model, preprocess), where preprocess turns a PIL image into (1, channel, height, width), or a LoadedModel."


def own_model(name: str, image: Any) -> LoadedModel:
    """Calls the function, and returns its model in eval mode with its preprocessing.

    Args:
        name: "my_module:build". The module is looked for in the working directory, too.
        image: a PIL image to try the preprocessing with.
    """
    module, _, function = name.partition(":")
    if not module or not function:
        raise AttentionError(f"python:{name} names no function of a module.", "Write python:my_module:build.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        built = getattr(importlib.import_module(module), function)()
        if isinstance(built, LoadedModel):
            return built
        model, preprocess = built
        sample = preprocess(image)
    except Exception as error:
        raise AttentionError(f"python:{name} failed ({type(error).__name__}: {error}).", RETURNS) from error
    if not isinstance(model, nn.Module):
        raise AttentionError(f"python:{name} returned {type(model).__name__} for a model.", RETURNS)
    first = next(iter(inspect.signature(model.forward).parameters), "x")
    return LoadedModel(model.eval(), preprocess, {first: sample})

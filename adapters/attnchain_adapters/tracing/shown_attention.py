"""Finds the attention of a model that is being traced."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attnchain_adapters.tracing.position import reached

MASKED = -9e3  # what is added to logits is below where it hides a key: −10⁴ in MarkupLM, −10⁹ in many a user's own code
TIMM = {"VisionTransformer", "Beit", "Eva"}  # their blocks attend globally over all tokens


class Attention:
    """The attention of a module: maps (batch, head, query, key) of some heads, how many heads, and who is not padding.

    `keys` is (batch, token) bool, or None where there is no padding. `cached` holds the keys of one head in a cache (batch,
    token, width), or None where there is no cache. The class is a plain one: nnsight 0.7 sends no other.
    """

    def __init__(self, maps: Callable[[slice], Tensor], heads: int, keys: Tensor | None) -> None:
        self.maps, self.heads, self.keys = maps, heads, keys
        self.cached: Tensor | None = None


def attention_modules(model: Any) -> list[Any]:
    """Every self-attention that is known below an nnsight model, in the order of its modules.

    These are the modules whose weights transformers itself records, the blocks of timm's vision transformers, and
    `nn.MultiheadAttention`.

    Raises:
        ValueError: `model` is not an nnsight model.
    """
    if not all(hasattr(model, name) for name in ("_module", "path", "modules")):
        raise ValueError(
            f"model is a {type(model).__name__}; pass the nnsight model, TransformersModel(…) or NNsight(module), whose trace"
            " this is."
        )
    known: set[str] = set()
    for holder in model.modules():
        module, below = holder._module, holder.modules()
        if isinstance(module, nn.MultiheadAttention):
            known.add(holder.path)
        if any(kind.__name__ in TIMM and kind.__module__.startswith("timm.") for kind in type(module).__mro__):
            known |= {one.path for one in below if hasattr(one._module, "fused_attn") and ".blocks." in one.path}
        recorded = (getattr(module, "_can_record_outputs", None) or {}).get("attentions", ())
        for kind in recorded if isinstance(recorded, list | tuple) else [recorded]:
            target, part = getattr(kind, "target_class", kind), getattr(kind, "layer_name", None) or ""
            known |= {one.path for one in below if isinstance(one._module, target or ()) and part in one.path}
    return [one for one in model.modules() if one.path in known]


class LateError(Exception):
    """The attention of a module was asked for when the model had run on."""


def attention_of(envoy: Any) -> Attention:
    """The attention of a module that is about to run, or that runs and returns its weights.

    Raises:
        ValueError: it shows none, or none over its own tokens.
        LateError: it had run already, or its input had passed and is needed.
    """
    module: Any = envoy._module
    if (place := reached(envoy)) == "behind":
        raise LateError(f"{envoy.path} had run already when its attention was asked for.")
    if hasattr(module, "fused_attn"):
        return fused(envoy) if module.fused_attn else returned(envoy, envoy.attn_drop.input, None)
    if place == "inside":
        return without_input(envoy)
    args, kwargs = envoy.inputs
    call = inspect.signature(type(module).forward).bind(module, *args, **kwargs)
    if isinstance(module, nn.MultiheadAttention):
        if not torch.equal(call.arguments["query"], call.arguments["key"]):
            raise ValueError(f"{envoy.path} attends to other tokens than it attends from, which is not a chain; leave it out.")
        call.arguments |= {"need_weights": True, "average_attn_weights": False}
        envoy.inputs = call.args[1:], call.kwargs
        mask = call.arguments.get("key_padding_mask")  # where it is bool, padding is true
        return returned(envoy, envoy.output[1], ~mask if mask is not None and mask.dtype == torch.bool else mask)
    given = {**call.arguments, **call.kwargs}
    if any(given.get(name) is not None for name in ("key_value_states", "encoder_hidden_states")):
        raise ValueError(f"{envoy.path} attends to other tokens than it attends from, which is not a chain; leave it out.")
    attention = returned(envoy, weights_in(envoy, (*args, *kwargs.values())), given.get("attention_mask"))
    caches = (given.get(name) for name in ("cache", "past_key_values", "layer_past"))
    attention.cached = cached_keys(module, next((cache for cache in caches if cache is not None), None))
    return attention


def cached_keys(module: nn.Module, cache: Any) -> Tensor | None:
    """The keys of the first head (batch, token, width) that a cache of transformers holds of a module."""
    cache = getattr(cache, "self_attention_cache", cache)  # of a decoder that has an encoder
    layers, place = getattr(cache, "layers", ()), getattr(module, "layer_idx", None)
    keys = getattr(layers[place], "keys", None) if isinstance(place, int) and place < len(layers) else None
    return keys[:, 0] if isinstance(keys, Tensor) and keys.ndim == 4 else None


def without_input(envoy: Any) -> Attention:
    """The attention of a module whose input has passed, and with it the mask that tells padding.

    Raises:
        LateError: in every head the last token leaves out another token, which may be padding.
    """
    if isinstance(envoy._module, nn.MultiheadAttention):
        raise LateError(f"{envoy.path} runs already, and had not been asked for its weights.")
    attention = returned(envoy, weights_in(envoy, envoy.output), None)
    if not bool((attention.maps(slice(None))[:, :, -1] > 0).any(1).all()):
        raise LateError(f"{envoy.path} runs already. The mask, which tells padding, has passed with its input.")
    return attention


def weights_in(envoy: Any, beside: Any) -> Tensor | None:
    """The weights (batch, head, query, key) among what a module returned; `beside` holds a tensor that has the batch.

    Raises:
        ValueError: the module attends within windows.
    """
    output = envoy.output
    others = output[1:] if isinstance(output, tuple) else ()
    weights = next((one for one in reversed(others) if isinstance(one, Tensor) and one.ndim == 4), None)
    batch = next((len(one) for one in beside if isinstance(one, Tensor) and one.ndim), None)
    if weights is not None and len(weights) != batch:
        raise ValueError(
            f"{envoy.path} has {len(weights)} maps per head for a batch of {batch}: it attends within windows, which is no"
            " chain over all tokens; leave it out."
        )
    return weights


def returned(envoy: Any, weights: Tensor | None, mask: Tensor | None) -> Attention:
    """The attention whose weights a module returns; `mask` is what is added to, or allowed among, its logits."""
    if weights is None:
        used = getattr(getattr(envoy._module, "config", None), "_attn_implementation", None)
        raise ValueError(
            f"{envoy.path} returned no weights: its implementation is {used!r}, and only the eager one returns them. Write"
            ' TransformersModel(…, attn_implementation="eager") or, once it is loaded, model.set_attn_implementation("eager").'
            if used not in (None, "eager")
            else f"{envoy.path} returned no weights; it must return (output, weights (batch, head, query, key)). Or hand maps"
            " of your own to stationary(P, states)."
        )
    if weights.ndim != 4:
        raise ValueError(
            f"{envoy.path} has weights of shape {tuple(weights.shape)}; a chain needs (batch, head, token, token). The batch"
            " is missing."
        )
    if weights.shape[1] > 1 and weights.stride(1) == 0:
        raise ValueError(
            f"{envoy.path} returned one map for all heads, which may be their mean (WavLM's is); capture the model instead:"
            " attnchain_interp.capture(model, inputs)."
        )
    keys = mask
    if mask is not None:
        keys = mask > MASKED if mask.is_floating_point() else mask.bool()
        if keys.ndim == 4:  # (batch, 1, query, key): tokens that may attend to themselves
            keys = keys[:, 0].diagonal(dim1=-2, dim2=-1) if keys.shape[-2] > 1 else keys[:, 0, 0]
    return Attention(lambda heads: weights[:, heads], weights.shape[1], keys)


def fused(envoy: Any) -> Attention:
    """The attention of a timm block, by the queries and keys of the fused call that it makes."""
    operations = getattr(envoy.source, "names", None) or vars(envoy.source)  # the latter in nnsight 0.7
    calls = [name for name in operations if "scaled_dot_product_attention" in name]
    if len(calls) != 1:
        raise ValueError(
            f"{envoy.path} makes {len(calls)} fused calls of attention, so its map is not known; set fused_attn = False on"
            f" that {type(envoy._module).__name__} before the trace."
        )
    args, kwargs = getattr(envoy.source, calls[0]).inputs
    return Attention(lambda heads: fused_maps(*args, **kwargs, heads=heads), args[0].shape[1], None)


def fused_maps(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    heads: slice,
) -> Tensor:
    """The maps of some heads, for the arguments of `scaled_dot_product_attention`.

    Raises:
        ValueError: dropout is active.
    """
    if dropout_p > 0:
        raise ValueError(f"attention dropout {dropout_p} is active, so maps are random; call .eval() on the model first.")
    wide = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):  # the model's user may have turned it on
        logits = query[:, heads].to(wide) @ key[:, heads].to(wide).mT * query.shape[-1] ** -0.5
    if attn_mask is not None:
        mask = attn_mask[:, heads] if attn_mask.ndim == 4 and attn_mask.shape[1] > 1 else attn_mask
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
    if is_causal:
        logits = logits.masked_fill(torch.ones_like(logits[0, 0], dtype=torch.bool).triu(1), -torch.inf)
    return logits.softmax(-1)

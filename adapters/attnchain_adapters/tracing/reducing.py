"""The walk over the layers of a model that is being traced."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attnchain_adapters.tracing import functionals
from attnchain_adapters.tracing.functionals import uniform
from attnchain_adapters.tracing.shown_attention import attention_modules, attention_of

Function = Callable[[Tensor, Tensor], Tensor]

TRIED = "0.8"  # release of nnsight
TOGETHER = 2**22  # bytes of maps that are reduced at once


def token_rank(
    model: Any,
    damping: float | None = None,
    layers: Sequence[Any] | None = None,
    tokens: Tensor | None = None,
    detach: bool = True,
) -> Tensor:
    """The stationary distribution of every head, (batch, layer, head, token), by `reduce_layers`.

    As `attnchain_interp.TokenRank` by default: where a layer's maps are causal, jumps lead to the last state, which predicts
    the next token; elsewhere to every state alike. For other jumps hand `stationary` to `reduce_layers`.

    Args:
        model, layers, tokens, detach: as in `reduce_layers`.
        damping: probability of following attention rather than jumping, at least 0 and below 1; when None 0.5 where maps
            are causal, else 0.99.

    Raises:
        ValueError: as `reduce_layers`, and a damping outside [0, 1).

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """
    function = partial(functionals.token_rank, damping=damping)
    return reduce_layers(model, function, layers=layers, tokens=tokens, detach=detach)[0]


def reduce_layers(
    model: Any,
    *functions: Function,
    layers: Sequence[Any] | None = None,
    tokens: Tensor | None = None,
    detach: bool = True,
) -> list[Tensor]:
    """Applies each function to every head in one walk over the layers: one tensor (batch, layer, head, …) per function.

    Call it inside a trace, before anything behind the first of its layers is asked for: nnsight serves values in forward
    order. Of transformers models it reads the weights that the eager implementation returns, so they need that one. Timm's
    fused blocks are read by the queries and keys that they attend with, and `nn.MultiheadAttention` is made to return its
    weights. Maps are widened to float32, and those of a layer are gone before the next is computed, unless gradients are
    recorded: trace under `torch.no_grad()` where none are wanted.

    Args:
        model: the nnsight model whose trace this is, or a part of it.
        functions: f(P, states) as in `attnchain_adapters.tracing.functionals`: `stationary`, `second_eigenvalue`,
            `column_sum`, `entropy`, `functools.partial(bounce, start=-1)`, or your own.
        layers: attention modules in forward order, `attention_modules(model)[-4:]` or modules of your own that return
            (output, weights), `[model.encoder[0].attention]`. All that are known when None.
        tokens: bool (token,) or (batch, token), the states: the patches of an image, all but the first token. Every token
            but padding when None. Padding is known by the mask that a module is called with.
        detach: results on the CPU and without gradient. False leaves them where they are, for `with ranks.sum().backward():`.

    Raises:
        ValueError: no layer is known; weights that are not returned, asked for too late, or not square; rows that do not sum
            to one; an example without states. And what a function raises.
    """
    warn_of_untried()
    known = attention_modules(model)
    chosen = known if layers is None else list(layers)
    if not chosen or not functions:
        raise ValueError(
            f"there are {len(functions)} functions and {len(chosen)} layers, and both are needed. {len(known)} attention"
            f" modules of {type(model._module).__name__} are known here. Name others that return (output, weights),"
            " layers=[model.layers[0].attention, …], or hand maps of your own to stationary(P, states)."
        )
    results: list[list[Tensor]] = [[] for _ in functions]
    for envoy in chosen:
        for several, result in zip(results, reduce_layer(envoy, functions, tokens, detach), strict=True):
            several.append(result)
    for several in results:
        shapes = sorted({tuple(result.shape) for result in several})
        if len(shapes) > 1:
            raise ValueError(
                f"the layers' results differ in shape, {shapes}, and cannot be stacked; take layers of one shape."
            )
    return [torch.stack(several, 1) for several in results]


def reduce_layer(envoy: Any, functions: Sequence[Function], tokens: Tensor | None, detach: bool) -> list[Tensor]:
    """Applies each function to every head of one layer: (batch, head, …)."""
    try:
        attention = attention_of(envoy)
    except Exception as error:
        if type(error).__name__ != "OutOfOrderError":  # nnsight's, which is not imported here
            raise
        raise ValueError(
            f"{envoy.path} had run already when its attention was asked for, or it never runs. nnsight serves values in"
            " forward order: reduce layers before asking for anything behind the first of them, all functions in one call,"
            " or in an invoke of its own (with tracer.invoke(): …). Under torch.no_grad, torch's own encoder layers pass"
            " their modules by, unless torch.backends.mha.set_fastpath_enabled(False)."
        ) from error
    with torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
        together = max(1, TOGETHER // (4 * attention.maps(slice(0, 1)).numel()))
        parts: list[list[Tensor]] = [[] for _ in functions]
        for start in range(0, attention.heads, together):
            P, states = chain(attention.maps(slice(start, start + together)), attention.keys, tokens, envoy.path)
            for several, function in zip(parts, functions, strict=True):
                several.append(function(P, states))
        results = [torch.cat(several, 1) for several in parts]
        return [result.cpu() for result in results] if detach else results


def chain(maps: Tensor, keys: Tensor | None, tokens: Tensor | None, path: str) -> tuple[Tensor, Tensor]:
    """Returns P and the states of maps (batch, head, token, token); `keys` (batch, token) is false for padding."""
    batch, n = maps.shape[0], maps.shape[-1]
    states = torch.ones(batch, 1, n, dtype=torch.bool, device=maps.device)
    if tokens is not None:
        if tokens.dtype != torch.bool or tuple(tokens.shape) not in ((n,), (batch, n)):
            raise ValueError(
                f"tokens is {tokens.dtype} of shape {tuple(tokens.shape)}; the states are bool, ({n},) or ({batch}, {n})."
            )
        states = states & tokens.to(maps.device).reshape(-1, 1, n)
    if keys is not None:
        states = states & keys[:, None]
    P = maps.to(torch.promote_types(maps.dtype, torch.float32))
    worst = torch.where(states, (P.sum(-1) - 1).abs(), 0).max()
    if not bool(worst <= 2e-2):
        raise ValueError(
            f"a row of {path} sums to 1 ± {float(worst):.3g}. Weights after dropout are no chain (call .eval() on the model),"
            " nor are those of a softmax with a sink."
        )
    inside = torch.where(states[..., None, :], P, 0)
    kept = inside.sum(-1, keepdim=True)
    if not bool(states.any(-1).all()) or bool((states & ~(kept[..., 0] > 0)).any()):
        raise ValueError(f"in {path} an example has no state, or one that attends to no state; keep more tokens.")
    return torch.where(kept > 0, inside / kept, uniform(states, P.dtype)[..., None, :]), states


def warn_of_untried() -> None:
    """Says so where nnsight is of a release that has not been tried here."""
    version = getattr(sys.modules.get("nnsight"), "__version__", TRIED)
    if version.split(".")[:2] != TRIED.split("."):
        warnings.warn(
            f"this is nnsight {version}, and only nnsight {TRIED} has been tried with attnchain-interp. Should anything fail,"
            " install that one: pip install 'attnchain-interp[nnsight]'.",
            stacklevel=3,
        )

"""The walk over the layers of a model that is being traced."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses import FakeTensor

from attnchain_adapters.tracing.functionals import token_rank as rank_of_chains
from attnchain_adapters.tracing.functionals import uniform
from attnchain_adapters.tracing.layer_choice import LayerChoice, chosen_layers
from attnchain_adapters.tracing.position import position
from attnchain_adapters.tracing.shown_attention import Attention, LateError, attention_modules, attention_of
from attnchain_adapters.tracing.steps import Rows, whole
from attnchain_adapters.tracing.two_invokes import indented, two_invokes

Function = Callable[[Tensor, Tensor], Tensor]

TRIED = ("0.7", "0.8")  # releases of nnsight
MISSED = {"OutOfOrderError", "MissedProviderError"}  # errors of nnsight, which is not imported here
TOGETHER = 2**22  # bytes of maps that are reduced at once


def token_rank(
    model: Any,
    *,
    damping: float | None = None,
    layers: LayerChoice = None,
    tokens: Tensor | None = None,
    detach: bool = True,
    rows: Rows | None = None,
    balanced: bool | float = False,
    maps: str = "attention",
) -> Tensor:
    """The stationary distribution of every head, (batch, layer, head, token), by `reduce_layers`.

    As `attnchain_interp.TokenRank` by default: where a layer's maps are causal, jumps lead to the last state, which predicts
    the next token; elsewhere to every state alike. For other jumps hand `stationary` to `reduce_layers`.

    Args:
        model, layers, tokens, detach, rows, maps: as in `reduce_layers`.
        damping: probability of following attention rather than jumping, at least 0 and below 1; when None 0.5 where maps
            are causal, else 0.99.
        balanced: balance the chain of each head, which takes the pull from tokens that everybody attends to; or the strength
            of it. See `balance`.

    Raises:
        ValueError: as `reduce_layers`, a damping outside [0, 1), and a strength outside [0, 1].

    Source: Erel et al., *Attention (as Discrete-Time Markov) Chains*, NeurIPS 2025.
    """
    function = partial(rank_of_chains, damping=damping, balanced=balanced)
    return reduce_layers(model, function, layers=layers, tokens=tokens, detach=detach, rows=rows, maps=maps)[0]


def reduce_layers(
    model: Any,
    *functions: Function,
    layers: LayerChoice = None,
    tokens: Tensor | None = None,
    detach: bool = True,
    rows: Rows | None = None,
    maps: str = "attention",
) -> list[Tensor]:
    """Applies each function to every head in one walk over the layers: one tensor (batch, layer, head, …) per function.

    Call it inside a trace, before anything behind the first of its layers is asked for: nnsight serves values in forward
    order. Interventions before it count, also one inside that first layer. After others, call it in a second invoke; the
    error writes the code. From transformers models it reads the weights that the eager implementation returns. Timm's fused
    blocks are read by the queries and keys that they attend with, and `nn.MultiheadAttention` is made to return its
    weights. Maps are widened to float32, and those of a layer are gone before the next is computed, unless gradients are
    recorded: trace under `torch.no_grad()` where none are wanted.

    Args:
        model: the nnsight model whose trace this is, or a part of it.
        functions: f(P, states) as in `attnchain_adapters.tracing.functionals`: `stationary`, `second_eigenvalue`,
            `column_sum`, `entropy`, `functools.partial(bounce, start=-1)`, or your own.
        layers: as in `attnchain_interp.capture`, among `attention_modules(model)`: a number from either end, a name, a slice,
            or a list. A list may also hold modules of your own that return (output, weights), in forward order:
            `[model.encoder[0].attention]`. All that are known when None.
        tokens: bool (token,) or (batch, token), the states: the patches of an image, all but the first token. Every token
            but padding when None. Padding is known by the mask that a module is called with.
        detach: results on the CPU and without gradient. False leaves them where they are, for `with ranks.sum().backward():`.
        rows: for a generation, a dict that you make before the loop over `tracer.iter`: `rows = {}`. It keeps the maps of
            each layer, and each step adds the row of its new token. The chain of a step is that of all tokens so far.
        maps: "attention". A module returns no values, so a trace has no contributions; `attnchain_interp.capture` has them.

    Raises:
        ValueError: no layer is known, or it does not exist; weights that are not returned, asked for too late, not square, or
            without values (under `scan`); rows that do not sum to one; an example without states. And what a function raises.
    """
    warn_of_untried()
    if maps != "attention":
        raise ValueError(
            f"maps is {maps!r}. Contributions are computed from values and from the outputs of blocks, and a trace is shown"
            f" weights alone. Outside of the trace write capture(model, prompt, maps={maps!r}) of attnchain_interp: it takes"
            " the nnsight model as it is."
        )
    chosen = chosen_layers(model, layers)
    if not chosen or not functions:
        raise ValueError(
            f"there are {len(functions)} functions and {len(chosen)} layers, and both are needed."
            f" {len(attention_modules(model))} attention modules of {type(model._module).__name__} are known here. Name others"
            " that return (output, weights), layers=[model.layers[0].attention, …], or hand maps of your own to"
            " stationary(P, states)."
        )
    results: list[list[Tensor]] = [[] for _ in functions]
    for envoy in chosen:
        reduced = reduce_layer(  # no name holds the maps of a layer while the next computes its own
            whole(shown(envoy), rows, envoy.path, position(envoy).visits(f"{envoy.path}.output")),
            functions,
            tokens,
            detach,
            envoy.path,
        )
        for several, result in zip(results, reduced, strict=True):
            several.append(result)
    for several in results:
        shapes = sorted({tuple(result.shape) for result in several})
        if len(shapes) > 1:
            raise ValueError(
                f"the layers' results differ in shape, {shapes}, and cannot be stacked; take layers of one shape, or a part of"
                " the model: token_rank(model.model.language_model)."
            )
    return [torch.stack(several, 1) for several in results]


def shown(envoy: Any) -> Attention:
    """Returns the attention of a layer."""
    looping = position(envoy).wanted != 0  # a loop over the steps of a generation ends by outrunning it
    try:
        return attention_of(envoy)
    except Exception as error:
        missed = type(error).__name__ in MISSED and not looping
        if not missed and not isinstance(error, LateError):
            raise
        late = str(error) if isinstance(error, LateError) else f"{envoy.path} had run already, or it never runs."
        raise ValueError(
            f"{late} nnsight serves values in forward order: reduce layers before asking for anything behind the first of"
            " them, all functions in one call, or in a second invoke, which reads the same batch. A tower that runs before one"
            " whose modules stand earlier is read by itself: token_rank(model.vision_model). (Under torch.no_grad,"
            " torch's own encoder layers pass their modules by, unless torch.backends.mha.set_fastpath_enabled(False).)"
            + indented(two_invokes())
        ) from error


def reduce_layer(
    attention: Attention, functions: Sequence[Function], tokens: Tensor | None, detach: bool, path: str
) -> list[Tensor]:
    """Applies each function to every head of one layer: (batch, head, …)."""
    first = attention.maps(slice(0, 1))
    exact = torch.autocast(first.device.type, enabled=False)  # the model may run in half precision, a chain does not
    with exact, torch.set_grad_enabled(torch.is_grad_enabled() and not detach):
        together = max(1, TOGETHER // (4 * first.numel()))
        parts: list[list[Tensor]] = [[] for _ in functions]
        for start in range(0, attention.heads, together):
            P, states = chain(attention.maps(slice(start, start + together)), attention.keys, tokens, path)
            for several, function in zip(parts, functions, strict=True):
                several.append(function(P, states))
        results = [torch.cat(several, 1) for several in parts]
        return [result.cpu() for result in results] if detach else results


def chain(maps: Tensor, keys: Tensor | None, tokens: Tensor | None, path: str) -> tuple[Tensor, Tensor]:
    """Returns P and the states of maps (batch, head, token, token); `keys` (batch, token) is false for padding."""
    if isinstance(maps, FakeTensor):
        raise ValueError(f"under scan {path} has shapes alone, and there are no values to reduce. Use trace: model.trace(…).")
    batch, n = maps.shape[0], maps.shape[-1]
    states = torch.ones(batch, 1, n, dtype=torch.bool, device=maps.device)
    if tokens is not None:
        given = f"{tokens.dtype} of shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else repr(tokens)
        if not isinstance(tokens, Tensor) or tokens.dtype != torch.bool or tuple(tokens.shape) not in ((n,), (batch, n)):
            raise ValueError(f"tokens is {given}; the states are a bool tensor, ({n},) or ({batch}, {n}).")
        states = states & tokens.to(maps.device).reshape(-1, 1, n)
    if keys is not None:
        states = states & keys[:, None]
    P = maps.to(torch.promote_types(maps.dtype, torch.float32))
    worst = torch.where(states, (P.sum(-1) - 1).abs(), 0).max()
    if not bool(worst <= 2e-2):
        raise ValueError(
            f"a row of {path} sums to 1 ± {float(worst):.3g}. Weights after dropout are not a chain (call .eval()),"
            " nor are those of a softmax with a sink, or of a head that your trace has set to zero. Set the output of a head"
            " to zero instead: o_proj.input[..., width * head : width * (head + 1)] = 0."
        )
    inside = torch.where(states[..., None, :], P, 0)
    kept = inside.sum(-1, keepdim=True)
    if not bool(states.any(-1).all()) or bool((states & ~(kept[..., 0] > 0)).any()):
        raise ValueError(f"in {path} an example has no state, or one that attends to no state; keep more tokens.")
    return torch.where(kept > 0, inside / kept, uniform(states, P.dtype)[..., None, :]), states


def warn_of_untried() -> None:
    """Says so where nnsight is of a release that has not been tried here."""
    version = getattr(sys.modules.get("nnsight"), "__version__", TRIED[-1])
    if ".".join(version.split(".")[:2]) not in TRIED:
        warnings.warn(
            f"this is nnsight {version}, and only nnsight {' and '.join(TRIED)} have been tried with attnchain-interp. Should"
            " anything fail, install one of these: pip install 'attnchain-interp[nnsight]'.",
            stacklevel=3,
        )

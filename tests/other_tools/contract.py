"""The contract of a model of a package: its maps are those that a spy sees multiply the values, and all methods read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import attnchain_interp as ac

EXACT: Final = 1e-5
COUNTS: Final[dict[str, Counter[str]]] = {}  # package → how many of its models were captured, and how many refused
Spy = Callable[[nn.Module], Any]


@contextmanager
def fused(_: nn.Module) -> Iterator[list[Tensor]]:
    """Computes fused attention by hand, as PyTorch documents it, and gathers the maps."""
    seen: list[Tensor] = []

    def by_hand(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, dropout_p: float = 0.0, **options: Any
    ) -> Tensor:
        logits = query @ key.transpose(-1, -2) * (options.get("scale") or query.shape[-1] ** -0.5)
        if options.get("is_causal"):
            attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None:
            logits = logits.masked_fill(~attn_mask, -torch.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
        seen.append(logits.softmax(-1))
        return seen[-1] @ value

    with mock.patch.object(F, "scaled_dot_product_attention", by_hand):
        yield seen


def outputs_of(wanted: str | type[nn.Module], take: Callable[[Any], Tensor] = lambda out: out) -> Spy:
    """A spy on the outputs of modules: those of a class, or those whose names end so. `take` finds the map in an output."""

    @contextmanager
    def spy(model: nn.Module) -> Iterator[list[Tensor]]:
        seen: list[Tensor] = []
        handles = [
            module.register_forward_hook(lambda *call: seen.append(take(call[-1])))
            for name, module in model.named_modules()
            if (name.split(".")[-1] == wanted if isinstance(wanted, str) else isinstance(module, wanted))
        ]
        yield seen
        for handle in handles:
            handle.remove()

    return spy


@contextmanager
def asked(model: nn.Module) -> Iterator[list[Tensor]]:
    """Asks each `nn.MultiheadAttention` for its weights."""
    options = {"need_weights": True, "average_attn_weights": False}
    modules = [module for module in model.modules() if isinstance(module, nn.MultiheadAttention)]
    asking = [
        module.register_forward_pre_hook(lambda _, args, kwargs: (args, kwargs | options), with_kwargs=True)
        for module in modules
    ]
    with outputs_of(nn.MultiheadAttention, lambda out: out[1])(model) as seen:
        yield seen
    for handle in asking:
        handle.remove()


def part(spy: Spy, name: str) -> Spy:
    """A spy on one part of a model."""
    return lambda model: spy(model.get_submodule(name))


def every_second(spy: Spy, first: int) -> Spy:
    """A spy that keeps every second map, from the first one on: self-attention, or the cross-attention after it."""

    @contextmanager
    def kept(model: nn.Module) -> Iterator[list[Tensor]]:
        chosen: list[Tensor] = []
        with spy(model) as seen:
            yield chosen
        chosen.extend(seen[first::2])

    return kept


def captured(
    package: str,
    model: nn.Module,
    *inputs: Any,
    spy: Spy,
    target: Any = 0,
    layers: Any = "all",
    reading: ac.Reading | None = None,
    attribute: bool = True,
    **kwargs: Any,
) -> ac.AttentionStore:
    """Holds the contract for a model, and returns its store.

    Args:
        package: the name under which the model is counted.
        model, inputs, kwargs: the call.
        spy: a context around a forward, which gives the maps (batch, head, query, key) of the layers that are read, in order.
        target, layers, reading: see `capture_gradients`.
        attribute: whether the maps are those of self-attention, of which there are chains and gradients.
    """
    model.eval()
    store = ac.capture(model, *inputs, layers=layers, reading=reading, **kwargs)
    with spy(model) as seen:
        output = model(*inputs, **kwargs)
    assert len(store) == len(seen), store.names
    for layer, maps in zip(store, seen, strict=True):  # some packages fold the heads into the batch
        assert layer.maps.shape[-2:] == maps.shape[-2:]
        assert float((layer.maps - maps.detach().reshape(layer.maps.shape)).abs().max()) <= EXACT, layer.name
    assert ac.prove(model, *inputs, layers=layers, reading=reading, **kwargs).holds
    if attribute:
        found = ac.capture_gradients(model, *inputs, target=target, layers=layers, reading=reading, **kwargs)
        place = target if isinstance(target, tuple) else (target,)
        score: Any = target(output) if callable(target) else output[(slice(None), *place)]
        own = torch.autograd.grad(score.sum(), seen)
        assert len(found) == len(seen)
        for layer, (maps, expected) in enumerate(zip(seen, own, strict=True)):
            gradient, unmasked = found.gradient(layer), expected.masked_fill(maps == 0, 0)  # see `MapGradients`
            assert float((gradient - unmasked.reshape(gradient.shape)).abs().max()) <= EXACT
        spied = [maps.detach().reshape(layer.maps.shape) for layer, maps in zip(store, seen, strict=True)]
        expected = ac.AttentionStore.from_maps(spied, store.tokens)
        how: Any = {
            "model_kwargs": kwargs,
            "reading": reading,
            "output": "tokens",
            "additional_forward_args": inputs[1:] or None,
        }
        for method in (ac.TokenRank, ac.Rollout):
            scores = method(model, layers=layers, maps="attention").attribute(inputs[0], **how)
            assert torch.allclose(scores, method().score(expected), atol=1e-4)
        gradients: Any = ac.GradientAttention(model, layers=layers)
        assert gradients.attribute(inputs[0], target, **how).any(1).all()
    COUNTS.setdefault(package, Counter())["captured"] += 1
    return store


def refused(package: str, message: str, model: nn.Module, *inputs: Any, **options: Any) -> None:
    """Holds that a capture is refused with the message (a pattern): its cause and its remedy."""
    with pytest.raises(ac.AttentionError, match=message):
        ac.capture(model.eval(), *inputs, **options)
    COUNTS.setdefault(package, Counter())["refused"] += 1


def image(rows: int, columns: int, class_token: bool = True, registers: int = 0, **options: Any) -> ac.Reading:
    """The reading of patches after a class token, if there is one, and before registers."""
    suffix = [ac.Role.REGISTER] * registers
    tokens = ac.TokenLayout.image(grid=(rows, columns), class_token=class_token, suffix=suffix)
    return ac.Reading(tokens=tokens, **options)


TEXT: Final = ac.Reading(tokens=ac.TokenLayout.text())

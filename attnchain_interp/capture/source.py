"""The source of a capture as the user passes it: a module, compiled or not, or a bound method of one."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from attnchain_interp.errors import AttentionError

_SCRIPTED: Final = torch.jit.ScriptModule, torch.jit.ScriptFunction, torch._C.ScriptMethod
_RATES: Final = ("p", "drop_prob", "attention_dropout", "dropout", "dropout_prob")
_KEEPING: Final = (nn.modules.batchnorm._NormBase, _SpectralNorm, SpectralNorm)  # norms that keep statistics

log = logging.getLogger("attnchain_interp")


def module_of(source: Any) -> nn.Module | None:
    """Returns a module, or the module whose bound method the source is; None for another source."""
    owner = source.__self__ if inspect.ismethod(source) else source
    return owner if isinstance(owner, nn.Module) else None


def forward_of(source: Any) -> Callable[..., Any] | None:
    """Returns the function whose signature the source has: that of its class, since tools replace a module's own forward.

    The first parameter is the module. None where the source is neither a module nor a bound method of one, or is scripted.
    """
    module = module_of(source)
    if module is None or isinstance(source, _SCRIPTED):
        return None
    if inspect.ismethod(source):
        return source.__func__
    compiled: Any = module._modules.get("_orig_mod", module)
    return type(compiled).forward


def uncompiled(source: Any) -> Any:
    """Returns the model inside a `torch.compile` wrapper, or the source itself.

    Raises:
        AttentionError: the attention happens where it cannot be watched: in a scripted or traced module, in the replicas of
            `nn.DataParallel`, or in other processes.
    """
    module = module_of(source)
    if module is None or isinstance(source, _SCRIPTED):
        _check_unscripted(type(source).__name__, source)
        return source
    original = module._modules.get("_orig_mod")
    if original is not None and module is source:
        log.warning("%s is compiled; the attention is that of the uncompiled model", type(original).__name__)
        module = source = original
    modules = dict(module.named_modules())
    for name, each in modules.items():
        _check(name, each)
    _check_whole_layers(modules)
    return source


def check_settled(model: nn.Module) -> None:
    """Checks that a forward of a model gives the same numbers each time, and leaves the model as it was.

    Raises:
        AttentionError: the model is in train mode and has dropout, so that its attention is random, or norms whose statistics
            each forward changes.
    """
    modules = [(name, module) for name, module in model.named_modules() if module.training]
    for name, module in modules:
        held = vars(module)  # not getattr: diffusers' models look a name up in their configuration, with a warning
        rates = (*_RATES, "prob") if "PatchDropout" in type(module).__name__ else _RATES
        active = [rate for rate in rates if isinstance(value := held.get(rate), float) and value > 0]
        if active:
            raise AttentionError(
                f"the model is in train mode with dropout ({name or type(model).__name__}.{active[0]} ="
                f" {held[active[0]]}), so each forward gives other numbers, and rows of attention do not sum to one.",
                "Call model.eval() first.",
            )
    for name, module in modules:
        hooks = vars(module).get("_forward_pre_hooks", {})
        norm = next((each for each in (module, *hooks.values()) if isinstance(each, _KEEPING)), None)
        if norm is not None and getattr(norm, "track_running_stats", True):
            raise AttentionError(
                f"the model is in train mode with a norm ({name or type(module).__name__}, {type(norm).__name__}), whose"
                " statistics each forward changes.",
                "Call model.eval() first.",
            )


def _check(name: str, module: nn.Module) -> None:
    where = name or type(module).__name__
    if isinstance(module, nn.DataParallel | DistributedDataParallel):
        kind, line = type(module).__name__, f"model.{name} = model.{name}.module" if name else "capture(model.module, …)"
        raise AttentionError(f"{where} is an nn.{kind}, which runs copies of its module.", f"Use the module itself: {line}.")
    if isinstance(module, _SCRIPTED) and next(module.parameters(), None) is not None:  # a transform of images has no weights
        _check_unscripted(where, module)


def _check_unscripted(name: str, source: Any) -> None:
    if isinstance(source, _SCRIPTED):
        raise AttentionError(
            f"{name} is scripted or traced ({type(source).__name__}), and the attention in it cannot be watched.",
            "Load the model's own Python class with these weights. For OpenAI's CLIP: clip.load(name, jit=False).",
        )


_FULLY_SHARDED: Final = frozenset(("FSDPModule", "FullyShardedDataParallel"))


def _check_whole_layers(modules: Mapping[str, nn.Module]) -> None:
    """Refuses a model whose layers are split among processes: each computes some of the heads, or of the tokens.

    Fully sharded models (FSDP) are whole where it counts: each process gathers the weights of a layer before it runs.
    """
    gathered = {id(weight) for each in modules.values() if _fully_sharded(each) for weight in each.parameters()}
    split = []
    for name, each in modules.items():
        held = vars(each)
        for own, weight in held["_parameters"].items():
            if sum(placement.is_shard() for placement in getattr(weight, "placements", ())) > (id(weight) in gathered):
                split.append(f"{name}.{own}" if name else own)
        if (held.get("_tp_size") or 1) > 1 or held.get("_parallel_config") is not None:
            split.append(name or type(each).__name__)
    if split:
        raise AttentionError(
            f"{split[0]} is split among processes (tensor or context parallelism), so each computes attention of some heads or"
            " tokens alone.",
            'Load the whole model: from_pretrained(…, device_map="auto") spreads its layers over devices. Or spread its'
            " weights over processes by fully_shard (FSDP).",
        )


def check_holds_weights(module: nn.Module | None) -> None:
    """Refuses a fully sharded model (FSDP), which holds the weights of a layer while the layer runs, and not afterwards."""
    if module is not None and any(_fully_sharded(each) for each in module.modules()):
        raise AttentionError(
            f"{type(module).__name__} is fully sharded (FSDP), so a layer's weights are gone when its contributions are"
            " computed.",
            'Load the whole model in each process, for example by from_pretrained(…, device_map="auto").',
        )


def _fully_sharded(module: nn.Module) -> bool:
    return not _FULLY_SHARDED.isdisjoint(kind.__name__ for kind in type(module).__mro__)

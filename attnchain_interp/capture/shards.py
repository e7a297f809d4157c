"""Models that several processes hold: whether each process still computes whole layers."""

from __future__ import annotations

from typing import Final

from torch import nn

from attnchain_interp.errors import AttentionError

_FULLY_SHARDED: Final = frozenset(("FSDPModule", "FullyShardedDataParallel"))


def check_whole_layers(module: nn.Module) -> None:
    """Refuses a model whose layers are split among processes: each computes some of the heads, or of the tokens.

    Fully sharded models (FSDP) are whole where it counts: each process gathers the weights of a layer before it runs.
    """
    gathered = {id(weight) for each in module.modules() if _fully_sharded(each) for weight in each.parameters()}
    split = [
        name
        for name, weight in module.named_parameters()
        if sum(placement.is_shard() for placement in getattr(weight, "placements", ())) > (id(weight) in gathered)
    ]
    for name, each in module.named_modules():
        held = vars(each)
        if (held.get("_tp_size") or 1) > 1 or held.get("_parallel_config") is not None:
            split.append(name or type(module).__name__)
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
    return any(kind.__name__ in _FULLY_SHARDED for kind in type(module).__mro__)

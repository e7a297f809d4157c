"""Whether layers are one sequence of tokens, attended to again and again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from attnchain_adapters.torch_models.survey import Use
from attnchain_interp import AttentionError


def check_one_sequence(name: str, uses: Sequence[Use], sequences: int, chosen: bool) -> None:
    """Refuses layers of different sequences: of other sizes or orders, causal and not, or in towers of their own."""
    groups: dict[Any, list[Use]] = {}
    batches = {use.shape[0] for use in uses if use.shape and not use.folded}
    for use in uses:
        tower = "" if chosen or sequences < 2 else tower_of(use.module)
        leading = use.shape[0] if use.shape else 1
        if use.folded:  # batch and heads: as many as the others, where their number is a factor
            leading = next((batch for batch in batches if leading % batch == 0), leading)
        groups.setdefault((use.shape and use.shape[-2:], use.causal, use.moved, leading, tower), []).append(use)
    if len(groups) > 1:
        folded = len({leading for *_, leading, _ in groups}) > 1
        found = "; ".join(
            f"{', '.join(use.layer for use in group)} ({size_of(group[0])}{f', in a batch of {leading}' * folded})"
            for (*_, leading, _), group in groups.items()
        )
        first, towers = next(iter(groups.values())), list(dict.fromkeys(tower_of(use.module) for use in uses))
        fix = f'reading=ac.Reading(tower="{towers[0]}")' if len(towers) > 1 else f"layers={[use.layer for use in first]}"
        raise AttentionError(f"{name} attends within several sequences: {found}.", f"Say which is meant, for example {fix}.")


def check_in_a_row(name: str, uses: Sequence[Use]) -> None:
    """Refuses layers that run side by side: neither was computed from the other, and they were given different tensors.

    Layers of one block, and heads that are modules of their own, may run side by side.
    """
    for place, later in enumerate(uses):
        for earlier in uses[:place]:
            beside = earlier.number not in later.after and _block(earlier.module) != _block(later.module)
            if beside and (earlier.given is None or earlier.given != later.given):
                apart = tower_of(earlier.module) != tower_of(later.module)
                raise AttentionError(
                    f"{name} has several sequences: {later} is not computed from {earlier}, and is given other tokens.",
                    towers_line([earlier, later]) if apart else "Name the layers of one of them: layers=[…].",
                )


def check_whole(chosen: Sequence[Use], left: Sequence[Use]) -> None:
    """Refuses a kind that only a part of the layers of one container have."""
    for use in left:
        other = next((each for each in chosen if tower_of(each.module) == tower_of(use.module)), None)
        if other is not None:
            raise AttentionError(
                f"{other} and {use} are in one row, and only one of them is causal.",
                f"Name the layers that you mean: layers={[other.layer]}.",
            )


def _block(module: str) -> str:
    """The path of a module up to its last number, or that of the module around it."""
    parts = module.split(".")
    numbers = [place for place, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1] + 1] if numbers else parts[:-1])


def towers_line(uses: Iterable[Use]) -> str:
    """The lines that choose the towers of some uses; empty where there are none."""
    lines = dict.fromkeys(f'reading=ac.Reading(tower="{tower_of(use.module)}")' for use in uses)
    return f"Write {' or '.join(lines)}." if lines else ""


def size_of(use: Use) -> str:
    queries, keys = use.shape[-2:] if use.shape else (0, 0)
    size = f"{keys} tokens" if queries == keys else f"{queries} queries × {keys} keys"
    return size + ", causal" * use.causal + ", sorted, shifted or turned" * use.moved


def tower_of(module: str) -> str:
    """The path of a module up to its first number: `visual.blocks` of `visual.blocks.3.attn`."""
    parts = module.split(".")
    number = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts))
    return ".".join(parts[:number])

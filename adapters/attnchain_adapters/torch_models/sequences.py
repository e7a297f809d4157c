"""The sequence of tokens that is meant, among all attention that was seen in a forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final, get_args

from torch import nn
from torch.fx import GraphModule

from attnchain_adapters.checks import CROSS_ATTENTION
from attnchain_adapters.softmaxes.summed_queries import REFUSAL
from attnchain_adapters.torch_models.one_sequence import (
    check_in_a_row,
    check_one_sequence,
    check_whole,
    size_of,
    tower_of,
    towers_line,
)
from attnchain_adapters.torch_models.survey import Use
from attnchain_interp import AttentionError
from attnchain_interp.capture import CaptureRequest, StackKind
from attnchain_interp.checks import check_one_of
from attnchain_interp.store import names_given

_WINDOWS: Final = "attends within windows, which are folded into the batch; a walk over the image cannot cross them"
REFUSED: Final = {
    "torchvision.models.swin_transformer.SwinTransformer": _WINDOWS,
    "torchvision.models.video.swin_transformer.SwinTransformer3d": _WINDOWS,
    "torchvision.models.maxvit.MaxVit": _WINDOWS,
    "torchvision.models.video.mvit.MViT": "pools its queries and keys, so its maps are rectangular",
}


@final
@dataclass(frozen=True)
class Meant:
    """The layers that are meant.

    Attributes:
        kind: whose queries attend to whose keys.
        uses: of the layers of the sequence, one a layer, in the order in which they ran.
        wanted: the names of those that the user chose.
        among: the names of all layers of the sequence; of all that attend where the user chose by names.
        beside: the names of the modules that attend too.
    """

    kind: StackKind
    uses: list[Use]
    wanted: list[str]
    among: list[str]
    beside: list[str]

    @property
    def layers(self) -> dict[str, list[str]]:
        """The names of the layers that the calls of each module are. See `AttentionRecorder`."""
        modules = {use.module: use for use in self.uses}
        return {name: use.layers for name, use in modules.items()}


def classes_of(model: nn.Module) -> list[str]:
    """Returns the full names of a model's class and of its base classes."""
    return [f"{kind.__module__}.{kind.__name__}" for kind in type(model).__mro__]


def check_family(model: nn.Module) -> None:
    """Refuses the families of torchvision whose attention is not a chain over tokens.

    Raises:
        AttentionError: the model is of one of them.
    """
    for each in classes_of(model):
        if each in REFUSED:
            raise AttentionError(f"{each} {REFUSED[each]}. There is no chain over its tokens to capture.")


def check_kind(kind: Any) -> StackKind | None:
    """Returns the kind that was asked for. Refuses unknown kinds."""
    if kind is not None:
        check_one_of("kind", kind, get_args(StackKind))
    return kind


def meant(model: nn.Module, uses: Sequence[Use], request: CaptureRequest[Any], sequences: int) -> Meant:
    """Returns the layers that are meant.

    Args:
        model: the model.
        uses: all attention that was seen.
        request: its reading has `kind`, `tower` (the beginning of the names of the modules) and `tokens`. A selection of
            layers by names chooses among all of them; any other selection among those of one sequence.
        sequences: how many sequences or images the model was given.

    Raises:
        AttentionError: nothing attends; some attention cannot be read; the sequence that is meant is not the only one.
    """
    name, reading, kind = type(model).__name__, request.reading, check_kind(request.reading.kind)
    tower = "" if reading.tower is None else reading.tower
    seen, uses = uses, [use for use in uses if not use.weighs]
    there = [use for use in uses if not tower or (use.module + ".").startswith(tower + ".")]
    if not there:
        around = f" in {tower!r}" if tower else ""
        others = dict.fromkeys(use.module or use.owner for use in seen if use.weighs)
        raise AttentionError(
            f"no module of {name}{around} attends in this forward: nothing multiplies values by a softmax over keys"
            + (f"; {', '.join(others)} weighs experts or a learnt memory, which are not tokens." if others else "."),
            towers_line(uses) or "Pass the maps yourself: AttentionStore.from_maps(your_maps, tokens=…).",
        )
    by_name, among = names_given(request.layers), list(dict.fromkeys(use.layer for use in there))
    if by_name:
        named = set(request.select(among))
        there = [use for use in there if use.layer in named]
    _check_readable(model, there)
    kinds: dict[str, StackKind] = {use.layer: _kind(model, use) for use in there}
    doubtful = [use for use in there if use.same is None and kinds[use.layer] != "cross"]
    sure = [use for use in there if use not in doubtful and kinds[use.layer] != "cross"]
    certain = [use.layer for use in sure if kind in (None, kinds[use.layer])]
    told = kind == "cross" or ((by_name or not certain) and (kind is not None or reading.tokens is not None))
    if doubtful and not told:
        own = f"layers={certain}" if certain else 'reading=ac.Reading(kind="encoder")'
        raise AttentionError(
            f"{', '.join(map(str, doubtful))}: the module is given two sequences of as many tokens, so its queries may be"
            " other tokens than its keys.",
            f'Say which, reading=ac.Reading(kind="cross") or {own}, or leave it out: layers=[…] by name.',
        )
    if kind == "cross":
        kinds |= {use.layer: "cross" for use in doubtful}
    asked = kind or _only_kind(name, kinds, there)
    chosen = [use for use in there if kinds[use.layer] == asked]
    if not chosen:
        options = " or ".join(f'kind="{each}"' for each in sorted(set(kinds.values())))
        raise AttentionError(f'{name} has no attention of kind="{asked}".', f"It has {options}.")
    check_one_sequence(name, chosen, sequences, by_name or bool(tower))
    if not by_name:
        check_in_a_row(name, chosen)
        check_whole(chosen, [use for use in there if asked != "cross" and kinds[use.layer] not in (asked, "cross")])
    of_sequence = [use.layer for use in chosen]
    beside = [use.module for use in seen if use.weighs or use.layer not in kinds or kinds[use.layer] != asked]
    return Meant(asked, chosen, request.select(of_sequence), among if by_name else of_sequence, beside)


def kind_of(model: nn.Module, name: str) -> StackKind | None:
    """Returns the kind of a module, from its name and from the module around it; None where neither tells."""
    parts = name.split(".")
    around = model.get_submodule(".".join(parts[:-1]))
    if parts[-1] in CROSS_ATTENTION:
        return "cross"
    if isinstance(around, nn.TransformerEncoderLayer):
        return "encoder"
    if isinstance(around, nn.TransformerDecoderLayer) or "decoder" in parts:
        return "decoder"
    return "encoder" if "encoder" in parts else None


def _kind(model: nn.Module, use: Use) -> StackKind:
    if use.same is False or CROSS_ATTENTION & set(use.module.split(".")):
        return "cross"
    return kind_of(model, use.module) or ("decoder" if use.causal else "encoder")


def _only_kind(name: str, kinds: Mapping[str, StackKind], uses: Sequence[Use]) -> StackKind:
    there = sorted(set(kinds.values()))
    alone = sorted(set(there) - {"cross"}) or ["cross"]
    if len(alone) > 1:
        options = " or ".join(f'kind="{each}"' for each in there)
        parts: dict[str, list[Use]] = {}
        for use in uses:
            parts.setdefault(f"{tower_of(use.module)}, {kinds[use.layer]}", []).append(use)
        found = "; ".join(f"{part} ({size_of(group[0])})" for part, group in parts.items())
        towers = " or ".join(f'tower="{each}"' for each in dict.fromkeys(tower_of(use.module) for use in uses))
        raise AttentionError(
            f"{name} has several sequences: {found}.",
            f"Say which is meant, reading=ac.Reading(…) with {options}, or with {towers}.",
        )
    return alone[0]  # type: ignore[return-value]


def _check_readable(model: nn.Module, uses: Sequence[Use]) -> None:
    unreadable = [use for use in uses if use.reason]
    if unreadable:
        layers = {use.layer for use in unreadable}
        rest = list(dict.fromkeys(use.layer for use in uses if use.layer not in layers))
        apart = [use.layer for use in uses if use.layer in layers and not use.reason and unreadable[0].reason != REFUSAL]
        both = apart[0] if apart else None
        fix = f"Name the layers that can be read: layers={rest}." if rest else ""
        if both is not None:
            fix += (
                f" Move the other product of {both} (for instance a router) into a module of its own. Then {both} can be read."
            )
        raise AttentionError(
            f"{unreadable[0]} attends, but its map cannot be read: {unreadable[0].reason}.",
            fix.strip() or "Pass the maps yourself: AttentionStore.from_maps.",
        )
    names = [use.layer for use in uses]
    twice = next((use for use in uses if names.count(use.layer) > 1), None)
    if twice is not None:
        rest = [name for name in names if names.count(name) == 1]
        fix = f"Name other layers: layers={rest}." if rest else "Pass the maps yourself: AttentionStore.from_maps."
        if isinstance(dict(model.named_modules()).get(twice.module), GraphModule):
            fix = (
                "A graph has no modules of its own. Of an exported program give them back: capture("
                "torch.export.unflatten(program), …). Of a graph of torch.fx capture the model that was traced."
            )
        raise AttentionError(
            f"{twice} attends {names.count(twice.layer)} times in one call, so it is not one layer of a chain.",
            fix,
        )

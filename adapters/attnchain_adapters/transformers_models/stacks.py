"""The stacks of attention layers inside a transformers model: by tower, and by kind in an encoder–decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, final, get_args

from torch import nn

from attnchain_adapters.checks import CROSS_ATTENTION, in_place_of, tokens_advice
from attnchain_adapters.transformers_models.families import FAMILIES, MADE_CAUSAL, REFUSED, Family
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of

Kind = Literal["encoder", "decoder", "cross", "pool"]

_NO_SOFTMAX: Final = ("Linear", "Lightning")  # in the names of attention classes that have no map


@final
@dataclass(frozen=True)
class Stack:
    """The attention layers that share a sequence.

    Attributes:
        tower: its name in the configuration, without `_config`; empty in a model of one tower.
        kind: whose queries attend to whose keys.
        owner: the innermost transformers model that holds the layers. Its configuration describes them.
        layers: names of the modules, and of the layers that their calls are (see `AttentionRecorder`).
    """

    tower: str
    kind: Kind
    owner: Any
    layers: dict[str, list[str]]

    @property
    def names(self) -> list[str]:
        """Returns the names of the layers, in the order in which the model runs them."""
        return [name for several in self.layers.values() for name in several]

    @property
    def family(self) -> Family:
        """Returns the family of the owner.

        Raises:
            AttentionError: the family is refused, or has not been tried.
        """
        return family_of(self.owner)

    @property
    def heads(self) -> int:
        return getattr(self.owner.config, "num_attention_heads", 1)

    @property
    def fused(self) -> bool:
        """Returns whether attention goes through `scaled_dot_product_attention`."""
        return self.owner.config._attn_implementation == "sdpa"

    @property
    def advice(self) -> str:
        """Returns the fix where a layer shows no attention."""
        implementation = self.owner.config._attn_implementation
        if implementation in ("sdpa", "eager"):  # then a module of the user's own stands in its place
            return tokens_advice()
        return f'Its implementation is {implementation!r}, which shows none. Load the model with "sdpa" or "eager".'

    @property
    def metadata(self) -> dict[str, str]:
        """Returns the metadata of a store: the kind, the tower where there are several, and whose input a decoder's is."""
        second = self.kind == "decoder" and getattr(self.owner.config, "is_encoder_decoder", False)
        return {"kind": self.kind} | ({"tower": self.tower} if self.tower else {}) | ({"input": "decoder"} if second else {})

    def __str__(self) -> str:
        return (f'tower="{self.tower}", ' if self.tower else "") + f'kind="{self.kind}"'


def family_of(model: Any) -> Family:
    """Returns the family of a model.

    Raises:
        AttentionError: the family is refused, or has not been tried.
    """
    name, model_type = type(model).__name__, model.config.model_type
    if model_type in REFUSED:
        raise AttentionError(f"{name} ({model_type}) {REFUSED[model_type]}. Its attention is not a chain over its tokens.")
    if model_type not in FAMILIES:
        raise AttentionError(
            f"the family {model_type!r} of {name} has not been tried, so nothing says that its maps would be right. The tried"
            " ones are in docs/models.md.",
            f"{tokens_advice()} Or pass the maps yourself: AttentionStore.from_maps(output.attentions) of the model loaded"
            ' with attn_implementation="eager".',
        )
    return FAMILIES[model_type]


def attends(model: nn.Module) -> bool:
    """Returns whether a module of a model has attention, by the name of its class."""
    return any("Attention" in type(module).__name__ for module in model.modules()) and bool(attention_modules(model))


def stacks_of(model: Any) -> list[Stack]:
    """Returns every stack of softmax attention in a model.

    Raises:
        AttentionError: the model's family is refused, or has not been tried, or no module of it attends.
    """
    family_of(model)
    found: dict[tuple[str, Kind], Stack] = {}
    for name, module in attention_modules(model).items():
        owner = _owner(model, name)
        key = _tower(model, owner), _kind(model, owner, name, module)
        stack = found.setdefault(key, Stack(*key, owner, {}))
        stack.layers[name] = _layer_names(owner.config, name)
    if not found:
        raise AttentionError(f"{type(model).__name__} holds no attention module.")
    return list(found.values())


def stack_meant(stacks: Sequence[Stack], model_name: str, kind: str | None, tower: str | None, images: bool = True) -> Stack:
    """Returns the stack of this tower and kind. A kind of None never means cross-attention or a pooling head.

    A decoder whose call has no `images` or sounds reads text alone: their towers do not run, and are not meant.

    Raises:
        AttentionError: an unknown kind, no such stack, or several.
    """
    if kind is not None:
        check_one_of("kind", kind, get_args(Kind))
    there = "; ".join(map(str, stacks))
    of_tower = [stack for stack in stacks if tower in (None, stack.tower)]
    meant = [stack for stack in of_tower if (stack.kind == kind if kind else stack.kind in ("encoder", "decoder"))]
    of_text = [stack for stack in meant if stack.tower not in ("vision", "audio")]
    if not images and tower is None and [stack.kind for stack in of_text] == ["decoder"]:
        return of_text[0]
    if len(meant) == 1:
        return meant[0]
    asked = ", ".join(f"{name}={value!r}" for name, value in (("tower", tower), ("kind", kind)) if value is not None)
    if not meant:
        raise AttentionError(
            f"{model_name} has no attention of {asked or 'a self-attending kind'}.", f"Choose one of {there}."
        )
    raise AttentionError(f"{model_name} has several sequences.", f"Say which is meant, reading=ac.Reading(…) with {there}.")


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Returns the innermost modules whose class is called attention, and the user's own that stand in the place of one."""
    modules = dict(model.named_modules())
    named = {name: module for name, module in modules.items() if "Attention" in type(module).__name__}
    outer = {".".join(parts[:k]) for parts in (name.split(".") for name in named) for k in range(len(parts))}
    inner = [name for name in named if name not in outer]
    known = [name for name in inner if not any(word in type(named[name]).__name__ for word in _NO_SOFTMAX)]
    return in_place_of(modules, known, "transformers")


def _owner(model: Any, name: str) -> Any:
    """The innermost transformers model around a module."""
    parts = name.split(".")
    around = [model.get_submodule(".".join(parts[:k])) for k in range(len(parts))]
    return [module for module in around if hasattr(module, "main_input_name")][-1]


def _tower(model: Any, owner: Any) -> str:
    """The name of the part of the model's configuration that is the owner's."""
    if owner is model or owner.config is model.config:
        return ""
    parts = {key: getattr(model.config, key, None) for key in model.config.sub_configs}
    for key, part in parts.items():
        if part is owner.config:
            return key.removesuffix("_config")
    alike = [key for key, part in parts.items() if type(part) is type(owner.config)]
    return alike[0].removesuffix("_config") if len(alike) == 1 else ""


def _kind(model: Any, owner: Any, name: str, module: nn.Module) -> Kind:
    parts = name.split(".")
    if CROSS_ATTENTION & set(parts):
        return "cross"
    if (isinstance(module, nn.MultiheadAttention) and "head" in parts) or "Pooling" in type(module).__name__:
        return "pool"
    if "decoder" in parts or "Decoder" in type(owner).__name__:
        return "decoder"
    known = FAMILIES.get(owner.config.model_type)
    made_causal = owner.config.model_type in MADE_CAUSAL and owner.config.is_decoder
    return "decoder" if made_causal or (known is not None and known.causal) else "encoder"


def _layer_names(config: Any, name: str) -> list[str]:
    """The layers that a module is: ALBERT runs each of its groups several times over."""
    groups = getattr(config, "num_hidden_groups", None)
    times = config.num_hidden_layers // groups if groups else 1
    return [name] if times == 1 else [f"{name}[{call}]" for call in range(times)]

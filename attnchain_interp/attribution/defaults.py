"""The settings of a method where its arguments are None: one row per method, by the kind of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

from attnchain_interp.capture import Maps
from attnchain_interp.store import AttentionStore, LayerSelection, LayerWeights, TokenSelection
from attnchain_interp.store.sinks import NO_SINKS


class Settings(NamedTuple):
    """The layers of a chain, their weights, and whether or how strongly it is balanced. See `AttentionStore.chain`."""

    layers: LayerSelection = "all"
    layer_weights: LayerWeights = "mean"
    balanced: bool | float = False


class Defaults(NamedTuple):
    """The settings of a method for each `AttentionStore.kind`, and the maps that it captures; None as `capture` has it."""

    decoder: Settings = Settings()
    encoder: Settings = Settings()
    image: Settings = Settings()
    maps: Maps | None = "attention"


PLAIN: Final = Defaults()
_WALK: Final = Defaults(decoder=Settings(layer_weights="late"), image=Settings(slice(-2, None), balanced=True), maps=None)
_HALF: Final = Settings(layer_weights="late", balanced=0.5)
_EVIDENCE: Final = Defaults(decoder=_HALF)
DEFAULTS: Final[Mapping[str, Defaults]] = {
    "TokenRank": _WALK._replace(decoder=_HALF),
    "MultiBounce": _WALK,
    "LogitTokenRank": _WALK,
    "MetastableStates": Defaults(image=Settings(slice(-3, None), balanced=True)),
    "GradientTokenRank": _EVIDENCE,
    "GradientMultiBounce": _EVIDENCE,
    "ExpectedVisits": PLAIN,
}
"""Chosen on validation data of really trained models: docs/real-text.md, docs/real-vision.md."""


class Chosen(Protocol):
    """The settings that a user gave a method; None for the default."""

    layers: LayerSelection | None
    layer_weights: LayerWeights | None
    balanced: bool | float | None


def defaults_of(method: object) -> Defaults:
    """Returns the defaults of a method. A method that the table lacks has those of `PLAIN`."""
    return DEFAULTS.get(type(method).__name__, PLAIN)


class Captures(Protocol):
    """The maps and states that a user gave a method; None for the default."""

    maps: Maps | None
    tokens: TokenSelection


def maps_of(method: Captures) -> Maps | None:
    """Returns the maps that a method captures: as the user gave them, else the default. Contributions tell no sinks."""
    if method.maps is not None:
        return method.maps
    return "attention" if isinstance(method.tokens, str) and method.tokens == NO_SINKS else defaults_of(method).maps


def settings_of(method: Chosen, store: AttentionStore) -> Settings:
    """Returns the settings of a method: as the user gave them, else the default for the kind of model in the store."""
    encoder, *others = (settings_for(method, kind) for kind in ("encoder", "decoder", "image"))
    return encoder if others == [encoder, encoder] else settings_for(method, store.kind)


def settings_for(method: Chosen, kind: Literal["decoder", "encoder", "image"]) -> Settings:
    """Returns the settings of a method: as the user gave them, else the default for a kind of model."""
    default: Settings = getattr(defaults_of(method), kind)
    return Settings(
        default.layers if method.layers is None else method.layers,
        default.layer_weights if method.layer_weights is None else method.layer_weights,
        default.balanced if method.balanced is None else method.balanced,
    )

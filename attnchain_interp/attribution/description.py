"""One line about scores: the method with its settings, the model, the layers, and the tokens that are left out."""

from __future__ import annotations

from typing import Any

from attnchain_interp.attribution.defaults import settings_of
from attnchain_interp.reprs import counted, with_settings
from attnchain_interp.store import AttentionStore, Role, states_of


def described(method: Any, store: AttentionStore) -> str:
    """Returns the title of a picture of a method's scores: the method, the model, the settings, the tokens without a score.

    >>> import torch, attnchain_interp as ac
    >>> layout = ac.TokenLayout.image(1, (2, 2), class_token=True)
    >>> store = ac.AttentionStore.from_maps([torch.full((1, 1, 5, 5), 0.2)] * 3, layout)
    >>> print(described(ac.TokenRank(), store))
    TokenRank, last 2 of 3 layers, balanced
    Without a score: 1 class token.
    """
    parts = [with_settings(method).removesuffix("()")]
    parts[0] = parts[0].replace(f"({store.metadata.get('model')})", "")
    parts += [store.metadata["model"]] if "model" in store.metadata else []
    if all(hasattr(method, name) for name in ("layers", "layer_weights", "balanced")):
        settings = settings_of(method, store)
        names, own = store.names, [layer.name for layer in store.select(settings.layers)]
        last = "last " if own == list(names[-len(own) :]) else ""
        parts.append(
            f"all of {counted(len(names), 'layer')}" if len(own) == len(names) else f"{last}{len(own)} of {len(names)} layers"
        )
        parts += [] if settings.layer_weights == "mean" else [f"layers weighted: {settings.layer_weights}"]
        parts += ["balanced" + ("" if settings.balanced is True else f" by {settings.balanced}")] if settings.balanced else []
    parts += [store.metadata["maps"]] if store.metadata.get("maps", "attention") != "attention" else []
    scored = states_of(store, getattr(method, "tokens", None))[0]
    others = store.tokens.roles[0][store.tokens.mask[0] & ~scored].tolist()
    kinds = ", ".join(counted(others.count(role), f"{Role(role).name.lower()} token") for role in dict.fromkeys(others))
    return ", ".join(parts) + (f"\nWithout a score: {kinds}." if others else "")

"""What a page shows first: the chain that `MultiBounce` walks by default, and the token where its walk starts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from attnchain_interp.chain import balance, bounce, stationary
from attnchain_interp.explorer.encoding import Floats
from attnchain_interp.explorer.example_chains import ExampleChains
from attnchain_interp.store import Role, select_layers
from attnchain_interp.store.layer_weights import depths

STEPS: Final = 2  # bounces that a page shows first


def first_choices(chains: ExampleChains, means: Floats, contributions: bool, outputs: int) -> dict[str, Any]:
    """Returns the choices of the first view.

    A walk starts at the token that predicts the first output, else at the last token of a decoder, else at the class token,
    else at the state of the greatest TokenRank that is no attention sink.

    Args:
        chains: the example.
        means: its maps (weighting, layer, token, state).
        contributions: whether the page has them.
        outputs: how many of the last tokens are the model's output.
    """
    from attnchain_interp.attribution import DEFAULTS  # captum loads pyplot

    settings = getattr(DEFAULTS["MultiBounce"], chains.store.kind)
    names = chains.store.names
    layers = [names.index(name) for name in select_layers(names, settings.layers)]
    maps = "contributions" if contributions else "balanced" if settings.balanced else "attention"
    return {
        "maps": maps,
        "layers": [layers[0], layers[-1]] if len(layers) < len(names) else None,
        "depth": "late" if settings.layer_weights == "late" else "even",
        "output": len(chains.shown) - outputs if outputs else None,
        "from": _start(chains, means[0, layers].mean(0), maps == "balanced", outputs),
    }


def first_values(chains: ExampleChains, maps: Floats, choices: dict[str, Any]) -> Floats:
    """Returns the values (token,) that a page shows first: two bounces in the chain of `first_choices`.

    Args:
        chains: the example.
        maps: the maps (layer, token, state) of the page.
        choices: the result of `first_choices`.
    """
    first, last = choices["layers"] or [0, len(maps) - 1]
    depth = np.array(depths(chains.store)[first : last + 1]) if choices["depth"] == "late" else np.ones(last + 1 - first)
    if not depth.any():
        depth = np.ones(len(depth))
    chain = chains.chain(np.tensordot(depth / depth.sum(), maps[first : last + 1], 1))
    return bounce(balance(chain) if choices["maps"] == "balanced" else chain, choices["from"], STEPS).flatten().float().numpy()


def _start(chains: ExampleChains, transitions: Floats, balanced: bool, outputs: int) -> int:
    if outputs:
        return len(chains.shown) - outputs - 1
    if chains.causal:
        return int(chains.states[-1])
    roles = chains.store.tokens.roles[chains.example].cpu().numpy()[chains.shown]
    if (classes := (roles == Role.CLASS).nonzero()[0]).size:
        return int(classes[0])
    chain = chains.chain(transitions)
    rank = stationary(balance(chain) if balanced else chain, chains.damping).numpy()[chains.states]
    rank[np.isin(chains.states, list(chains.sinks))] = 0
    return int(chains.states[rank.argmax()])

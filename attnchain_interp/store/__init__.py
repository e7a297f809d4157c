"""The layer × head store of attention: layers, tokens, starts, head weights, files, other tools."""

from attnchain_interp.store.attention_store import AttentionStore
from attnchain_interp.store.chains import Direction
from attnchain_interp.store.head_weights import NAMED_WEIGHTS, Heads, eigenvalue_weights, head_weights, normalised_weights
from attnchain_interp.store.layer_selection import LayerSelection, names_given, select_layers
from attnchain_interp.store.layer_weights import NAMED_LAYER_WEIGHTS, LayerWeights, layer_weights
from attnchain_interp.store.layers import LayerAttention
from attnchain_interp.store.patches_on_pixels import PatchPlaces, covered_by, covered_size
from attnchain_interp.store.roles import Role
from attnchain_interp.store.sinks import Sinks, known_sinks, sinks, states_of
from attnchain_interp.store.starts import Start
from attnchain_interp.store.tokens import Grid, TokenLayout, TokenSelection

__all__ = [
    "AttentionStore",
    "covered_by",
    "covered_size",
    "Direction",
    "eigenvalue_weights",
    "Grid",
    "head_weights",
    "Heads",
    "layer_weights",
    "known_sinks",
    "LayerAttention",
    "LayerSelection",
    "LayerWeights",
    "NAMED_LAYER_WEIGHTS",
    "NAMED_WEIGHTS",
    "PatchPlaces",
    "names_given",
    "normalised_weights",
    "Role",
    "select_layers",
    "Sinks",
    "sinks",
    "Start",
    "states_of",
    "TokenLayout",
    "TokenSelection",
]

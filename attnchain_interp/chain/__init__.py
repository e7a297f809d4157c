"""Markov chains over tokens, and the functions of a chain: bounces, stationary vectors, spectra, absorption, states."""

from attnchain_interp.chain.absorption import expected_visits
from attnchain_interp.chain.chain import Chain, absorb, as_chain, damp, restrict, reverse
from attnchain_interp.chain.functionals import bounce, second_eigenvalue, stationary
from attnchain_interp.chain.metastable import coarse_grained_stationary, metastable_states
from attnchain_interp.chain.mixing import Mixing, mixing

__all__ = [
    "absorb",
    "as_chain",
    "bounce",
    "Chain",
    "coarse_grained_stationary",
    "damp",
    "expected_visits",
    "metastable_states",
    "Mixing",
    "mixing",
    "restrict",
    "reverse",
    "second_eigenvalue",
    "stationary",
]

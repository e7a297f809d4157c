"""Markov chains over tokens, and the functions of a chain: bounces, stationary vectors, spectra, absorption, states."""

from attnchain_interp.chain.absorption import expected_visits
from attnchain_interp.chain.chain import Chain, as_chain
from attnchain_interp.chain.functionals import Mixing, bounce, mixing, second_eigenvalue, stationary
from attnchain_interp.chain.metastable import coarse_grained_stationary, leading_eigenvalues, metastable_states
from attnchain_interp.chain.transformations import absorb, balance, damp, restrict, reverse, reversible

__all__ = [
    "absorb",
    "as_chain",
    "balance",
    "bounce",
    "Chain",
    "coarse_grained_stationary",
    "damp",
    "expected_visits",
    "leading_eigenvalues",
    "metastable_states",
    "Mixing",
    "mixing",
    "restrict",
    "reverse",
    "reversible",
    "second_eigenvalue",
    "stationary",
]

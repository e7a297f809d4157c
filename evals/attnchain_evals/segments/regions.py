"""Regions: the metastable states of a chain of patches, and how many there are."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor

from attnchain_interp import AttentionError, Chain, metastable_states
from attnchain_interp.chain import coarse_grained_stationary, leading_eigenvalues

SLOW: Final = 0.22
"""The real part of an eigenvalue from which it counts as a region's. Chosen on photographs of BSDS500 val."""
MOST: Final = 20
"""Regions that are found where k is not given."""
_LEAST: Final = 0.002  # share of the patches below which a state is an artefact: one patch of a 24 × 24 grid


class States(NamedTuple):
    """The metastable states of one chain that are no artefacts.

    Attributes:
        memberships: (token, state).
        weights: (state,) stationary weights.
        left_out: the number of states that are the greatest of almost no patch.
    """

    memberships: Tensor
    weights: Tensor
    left_out: int


class Regions(NamedTuple):
    """The regions of one chain.

    Attributes:
        memberships: (token, region).
        weights: (region,) stationary weights.
        eigenvalues: (at most 21,) those of the chain with the largest real parts; the first is 1.
        rule: how their number was found.
        left_out: the number of states that are the greatest of almost no patch.
    """

    memberships: Tensor
    weights: Tensor
    eigenvalues: Tensor
    rule: str
    left_out: int


def regions(chain: Chain, k: int | None = None) -> Regions:
    """Returns the metastable states of the chain (1, token, token) of one image, in order of falling stationary weight.

    An artefact (a patch that keeps its attention to itself) forms a state of its own. A state that is the greatest of less
    than two patches in a thousand is left out, and its shares go to the others.

    Args:
        chain: of the patches of one image; other tokens are no states.
        k: the number of states. None counts the eigenvalues whose real part is above `SLOW`, with 1: from 1 to 20. If that
            parts a complex pair, both count.

    Raises:
        AttentionError: k is given, and is above the number of patches or parts a complex pair.
    """
    eigenvalues = leading_eigenvalues(chain, min(MOST + 1, int(chain.states.sum())))[0]
    rule = "given"
    if k is None:
        slow = min(int((eigenvalues.real > SLOW).sum()), MOST)
        rule = f"{slow} eigenvalues above {SLOW}" if slow > 1 else f"no eigenvalue above {SLOW} but 1: the image has no parts"
        found = _slow_states(chain, slow)
    else:
        found = states(chain, k)
    return Regions(found.memberships, found.weights, eigenvalues, rule, found.left_out)


def states(chain: Chain, k: int) -> States:
    """Returns k metastable states of the chain (1, token, token) of one image, without artefacts: see `regions`.

    Raises:
        AttentionError: k is above the number of patches or parts a complex pair.
    """
    chi = metastable_states(chain, k)
    weights = coarse_grained_stationary(chain, chi)[0]
    firsts = torch.bincount(chi[chain.states].argmax(-1), minlength=chi.shape[-1])
    kept = firsts >= _LEAST * float(firsts.sum())
    shares = chi[0][:, kept]
    shares = shares / shares.sum(-1, keepdim=True).clamp_min(torch.finfo(chi.dtype).tiny)
    return States(shares, weights[kept], int((~kept).sum()))


def _slow_states(chain: Chain, k: int) -> States:
    """Returns k metastable states, or k + 1 where k parts a complex pair, whose second eigenvalue is as slow."""
    try:
        return states(chain, k)
    except AttentionError:
        return states(chain, k + 1)

"""Compares `mixing(P).converged` with chains whose |λ₂| is known in multiple precision.

`python -m studies.certified_chains` draws 10,000 chains, prints a table as in docs/mathematics.md, and fails if a certified
|λ₂| is off by more than the tolerance. Entries are multiples of 2⁻¹⁰ or of 2⁻²⁰, so float32 holds them exactly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import mpmath
import numpy as np
import torch
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals.bench.tables import table

Drawn = tuple[np.ndarray, Any]  # a chain, and its |λ₂| as a number of mpmath
DIGITS: Final = 40
TOLERANCE: Final = 1e-4
BATCH: Final = 10
_UNITS: Final = 2**10


@final
@dataclass(frozen=True)
class Family:
    """The findings on the chains of one family: their number, the number certified, and the worst error among those."""

    name: str
    chains: int
    certified: int
    worst: float


def _row(weights: np.ndarray) -> np.ndarray:
    """Returns a distribution of multiples of 2⁻¹⁰ near to the weights."""
    counts = np.floor(_UNITS * weights / weights.sum()).astype(int)
    counts[weights.argmax()] += _UNITS - counts.sum()
    return counts / _UNITS


def _sharp(n: int, rng: np.random.Generator) -> np.ndarray:
    logits = rng.normal(size=(n, n)) * rng.uniform(0.5, 12)
    return np.stack([_row(np.exp(each - each.max())) for each in logits])


def moduli(P: np.ndarray) -> list[Any]:
    """Returns the moduli of the eigenvalues of a small chain, the greatest first.

    The QR algorithm of mpmath stalls on some matrices with multiple eigenvalues. It finds them with more digits.
    """
    try:
        values = mpmath.eig(mpmath.matrix(P.tolist()), left=False, right=False)
    except RuntimeError:
        with mpmath.extradps(DIGITS):
            values = mpmath.eig(mpmath.matrix(P.tolist()), left=False, right=False)
    return sorted((abs(each) for each in values), reverse=True)


def birth_and_death(n: int, rng: np.random.Generator) -> Drawn:
    """Returns a chain that goes up by q and down by p: eigenvalues 1 and r + 2 √(pq) cos(kπ/n). It may be far from normal."""
    p = int(rng.integers(10, 500))
    q = max(1, int(p * 10 ** rng.uniform(-1.7, 0)))
    P = np.diag(np.full(n, float(_UNITS - p - q)))
    P += np.diag(np.full(n - 1, q), 1) + np.diag(np.full(n - 1, p), -1)
    P[0, 0] += p
    P[-1, -1] += q
    p, q = mpmath.mpf(p) / _UNITS, mpmath.mpf(q) / _UNITS
    values = [1 - p - q + 2 * mpmath.sqrt(p * q) * mpmath.cospi(mpmath.mpf(k) / n) for k in (1, n - 1)]
    return P / _UNITS, max(abs(each) for each in values)


def circulant(n: int, rng: np.random.Generator) -> Drawn:
    """Returns a chain whose rows are shifts of the first row. Its eigenvalues are the Fourier transform of that row."""
    row = _row(rng.dirichlet(np.full(n, 10 ** rng.uniform(-2, 0.5))))
    steps, roots = np.nonzero(row)[0].tolist(), [mpmath.expjpi(mpmath.mpf(2 * k) / n) for k in range(n)]
    values = (sum(row[k] * roots[j * k % n] for k in steps) for j in range(1, n // 2 + 1))
    return np.stack([np.roll(row, k) for k in range(n)]), max(abs(each) for each in values)


def blocks(n: int, rng: np.random.Generator) -> Drawn:
    """Returns blocks of equal rows that a walk leaves at one rate. The eigenvalues are 1, one minus the rate, and zero."""
    leak = rng.integers(1, 400)
    cut = int(rng.integers(1, n))
    anywhere = _row(rng.dirichlet(np.ones(n)))
    within = [np.zeros(n), np.zeros(n)]
    within[0][:cut], within[1][cut:] = _row(rng.dirichlet(np.ones(cut))), _row(rng.dirichlet(np.ones(n - cut)))
    P = np.stack([(_UNITS - leak) * within[int(i >= cut)] + leak * anywhere for i in range(n)]) / _UNITS
    return P, 1 - mpmath.mpf(int(leak)) / _UNITS


def companion(n: int, rng: np.random.Generator) -> Drawn:
    """Returns a chain that goes to the next token or back to the first: a companion matrix with its polynomial."""
    n = min(n, 24)
    reset = rng.integers(1, rng.integers(2, 900), n) / _UNITS
    reset[-1] = 1
    P = np.diag(1 - reset[:-1], 1)
    P[:, 0] += reset
    stay, coefficients = mpmath.mpf(1), [mpmath.mpf(1)]
    for each in reset:
        coefficients.append(-stay * each)
        stay *= 1 - each
    roots = mpmath.polyroots(coefficients, maxsteps=500, extraprec=200)
    return P, sorted((abs(each) for each in roots), reverse=True)[1]


def defective(n: int, rng: np.random.Generator) -> Drawn:
    """Returns a causal chain of equal diagonal in another order of the tokens: one Jordan block, far from normal."""
    n = min(n, int(rng.integers(17, 40)))
    stay = int(rng.integers(1, 900)) if rng.random() < 0.5 else 0
    P = np.eye(n)
    for i in range(1, n):
        row = _row(rng.dirichlet(np.full(i, 10 ** rng.uniform(-1.5, 0.5)))) * (_UNITS - stay)
        P[i, :i], P[i, i] = row / _UNITS, stay / _UNITS
    return P, mpmath.mpf(stay) / _UNITS


def product(n: int, rng: np.random.Generator) -> Drawn:
    """Returns two walks side by side, from flat to sharp. The eigenvalues are the products of theirs."""
    a = int(rng.integers(4, 9))
    first, second = _sharp(a, rng), _sharp(max(4, n // a), rng)
    if len(second) > 9:
        second = _sharp(9, rng)
    one, two = moduli(first), moduli(second)
    return np.kron(first, second), max(one[1], two[1])


def lumped(n: int, rng: np.random.Generator) -> Drawn:
    """Returns groups of tokens with one row for each group. The eigenvalues are those of the groups, and zero."""
    groups = _sharp(int(rng.integers(4, 9)), rng)
    of = np.sort(np.concatenate([np.arange(len(groups)), rng.integers(0, len(groups), n - len(groups))]))
    inside = np.zeros((len(groups), n))
    for group in range(len(groups)):
        inside[group, of == group] = _row(rng.dirichlet(np.ones((of == group).sum())))
    return (groups @ inside)[of], moduli(groups)[1]


def softmax(n: int, rng: np.random.Generator) -> Drawn:
    """Returns rows of random logits, from flat to sharp. The QR algorithm in multiple precision gives the eigenvalues."""
    P = _sharp(min(n, 18), rng)
    return P, moduli(P)[1]


FAMILIES: Final[dict[str, tuple[Callable[[int, np.random.Generator], Drawn], float]]] = {
    "birth and death": (birth_and_death, 0.05),
    "circulant": (circulant, 0.2),
    "blocks": (blocks, 0.2),
    "companion": (companion, 0.05),
    "Jordan block": (defective, 0.1),
    "product of two": (product, 0.17),
    "lumped": (lumped, 0.22),
    "softmax": (softmax, 0.01),
}


def found(name: str, chains: int, seed: int = 0) -> Family:
    """Returns the answers of `mixing` for chains of a family, alternately in float32 and float64, tokens in random order."""
    draw, certified, worst, count = FAMILIES[name][0], 0, 0.0, 0
    rng = np.random.default_rng([seed, *name.encode()])
    while count < chains:
        n = int(rng.integers(17, 80))
        dtype = torch.float32 if count // BATCH % 2 else torch.float64
        with mpmath.workdps(DIGITS):
            drawn = [draw(n, rng) for _ in range(min(BATCH, chains - count))]
        for P in {len(P) for P, _ in drawn}:
            same = [(each, truth) for each, truth in drawn if len(each) == P]
            order = rng.permutation(P)
            said = ac.mixing(
                torch.from_numpy(np.stack([each[order][:, order] for each, _ in same])).to(dtype), tolerance=TOLERANCE
            )
            errors = errors_of(said.second_eigenvalue, [truth for _, truth in same])[said.converged]
            certified += len(errors)
            worst = max([worst, *errors.tolist()])
        count += len(drawn)
    return Family(name, count, certified, worst)


def errors_of(second: Tensor, truths: list[Any]) -> Tensor:
    """Returns the errors (chain,). Differences are taken in multiple precision."""
    return torch.tensor([float(abs(mpmath.mpf(x) - truth)) for x, truth in zip(second.double().tolist(), truths, strict=True)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chains", type=int, default=10_000, help="chains of all families together")
    chosen = parser.parse_args()
    families = [found(name, round(share * chosen.chains)) for name, (_, share) in FAMILIES.items()]
    rows = [
        [each.name, f"{each.chains:,}", f"{each.certified:,}", f"{each.worst:.1e}" if each.certified else "–"]
        for each in families
    ]
    print(table(["chains", "tried", "certified", "worst error of those"], rows))
    return int(any(each.worst > TOLERANCE for each in families))


if __name__ == "__main__":
    raise SystemExit(main())

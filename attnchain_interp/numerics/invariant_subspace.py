"""The invariant subspace of the eigenvalues with the largest real parts, as real Schur vectors: whole, or by block Krylov.

A chain P with the weights η becomes M = D^½ P D^−½, D = diag η. M has the eigenvector u = √η of the eigenvalue 1. All else
happens in the complement of u, so the first Schur vector is u to the last digit even if 1 is a multiple eigenvalue.

A block Krylov space is spanned by V, MV, M²V, …. A block of as many vectors as are wanted finds eigenvalues of any
multiplicity, and each product reads the chain once for all of them. Attention mixes fast: a dozen products are enough.

Products of long vectors are torch's: the threads of NumPy's products would wait for the cores that torch's threads hold.

Source: Saad, *Iterative Methods for Sparse Linear Systems*, 2003 (block Arnoldi).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from attnchain_interp.errors import AttentionError

MOST: Final = 20  # states that k=None may find
WHOLE: Final = 256  # states up to which the whole Schur form is taken
_RESIDUAL: Final = 1e-9  # of the wanted Schur vectors in a Krylov space
_ROUNDING: Final = 1e-8  # of a float32 map: up to here, an entry below the diagonal makes no complex pair of two eigenvalues
_BASIS: Final = 512  # vectors of a Krylov space, and a third of the states, beyond which it is given up
_GROWTH: Final = 1.4  # of the basis from one look at the Schur form to the next

Floats = NDArray[np.float64]
Product = Callable[[Floats], Floats]


class SchurForm(NamedTuple):
    """The real Schur form of a matrix, and its diagonal blocks in order of falling real part: [i], or [i, i + 1] of a pair."""

    T: Floats
    Z: Floats
    blocks: list[NDArray[np.intp]]

    @classmethod
    def of(cls, matrix: Floats) -> SchurForm:
        from scipy.linalg import schur

        T, Z = cast("tuple[Floats, Floats]", schur(matrix, output="real"))
        rounded = np.flatnonzero(np.abs(T.diagonal(-1)) <= _ROUNDING)
        T[1 + rounded, rounded] = 0
        blocks = np.split(np.arange(len(T)), 1 + rounded)
        return cls(T, Z, sorted(blocks, key=lambda block: -T[block[0], block[0]]))  # a pair's diagonal is its real part

    def vectors(self, count: int) -> Floats:
        """Returns the Schur vectors of the first `count` eigenvalues. They do not part a pair."""
        from scipy.linalg import lapack

        chosen = np.zeros(len(self.T), dtype=np.int32)
        chosen[np.concatenate(self.blocks)[:count]] = 1
        _, Z, *_, info = cast("Any", lapack).dtrsen(chosen, self.T, self.Z, job="N")
        if info:
            k = count + 1
            raise AttentionError(
                f"k={k} parts eigenvalues that are too near to each other to be told apart.", "Use another k."
            )
        return Z[:, :count]

    @property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """All eigenvalues, in order of falling real part."""
        found = []
        for block in self.blocks:
            i, j = block[0], block[-1]
            imaginary = np.sqrt(-self.T[i, j] * self.T[j, i]) if i < j else 0
            found += [complex(self.T[i, i], imaginary), complex(self.T[i, i], -imaginary)][: len(block)]
        return np.array(found)

    def checked(self, k: int) -> int:
        """Returns k, unless it splits a complex pair. The eigenvalue 1 comes before the blocks."""
        before = 1
        for block in self.blocks:
            if before < k < before + len(block):
                i, j = block
                imaginary = np.sqrt(-self.T[i, j] * self.T[j, i])
                raise AttentionError(
                    f"k={k} would split the complex pair of eigenvalues {self.T[i, i]:.4g} ± {imaginary:.4g}i.",
                    f"Use k={k - 1} or k={k + 1}.",
                )
            before += len(block)
        return k

    def largest_gap(self) -> int:
        """Returns the k from 2 to `MOST` after which the real parts fall the most, where no pair is split."""
        real = self.T.diagonal()[np.concatenate(self.blocks)]
        ends = np.cumsum([len(block) for block in self.blocks])  # eigenvalues up to the end of each block
        gaps = {1 + end: real[end - 1] - real[end] for end in ends[:-1] if 1 + end <= MOST}  # the gap after λ₂ comes first
        return int(max(gaps, key=lambda k: gaps[k])) if gaps else 1 + len(real)


def schur_vectors(product: Product, eta: Floats, k: int | None) -> Floats:
    """Returns X (state, k), an η-orthonormal basis of an invariant subspace of P; its first column is 1.

    Args:
        product: x (state, m) ↦ Px.
        eta: (state,), positive weights that sum to one.
        k: the number of vectors, at least 2. None takes the largest gap of the spectrum.

    Raises:
        AttentionError: k parts a complex pair of eigenvalues, or eigenvalues that cannot be told apart.
    """
    form, basis = _form(product, eta, (k or MOST + 1) - 1)
    k = form.checked(k) if k is not None else form.largest_gap()
    return np.concatenate([np.ones((len(eta), 1)), basis @ form.vectors(k - 1) / np.sqrt(eta)[:, None]], 1)


def leading_eigenvalues(product: Product, eta: Floats, count: int) -> NDArray[np.complex128]:
    """Returns the `count` eigenvalues of P with the largest real parts, in falling order; the first is 1."""
    if count == 1 or len(eta) == 1:
        return np.ones(1, np.complex128)
    return np.concatenate([[1], _form(product, eta, count - 1)[0].eigenvalues])[:count]


def _form(product: Product, eta: Floats, wanted: int) -> tuple[SchurForm, Floats]:
    """Returns the Schur form of D^½ P D^−½ in the complement of u, of which the first `wanted` count, and its basis."""
    root = np.sqrt(eta)[:, None]

    def scaled(vectors: Floats) -> Floats:
        return root * product(vectors / root)

    n = len(eta)
    found = _krylov(scaled, root, wanted) if n > WHOLE and wanted <= n // 8 else None
    return found or _whole(scaled, root)


def _whole(scaled: Product, root: Floats) -> tuple[SchurForm, Floats]:
    """Returns the whole Schur form: about 25 n³ operations."""
    mirror = root[:, 0].copy()
    mirror[0] += np.linalg.norm(root)
    complement = (np.eye(len(root)) - 2 / (mirror @ mirror) * np.outer(mirror, mirror))[:, 1:]
    return SchurForm.of(complement.T @ scaled(complement)), complement


def _krylov(scaled: Product, root: Floats, wanted: int) -> tuple[SchurForm, Floats] | None:
    """Returns the Schur form in a Krylov space, or None where a basis of `_BASIS` vectors does not hold what is wanted."""
    most = min(_BASIS, len(root) // 3)
    width, size = wanted + 1, 0  # one vector more than is wanted: whether the last eigenvalue is one of a pair
    basis, projected = np.empty((len(root), 1 + most + width), order="F"), np.zeros((most + width, most))
    basis[:, :1] = root / np.linalg.norm(root)
    block = np.random.default_rng(0).standard_normal((len(root), width))
    basis[:, 1 : 1 + width] = _orthonormal(block, basis[:, :1])[0]
    look = 4 * width
    while size + width <= most:
        now, after = slice(1 + size, 1 + size + width), slice(1 + size + width, 1 + size + 2 * width)
        basis[:, after], coefficients, rest = _orthonormal(scaled(basis[:, now]), basis[:, : after.start])
        projected[: size + width, size : size + width] = coefficients[1:]
        projected[size + width : size + 2 * width, size : size + width] = rest
        size += width
        if size < look:
            continue
        look = int(_GROWTH * size)
        form = SchurForm.of(projected[:size, :size])
        ends = np.cumsum([len(block) for block in form.blocks])
        whole = int(ends[ends >= wanted][0])  # all that are wanted, and the partner of the last
        if np.linalg.norm(rest @ form.vectors(whole)[-width:]) < _RESIDUAL:
            return form, basis[:, 1 : 1 + size]
    return None


def _orthonormal(block: Floats, basis: Floats) -> tuple[Floats, Floats, Floats]:
    """Returns Q, C and R for which block = basis C + Q R, and Q is orthonormal, also to the basis.

    Gram–Schmidt is done twice: once loses orthogonality. Where the block adds nothing to the basis, R is (almost) zero and Q
    is of other vectors, so that the Krylov space goes on.
    """
    V, given = torch.from_numpy(basis), torch.from_numpy(block)
    coefficients = V.mT @ given
    rest = given - V @ coefficients
    again = V.mT @ rest
    first, R = torch.linalg.qr(rest - V @ again)
    Q, correction = torch.linalg.qr(first - V @ (V.mT @ first))  # of directions that were rounding alone
    return Q.numpy(), (coefficients + again).numpy(), (correction @ R).numpy()

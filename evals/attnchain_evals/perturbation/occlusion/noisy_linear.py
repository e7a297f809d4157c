"""The occlusion of ROAD: a removed pixel becomes the weighted mean of its neighbours, plus a little noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnchain_evals.perturbation.occlusion.replacements import Occlusion, View
from attnchain_interp.checks import check_whole_number

NEIGHBOURS: Final = {
    **dict.fromkeys([(0, 1), (0, -1), (1, 0), (-1, 0)], 1 / 6),
    **dict.fromkeys([(1, 1), (1, -1), (-1, 1), (-1, -1)], 1 / 12),
}


@final
@dataclass(frozen=True)
class NoisyLinear(Occlusion):
    """Replaces each removed pixel by the weighted mean of its eight neighbours, removed ones included, plus Gaussian noise.

    The weights are 1/6 for the four next and 1/12 for the four diagonal neighbours. At the border they are divided by the sum
    of the weights inside. One sparse linear system is solved per image. If no pixel is left, every solution is constant, and
    the image's mean colour is taken.

    Attributes:
        noise: standard deviation, in the model's input space. The authors' code adds 0.01 before normalisation, which is
            0.01 / std here. pytorch-grad-cam and Quantus also add it to the model's input.
        seed: of the noise. The seed and the number of the image in the data fix the noise of each pixel.

    Source: Rong et al., *A Consistent and Efficient Evaluation Strategy for Attribution Methods*, ICML 2022, and its code.
    Weights and border are those of the code.
    """

    noise: float = 0.01
    seed: int = 0
    name = "noisy-linear"
    space = "the model's input, after normalisation"

    def __post_init__(self) -> None:
        check_whole_number("seed", self.seed, "the seed of the noise", least=0)

    def over(self, model: Callable[[Tensor], Any], inputs: Tensor, first: int = 0) -> View:
        originals = inputs.cpu().double().numpy()
        noise = np.stack(
            [
                self.noise * np.random.default_rng([self.seed, first + number]).standard_normal(image.shape)
                for number, image in enumerate(originals)
            ]
        )

        def view(examples: Tensor, removed: Tensor) -> Any:
            filled = [
                np.where(hole, interpolated(originals[example], hole) + noise[example], originals[example])
                for example, hole in zip(examples.tolist(), removed.cpu().numpy(), strict=True)
            ]
            return model(torch.from_numpy(np.stack(filled)).to(inputs))

        return view


def interpolated(image: NDArray[np.float64], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the image (channel, height, width) with its removed pixels (height, width) filled in, without noise."""
    from scipy.sparse import coo_array
    from scipy.sparse.linalg import splu

    if removed.all():
        return np.broadcast_to(image.mean((1, 2), keepdims=True), image.shape)
    if not removed.any():
        return image
    height, width = removed.shape
    rows, columns = removed.nonzero()
    unknown = np.full(removed.shape, -1)
    unknown[rows, columns] = here = np.arange(len(rows))
    diagonal, known = np.zeros(len(rows)), np.zeros((len(rows), len(image)))
    entries: list[tuple[NDArray[np.float64], NDArray[np.int_], NDArray[np.int_]]] = []
    for (down, right), weight in NEIGHBOURS.items():
        row, column = rows + down, columns + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        own, row, column = here[inside], row[inside], column[inside]
        diagonal[own] += weight
        there = unknown[row, column]
        open_, given = there >= 0, there < 0
        entries.append((np.full(open_.sum(), -weight), own[open_], there[open_]))
        known[own[given]] += weight * image[:, row[given], column[given]].T
    entries.append((diagonal, here, here))
    values, equations, unknowns = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = coo_array((values, (equations, unknowns)), shape=(len(rows), len(rows))).tocsc()
    filled = image.copy()
    filled[:, rows, columns] = splu(system).solve(known).T
    return filled

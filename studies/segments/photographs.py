"""The scores of every method on one photograph: regions of BSDS500, objects of ECSSD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import boundary_counts, covering, rand_index, variation_of_information
from attnchain_evals.metrics.segmentation_scores import segmentation_counts
from attnchain_evals.segments.refinement import Painter, interpolated, working_size
from attnchain_evals.segments.regions import regions, states
from attnchain_evals.segments.segmentation import LAYERS
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_interp.chain import reversible

KS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14)  # up to 20, the best of each photograph of val is better by .001
SHOWN = (4, 6, 8)  # those that have a row of their own
FIXED = 8  # regions where k does not follow the photograph: the best on val
DIFF_SEG = (8, 0.2)  # anchors along a side, threshold: the best on val
Labels = NDArray[np.int64]


def read(reader: WholePatches, image: Any, layers: Any) -> tuple[ac.AttentionStore, NDArray[np.float32]]:
    """Returns the attention and the last features (patch, width) of one forward."""
    seen: list[Tensor] = []
    handle = reader.model.register_forward_hook(lambda *hook: seen.append(hook[2].last_hidden_state))
    try:
        store = reader.store(image, layers)
    finally:
        handle.remove()
    return store, seen[-1][0][store.tokens.roles[0] == ac.Role.PATCH].float().numpy()


def states_name(k: int) -> str:
    return f"states, k = {k}"


def grids(store: ac.AttentionStore, memberships: Tensor) -> NDArray[np.float32]:
    return store.tokens.to_grid(memberships.mT[None]).float()[0].numpy()


def one_hot(numbers: Any, grid: tuple[int, int]) -> NDArray[np.float32]:
    numbers = np.unique(numbers, return_inverse=True)[1]
    return np.eye(numbers.max() + 1, dtype=np.float32)[numbers].T.reshape(-1, *grid)


def partitions(reader: WholePatches, image: Any) -> dict[str, Labels]:
    """Returns the labels (height, width) of each method. Clusterings have the same refinement and pieces as the regions."""
    from skimage.segmentation import felzenszwalb, slic
    from sklearn.cluster import KMeans, SpectralClustering

    pixels = np.asarray(image)
    store, features = read(reader, image, LAYERS)
    size, grid = pixels.shape[:2], store.tokens.grid or (1, 1)
    one_way = store.chain(balanced=True)
    chain = reversible(one_way)
    own = grids(store, regions(chain).memberships)
    painter = Painter(pixels, refine=True, pieces=True)
    found = {
        "states, k by the spectrum": painter.labels(own),
        "states, k by the spectrum, not refined": painter.unrefined(own),
        "states, k by the spectrum, not cut into pieces": Painter(pixels, refine=True).labels(own),
    }
    for k in KS:
        found[states_name(k)] = painter.labels(grids(store, states(chain, k).memberships))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    attention = chain.matrix[0][chain.states[0]][:, chain.states[0]].double().numpy()
    weights = ac.stationary(torch.from_numpy(attention)).numpy()[:, None] * attention
    graphs = {"features": (unit @ unit.T).clip(0), "attention": (weights + weights.T) / 2}
    clusters = {f"k-means of features, k = {FIXED}": KMeans(FIXED, n_init=4, random_state=0).fit_predict(features)}  # type: ignore[arg-type]
    for name, graph in graphs.items():
        spectral = SpectralClustering(FIXED, affinity="precomputed", random_state=0, assign_labels="kmeans")
        clusters[f"spectral clustering of {name}, k = {FIXED}"] = spectral.fit_predict(graph)
    side, threshold = DIFF_SEG
    anchors = one_way.states[0].nonzero()[:, 0][ac.diffusion.uniform_anchors(grid, min(side, *grid))]
    merged = ac.diffusion.diff_seg(one_way, anchors, threshold)
    clusters["DiffSeg's merging of attention"] = merged[one_way.states].numpy()
    for name, numbers in clusters.items():
        found[name] = painter.labels(one_hot(numbers, grid))
    rows, columns = (np.arange(side) * parts // side for side, parts in zip(size, (2, 4), strict=True))
    return found | {
        "Felzenszwalb": felzenszwalb(pixels, scale=800, sigma=0.8, min_size=800),
        "SLIC": slic(pixels, n_segments=FIXED, compactness=10),
        "a raster of 2 × 4": rows[:, None] * 4 + columns,
        "one segment": np.zeros(size, np.int64),
    }


def partition_scores(found: Mapping[str, Labels], truth: Tensor) -> dict[str, list[float]]:
    """Returns method → covering, Rand index and variation of information, each the mean over people, and `boundary_counts`.

    Of k that have no row of their own, the second and the third are 0.

    Args:
        found: method → labels (height, width), as of `partitions`.
        truth: (person, height, width).
    """
    scores, hidden = {}, {states_name(k) for k in KS if k not in SHOWN}
    for name, labels in found.items():
        own = torch.from_numpy(np.ascontiguousarray(labels)).long()
        wanted = (covering,) if name in hidden else (covering, rand_index, variation_of_information)
        means = [float(score(own, truth).mean()) for score in wanted] + [0.0, 0.0] * (name in hidden)
        scores[name] = [*means, *boundary_counts(own, truth).tolist()]
    return scores


def object_scores(reader: WholePatches, image: Any, mask: Tensor) -> dict[str, list[float]]:
    """Returns method → the counts of pixels and the average precision of `segmentation_counts`."""
    store, features = read(reader, image, LAYERS)
    pixels = np.asarray(image)

    def grid(scores: Tensor) -> NDArray[np.float32]:
        return store.tokens.to_grid(scores).float()[0].numpy()

    maps: Mapping[str, NDArray[np.float32]] = {
        "one bounce from the class token, balanced": grid(
            ac.MultiBounce(layers=-1, balanced=True, start="class").score(store)
        ),
        "the same, not balanced": grid(ac.MultiBounce(layers=-1, balanced=False, start="class").score(store)),
        "the same of the last two layers, balanced": grid(
            ac.MultiBounce(layers=slice(-2, None), balanced=True, start="class").score(store)
        ),
        "class row": grid(ac.RawAttention(token="class", layers=-1).score(store)),  # noqa: S106 - no password
        "TokenRank, balanced": grid(ac.TokenRank(layers=-1, balanced=True).score(store)),
        "normalised cut of features (TokenCut)": normalised_cut(features).reshape(store.tokens.grid or (1, 1)),
    }
    scores = {}
    for name, scored in maps.items():
        scores[name] = segmentation_counts(torch.from_numpy(scored)[None], mask[None])[0].tolist()
    for name in [*maps][:3:2]:  # balanced, of one layer and of two
        mean = interpolated(maps[name][None], working_size(pixels.shape)).mean()
        share = maps[name] / (maps[name] + mean)
        drawn = torch.from_numpy(Painter(pixels, refine=True).labels(np.stack([1 - share, share]))).double()
        scores[f"{name}, refined"] = segmentation_counts(drawn[None], mask[None])[0].tolist()
    return scores


def normalised_cut(features: NDArray[np.float32], least: float = 0.2) -> NDArray[np.float32]:
    """Returns 1 on the object's side of the normalised cut of a graph of features, 0 on the other: (patch,).

    Patches are joined where the cosine of their features is above `least`. The object's side holds the greatest entry of the
    second eigenvector. Source: Wang et al., TokenCut, CVPR 2022, without its bilateral solver.
    """
    from scipy.linalg import eigh

    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    graph = np.where(unit @ unit.T > least, 1.0, 1e-5)
    degree = np.diag(graph.sum(1))
    vector = eigh(degree - graph, degree, subset_by_index=[1, 1])[1][:, 0]
    side = vector > vector.mean()
    return (side if side[np.abs(vector).argmax()] else ~side).astype(np.float32)

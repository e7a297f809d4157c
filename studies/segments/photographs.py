"""The scores of every method on one photograph: regions of BSDS500, objects of ECSSD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import attnchain_interp as ac
from attnchain_evals import boundary_counts, covering, rand_index, variation_of_information
from attnchain_evals.bench.image_controls import first_component
from attnchain_evals.metrics.segmentation_scores import counts, segmentation_counts
from attnchain_evals.segments.objects import object_scores, otsu, two_sided
from attnchain_evals.segments.refinement import OBJECT_SCALES, Painter, interpolated, working_size
from attnchain_evals.segments.regions import regions, states
from attnchain_evals.segments.segmentation import LAYERS
from attnchain_evals.segments.whole_patches import WholePatches
from attnchain_interp.chain import reversible

KS = tuple(range(2, 21))
SHOWN = (4, 6, 8)  # those that have a row of their own
FIXED = 8  # regions where k does not follow the photograph: the best on val
DIFF_SEG = (8, 0.2)  # anchors along a side, threshold: the best on val
Labels = NDArray[np.int64]


class Cut(NamedTuple):
    """A map (rows, columns), and the threshold above which the object is; None is the map's mean over the pixels."""

    scores: NDArray[Any]
    threshold: float | None = None


def read(reader: WholePatches, image: Any, layers: Any) -> tuple[ac.AttentionStore, NDArray[np.float32]]:
    """Returns the attention and the last features (patch, width) of one forward."""
    seen: list[Tensor] = []
    with reader.model.register_forward_hook(lambda *hook: seen.append(hook[2].last_hidden_state)):
        store = reader.store(image, layers)
    return store, seen[-1][0][store.tokens.roles[0] == ac.Role.PATCH].float().numpy()


def states_name(k: int) -> str:
    return f"states, k = {k}"


def grids(store: ac.AttentionStore, memberships: Tensor) -> NDArray[np.float32]:
    return store.tokens.to_grid(memberships.mT[None]).float()[0].numpy()


def one_hot(numbers: Any, grid: tuple[int, int]) -> NDArray[np.float32]:
    numbers = np.unique(numbers, return_inverse=True)[1]
    return np.eye(numbers.max() + 1, dtype=np.float32)[numbers].T.reshape(-1, *grid)


def partitions(reader: WholePatches, image: Any) -> dict[str, Callable[[], Labels]]:
    """Returns what makes the labels (height, width) of each method. Clusterings are refined and in pieces as regions are.

    What several methods need is made once, when the first of them is called.
    """
    from skimage.segmentation import felzenszwalb, slic
    from sklearn.cluster import KMeans, SpectralClustering

    pixels = np.asarray(image)
    size = pixels.shape[:2]

    @cache
    def seen() -> tuple[ac.AttentionStore, NDArray[np.float32]]:
        return read(reader, image, LAYERS)

    @cache
    def chains() -> tuple[ac.Chain, ac.Chain]:
        one_way = seen()[0].chain(balanced=True)
        return one_way, reversible(one_way)

    @cache
    def own() -> NDArray[np.float32]:
        return grids(seen()[0], regions(chains()[1]).memberships)

    @cache
    def painter() -> Painter:
        return Painter(pixels, refine=True, pieces=True)

    def of_states(k: int) -> Labels:
        return painter().labels(grids(seen()[0], states(chains()[1], k).memberships))

    def unit_features() -> NDArray[np.float32]:
        return seen()[1] / np.linalg.norm(seen()[1], axis=1, keepdims=True)

    def flow() -> NDArray[np.float64]:
        chain = chains()[1]
        attention = chain.matrix[0][chain.states[0]][:, chain.states[0]].double().numpy()
        weights = ac.stationary(torch.from_numpy(attention)).numpy()[:, None] * attention
        return (weights + weights.T) / 2

    def k_means() -> Any:
        return KMeans(FIXED, n_init=4, random_state=0).fit_predict(seen()[1])  # type: ignore[arg-type]

    def spectral(graph: NDArray[Any]) -> Any:
        clustering = SpectralClustering(FIXED, affinity="precomputed", random_state=0, assign_labels="kmeans")
        return clustering.fit_predict(graph)

    def diff_seg() -> Any:
        side, threshold = DIFF_SEG
        grid, one_way = seen()[0].tokens.grid or (1, 1), chains()[0]
        anchors = one_way.states[0].nonzero()[:, 0][ac.diffusion.uniform_anchors(grid, min(side, *grid))]
        return ac.diffusion.diff_seg(one_way, anchors, threshold=threshold)[one_way.states].numpy()

    def clustered(numbers: Callable[[], Any]) -> Callable[[], Labels]:
        return lambda: painter().labels(one_hot(numbers(), seen()[0].tokens.grid or (1, 1)))

    rows, columns = (np.arange(side) * parts // side for side, parts in zip(size, (2, 4), strict=True))
    return {
        "states, k by the spectrum": lambda: painter().labels(own()),
        "states, k by the spectrum, not refined": lambda: painter().unrefined(own()),
        "states, k by the spectrum, not cut into pieces": lambda: Painter(pixels, refine=True).labels(own()),
        **{states_name(k): partial(of_states, k) for k in KS},
        f"k-means of features, k = {FIXED}": clustered(k_means),
        f"spectral clustering of features, k = {FIXED}": clustered(
            lambda: spectral((unit_features() @ unit_features().T).clip(0))
        ),
        f"spectral clustering of attention, k = {FIXED}": clustered(lambda: spectral(flow())),
        "DiffSeg's merging of attention": clustered(diff_seg),
        "Felzenszwalb": lambda: felzenszwalb(pixels, scale=800, sigma=0.8, min_size=800),
        "SLIC": lambda: slic(pixels, n_segments=FIXED, compactness=10),
        "a raster of 2 × 4": lambda: rows[:, None] * 4 + columns,
        "one segment": lambda: np.zeros(size, np.int64),
    }


def partition_scores(found: Mapping[str, Callable[[], Labels]], truth: Tensor) -> dict[str, list[float]]:
    """Returns method → covering, Rand index and variation of information, each the mean over people, and `boundary_counts`.

    Of k that have no row of their own, the second and the third are 0.

    Args:
        found: method → what makes labels (height, width), as of `partitions`.
        truth: (person, height, width).
    """
    scores, hidden = {}, {states_name(k) for k in KS if k not in SHOWN}
    for name, labels in found.items():
        own = torch.from_numpy(np.ascontiguousarray(labels())).long()
        wanted = (covering,) if name in hidden else (covering, rand_index, variation_of_information)
        means = [float(score(own, truth).mean()) for score in wanted] + [0.0, 0.0] * (name in hidden)
        scores[name] = [*means, *boundary_counts(own, truth).tolist()]
    return scores


def object_maps(reader: WholePatches, image: Any) -> dict[str, Callable[[], Cut]]:
    """Returns what makes the map of each method: of patches, or of pixels where it is refined."""
    pixels = np.asarray(image)

    @cache
    def seen() -> tuple[ac.AttentionStore, NDArray[np.float32]]:
        return read(reader, image, LAYERS)

    def grid(scores: Tensor) -> NDArray[np.float32]:
        return seen()[0].tokens.to_grid(scores).float()[0].numpy()

    def bounce(layers: Any = -1, balanced: bool = True) -> Cut:
        return Cut(grid(ac.MultiBounce(layers=layers, balanced=balanced, start="class").score(seen()[0])))

    def component() -> NDArray[np.float32]:
        found = first_component(torch.from_numpy(seen()[1])[None], seen()[0].tokens.grid or (1, 1))[0].numpy()
        return found - found.min()

    def of_otsu(scores: NDArray[np.float32], refine: bool) -> Cut:
        threshold = otsu(scores, working_size(pixels.shape))
        if not refine:
            return Cut(scores, threshold)
        shares = Painter(pixels, refine=True, scales=OBJECT_SCALES).soft(two_sided(scores, threshold))
        return Cut(shares[1], 0.5)

    return {
        "one bounce from the class token, balanced": bounce,
        "the same, not balanced": lambda: bounce(balanced=False),
        "the same of the last two layers, balanced": lambda: bounce(slice(-2, None)),
        "class row": lambda: Cut(grid(ac.RawAttention(token="class", layers=-1).score(seen()[0]))),  # noqa: S106 - no password
        "TokenRank, balanced": lambda: Cut(grid(ac.TokenRank(layers=-1, balanced=True).score(seen()[0]))),
        "first principal component of features": lambda: Cut(component()),
        "normalised cut of features (TokenCut)": lambda: Cut(
            normalised_cut(seen()[1]).reshape(seen()[0].tokens.grid or (1, 1))
        ),
        "one bounce, then walks": lambda: Cut(grid(object_scores(seen()[0])[None])),
        "one bounce, then walks; Otsu": lambda: of_otsu(grid(object_scores(seen()[0])[None]), refine=False),
        "one bounce, then walks; Otsu, refined": lambda: of_otsu(grid(object_scores(seen()[0])[None]), refine=True),
        "first principal component of features; Otsu": lambda: of_otsu(component(), refine=False),
        "first principal component of features; Otsu, refined": lambda: of_otsu(component(), refine=True),
    }


def cut_scores(found: Mapping[str, Callable[[], Cut]], mask: Tensor) -> dict[str, list[float]]:
    """Returns method → the counts of pixels and the average precision of `segmentation_counts`, at the method's threshold.

    Args:
        found: method → what makes its map, as of `object_maps`.
        mask: (height, width) bool, true on the object.
    """
    scores = {}
    for name, made in found.items():
        scored, threshold = made()
        scores[name] = segmentation_counts(torch.from_numpy(scored)[None], mask[None])[0].tolist()
        if threshold is not None:
            inside = torch.from_numpy(interpolated(scored[None].astype(np.float32), tuple(mask.shape))) > threshold
            scores[name][:5] = counts(inside.long(), mask[None])[0].tolist()
    return scores


def normalised_cut(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns 1 on the object's side of the normalised cut of a graph of features, 0 on the other: (patch,).

    Patches are joined where the cosine of their features is above 0.2. The object's side holds the greatest entry of the
    second eigenvector. Source: Wang et al., TokenCut, CVPR 2022, without its bilateral solver.
    """
    from scipy.linalg import eigh

    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    graph = np.where(unit @ unit.T > 0.2, 1.0, 1e-5)
    degree = np.diag(graph.sum(1))
    vector = eigh(degree - graph, degree, subset_by_index=[1, 1])[1][:, 0]
    side = vector > vector.mean()
    return (side if side[np.abs(vector).argmax()] else ~side).astype(np.float32)

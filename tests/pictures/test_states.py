from pathlib import Path

import matplotlib.image
import pytest
import torch

import attnchain_interp as ac
from attnchain_interp import AttentionError, AttentionStore, Role, TokenLayout, pictures


@pytest.mark.parametrize("channels", [1, 3])
def test_metastable_states_over_images(channels: int, tmp_path: Path) -> None:
    """Two examples of 2 and 3 states: one row each, a legend of the states there are, a number in each region."""
    group = torch.tensor([[0, 0, 0, 1, 1, 1], [0, 0, 1, 1, 2, 2]])
    patches = torch.where(group[:, :, None] == group[:, None], 1, 0.02)
    maps = torch.full((2, 1, 7, 7), 1 / 7)
    maps[..., 1:, 0], maps[:, 0, 1:, 1:] = 0, patches / patches.sum(-1, keepdim=True)
    store = AttentionStore.from_maps([maps], TokenLayout.image(2, (2, 3), prefix=[Role.CLASS]))
    chi = ac.MetastableStates().memberships(store)
    weights = ac.chain.coarse_grained_stationary(store.chain(), chi)
    images = torch.randn(2, channels, 8, 12, generator=torch.Generator().manual_seed(0))
    figure = pictures.show_states(store.tokens.to_grid(chi.mT), images, weights=weights)
    axes = figure.get_axes()
    assert [axis.get_title() for axis in axes[:3]] == ["input", "metastable states", "stationary weight"]
    for row, k in enumerate((2, 3)):
        assert sorted(text.get_text() for text in axes[3 * row + 1].texts) == [str(i + 1) for i in range(k)]
        legend = axes[3 * row + 2].get_legend()
        assert legend is not None
        labels = [text.get_text() for text in legend.get_texts()]
        assert labels == [f"{i + 1}: {weights[row, i]:.1%}" for i in range(k)]
        regions = axes[3 * row + 1].images[1].get_array()
        assert regions is not None
        assert len({tuple(pixel[:3]) for line in regions for pixel in line}) == k
    method = ac.MetastableStates()
    found = method.memberships(store)
    by_hand = store.tokens.to_grid(found.mT), ac.chain.coarse_grained_stationary(method.chain(store), found)
    computed, drawn = pictures.show_states(store, images), pictures.show_states(by_hand[0], images, weights=by_hand[1])
    for axis, other in zip(computed.axes[2::3], drawn.axes[2::3], strict=True):
        legends = [[text.get_text() for text in each.get_legend().get_texts()] for each in (axis, other)]  # type: ignore[union-attr]
        assert legends[0] == legends[1]
    partial = AttentionStore([*store], store.tokens, {"patches": "2×3 patches of 3×3 pixels in 8×12"})
    axis = pictures.show_states(partial, images).axes[1]
    assert axis.images[1].get_extent() == [-0.5, 8.5, 5.5, -0.5], "patches leave a rest of 2 rows and 3 columns"
    assert axis.get_xlim() == (-0.5, 11.5)
    with pytest.raises(AttentionError, match="weights are given beside a store"):
        pictures.show_states(store, images, weights=weights)
    written = matplotlib.image.imread(pictures.write_figure(figure, tmp_path / "states.png"))
    assert written.std() > 0.1


@pytest.mark.parametrize(("images", "states"), [(1, 2), (4, 11)])
def test_the_title_of_the_weights_stands_on_them(images: int, states: int) -> None:
    figure = pictures.show_states(torch.rand(images, states, 6, 9), torch.rand(images, 3, 24, 36))
    figure.draw_without_rendering()
    axis = figure.axes[2]
    legend = axis.get_legend()
    assert legend is not None
    title, weights = axis.title.get_window_extent(), legend.get_window_extent()
    assert 0 <= title.y0 - weights.y1 < title.height
    assert abs(title.x0 - weights.x0) < title.height


def test_a_state_that_is_no_patchs_first_is_said_to_be() -> None:
    memberships = torch.tensor([0.6, 0.4])[None, :, None, None].expand(1, 2, 2, 2)
    axes = pictures.show_states(memberships, torch.rand(1, 3, 8, 8), weights=torch.tensor([[0.6, 0.4]])).get_axes()
    assert [text.get_text() for text in axes[1].texts] == ["1"]
    legend = axes[2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1: 60.0%", "2: 40.0% (no patch's first)"]


def test_without_weights_a_state_counts_by_its_share_of_the_patches() -> None:
    memberships = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0]]).view(1, 2, 2, 2)
    axes = pictures.show_states(memberships, torch.rand(1, 3, 8, 8)).get_axes()
    assert axes[2].get_title() == "share of the patches"
    legend = axes[2].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["1: 75.0%", "2: 25.0%"]


@pytest.mark.parametrize(
    ("memberships", "images", "weights", "message"),
    [
        (torch.ones(1, 4, 2), torch.rand(1, 3, 8, 8), None, r"shape \(1, 4, 2\); it must be \(batch, state, rows, columns\)"),
        (torch.ones(1, 2, 2, 2), torch.rand(2, 3, 8, 8), None, "images holds 2"),
        (torch.ones(1, 2, 2, 2), torch.rand(1, 3, 8, 8), torch.ones(1, 3), r"weights has shape \(1, 3\)"),
    ],
)
def test_what_does_not_fit(
    memberships: torch.Tensor, images: torch.Tensor, weights: torch.Tensor | None, message: str
) -> None:
    with pytest.raises(ac.AttentionError, match=message):
        pictures.show_states(memberships, images, weights=weights)

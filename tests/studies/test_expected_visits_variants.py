import torch

import attnchain_interp as ac
from studies.backbones import TRAINED
from studies.expected_visits_variants import Walk, variants

from .comparisons import images


def test_a_walk_is_expected_visits_but_for_one_choice() -> None:
    model = TRAINED["small"].build().eval()
    found = ac.capture_gradients(model, images(), target=3)
    default = Walk().score(found)
    assert torch.allclose(default, ac.ExpectedVisits().score(found), atol=1e-6)
    tried = variants(model)
    for name, other in tried.items():
        if isinstance(other, Walk) and other.steps == 1:
            share, plain = (each / each.sum(1, keepdim=True) for each in (other.score(found), default))
            assert not torch.allclose(share, plain, atol=1e-5), name


def test_walks_by_their_formula() -> None:
    found = ac.capture_gradients(TRAINED["pooled"].build().eval(), images(1), target=3)
    W = torch.stack([(A * G).mean(1)[0] for A, G in found]).sum(0).clamp(min=0)
    start = torch.full((64,), 1 / 64)
    assert torch.allclose(Walk(bounces=False).score(found)[0], start @ W, atol=1e-7)
    P = W / W.sum(1, keepdim=True)
    expected = start @ torch.linalg.inv(torch.eye(64) - 0.5 * P)
    assert torch.allclose(Walk(divisor="rows", damping=0.5).score(found)[0], expected, atol=1e-5)


def test_an_integrated_walk_averages_gradients_from_the_mean_colour() -> None:
    model, batch = TRAINED["small"].build().eval(), images()
    mean = batch.mean((2, 3), keepdim=True).expand_as(batch)
    parts = [ac.capture_gradients(model, (1 - k / 3) * mean + k / 3 * batch, target=1) for k in (1, 2, 3)]
    clean = ac.capture_gradients(model, batch, target=1)
    averaged = ac.gradients.AttentionGradients(
        clean.store, [torch.stack([part.gradient(k) for part in parts]).mean(0) for k in range(len(clean))]
    )
    expected = clean.tokens.to_grid(Walk().score(averaged))
    assert torch.allclose(Walk(model, steps=3).attribute(batch, 1, output="grid"), expected, atol=1e-4)

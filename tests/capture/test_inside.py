"""A known model inside another module: the whole runs, the model inside is read."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer

import attnchain_interp as ac
from attnchain_interp.capture import adapter_of
from attnchain_interp.capture.inside import InsideAdapter, origin_of
from attnchain_interp.gradients import capture_layer_gradients

IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def vit() -> VisionTransformer:
    torch.manual_seed(0)
    made: Any = VisionTransformer(16, 8, 2, 2, 16, 32, num_classes=3)
    nn.init.normal_(made.heads.head.weight)  # torchvision sets it to zero
    return made.eval()


class Classifier(nn.Module):
    """A head on a backbone, which is called by keyword, on images that are changed first."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = vit(), nn.Linear(3, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.backbone(x=pictures * 2 - 1))

    def scaled(self, scale: float, pictures: Tensor) -> Tensor:
        return self(pictures) * scale


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.student, self.teacher = vit(), vit()
        with torch.no_grad():
            for parameter in self.teacher.parameters():
                parameter.mul_(1.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.student(x) + self.teacher(x)


@pytest.fixture
def whole() -> Classifier:
    torch.manual_seed(2)
    return Classifier().eval()


def test_the_maps_and_the_layout_are_the_inner_models_under_full_names(whole: Classifier) -> None:
    store, inner = ac.capture(whole, IMAGES), ac.capture(whole.backbone, IMAGES * 2 - 1)
    assert store.names == [f"backbone.{name}" for name in inner.names]
    assert store.tokens.grid == (2, 2)
    assert torch.equal(store.maps(), inner.maps())
    assert torch.equal(store.tokens.roles, inner.tokens.roles)
    assert store.metadata["inside"] == "Classifier.backbone"
    assert all(isinstance(whole.get_submodule(name), nn.MultiheadAttention) for name in store.names)


def test_layers_are_chosen_by_the_names_that_the_store_shows(whole: Classifier) -> None:
    last = ac.capture(whole, IMAGES).names[-1]
    for layers in (last, [last], -1, slice(1, 2)):
        assert ac.capture(whole, IMAGES, layers=layers).names == [last]
    with pytest.raises(ac.AttentionError, match=r"(?s)no layer 'head'.*The layers are backbone.encoder"):
        ac.capture(whole, IMAGES, layers="head")


def test_gradients_are_of_the_wholes_score(whole: Classifier) -> None:
    found = ac.capture_gradients(whole, IMAGES, target=1)
    inner = ac.capture_gradients(whole.backbone, IMAGES * 2 - 1, target=lambda logits: whole.head(logits)[:, 1])
    assert found.store.names == [f"backbone.{name}" for name in inner.store.names]
    for layer in range(2):
        (maps, gradient), (own, expected) = found[layer], inner[layer]
        assert torch.equal(maps, own)
        assert torch.allclose(gradient, expected, atol=1e-7)
        assert bool(gradient.any())
    layered = capture_layer_gradients(whole, IMAGES, target=1)
    assert torch.allclose(layered.gradient(-1), found.gradient(-1), atol=1e-7)


def test_contributions_reducers_and_the_proof(whole: Classifier) -> None:
    inner = ac.capture(whole.backbone, IMAGES * 2 - 1, maps="alti")
    assert torch.equal(ac.capture(whole, IMAGES, maps="alti").maps(), inner.maps())
    reduced = ac.capture(whole, IMAGES, keep=[ac.StationaryVectors()])
    expected = ac.capture(whole.backbone, IMAGES * 2 - 1, keep=[ac.StationaryVectors()])
    assert torch.equal(reduced["stationary"], expected["stationary"])
    proof = ac.prove(whole, IMAGES)
    assert proof.holds
    assert [layer.name for layer in proof.layers] == proof.store.names


def test_the_wrong_map_is_not_proved(whole: Classifier) -> None:
    adapter = adapter_of(whole)
    assert isinstance(adapter, InsideAdapter)
    decoy = nn.Module()
    decoy.whole, decoy.forward = whole, lambda x: whole(x) * 0 + x.mean()  # type: ignore[method-assign, assignment]
    assert not ac.prove(decoy, IMAGES).holds


@pytest.mark.parametrize("method", [ac.TokenRank, ac.GradientAttention, ac.LeGrad, partial(ac.Rollout, maps="alti")])
def test_methods_attribute_the_whole(whole: Classifier, method: Any) -> None:
    found = method(whole).attribute(IMAGES, 1, output="grid")
    assert found.shape == (2, 2, 2)
    joint = nn.Sequential(whole.backbone, whole.head).eval()
    assert torch.allclose(found, method(joint).attribute(IMAGES * 2 - 1, 1, output="grid"), atol=1e-6)


def test_a_bound_method_is_what_runs(whole: Classifier) -> None:
    store = ac.capture(whole.scaled, 2.0, pictures=IMAGES)
    assert torch.equal(store.maps(), ac.capture(whole, IMAGES).maps())
    double, once = (ac.capture_gradients(whole.scaled, scale, IMAGES, target=1) for scale in (2.0, 1.0))
    assert torch.allclose(double.gradient(0), 2 * once.gradient(0), atol=1e-6)
    assert ac.prove(whole.scaled, 2.0, IMAGES).holds


def test_one_of_several_is_chosen_by_its_path() -> None:
    two = Two().eval()
    with pytest.raises(ac.AttentionError, match=r'(?s)student \(Vis.*\) and teacher \(Vis.*Reading\(tower="student"\) or'):
        ac.capture(two, IMAGES)
    meant = ac.Reading(tower="teacher")
    store = ac.capture(two, IMAGES, reading=meant)
    assert store.metadata["inside"] == "Two.teacher"
    assert torch.equal(store.maps(), ac.capture(two.teacher, IMAGES).maps())
    assert torch.equal(ac.Rollout(two).attribute(IMAGES, reading=meant), ac.Rollout(two.teacher).attribute(IMAGES))


def test_hooks_of_the_inner_model_run_once(whole: Classifier) -> None:
    calls: list[str] = []
    whole.backbone.register_forward_pre_hook(lambda *_: calls.append("before"))
    whole.backbone.register_forward_hook(lambda *_: calls.append("after"))
    ac.capture(whole, IMAGES)
    assert calls == ["before", "after"]


def test_dropout_around_the_model_inside_is_refused(whole: Classifier) -> None:
    noisy = nn.Sequential(whole, nn.Dropout(0.5))
    ac.capture(noisy.eval(), IMAGES)
    noisy[1].train()
    with pytest.raises(ac.AttentionError, match=r"train mode with dropout \(1.p = 0.5\)"):
        ac.GradientAttention(noisy).attribute(IMAGES, 1)


def test_everything_is_left_as_it_was(whole: Classifier) -> None:
    own = whole(IMAGES)
    ac.capture(whole, IMAGES)
    ac.capture_gradients(whole, IMAGES, target=1)
    with pytest.raises(ac.AttentionError, match=r"images are 8×8"):
        ac.capture(whole, IMAGES[..., :8, :8])
    assert not any("forward" in vars(module) or module._forward_hooks for module in whole.modules())
    assert torch.equal(whole(IMAGES), own)


def test_a_layout_that_is_given_describes_the_whole() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vit = vit()

        def forward(self, x: Tensor) -> Tensor:
            return self.vit.encoder.layers(self.vit._process_input(x))

    parts = Parts().eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)Parts does not call the known model inside, vit.*tokens=ac.TokenLayout"):
        ac.capture(parts, IMAGES)
    layout = ac.TokenLayout.image(2, (2, 2))
    store = ac.capture(parts, IMAGES, reading=ac.Reading(tokens=layout))
    assert store.tokens is layout
    assert len(store) == 2
    assert repr(adapter_of(parts)) == "InsideAdapter(vit (VisionTransformer))"


class Scaled(VisionTransformer):
    def forward(self, scale: float, picture: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(picture) * scale


def test_a_subclass_of_torchvisions_with_its_own_signature() -> None:
    model = Scaled(16, 8, 2, 2, 16, 32, num_classes=3).eval()
    stores = [ac.capture(model, 2.0, IMAGES), ac.capture(model, scale=2.0, picture=IMAGES)]
    assert [store.tokens.grid for store in stores] == [(2, 2)] * 2
    assert torch.equal(stores[0].maps(), stores[1].maps())


def test_it_loads_nothing(whole: Classifier) -> None:
    adapter = adapter_of(whole)
    assert adapter is not None
    assert adapter.recognises(whole)
    with pytest.raises(ac.AttentionError, match="a module around a known model has no name"):
        adapter.load("vit")


class Moved(nn.Module):
    """Changes the images before the model inside sees them."""

    def __init__(self, move: Any) -> None:
        super().__init__()
        self.vit, self.move = vit(), move

    def forward(self, x: Tensor) -> Tensor:
        return self.vit(self.move(x))


def test_scores_of_other_images_do_not_lie_on_the_input() -> None:
    larger = torch.rand(2, 3, 32, 32)
    for move in (lambda x: x[..., 8:24, 8:24], lambda x: nn.functional.interpolate(x, (16, 16))):
        model = Moved(move).eval()
        assert ac.capture(model, larger).metadata["images"] == "16×16"
        for method in (ac.TokenRank(model), ac.GradientAttention(model)):
            assert torch.equal(
                method.attribute(larger, 1, output="grid"),
                type(method)(model.vit).attribute(move(larger), 1, output="grid"),
            )
            with pytest.raises(ac.AttentionError, match=r'(?s)input is 32×32, .*images of 16×16: resized.*output="grid"'):
                method.attribute(larger, 1)
        with pytest.raises(ac.AttentionError, match="resized or cropped"):
            ac.TokenRank(model).attribute(larger, return_convergence_delta=True)


def test_several_examples_of_one_input() -> None:
    model = Moved(lambda x: torch.cat([x, x.flip(-1)])).eval()
    assert ac.TokenRank(model).attribute(IMAGES, output="grid").shape == (4, 2, 2)
    with pytest.raises(ac.AttentionError, match=r'(?s)read 4 examples of a batch of 2.*output="grid"'):
        ac.TokenRank(model).attribute(IMAGES)


class Attending(nn.Module):
    """A head that attends among the examples of a batch, after the model inside."""

    def __init__(self) -> None:
        super().__init__()
        self.vit, self.mixer = vit(), nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        logits = self.vit(x)[None]
        return self.mixer(logits, logits, logits)[0][0]


def test_attention_outside_of_the_model_inside_is_not_lost() -> None:
    torch.manual_seed(3)
    model = Attending().eval()
    with pytest.raises(
        ac.AttentionError, match=r'(?s)outside of the known model vit.* in mixer \(MultiheadAttention.*tower="vit"'
    ):
        ac.capture(model, IMAGES)
    with pytest.raises(ac.AttentionError, match="outside of the known model"):
        ac.GradientAttention(model).attribute(IMAGES, 1)
    with pytest.raises(ac.AttentionError, match="outside of the known model"):
        ac.prove(model, IMAGES)
    store = ac.capture(model, IMAGES, reading=ac.Reading(tower="vit"))
    assert store.unread == ("mixer",)
    assert torch.equal(store.maps(), ac.capture(model.vit, IMAGES).maps())
    last = ac.capture(model, IMAGES, layers=[store.names[-1]])
    assert last.names == store.names[-1:]
    assert last.unread == (store.names[0], "mixer"), "full paths, of both"
    found = ac.GradientAttention(model).attribute(IMAGES, 1, output="grid", reading=ac.Reading(tower="vit"))
    assert bool(found.any())


def test_the_one_that_is_not_chosen_is_unread() -> None:
    two = Two().eval()
    unread = ac.capture(two, IMAGES, reading=ac.Reading(tower="teacher")).unread
    assert unread == tuple(f"student.encoder.layers.encoder_layer_{k}.self_attention" for k in range(2))


class Beside(nn.Module):
    """A known model, and attention of one's own on its tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.own, self.other = vit(), nn.MultiheadAttention(16, 2, batch_first=True), vit()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        if y is not None:
            return self.backbone(x) + self.other(y)
        patches = self.backbone.conv_proj(x).flatten(2).mT
        return self.own(patches, patches, patches)[0].mean(1) + self.backbone(x).mean(1, keepdim=True)


def test_a_module_beside_the_known_model_needs_a_layout() -> None:
    model = Beside().eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)'own' is a module beside the known model .*tower=\"own\", tokens="):
        ac.capture(model, IMAGES, reading=ac.Reading(tower="own"))
    tokens = ac.TokenLayout.image(grid=(2, 2))
    assert ac.capture(model, IMAGES, reading=ac.Reading(tower="own", tokens=tokens)).names == ["own"]


def test_scores_of_a_model_that_is_given_another_argument_do_not_lie_on_the_input() -> None:
    method, other = ac.TokenRank(Beside().eval()), ac.Reading(tower="other")
    assert method.attribute(IMAGES, additional_forward_args=IMAGES + 1, reading=ac.Reading(tower="backbone")).any()
    with pytest.raises(ac.AttentionError, match="the scores are of the tokens of the argument 1, and inputs are others"):
        method.attribute(IMAGES, additional_forward_args=IMAGES + 1, reading=other)
    with pytest.raises(ac.AttentionError, match="of the tokens of the argument y"):
        method.attribute(IMAGES, model_kwargs={"y": IMAGES + 1}, reading=other)
    grid = method.attribute(IMAGES, additional_forward_args=IMAGES + 1, reading=other, output="grid")
    assert grid.shape == (2, 2, 2)


MOVES = {
    "examples sorted": lambda x: x[x.flatten(1).sum(1).argsort()],
    "a mirror": lambda x: x.flip(-1),
    "turned": lambda x: x.mT,
    "rolled": lambda x: x.roll(8, -1),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
def test_scores_of_tokens_at_other_places_do_not_lie_on_the_input(move: Any) -> None:
    images = IMAGES[IMAGES.flatten(1).sum(1).argsort(descending=True)]
    model = Moved(move).eval()
    for method in (ac.TokenRank(model), ac.GradientAttention(model)):
        with pytest.raises(ac.AttentionError, match="tokens of the inputs at other places"):
            method.attribute(images, 1)
        assert torch.equal(
            method.attribute(images, 1, output="grid"), type(method)(model.vit).attribute(move(images), 1, output="grid")
        )


def test_removed_tokens_are_not_those_at_other_places() -> None:
    with pytest.raises(ac.AttentionError, match="tokens of the inputs at other places"):
        ac.LeaveOneOut(Moved(MOVES["a mirror"]).eval()).attribute(IMAGES, 1)


def test_channels_in_another_order_are_at_their_places() -> None:
    model = Moved(lambda x: x.flip(1)).eval()
    assert torch.equal(ac.TokenRank(model).attribute(IMAGES), ac.TokenRank(model.vit).attribute(IMAGES.flip(1)))


@pytest.mark.parametrize(
    ("given", "moved"),
    [
        ([[5, 6, 7, 8], [1, 2, 3, 4]], True),
        ([[4, 3, 2, 1], [8, 7, 6, 5]], True),
        ([[0, 1, 2, 3], [0, 5, 6, 7]], True),
        ([[2, 3, 4, 0], [6, 7, 8, 0]], True),
        ([[1, 2, 3, 4], [5, 6, 7, 8]], False),
        ([[1, 2, 3, 3], [5, 3, 7, 8]], False),
        ([[11, 12, 13, 14], [15, 16, 17, 18]], False),
    ],
)
def test_texts_at_other_places(given: list[list[int]], moved: bool) -> None:
    mine, other = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor(given)
    origin = origin_of([torch.ones_like(mine), other], {"ids": mine})
    assert origin == ("inputs at other places (sorted, shifted or turned)" if moved else None)
    assert origin_of([other, mine.clone()], {"ids": mine}) is None
    assert origin_of([mine], {"ids": mine}) is None


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support:UserWarning", "ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("form", ["sparse", "compressed", "nested"])
def test_arguments_without_a_storage_of_their_own(whole: Classifier, form: str) -> None:
    class Beside(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, pictures: Tensor, beside: Tensor) -> Tensor:
            return self.whole(pictures)

    beside = {
        "sparse": torch.eye(3).to_sparse(),
        "compressed": torch.eye(3).to_sparse_csr(),
        "nested": torch.nested.nested_tensor([torch.rand(2), torch.rand(3)], layout=torch.jagged),
    }[form]
    assert torch.equal(ac.capture(Beside().eval(), IMAGES, beside).maps(), ac.capture(whole, IMAGES).maps())


def test_a_mapped_model_is_refused(whole: Classifier) -> None:
    class Mapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = whole

        def forward(self, pictures: Tensor) -> Tensor:
            return torch.vmap(lambda one: self.whole(one[None])[0])(pictures)

    with pytest.raises(ac.AttentionError, match="(?s)torch.vmap"):
        ac.capture(Mapped().eval(), IMAGES)

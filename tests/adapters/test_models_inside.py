"""Models of the frameworks inside users' own modules, as the users write them."""

from __future__ import annotations

import re
from typing import Any

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn
from torchvision.transforms import Normalize

import attnchain_interp as ac
from attnchain_interp.capture import adapter_of

SHAPE: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
BERT = transformers.BertConfig(vocab_size=60, **SHAPE)
IDS = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
IMAGES = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def vit(kind: type[timm.models.VisionTransformer] = timm.models.VisionTransformer) -> Any:
    torch.manual_seed(0)
    return kind(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=5).eval()


def clip() -> Any:
    torch.manual_seed(0)
    text = {**SHAPE, "vocab_size": 60, "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    config = transformers.CLIPConfig(
        text_config=text, vision_config={**SHAPE, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    return transformers.CLIPModel(config).eval()


def t5() -> Any:
    torch.manual_seed(0)
    config = transformers.T5Config(vocab_size=60, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    config.decoder_start_token_id = 0
    return transformers.T5ForConditionalGeneration(config).eval()


def gpt2() -> Any:
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=60, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2)
    return transformers.GPT2LMHeadModel(config).eval()


class Around(nn.Module):
    """Calls one method of the model inside."""

    def __init__(self, model: nn.Module, method: str = "forward") -> None:
        super().__init__()
        self.model, self.method = model, method

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.model, self.method)(*args, **kwargs)


@pytest.mark.parametrize("method", ["forward", "forward_features", "forward_intermediates", "get_intermediate_layers"])
def test_every_way_to_run_a_model_of_timm(method: str) -> None:
    model = vit()
    expected = ac.capture(model, IMAGES)
    for source in (Around(model, method).eval(), getattr(model, method)):
        given: dict[str, Any] = {"n": 2} if method == "get_intermediate_layers" else {}
        store = ac.capture(source, IMAGES, **given)
        assert torch.equal(store.maps(), expected.maps())
        assert store.tokens.grid == (4, 4)


def test_an_image_that_is_normalised_first() -> None:
    model = vit()
    whole = nn.Sequential(Normalize([0.5] * 3, [0.5] * 3), model).eval()
    assert torch.equal(ac.capture(whole, IMAGES).maps(), ac.capture(model, IMAGES * 2 - 1).maps())
    for method in (ac.TokenRank, ac.GradientAttention, ac.LeGrad):
        found = method(whole).attribute(IMAGES, 1, output="grid")
        assert torch.allclose(found, method(model).attribute(IMAGES * 2 - 1, 1, output="grid"), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_a_scripted_transform_before_a_model() -> None:
    model = vit()
    whole = nn.Sequential(torch.jit.script(nn.Sequential(Normalize([0.5] * 3, [0.5] * 3))), model).eval()
    assert torch.equal(ac.capture(whole, IMAGES).maps(), ac.capture(model, IMAGES * 2 - 1).maps())
    own = nn.Sequential(torch.jit.script(nn.ReLU()), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)).eval()
    assert len(ac.capture(own, torch.rand(2, 3, 8))) == 1


def test_a_head_on_a_model_of_transformers() -> None:
    class Classifier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.bert, self.head = transformers.BertModel(BERT), nn.Linear(32, 3)

        def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
            return self.head(self.bert(ids, attention_mask=mask).last_hidden_state[:, 0])

    whole, mask = Classifier().eval(), torch.ones_like(IDS)
    mask[0, 6:] = 0
    store, inner = ac.capture(whole, IDS, mask), ac.capture(whole.bert, IDS, attention_mask=mask)
    assert torch.equal(store.maps(), inner.maps())
    assert torch.equal(store.tokens.roles, inner.tokens.roles)
    assert ac.prove(whole, IDS, mask).holds
    found = ac.GradientAttention(whole).attribute(IDS, 1, mask)
    assert torch.equal(found, ac.GradientAttention(whole).attribute(IDS, 1, model_kwargs={"mask": mask}))
    assert not found[0, 6:].any()


def test_towers_are_run_by_their_own_methods() -> None:
    model = clip()
    images = ac.capture(model.get_image_features, pixel_values=IMAGES)
    assert torch.equal(images.maps(), ac.capture(model.vision_model, IMAGES).maps())
    text = ac.capture(Around(model, "get_text_features").eval(), IDS)
    assert torch.equal(text.maps(), ac.capture(model.text_model, IDS).maps())
    assert text.names[0].startswith("model.text_model.")

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.clip = model

        def forward(self, images: Tensor, ids: Tensor) -> Any:
            return self.clip.get_image_features(images), self.clip.get_text_features(ids)

    with pytest.raises(ac.AttentionError, match=r'tower="clip.vision_model"\) or .*tower="clip.text_model"'):
        ac.capture(Both().eval(), IMAGES, IDS)
    meant = ac.Reading(tower="clip.text_model")
    assert torch.equal(ac.capture(Both().eval(), IMAGES, IDS, reading=meant).maps(), text.maps())


def test_a_tower_of_the_model_inside() -> None:
    model = clip()
    whole = Around(model).eval()
    with pytest.raises(ac.AttentionError, match="CLIPModel has several sequences"):
        ac.capture(whole, IDS, IMAGES)
    store = ac.capture(whole, IDS, IMAGES, reading=ac.Reading(tower="vision"))
    assert torch.equal(store.maps(), ac.capture(model, IDS, IMAGES, reading=ac.Reading(tower="vision")).maps())


def test_an_encoder_decoder_inside() -> None:
    model, decoded = t5(), IDS[:, :4]
    whole = Around(model).eval()
    arguments: dict[str, Any] = {"input_ids": IDS, "decoder_input_ids": decoded}
    found = ac.capture_encoder_decoder_gradients(whole, **arguments, target=(1, 3))
    inner = ac.capture_encoder_decoder_gradients(model, **arguments, target=(1, 3))
    assert found.names == [f"model.{name}" for name in inner.names]
    for (kind, maps, gradients), (own, expected, slopes) in zip(found, inner, strict=True):
        assert kind == own
        assert torch.equal(maps, expected)
        assert torch.equal(gradients, slopes)
    only = Around(model.encoder).eval()
    assert torch.allclose(ac.capture(only, IDS).maps(), inner.encoder.store.maps(), atol=1e-6)
    adapter: Any = adapter_of(only)
    assert not adapter.is_encoder_decoder(only)


def test_an_encoder_decoder_inside_that_is_given_the_text_backwards() -> None:
    class Backwards(nn.Module):
        def __init__(self, move: Any) -> None:
            super().__init__()
            self.model, self.move = t5(), move

        def forward(self, ids: Tensor, decoder_input_ids: Tensor) -> Tensor:
            return self.model(input_ids=self.move(ids), decoder_input_ids=decoder_input_ids).logits[:, -1]

    arguments: dict[str, Any] = {"target": 1, "model_kwargs": {"decoder_input_ids": IDS[:, :4]}}
    assert ac.GradientAttention(Backwards(lambda ids: ids + 1).eval()).attribute(IDS, **arguments).shape == IDS.shape
    with pytest.raises(ac.AttentionError, match="tokens of the inputs at other places"):
        ac.GradientAttention(Backwards(lambda ids: ids.flip(1)).eval()).attribute(IDS, **arguments)


def test_generation_inside() -> None:
    model, options = gpt2(), {"max_new_tokens": 3, "do_sample": False}
    expected = ac.capture(model.generate, IDS[:1], **options)
    store = ac.capture(Around(model, "generate").eval(), IDS[:1], **options)
    assert torch.equal(store.maps(), expected.maps())
    assert len(store.tokens) == 11
    assert ac.capture(Around(model).forward, IDS).names[0] == "model.transformer.h.0.attn"


def test_subclasses_with_signatures_of_their_own() -> None:
    class Scaled(timm.models.VisionTransformer):
        def forward(self, image: Tensor, scale: float) -> Tensor:  # type: ignore[override]
            return super().forward(image) * scale

    class Anything(timm.models.VisionTransformer):
        def forward(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().forward(*args, **kwargs)

    class Weighted(transformers.BertForSequenceClassification):
        def forward(self, ids: Tensor, weights: Tensor) -> Tensor:  # type: ignore[override]
            output: Any = super().forward(input_ids=ids)
            return output.logits * weights

    expected = ac.capture(vit(), IMAGES).maps()
    assert torch.equal(ac.capture(vit(Anything), IMAGES).maps(), expected)
    scaled = vit(Scaled)
    assert torch.equal(ac.capture(scaled, IMAGES, 2.0).maps(), expected)
    assert ac.GradientAttention(scaled).attribute(IMAGES, 1, 2.0, output="grid").shape == (2, 4, 4)
    weighted, weights = Weighted(BERT).eval(), torch.ones(2, 2)
    assert torch.equal(ac.capture(weighted, IDS, weights).maps(), ac.capture(weighted.bert, IDS).maps())


def test_a_signature_that_hides_the_input_is_refused() -> None:
    class Hidden(transformers.BertModel):
        def forward(self, ids: Tensor, *more: Tensor) -> Any:  # type: ignore[override]
            return super().forward(input_ids=ids)

    with pytest.raises(
        ac.AttentionError, match=r"(?s)Hidden takes \(ids, more\), .* is read from input_ids.*Name the argument"
    ):
        ac.capture(Hidden(BERT).eval(), IDS)


def test_a_users_own_pretrained_model() -> None:
    class Config(transformers.PretrainedConfig):
        model_type = "users-own"

    class Own(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config: Config) -> None:
            super().__init__(config)
            self.bert, self.head = transformers.BertModel(BERT), nn.Linear(32, 2)
            self.post_init()

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.head(self.bert(input_ids).pooler_output)

    model = Own._from_config(Config(), attn_implementation="eager").eval()
    store = ac.capture(model, IDS)
    assert torch.equal(store.maps(), ac.capture(model.bert, IDS).maps())
    assert store.metadata["inside"] == "Own.bert"


def test_a_family_that_is_refused_is_refused_inside_too() -> None:
    shape = {"embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "image_size": 32, "patch_size": 4, "window_size": 4}
    swin = transformers.SwinModel(transformers.SwinConfig(**shape))
    with pytest.raises(ac.AttentionError, match=r"SwinModel \(swin\) attends within windows"):
        ac.capture(nn.Sequential(swin).eval(), IMAGES)
    windows: Any = timm.models.SwinTransformer(img_size=32, patch_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 2))
    with pytest.raises(ac.AttentionError, match="SwinTransformer attends within windows"):
        ac.capture(nn.Sequential(windows).eval(), IMAGES)


def test_a_model_without_attention_beside_one_with_it() -> None:
    convolutions: Any = timm.create_model("resnet10t", num_classes=0)
    whole = nn.ModuleDict({"convolutions": convolutions, "vit": vit()}).eval()
    assert repr(adapter_of(whole)) == "InsideAdapter(vit (VisionTransformer))"


class Prefixed(nn.Module):
    """A decoder with learnt keys and values before the text, as prefix tuning makes it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model, self.prefix = model, nn.Parameter(torch.randn(2, 2, 1, 4, 3, 8))

    def forward(self, input_ids: Tensor, **options: Any) -> Any:
        cache = transformers.DynamicCache(config=self.model.config)
        for layer, (keys, values) in enumerate(self.prefix):
            cache.update(keys.expand(len(input_ids), -1, -1, -1), values.expand(len(input_ids), -1, -1, -1), layer)
        return self.model(input_ids, past_key_values=cache, **options)


@torch.no_grad()
def test_the_maps_among_the_tokens_behind_a_learnt_prefix() -> None:
    model = Prefixed(gpt2()).eval()
    with pytest.raises(ac.AttentionError, match=r"(?s)from 9 to 12 tokens.*without a cache") as refused:
        ac.capture(model, IDS)
    line = re.search(r"AttentionStore.from_maps\(.*?your_maps\]\)", str(refused.value))
    assert line is not None
    model.model.set_attn_implementation("eager")
    names = {"AttentionStore": ac.AttentionStore, "your_maps": model(IDS, output_attentions=True).attentions}
    store = eval(line[0], names)  # noqa: S307 - the line of the fix
    assert store.maps().shape == (2, 2, 4, 9, 9)
    assert torch.isfinite(ac.TokenRank().score(store)).all()

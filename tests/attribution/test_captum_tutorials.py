"""Captum's tutorials with the method exchanged: what is around the call of `attribute` is theirs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from captum.attr import LLMAttributionResult, NoiseTunnel
from captum.attr import visualization as viz
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor, nn

import attnchain_interp as ac

from . import small_models as small

METHODS: dict[str, Callable[..., Any]] = {
    name: getattr(ac, name) for name in ("TokenRank", "MultiBounce", "Rollout", "GradientAttention", "ExpectedVisits")
}
every_method = pytest.mark.parametrize("build", METHODS.values(), ids=METHODS)


def image_models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 32}
    config = transformers.ViTConfig(image_size=(8, 12), patch_size=4, num_labels=4, **shape)  # type: ignore[arg-type]
    return {"timm": small.vit(), "transformers": small.sharpened(transformers.ViTForImageClassification(config))}


IMAGE_MODELS = image_models()


def question_answering() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(**small.BERT, num_hidden_layers=2)  # type: ignore[arg-type]
    return small.sharpened(transformers.BertForQuestionAnswering(config))


@every_method
@pytest.mark.parametrize("model", IMAGE_MODELS.values(), ids=IMAGE_MODELS)
def test_model_interpretation_for_pretrained_resnet(model: Any, build: Callable[..., Any]) -> None:
    """Integrated gradients, a noise tunnel around it, and both kinds of pictures."""
    input, transformed_img = small.images(1), small.images(1)[0].sigmoid()  # noqa: A001
    output = model(input)
    output = nn.functional.softmax(getattr(output, "logits", output), dim=1)
    _, pred_label_idx = torch.topk(output, 1)
    pred_label_idx.squeeze_()

    integrated_gradients = build(model)
    attributions_ig = integrated_gradients.attribute(input, target=pred_label_idx)
    default_cmap = LinearSegmentedColormap.from_list("custom blue", [(0, "#ffffff"), (0.25, "#000000"), (1, "#000000")], N=256)
    figure, axis = viz.visualize_image_attr(
        np.transpose(attributions_ig.squeeze().cpu().detach().numpy(), (1, 2, 0)),
        np.transpose(transformed_img.squeeze().cpu().detach().numpy(), (1, 2, 0)),
        method="heat_map",
        cmap=default_cmap,
        show_colorbar=True,
        sign="positive",
        outlier_perc=1,
        use_pyplot=False,
    )
    assert len(figure.get_axes()) == 2
    drawn = np.asarray(axis.images[0].get_array())
    assert drawn.shape == (8, 12)
    assert np.array_equal(drawn[::4, ::4].repeat(4, 0).repeat(4, 1), drawn), "patch by patch"
    assert np.ptp(drawn) > 0

    noise_tunnel = NoiseTunnel(integrated_gradients)
    attributions_ig_nt = noise_tunnel.attribute(input, nt_samples=3, nt_type="smoothgrad_sq", target=pred_label_idx)
    assert isinstance(attributions_ig_nt, Tensor)
    assert attributions_ig_nt.shape == input.shape
    figure, _ = viz.visualize_image_attr_multiple(
        np.transpose(attributions_ig_nt.squeeze().cpu().detach().numpy(), (1, 2, 0)),
        np.transpose(transformed_img.squeeze().cpu().detach().numpy(), (1, 2, 0)),
        ["original_image", "heat_map"],
        ["all", "positive"],
        cmap=default_cmap,
        show_colorbar=True,
        use_pyplot=False,
    )
    assert len(figure.get_axes()) == 4


def start_scores(output: Any) -> Tensor:
    """The tutorials' `squad_pos_forward_func` of position 0: here the target, since the method needs the model itself."""
    return output.start_logits.max(1).values


def summarize_attributions(attributions: Tensor) -> Tensor:
    attributions = attributions.sum(dim=-1).squeeze(0)
    return attributions / torch.norm(attributions)


@every_method
def test_interpreting_question_answering_with_bert_part_1(build: Callable[..., Any]) -> None:
    """Layer integrated gradients over the embeddings, summed over their width, and `visualize_text`."""
    pytest.importorskip("IPython")
    model, input_ids = question_answering(), small.ids(1)
    all_tokens = [f"token{number}" for number in input_ids[0].tolist()]
    token_type_ids, position_ids = torch.zeros_like(input_ids), torch.arange(7)[None]
    attention_mask = torch.ones_like(input_ids)
    scores = model(input_ids, attention_mask, token_type_ids, position_ids).start_logits

    embedded = model.bert.embeddings.word_embeddings(input_ids)
    attributions_start = build(model).attribute(
        inputs=embedded,
        target=start_scores,
        additional_forward_args=(attention_mask, token_type_ids, position_ids),
    )
    attributions_start_sum = summarize_attributions(attributions_start)
    assert attributions_start_sum.shape == (7,)
    assert float(attributions_start_sum.norm()) == pytest.approx(1)
    record: Any = viz.VisualizationDataRecord  # its types say float and int; the tutorial gives it tensors
    start_position_vis = record(
        attributions_start_sum,
        torch.max(torch.softmax(scores[0], dim=0)),
        torch.argmax(scores),
        torch.argmax(scores),
        str(3),
        attributions_start_sum.sum(),
        all_tokens,
        None,
    )
    page = str(viz.visualize_text([start_position_vis]).data)
    assert all(token in page for token in all_tokens)
    ours = ac.TextAttributionResult(
        input_tokens=all_tokens, output_tokens=["start"], token_attr=attributions_start_sum[None], policy="the tutorial's"
    )
    assert all(token in ours._repr_html_() for token in all_tokens)


@every_method
def test_interpreting_question_answering_with_bert_part_2(build: Callable[..., Any]) -> None:
    """Embeddings as inputs with the other arguments beside them, layer by layer; and the attention matrices themselves."""
    model, input_ids = question_answering(), small.ids(1)
    token_type_ids, position_ids = torch.zeros_like(input_ids), torch.arange(7)[None]
    attention_mask = torch.tensor([[1, 1, 1, 1, 1, 0, 0]])
    input_embeddings = model.bert.embeddings.word_embeddings(input_ids)
    layer_attrs_start = []
    for i in range(model.config.num_hidden_layers):
        lc = build(model, layers=i)
        layer_attributions_start = lc.attribute(
            inputs=input_embeddings,
            target=start_scores,
            additional_forward_args=(attention_mask, token_type_ids, position_ids),
        )
        assert layer_attributions_start.shape == input_embeddings.shape
        assert not layer_attributions_start[0, 5:].any(), "padding"
        layer_attrs_start.append(summarize_attributions(layer_attributions_start).cpu().detach().tolist())
    assert np.ptp(np.asarray(layer_attrs_start), axis=0).any(), "layers differ"


def test_attention_matrices_over_layers_and_heads() -> None:
    """Part 2's `output_attentions_all`: the captured maps of the model as it came, which returns none."""
    model, input_ids = question_answering(), small.ids(1)
    output_attentions_all = ac.capture(model, input_ids).maps().transpose(0, 1)  # (layer, batch, head, query, key)
    model.set_attn_implementation("eager")
    expected = torch.stack(model(input_ids, output_attentions=True).attentions)
    assert torch.allclose(output_attentions_all, expected, atol=1e-12)
    figure = ac.pictures.show_grid(output_attentions_all[:, 0])
    assert len(figure.get_axes()) == 2 * 3 + 1


@every_method
def test_understanding_llama2_with_captum(build: Callable[..., Any]) -> None:
    """An `LLMAttributionResult` of our scores, one row for each generated token, in Captum's plots."""
    model, ids, prompt = small.llama(), small.ids(1, 8), 5
    options: dict[str, Any] = {} if build is ac.TokenRank else {"start": -1}
    rows = []
    for position in range(prompt, ids.shape[1]):
        before, target = ids[:, :position], (position - 1, int(ids[0, position]))
        rows.append(build(model, **options).attribute(before, target=target, output="tokens")[0, :prompt])
    token_attr = torch.stack(rows)
    assert token_attr.shape == (3, prompt)
    assert bool(token_attr.isfinite().all())
    result = LLMAttributionResult(
        input_tokens=[f"in{k}" for k in range(prompt)],
        output_tokens=[f"out{k}" for k in range(3)],
        seq_attr=token_attr.sum(0),
        token_attr=token_attr,
    )
    figure, _ = result.plot_token_attr(show=False)  # type: ignore[misc]
    labels = {label.get_text() for axis in figure.get_axes() for label in (*axis.get_xticklabels(), *axis.get_yticklabels())}
    assert {"in0", "out2"} <= labels
    import matplotlib.pyplot as plt

    plt.close(figure)


@pytest.mark.parametrize("build", [ac.GradientAttention, ac.ExpectedVisits])
@pytest.mark.filterwarnings("ignore")  # torch tells of a successor, and that these layers have no gradient
def test_models_that_have_no_gradient_or_no_class(build: Callable[..., Any]) -> None:
    model, images = small.vit().float(), small.images().float()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    with pytest.raises(ac.AttentionError, match="(?s)no gradient flows .* quantised layers.* in floating point"):
        build(quantised).attribute(images, 1)
    frozen = small.vit().float().requires_grad_(False)
    assert torch.equal(build(frozen).attribute(images, 1), build(model).attribute(images, 1))
    with pytest.raises(
        ac.AttentionError, match=r"(?s)target=4 cannot be .* logits of shape \(2, 4\).*class from 0 to 3 \(-4 to -1 count"
    ):
        build(model).attribute(images, 4)
    pooled = question_answering().bert
    with pytest.raises(ac.AttentionError, match=r"(?s)without logits.*target=lambda output: .*pooler_output"):
        build(transformers.BertModel(pooled.config).eval()).attribute(small.ids(), 1)
    assert build(transformers.BertModel(pooled.config).eval()).attribute(small.ids(), lambda o: o.pooler_output[:, 0]).any()

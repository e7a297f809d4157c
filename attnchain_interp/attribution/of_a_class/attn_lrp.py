"""AttnLRP: the relevance of each token, by one backward with the rules of layer-wise relevance propagation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar, final

from captum.attr import GradientAttribution
from torch import Tensor

from attnchain_interp.attribution.embeddings import changed_embeddings, embedding_of
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_attribution import Scored, TokenAttribution
from attnchain_interp.attribution.token_inputs import by_token, module_inside, tower_of
from attnchain_interp.capture.reading import separated
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.differentiable_maps import MapGraph, no_gradient
from attnchain_interp.gradients.encoder_decoder import is_encoder_decoder
from attnchain_interp.gradients.relevance_rules import RelevanceRules
from attnchain_interp.gradients.target import selected_score
from attnchain_interp.operators import float32_or_wider


@final
class AttnLRP(TokenAttribution, GradientAttribution):
    """The relevance of each token for the target: Σ x ⊙ g over its embedding x, where g is the gradient by the rules of LRP.

    A token of a text has the relevance of its embedding, without that of its position; that of an image within a text has
    no embedding of its own, and scores 0. A patch of an image has the sum over its pixels; class tokens and registers have
    no pixels and score 0. Scores have a sign. They add up to the logit, less what biases, positions and the softmax of
    attention take. `RelevanceRules` has the rules, one for each torch function, so that a block is known by what it
    computes: those of ViTs (timm, transformers), of Llama and its relatives, of GPT-2 and of BERT, with fused or eager
    attention. One forward and one backward. `attribute_text` explains the logit of each output token over its own context.

    Args:
        forward_func: a model that an adapter recognises. It is left as it was.

    Raises:
        AttentionError: on attribution, for a function of the model without a rule (a router of experts, for instance); an
            encoder–decoder; token numbers of a model that does not name its embeddings; and the errors of `capture_gradients`.

    Source: Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin & Samek, *AttnLRP: Attention-Aware Layer-Wise Relevance
    Propagation for Transformers*, ICML 2024, by input times gradient as in the authors' package `lxt`. Linear layers have the
    ε-rule with ε = 0. The γ-rule that the paper adds in vision transformers is not here.
    """

    explains_target: ClassVar[bool] = True
    reads_contexts: ClassVar[bool] = True

    def __init__(self, forward_func: Any) -> None:
        super().__init__(forward_func)

    def read(self, call: Call) -> Scored:
        """Returns the relevance of some examples."""
        if is_encoder_decoder(self.forward_func):
            raise AttentionError(
                f"{type(self.forward_func).__name__} is an encoder–decoder, and AttnLRP explains one sequence of tokens.",
                "Use GradientAttention, which has rules for encoder–decoders.",
            )
        with MapGraph(self.forward_func) as graph:
            with RelevanceRules() as rules, self._given(call, rules) as given:
                positional, named = given.arguments(self.forward_func)
                reading, named = separated(graph.model, named.pop("reading", None), named)
                request = replace(graph.request(-1, reading), edit=None)
                store = graph.adapter.capture(graph.model, positional, named, request)
            score, tensor = selected_score(graph.output, call.target, store.batch), rules.given
            if tensor is None or not score.requires_grad:
                raise no_gradient()
            graph.maps["inputs"] = tensor
            relevance = float32_or_wider(tensor.detach()) * float32_or_wider(graph.gradients(score, ["inputs"])["inputs"])
        return Scored(by_token(relevance, store), store.tokens, metadata=store.metadata)

    @contextmanager
    def _given(self, call: Call, rules: RelevanceRules) -> Iterator[Call]:
        """Puts the inputs, or the embeddings of token numbers, under the rules, as the tensor that is explained."""

        def explained(tensor: Tensor) -> Tensor:
            rules.given = tensor.detach().requires_grad_()
            return rules.given

        if call.inputs.is_floating_point():
            yield call._replace(inputs=explained(call.inputs))
            return
        with changed_embeddings(embedding_of(module_inside(self.forward_func), tower_of(call)), explained):
            yield call

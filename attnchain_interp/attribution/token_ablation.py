"""The score of a target as a function of the tokens that are left: what Captum's perturbation methods call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal, final, get_args

import torch
from torch import Tensor

from attnchain_interp.attribution.embeddings import changed_embeddings, embedding_of, mean_embedding
from attnchain_interp.attribution.hidden_tokens import HiddenTokens, takes
from attnchain_interp.attribution.model_call import Call
from attnchain_interp.attribution.token_inputs import called, check_own_tokens, module_inside, own_call, tower_of
from attnchain_interp.capture import capture, plain_run
from attnchain_interp.checks import check_one_of, check_position
from attnchain_interp.errors import AttentionError
from attnchain_interp.gradients.target import logits_of, plain_target, selected_score
from attnchain_interp.operators import float32_or_wider
from attnchain_interp.store import Role, TokenLayout
from attnchain_interp.store.patches_on_pixels import check_same_image, on_pixels

Removal = Literal["attention-mask", "token-delete", "mean-embedding", "mean-colour"]
TargetScore = Literal["probability", "log-probability", "logit"]

_OF_TOKENS: Final = ("attention_mask", "token_type_ids", "position_ids")  # arguments with a number for each token


def check_removal(removal: str | None, score: str) -> None:
    """Refuses a removal or a score of another name."""
    if removal is not None:
        check_one_of("removal", removal, get_args(Removal))
    check_one_of("score", score, get_args(TargetScore))


@final
class TokenAblation:
    """The score of one example's target, by which of its tokens the model sees: (row, token) → (row,).

    It is the `forward_func` of Captum's methods of perturbation: their `inputs` are ones (1, token), their `baselines` are 0.
    The tokens are the patches of an image, or those of a text but padding. Those of an image within a text are hidden from
    attention like others, and have no embedding of their own to remove.

    Args:
        source: the model.
        call: one example, with its target.
        removal: how a token is removed. "attention-mask": no token attends to it (`HiddenTokens`). "token-delete": the
            text is shorter; the end at which an encoder–decoder reads a class stays. "mean-embedding": its embedding is the
            mean of the vocabulary; that of the encoder, where a decoder follows. "mean-colour": a patch has the mean colour
            of its image. None means "attention-mask" of a text, "mean-colour" of an image.
        score: of the target's logit among those of its position: "probability", "log-probability" or "logit". A target that is
            a function is the score itself.

    Attributes:
        tokens: the layout of all tokens of the example.
        metadata: of the capture of the example.
        ablated: (token,) the positions of the tokens that can be removed.

    Raises:
        AttentionError: another name; a removal that the inputs or the model do not allow; and the errors of `capture`.
    """

    def __init__(
        self, source: Any, call: Call, removal: Removal | None = None, score: TargetScore = "log-probability"
    ) -> None:
        check_removal(removal, score)
        self._model = module_inside(source)
        self._score: TargetScore = score
        self._target: Any = single_target(call.target)
        positional, named = call.arguments(source)
        store = capture(source, *positional, layers=-1, **named)
        check_own_tokens(store)
        self.tokens: TokenLayout = store.tokens
        self.metadata: Mapping[str, str] = store.metadata
        image = call.inputs.ndim == 4
        self._removal: Removal = removal or ("mean-colour" if image else "attention-mask")
        self._call = own_call(self._model, call)
        self._check(image)
        if self._removal in ("attention-mask", "token-delete"):
            self._call = self._unpacked()
        self.ablated = self._removed(image).nonzero()[:, 0]
        self._hidden = self._hiding() if self._removal == "attention-mask" else None
        if self._removal == "mean-embedding":
            self._embedding = embedding_of(self._model, tower_of(call))
            self._mean = mean_embedding(self._embedding, call.inputs.device)

    def __len__(self) -> int:
        return len(self.ablated)

    @torch.no_grad()
    def __call__(self, left: Tensor) -> Tensor:
        """Returns the score of each row (row,) of `left` (row, token): the tokens that are not zero are left."""
        kept = torch.ones(len(left), len(self.tokens), dtype=torch.bool, device=self._call.inputs.device)
        kept[:, self.ablated.to(kept.device)] = left.to(kept.device) > 0
        if self._removal != "token-delete":
            return self._scores(kept).to(left.device)
        counts = kept.sum(1)
        if not bool(counts.all()):
            raise AttentionError("a text has no token left.", 'Remove tokens by removal="mean-embedding" or "attention-mask".')
        groups = [(counts == count).nonzero()[:, 0] for count in counts.unique()]  # texts of one length share a forward
        scores = torch.cat([self._scores(kept[rows]) for rows in groups])
        return scores[torch.cat(groups).argsort()].to(left.device)

    def on_tokens(self, attributions: Tensor) -> Tensor:
        """Returns scores (1, token) of all tokens, from those (1, token) of the tokens that can be removed."""
        scores = attributions.new_zeros(1, len(self.tokens))
        scores[:, self.ablated.to(scores.device)] = attributions
        return scores

    def _removed(self, image: bool) -> Tensor:
        """Marks the tokens that can be removed (token,)."""
        removed = self.tokens.select(None if image else "all")[0]
        if self._removal == "mean-embedding":  # that of an image's token is overwritten by what an encoder saw
            removed &= self.tokens.roles[0] != Role.PATCH
        config: Any = getattr(self._model, "config", None)
        a_class = getattr(config, "is_encoder_decoder", False) and isinstance(self._target, int)
        numbers = self._call.inputs[0].cpu()
        if self._removal == "token-delete" and a_class and config.eos_token_id is not None and numbers.ndim == 1:
            removed &= ~torch.isin(numbers, torch.tensor(config.eos_token_id, device="cpu"))  # the class is read there
        return removed

    def _check(self, image: bool) -> None:
        name, removal = type(self._model).__name__, self._removal
        if image != (removal == "mean-colour"):
            fix = '"mean-colour"' if image else '"attention-mask", "token-delete" or "mean-embedding"'
            raise AttentionError(f"removal={removal!r} is not of {'an image' if image else 'a text'}.", f"Use {fix}.")
        if image and self.tokens.grid is None:
            raise AttentionError(f"{name} has no image grid, so it has no patches to remove.", "Use another method.")
        if removal == "token-delete" and bool((self.tokens.roles == Role.PATCH).any()):
            raise AttentionError(
                f'{name} needs as many tokens of an image as it has, so removal="token-delete" cannot shorten this text.',
                'Use removal="attention-mask", or "mean-embedding" for the text alone.',
            )
        if image:
            check_same_image(self.metadata, self._call.inputs)
        elif self._call.inputs.shape[1] != len(self.tokens):
            raise AttentionError(
                f"{name} reads {len(self.tokens)} tokens of {self._call.inputs.shape[1]} in its input.",
                "Use a model that reads the tokens of its input alone.",
            )

    def _hiding(self) -> HiddenTokens:
        call, target = self._call, self._target
        kinds: tuple[TargetScore, ...] = (self._score,) if callable(target) else ("logit", self._score)

        def run(rows: Tensor, **named: Tensor) -> Tensor:
            """Returns the logit, which moves where a probability does not, beside the score: (row, 2)."""
            output = called(self._model, call, rows, **named)
            return torch.stack([score_of(output, target, len(rows), kind) for kind in kinds], 1)

        position = -1
        reads_itself = not getattr(getattr(self._model, "config", None), "is_encoder_decoder", False)
        if reads_itself and isinstance(target, tuple) and len(target) == 2:
            position = check_position("token", target[0], len(self.tokens))
        mask = (call.options or {}).get("attention_mask")
        instead = ('removal="mean-embedding"', 'removal="token-delete"')
        place = None if callable(target) else position
        return HiddenTokens(self._model, run, call.inputs, place, mask, instead, self.tokens.roles == Role.PATCH)

    def _unpacked(self) -> Call:
        """Returns the call with an attention_mask beside its position_ids, if it has any.

        Without a mask and a cache a model of transformers parts packed texts where positions do not follow each other, as
        they do not where a token is deleted.

        Raises:
            AttentionError: several texts in one row, which are not parted beside a mask.
        """
        call, options = self._call, dict(self._call.options or {})
        if options.get("position_ids") is None or options.get("attention_mask") is not None:
            return call
        if not takes(self._model, "attention_mask"):
            return call
        every = torch.ones(call.inputs.shape[:2], dtype=torch.long, device=call.inputs.device)
        masked = call._replace(options={**options, "attention_mask": every})
        with torch.no_grad(), plain_run(self._model):
            one, other = (
                score_of(called(self._model, each, each.inputs), self._target, 1, "logit") for each in (call, masked)
            )
        if not torch.allclose(one, other, 1e-3, 1e-4):
            raise AttentionError(
                f"{type(self._model).__name__} parts packed texts by their position_ids, but not beside an attention_mask,"
                f" which removal={self._removal!r} needs.",
                'Use removal="mean-embedding", or pass each text by itself.',
            )
        return masked

    def _scores(self, kept: Tensor) -> Tensor:
        """Returns the scores (row,) of the example with these tokens (row, token) alone."""
        rows, removal, options = len(kept), self._removal, self._call.options or {}
        inputs = self._call.inputs.expand(rows, *self._call.inputs.shape[1:])
        if self._hidden is not None:
            return self._hidden(inputs, kept)[:, -1]
        change: AbstractContextManager[Any] = nullcontext()
        named = dict[str, Any]()
        if removal == "mean-colour":
            removed = self.tokens.to_grid(~kept).to(inputs.dtype)
            places = on_pixels(removed, self.metadata, (inputs.shape[2], inputs.shape[3]))[:, None] > 0
            inputs = torch.where(places, inputs.mean((2, 3), keepdim=True), inputs)
        elif removal == "token-delete":
            inputs = inputs[kept].unflatten(0, (rows, -1))
            given = {name: options[name].expand(kept.shape) for name in _OF_TOKENS if name in options}
            named = {name: value[kept].view(rows, -1) for name, value in given.items()}
        elif inputs.is_floating_point():
            inputs = torch.where(kept[..., None], inputs, self._mean)
        else:
            change = changed_embeddings(self._embedding, lambda given: torch.where(kept[..., None], given, self._mean))
        with change:
            return self._read(called(self._model, self._call, inputs, **named), rows, kept)

    def _read(self, output: Any, rows: int, kept: Tensor) -> Tensor:
        target = self._target
        if self._removal == "token-delete" and isinstance(target, tuple) and len(target) == 2:
            logits = logits_of(output)
            if logits.ndim == 3:
                place = check_position("token", target[0], len(self.tokens))
                moved = (kept[:, : place + 1].sum(1) - 1).clamp_min(0)  # where it is now, or the token before it
                output, target = logits[torch.arange(rows, device=moved.device), moved][:, None], (0, target[1])
        return score_of(output, target, rows, self._score)


def single_target(target: Any) -> Any:
    """Returns the target of one example: an index, a tuple of indices, a function, or None."""
    target = plain_target(target)
    return target[0] if isinstance(target, list) and len(target) == 1 else target


def score_of(output: Any, target: Any, rows: int, score: TargetScore) -> Tensor:
    """Returns the score (row,) of a `single_target`. A function, and the one number of an example, is the score itself."""
    chosen = selected_score(output, target, rows)
    if score == "logit" or not isinstance(target, int | tuple):
        return float32_or_wider(chosen)
    logits = logits_of(output)
    several = logits[(slice(None), *target[:-1])] if isinstance(target, tuple) else logits
    if several.shape[-1] == 1:
        raise AttentionError(
            f"the model has one logit, whose {score} among its logits is the same whatever the model reads.",
            'Pass score="logit".',
        )
    logarithms = float32_or_wider(chosen) - float32_or_wider(several).logsumexp(-1)
    return logarithms.exp() if score == "probability" else logarithms

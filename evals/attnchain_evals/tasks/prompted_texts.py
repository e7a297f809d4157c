"""The base class of published data sets of prompts whose answers and evidence are known."""

from __future__ import annotations

import hashlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args
from unicodedata import category

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attnchain_evals.tasks.digest import digest, sha256
from attnchain_evals.tasks.examples import Passage
from attnchain_evals.tasks.prompt_tokens import passage_of
from attnchain_evals.tasks.prompts import Part, Prompt
from attnchain_interp import AttentionError
from attnchain_interp.checks import check_one_of, check_whole_number
from attnchain_interp.gradients import logits_kept, logits_of
from attnchain_interp.reprs import counted

UNKNOWN = "the model puts another token than the answer's first"
OTHER = "the model writes another answer"
TOO_LONG = "they are longer than the model's context"

Explained = Literal["first token", "answer"]


class PromptedTexts(ABC):
    """The prompts of a file that a model answers rightly, each a `Passage`, in the order of the file.

    A prompt is left out, and counted in `left_out`, if the model does not put the first token of the answer first (a passage:
    if it does not write the whole answer), or if it is longer than the model's context (`config.max_position_embeddings`).

    A third of the file is "validation", the rest "test". The sha256 of an example's identifier decides (`part_of`), so an
    example stays where it is when the file grows.

    Args:
        path: of the file, or of a folder that holds it under its published name.
        tokenizer: a fast tokenizer of transformers.
        model: token numbers → logits of the next token, in eval mode. None keeps prompts that no model was asked.
        split: "validation" or "test"; the whole file when None.
        limit: the number of examples that are kept at most. No further prompt is asked.
        explained: the "first token" of the answer, or the whole "answer", which the model must then write. Methods that
            explain an answer are summed over its tokens, each explained after the tokens before it.
        own_words: how many tokens the model may write before the answer ("The colour of the door is red"). They stand at the
            end of the prompt then, and are not ranked. Each is the likeliest. A reply counts wherever the answer stands in it,
            also in another sense ("not red"). None for the usual number: 16 of passages, none of other texts.

    Attributes:
        prompts: of the examples that are kept.
        asked: the number of prompts that were looked at.
        left_out: reason → the number of prompts.

    Raises:
        AttentionError: no such file, a file of another format (the message names file and line), no prompt, or none that the
            model answers.
    """

    whole: ClassVar[bool] = False
    """Whether the model must write all tokens of the answer, each the likeliest."""

    usual_own_words: ClassVar[int] = 0
    """How many tokens the model may write before the answer, unless `own_words` says so."""

    def __init__(
        self,
        path: str | Path,
        tokenizer: Any,
        model: nn.Module | None = None,
        split: Part | None = None,
        *,
        limit: int | None = None,
        explained: Explained = "first token",
        own_words: int | None = None,
    ) -> None:
        check_one_of("explained", explained, get_args(Explained))
        own_words = self.usual_own_words if own_words is None else own_words
        check_whole_number("own_words", own_words, "the number of tokens before the answer", least=0)
        self.explained: Explained = explained
        self.own_words = own_words
        if split is not None:
            check_one_of("split", split, get_args(Part))
        self.split: Part | None = split
        self._path, self._tokenizer = Path(path), tokenizer
        self.files, found = self.read(self._path)
        found = [prompt for prompt in found if split is None or self.in_split(prompt, self._path)]
        if not found:
            raise AttentionError(f"{path} holds no prompt of the split {split!r}.", "Pass another split, or a longer file.")
        context = getattr(getattr(model, "config", None), "max_position_embeddings", None)
        self.prompts, self._examples, self.asked = list[Prompt](), list[Passage](), 0
        whole = self.whole or explained == "answer"
        unknown = OTHER if whole else UNKNOWN
        self.left_out = {unknown: 0, TOO_LONG: 0}
        for prompt in tqdm(
            found, desc="asking the model", unit="prompt", disable=None if model is not None else True, leave=False
        ):
            if limit is not None and len(self.prompts) >= limit:
                break
            example, self.asked = passage_of(prompt, tokenizer), self.asked + 1
            rest = example.rest if whole else ()
            behind = len(rest) + whole  # the token behind a whole answer shows that its last word has ended
            room = own_words if context is None else min(own_words, context - len(example.input_ids) - behind)
            if room < 0:
                self.left_out[TOO_LONG] += 1
                continue
            answer = [example.answer, *rest]
            own = [] if model is None else _own_words(model, example.input_ids, answer, room, tokenizer, whole)
            if own is None:
                self.left_out[unknown] += 1
            else:
                self.prompts.append(prompt)
                whole_answer = torch.tensor(answer) if explained == "answer" else None
                self._examples.append(_after(example, own)._replace(explained=whole_answer))
        if not self.prompts:
            raise AttentionError(
                f"none of {counted(self.asked, 'prompt')} of {path} is left: {self.left_out}.", "Take a model that knows more."
            )

    @abstractmethod
    def read(self, path: Path) -> tuple[list[Path], list[Prompt]]:
        """Returns the files that a path means, and their prompts.

        Raises:
            AttentionError: see the class.
        """

    def in_split(self, prompt: Prompt, path: Path) -> bool:
        """Says whether a prompt is of the split that is asked for."""
        return prompt.part == self.split

    def __repr__(self) -> str:
        part = f", {self.split}" if self.split else ""
        return f"{type(self).__name__}({str(self._path)!r}{part}: {len(self)} of {counted(self.asked, 'prompt')})"

    @property
    def identity(self) -> dict[str, Any]:
        """The sha256 of the files and of the examples' tokens, with what was left out."""
        found = hashlib.sha256()
        for example in self._examples:
            for tensor in (example.input_ids, example.words, example.evidence, example.sentences):
                found.update(b"-" if tensor is None else digest(tensor).encode())
            if example.explained is not None:
                found.update(digest(example.explained).encode())
        told: dict[str, Any] = {} if self.explained == "first token" else {"explained": self.explained}
        if self.own_words:
            told["own_words"] = self.own_words
        return {
            "name": type(self).__name__,
            "files": {file.name: sha256(file) for file in self.files},
            "split": self.split,
            "examples": found.hexdigest(),
            "length": len(self),
            "asked": self.asked,
            "left_out": self.left_out,
            **told,
        }

    @property
    def groups(self) -> list[int]:
        """The number of each example's group: questions about one passage are not independent."""
        numbers: dict[str, int] = {}
        return [numbers.setdefault(prompt.group or prompt.name, len(numbers)) for prompt in self.prompts]

    def labels(self, input_ids: Tensor) -> list[str]:
        """Returns the tokens (token,) as a reader sees them, for reports."""
        return [self._tokenizer.decode([number]) for number in input_ids.tolist()]

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Passage:
        return self._examples[index]

    def __iter__(self) -> Iterator[Passage]:
        return iter(self._examples)


def _after(example: Passage, own: list[int]) -> Passage:
    """Returns the example with these tokens behind it, which are not ranked."""
    fields = {"input_ids": own, "words": [-1] * len(own), "evidence": [False] * len(own), "sentences": [-1] * len(own)}
    held = {name: getattr(example, name) for name in fields}
    longer = {name: torch.cat([held[name], held[name].new_tensor(fields[name])]) for name in fields if held[name] is not None}
    return example._replace(**longer)


@torch.no_grad()
def _own_words(
    model: nn.Module, ids: Tensor, answer: list[int | None], most: int, tokenizer: Any, whole: bool
) -> list[int] | None:
    """Returns the tokens that the model writes before the answer, `most` at most; None where it writes another answer.

    Each token is the likeliest one. The token behind a `whole` answer must not go on with the answer's last word.
    """
    prompt, written = ids[None].to(next(model.parameters()).device), list[int]()
    if not most:  # one forward tells
        asked = torch.cat([prompt, prompt.new_tensor([answer if whole else answer[:-1]])], 1)
        logits = logits_of(model(asked, **logits_kept(model, len(answer) + whole)), "Pass a language model.")
        told = logits[0, -len(answer) - whole :].argmax(-1).tolist()
        return [] if told[: len(answer)] == answer and not (whole and _goes_on(told, tokenizer)) else None
    for token in islice(_reply(model, prompt), most + len(answer) + whole):
        written.append(token)
        said = written[: len(written) - whole]
        if said[-len(answer) :] == answer and not (whole and _goes_on([*answer, token], tokenizer)):
            return said[: -len(answer)]
        if token == getattr(tokenizer, "eos_token_id", None):
            break
    return None


def _goes_on(tokens: list[Any], tokenizer: Any) -> bool:
    """Returns whether the last token goes on with the word of those before it: "s" behind "2010"."""
    before, text = tokenizer.decode(tokens[:-1]), tokenizer.decode(tokens)
    beside = before[-1:], text[len(before) :][:1]
    return all(character and (character.isalnum() or category(character)[0] == "M") for character in beside)


def _reply(model: nn.Module, prompt: Tensor) -> Iterator[int]:
    """Yields the likeliest next tokens, without end."""
    taken = inspect.signature(model.forward).parameters
    name = next((name for name in ("cache", "past_key_values") if name in taken), None)  # the new and the former one
    text, past = prompt, None
    while True:
        output = model(text, **logits_kept(model, 1), **({} if name is None else {name: past, "use_cache": True}))
        token = logits_of(output, "Pass a language model.")[:, -1:].argmax(-1)
        yield int(token)
        past = None if name is None else getattr(output, name, None)
        prompt = torch.cat([prompt, token], 1)
        text = prompt if past is None else token

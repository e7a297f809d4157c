"""Small copies of published files of texts, with a tokenizer and models for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

FACTS: list[dict[str, Any]] = [
    {"known_id": 0, "subject": "Rome", "attribute": "Italy", "relation_id": "P17", "prompt": "Rome is a city of"},
    {"known_id": 2, "subject": "New York", "attribute": "America", "prompt": "The city of New York is a part of"},
    {"known_id": 4, "subject": "Bonn", "attribute": "Germany", "prompt": "Where is Bonn? It is in"},
]
COUNTERFACT = [
    {
        "case_id": 7,
        "requested_rewrite": {
            "prompt": "{} is a city of",
            "subject": "Rome",
            "target_true": {"str": "Italy", "id": "Q38"},
            "target_new": {"str": "France"},
        },
    }
]
OBJECTS = [
    {"case_id": 0, "prompt": "When Ann and Bob met, Bob gave a plum to", "answer": "Ann"},
    {"case_id": 2, "prompt": "Then Bob and Ann met. Ann gave a plum to", "answer": "Bob"},
]
CONTEXT = "Rome lies in Italy. It was built in 753 by Romulus. Many people live there."


class ChatTokenizer(PreTrainedTokenizerFast):
    """A tokenizer whose chat template is a function, since templates need a version of jinja2."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named, chat_template="a template")

    def apply_chat_template(self, conversation: Any, *_: Any, **named: Any) -> Any:
        if named != {"tokenize": False, "add_generation_prompt": True}:
            raise ValueError(named)
        return f"<user>{conversation[0]['content']}<end><model>"


def byte_tokenizer(chat: bool = False, begin: bool = False) -> Any:
    """Each byte is a token; <user>, <end> and <model> are special."""
    letters = {letter: number + 1 for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    inner: Any = Tokenizer(models.BPE({"<s>": 0, **letters}, []))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    if begin:
        inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    kind = ChatTokenizer if chat else PreTrainedTokenizerFast
    return kind(tokenizer_object=inner, bos_token="<s>", additional_special_tokens=["<user>", "<end>", "<model>"])


class Says(nn.Module):
    """Puts the same token next, whatever it reads. It counts the texts that it is asked."""

    def __init__(self, token: int, context: int = 4096) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(400))
        self.config = SimpleNamespace(max_position_embeddings=context)
        self.token, self.asked = token, 0

    def forward(self, input_ids: Tensor) -> Tensor:
        self.asked += len(input_ids)
        logits = self.bias.expand(*input_ids.shape, 400).clone()
        logits[..., self.token] = 1
        return logits


class Recites(nn.Module):
    """Goes on with a reply, token by token, wherever the text ends: a text that ends with its beginning goes on behind it."""

    def __init__(self, reply: Sequence[int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(400))
        self.config = SimpleNamespace(max_position_embeddings=4096)
        self.reply = [*reply]

    def forward(self, input_ids: Tensor) -> Tensor:
        logits = self.bias.expand(*input_ids.shape, 400).clone()
        for text, ids in enumerate(input_ids.tolist()):
            for place in range(len(ids)):
                said = [k for k in range(len(self.reply)) if ids[place + 1 - k : place + 1] == self.reply[:k]]
                logits[text, place, self.reply[max(said)]] = 1
        return logits

    def recalled(self, input_ids: Tensor, cache: Any) -> tuple[Tensor, Tensor]:
        assert cache is None or input_ids.shape == (1, 1), "the cache holds the other tokens"
        text = input_ids if cache is None else torch.cat([cache, input_ids], 1)
        return Recites.forward(self, text)[:, -input_ids.shape[1] :], text


class Remembers(Recites):
    """The same, with a cache as models of transformers have: it reads the new tokens alone."""

    def forward(self, input_ids: Tensor, cache: Any = None, use_cache: bool = False) -> Any:
        logits, text = self.recalled(input_ids, cache)
        return SimpleNamespace(logits=logits, cache=text if use_cache else None)


class Remembered(Recites):
    """The same, with the cache's former name."""

    def forward(self, input_ids: Tensor, past_key_values: Any = None, use_cache: bool = False) -> Any:
        logits, text = self.recalled(input_ids, past_key_values)
        return SimpleNamespace(logits=logits, past_key_values=text if use_cache else None)


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def text_of(tokenizer: Any, ids: Tensor, where: Tensor) -> str:
    """The tokens at these places, as text."""
    return tokenizer.decode(ids[where].tolist())

"""A decoder and a tokenizer, small enough to be made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ..test_documents import ROOT, blocks
from ..word_tokenizer import word_tokenizer
from .contract import COUNTS

TEXT = "the cat sat on the mat"


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer(["<pad>", "<unk>", *TEXT.split()], "<unk>", pad_token="<pad>")


@pytest.fixture
def decoder() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=10, initializer_range=1.0, **sizes)).eval()


@pytest.fixture
def ids(tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    return tokenizer(TEXT, return_tensors="pt")["input_ids"]


@pytest.fixture
def run_page(tmp_path: Path) -> Any:
    """Runs the block of a page that is marked by a tool's name, and returns its names."""

    def run(tool: str, page: str = "other-tools.md", **names: Any) -> dict[str, Any]:
        (block,) = blocks(ROOT / "docs" / page, f"python {tool}")
        path = tmp_path / "block.py"  # nnsight reads the source of the code that runs
        path.write_text(block, encoding="utf-8")
        exec(compile(block, str(path), "exec"), names)  # noqa: S102
        return names

    return run


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for package, counts in sorted(COUNTS.items()):
        terminalreporter.write_line(f"{package}: {counts['captured']} captured, {counts['refused']} refused by name")

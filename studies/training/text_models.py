"""Trains the bundled decoder and encoder of text: `python -m studies.training.text_models` (minutes on two cores).

For the decoder the number of pairs rises from one to six as fast as the model learns, and the loss reads the answer alone. The
encoder sees all pairs from the start. Its loss also reads the value at every key: with the answer alone it would choose among
the values for a long time. In half of the examples some tokens without evidence are removed, by the attention mask or by a
filler in their place. The model therefore knows sequences in which a metric has erased tokens.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_model
from torch import Tensor, nn
from torch.nn import functional as F

from attnchain_evals.bundled.text_models import DECODER_WEIGHTS, ENCODER_WEIGHTS, build_decoder, build_encoder
from attnchain_evals.tasks.key_values import FILLERS, KEYS, MOST_PAIRS, VALUES, KeyValues, TextExample
from studies.training.arguments import training_arguments

BATCH = 128
CHECK = 32  # steps between two looks at the curriculum
LEARNING_RATE = 2e-3
STEPS = {"decoder": 3000, "encoder": 1000}


def predicted(model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Returns the logits of the answer: of an encoder (batch, value), of the next token of a decoder (batch, vocabulary)."""
    logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    return logits if logits.ndim == 2 else logits[:, -1]


def wanted(logits: Tensor, batch: TextExample) -> Tensor:
    """Returns the number (batch,) of the right answer among these logits."""
    return batch.label if logits.shape[-1] == len(VALUES) else batch.answer


def thinned(batch: TextExample, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Returns ids and attention mask of a batch. In half of it some tokens without evidence are masked or fillers."""
    shape = batch.input_ids.shape
    share = torch.rand(shape[0], 2, 1, generator=generator) * (torch.rand(shape[0], 2, 1, generator=generator) < 0.3)
    erased = torch.rand(shape[0], 2, shape[1], generator=generator) < share
    free = batch.context & ~batch.evidence
    fillers = torch.randint(FILLERS.start, FILLERS.stop, shape, generator=generator)
    ids = torch.where(erased[:, 0] & free, fillers, batch.input_ids)
    return ids, (~(erased[:, 1] & free)).long()


def key_logits(model: Any, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the encoder's head at every token (batch, token, value), and the value after each key (batch, token).

    The latter is −100 at all other tokens.
    """
    hidden = model.bert(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
    following = input_ids.roll(-1, 1)
    seen = (attention_mask * attention_mask.roll(-1, 1)).bool()
    paired = (input_ids >= KEYS.start) & (input_ids < KEYS.stop) & (following >= VALUES.start) & (following < VALUES.stop)
    said = (following - VALUES.start).masked_fill(~(paired & seen), -100)
    return model.classifier(model.bert.pooler.dense(hidden).tanh()), said


@torch.no_grad()
def accuracy(model: nn.Module, data: KeyValues) -> float:
    """Returns the share of examples whose greatest logit is the answer."""
    right = 0
    for batch in data.batches(BATCH):
        logits = predicted(model, batch.input_ids)
        right += int((logits.argmax(1) == wanted(logits, batch)).sum())
    return right / len(data)


def train(model: Any, steps: int, seed: int, out: Path) -> None:
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98))
    validation = KeyValues("validation", 512, seed=seed)
    batches = iter(())
    decoder = model.config.model_type == "llama"
    pairs, right, mean_loss, started = 1 if decoder else MOST_PAIRS, 0.0, 0.0, time.time()
    model.train()
    for step in range(steps):
        if step % CHECK == 0:
            pairs += int(right > 0.85 and pairs < MOST_PAIRS)
            data = KeyValues("train", CHECK * BATCH, seed=seed + 1 + step, pairs=(1, pairs))
            batches = data.batches(BATCH)
        batch = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 200, (1 - step / steps) / 0.35)
        thin = thinned(batch, generator)
        if decoder:
            logits, answer = predicted(model, *thin), batch.answer
            loss = F.cross_entropy(logits, answer)
        else:
            every, said = key_logits(model, *thin)
            logits, answer = every[:, 0], batch.label
            loss = F.cross_entropy(logits, answer) + F.cross_entropy(every[:, -1], answer)
            loss = loss + F.cross_entropy(every.flatten(0, 1), said.flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean_loss += 0.03 * (loss.item() - mean_loss)
        right += 0.03 * ((logits.argmax(1) == answer).float().mean().item() - right)
        if (step + 1) % 100 == 0:
            print(
                f"{(step + 1) * BATCH:8d} sequences {time.time() - started:6.0f} s  pairs {pairs}  loss {mean_loss:.3f}"
                f"  accuracy {right:.3f}",
                flush=True,
            )
        if (step + 1) % 1000 == 0 or step + 1 == steps:
            print(f"validation: {accuracy(model, validation):.3f}", flush=True)
            save_model(model, str(out))


def main() -> None:
    parser = training_arguments(__doc__, DECODER_WEIGHTS.parent)
    parser.add_argument("--steps", type=int, help=f"number of steps of {BATCH} sequences: {STEPS}")
    parser.add_argument("--only", choices=("decoder", "encoder"), help="trains one of the two models")
    arguments = parser.parse_args()
    for name, build, path in (("decoder", build_decoder, DECODER_WEIGHTS), ("encoder", build_encoder, ENCODER_WEIGHTS)):
        if arguments.only in (None, name):
            print(name, flush=True)
            torch.manual_seed(arguments.seed)
            train(build(), arguments.steps or STEPS[name], arguments.seed, arguments.output / path.name)


if __name__ == "__main__":
    main()

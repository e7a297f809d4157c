"""Trains the bundled vision transformer on cluttered digits: `python -m studies.training.vit`.

On the full task alone a small ViT stays at chance for a long time. The difficulty therefore rises from plain images to the
full task. At first the model also sees only a window of patches around the deciding digit, at its true place in the image. The
window has a quarter of the tokens, so the model sees several times as many images a second, and every position learns to read
digits. Difficulty and window grow as fast as the model learns. The rest of the run is the full task with all tokens. The loss
reads labels alone, and masks only place the early windows.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from attnchain_evals.bundled import WEIGHTS, build_vit
from attnchain_evals.tasks.cluttered_digits import ClutteredDigits, Example
from studies.training.arguments import image_training_arguments

if TYPE_CHECKING:
    from timm.models import VisionTransformer

BATCH = 64
CHECK = 32  # steps between two looks at the curriculum


class Curriculum:
    """The difficulty of the task and the side of the window in patches. Both grow as fast as the model learns.

    Args:
        grid: the side of the whole image, in patches.
    """

    def __init__(self, grid: int = 14) -> None:
        self.grid = grid
        self.difficulty, self.side = 0.0, grid // 2

    def advance(self, accuracy: float, progress: float) -> None:
        if accuracy < 0.75 and progress < 0.55:
            return
        if self.difficulty < 1.0:
            self.difficulty = min(1.0, self.difficulty + 0.04)
        else:
            self.side = min(self.grid, self.side + 1)


def window_logits(model: Any, batch: Example, side: int) -> Tensor:
    """Returns logits (batch, class) of `side` × `side` patches around the deciding digit, each at its true position."""
    tokens = model._pos_embed(model.patch_embed(batch.image))
    grid = model.patch_embed.grid_size[0]
    if side < grid:
        prefix = model.num_prefix_tokens
        tokens = torch.cat([tokens[:, :prefix], _window(tokens[:, prefix:], batch.mask, grid, side)], 1)
    return model.forward_head(model.norm(model.blocks(model.norm_pre(tokens))))


def _window(patches: Tensor, mask: Tensor, grid: int, side: int) -> Tensor:
    covered = F.max_pool2d(mask[:, None].float(), mask.shape[-1] // grid)[:, 0] > 0
    corners = []
    for axis in (2, 1):  # rows are covered where any column is, and the other way round
        line = covered.any(axis).float()
        first, last = line.argmax(1), grid - 1 - line.flip(1).argmax(1)
        low, high = (last - side + 1).clamp_min(0), first.clamp_max(grid - side)
        low, high = torch.minimum(low, high), torch.maximum(low, high)
        corners.append((low + torch.rand(len(low)) * (high - low + 1)).long())
    rows, columns = (corner[:, None] + torch.arange(side) for corner in corners)
    index = (rows[:, :, None] * grid + columns[:, None, :]).flatten(1)
    return patches.gather(1, index[..., None].expand(-1, -1, patches.shape[-1]))


@torch.no_grad()
def accuracy(model: nn.Module, data: ClutteredDigits) -> float:
    right = sum(int((model(batch.image).argmax(1) == batch.label).sum()) for batch in data.batches(BATCH))
    return right / len(data)


def train(
    images: int,
    seed: int,
    out: Path,
    learning_rate: float = 1.5e-3,
    build: Callable[[], VisionTransformer] = build_vit,
) -> None:
    """Trains the model of `build` on `images` images, and writes its averaged weights."""
    torch.manual_seed(seed)
    model = build()
    average = copy.deepcopy(model).eval()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    rest = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    steps = images // BATCH
    validation = ClutteredDigits("validation", 512, seed=seed)
    curriculum = Curriculum(model.patch_embed.grid_size[0])
    batches: Iterator[Any] = iter(())
    started, mean_loss, right = time.time(), 0.0, 0.0
    for step in range(steps):
        if step % CHECK == 0:
            curriculum.advance(right, step / steps)
            data = ClutteredDigits("train", CHECK * BATCH, seed=seed + 1 + step, difficulty=curriculum.difficulty)
            batches = iter(DataLoader(data, BATCH))
        batch = Example(*next(batches))
        rate = learning_rate * min(1.0, (step + 1) / 300, (1 - step / steps) / 0.35)
        for group in optimizer.param_groups:
            group["lr"] = rate
        logits = window_logits(model, batch, curriculum.side)
        loss = F.cross_entropy(logits, batch.label, label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(0.999, step / (step + 50))
            for slow, fast in zip(average.parameters(), model.parameters(), strict=True):
                slow.lerp_(fast, 1 - keep)
        mean_loss += 0.03 * (loss.item() - mean_loss)
        right += 0.03 * ((logits.argmax(1) == batch.label).float().mean().item() - right)
        if (step + 1) % 100 == 0:
            print(
                f"{(step + 1) * BATCH:8d} images {time.time() - started:6.0f} s  window {curriculum.side}"
                f"  difficulty {curriculum.difficulty:.2f}  loss {mean_loss:.3f}  accuracy {right:.3f}",
                flush=True,
            )
        if (step + 1) % 1000 == 0 or step + 1 == steps:
            print(f"validation: {accuracy(average, validation):.3f}", flush=True)
            save_file(average.state_dict(), out)


def main() -> None:
    train(*image_training_arguments(__doc__, WEIGHTS, 320_000))


if __name__ == "__main__":
    main()

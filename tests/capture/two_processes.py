"""Two processes that share a small model in several ways. Each writes what a capture gives into a JSON file of its rank.

python tests/capture/two_processes.py FOLDER

They are forks of one, which has imported what they need.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import transformers
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import attnchain_interp as ac

SIZES = {"vocab_size": 60, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
IDS = torch.randint(3, 60, (1, 9), generator=torch.Generator().manual_seed(1))
PLAN = {"q_proj": ColwiseParallel, "k_proj": ColwiseParallel, "v_proj": ColwiseParallel, "o_proj": RowwiseParallel}


def plain() -> Any:
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, num_key_value_heads=2)).eval()  # type: ignore[arg-type]


def by_fully_shard(mesh: Any) -> Any:
    model = plain()
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def by_fsdp(_: Any) -> Any:
    blocks = ModuleWrapPolicy({type(plain().model.layers[0])})
    return FullyShardedDataParallel(plain(), auto_wrap_policy=blocks, device_id=torch.device("cpu"))


def by_parallelize(mesh: Any) -> Any:
    model = plain()
    for layer in model.model.layers:
        parallelize_module(layer.self_attn, mesh, {name: style() for name, style in PLAN.items()})
    return model


def by_tp_plan(mesh: Any) -> Any:
    return transformers.LlamaForCausalLM.from_pretrained(FOLDER / "weights", tp_plan="auto", device_mesh=mesh).eval()


def by_both(mesh: Any) -> Any:
    """Tensor parallelism inside full sharding: two mesh dimensions, of two processes and of one."""
    both = init_device_mesh("cpu", (1, 2), mesh_dim_names=("data", "tensor"))
    model = by_parallelize(both["tensor"])
    return fully_shard(model, mesh=both["data"])


ASKED: dict[str, Callable[[Any], Any]] = {
    "maps": lambda model: ac.capture(model, IDS).maps().tolist(),
    "scores": lambda model: ac.GradientAttention(model).attribute(IDS, (8, 5), output="tokens").tolist(),
    "contributions": lambda model: ac.capture(model, IDS, maps="alti").maps().tolist(),
}


def answers(model: Any) -> dict[str, Any]:
    def answer(ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(model)
        except ac.AttentionError as error:
            return str(error)

    return {name: answer(ask) for name, ask in ASKED.items()}


def main(rank: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    dist.init_process_group("gloo", init_method=f"file://{FOLDER}/rendezvous", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    if rank == 0:
        plain().save_pretrained(FOLDER / "weights")
    dist.barrier()
    makers = {"plain": lambda _: plain()} | {
        f.__name__: f for f in (by_fully_shard, by_fsdp, by_parallelize, by_tp_plan, by_both)
    }
    found = {name: answers(make(mesh)) for name, make in makers.items()}
    (FOLDER / f"{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    FOLDER = Path(sys.argv[1])
    processes = [multiprocessing.get_context("fork").Process(target=main, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    sys.exit(max(abs(process.exitcode or 0) for process in processes))

"""Exact resume: the whole state of a run in one safetensors file, replaced atomically.

A kill at any moment leaves the previous file whole. Nothing is pickled: tensors are named, everything else is JSON
in the file's header.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from trivet.errors import UsageError
from trivet.storage import whole_file

FORMAT = "trivet-checkpoint-1"


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able facts; the file is there whole or not at all.

    Args:
        path: The file.
        tensors: By name, on any device.
        facts: Anything `json.dumps` takes.

    Raises:
        StorageError: If it cannot be written; the checkpoint that was there is unchanged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with whole_file(path) as unfinished:
        save_file(saved, unfinished, metadata={"format": FORMAT, "facts": json.dumps(facts)})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `write_checkpoint` wrote.

    Raises:
        UsageError: If the file is cut off, damaged or something else.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("format") != FORMAT:
                raise UsageError(
                    f"{path} is not a Trivet checkpoint (format {header.get('format')!r})",
                    "give a run folder to --resume",
                )
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(header["facts"])  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, json.JSONDecodeError) as fault:
        raise UsageError(
            f"{path} cannot be read: {fault}",
            "it is cut off or damaged; start again with --from best.safetensors",
        ) from fault


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Split an optimizer's state into tensors named `<position>.<key>` and what is not a tensor."""
    tensors: dict[str, Tensor] = {}
    others: dict[str, Any] = {}
    for position, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            (tensors if isinstance(value, Tensor) else others)[f"{position}.{key}"] = value
    return tensors, others


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Tensor], others: Mapping[str, Any]) -> None:
    """Put a state split by `optimizer_tensors` back; learning rates are the schedule's and stay."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, value in {**tensors, **others}.items():
        position, key = name.split(".", 1)
        if isinstance(value, Tensor):
            value = _laid_out_like(parameters[int(position)], value)
        state.setdefault(int(position), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """Return a state in its parameter's memory layout, which fused steps take for granted and a file does not keep."""
    if value.shape != parameter.shape or value.stride() == parameter.stride():
        return value
    return torch.empty_strided(parameter.shape, parameter.stride(), dtype=value.dtype).copy_(value)


def load_model_state(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Put a model's state back.

    Raises:
        UsageError: If the checkpoint is of another model; it names the first difference.
    """
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [name for name in own.keys() & state.keys() if own[name].shape != state[name].shape]
    if missing or extra or shapes:
        first = (missing or extra or sorted(shapes))[0]
        raise UsageError(
            f"{path} is of another model: {len(missing)} tensors missing, {len(extra)} unknown, {len(shapes)} of another "
            f"shape; the first is {first!r}",
            "resume with the run's own recipe, or fine-tune with --from",
        )
    model.load_state_dict(dict(state))

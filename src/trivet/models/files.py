"""Weights files, read and written. A file is somebody else's: nothing in it is ever executed."""

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trivet.errors import UsageError
from trivet.models.model import Model
from trivet.models.spec import ModelSpec
from trivet.storage import whole_file
from trivet.structures import LabelMap

# What training scripts wrap around a state dict; averaged weights first, for they are what gets published.
_WRAPPERS = ("state_dict_ema", "state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file holds.

    Args:
        tensors: Name -> tensor, on the CPU.
        spec: The model they belong to, if the file is one of ours.
        labels: Its classes, if they were written.
        partial: Whether they are the first layers of a model alone.
    """

    tensors: Mapping[str, Tensor]
    spec: ModelSpec | None = None
    labels: LabelMap | None = None
    partial: bool = False


def read_weights(path: str | Path) -> WeightsFile:
    """Read `.safetensors`, or what `torch.save` wrote as long as it holds tensors and plain data only.

    A training checkpoint gives its averaged weights if it has them, else its plain ones.

    Raises:
        UsageError: If the file is absent, damaged, holds no state dict, or would run code when read.
    """
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no weights file {str(path)!r}", "give the path of a file")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return WeightsFile(plain_state(_read_torch(path), source=str(path)))


def plain_state(content: Any, *, source: str) -> dict[str, Tensor]:
    """Return the state dict in a checkpoint, without the prefixes that wrappers of modules leave.

    Args:
        content: A state dict, or a dict that holds one.
        source: What it came from, for the message.

    Raises:
        UsageError: If there is none.
    """
    wrapped = content if isinstance(content, Mapping) else {}
    state = next((wrapped[key] for key in _WRAPPERS if isinstance(wrapped.get(key), Mapping)), wrapped)
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UsageError(
            f"{source}: wanted a state dict (names -> tensors), got {_kind(content)}",
            'save it with torch.save(model.state_dict(), "weights.pth") or as .safetensors',
        )
    for prefix in _PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return dict(state)


def save_weights(model: Model, path: str | Path, *, labels: LabelMap | None = None) -> None:
    """Write a model's weights, spec and classes as one `.safetensors` file, whole or not at all.

    Args:
        model: The model.
        path: The file to write.
        labels: The model's classes.

    Raises:
        UsageError: If the number of labels is not the model's number of classes, or there is no such folder.
        StorageError: If the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}")
    if labels is not None and len(labels) != model.spec.classes:
        raise UsageError(f"a model of {model.spec.classes} classes needs as many labels, got {len(labels)}")
    metadata = {"format": "pt", "spec": model.spec.to_json()}
    if labels is not None:
        metadata["labels"] = json.dumps(labels.to_json())
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with whole_file(path) as unfinished:
        save_file(tensors, unfinished, metadata=metadata)


def _read_safetensors(path: Path) -> WeightsFile:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as fault:
        raise UsageError(f"{path}: not a whole safetensors file ({fault})") from fault
    try:
        labels = LabelMap.from_json(json.loads(metadata["labels"])) if "labels" in metadata else None
    except json.JSONDecodeError as fault:
        raise UsageError(f"{path}: its labels are not JSON ({fault})") from fault
    spec = ModelSpec.from_json(metadata["spec"]) if "spec" in metadata else None
    return WeightsFile(tensors, spec, labels)


def _read_torch(path: Path) -> Any:
    try:
        # timm's training checkpoints keep the command line beside the weights: a Namespace is plain data.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        raise UsageError(
            f"{path}: refused, for it holds more than tensors and plain data and might run code when read "
            f"({str(fault).splitlines()[0]})",
            "ask its author for a .safetensors file or a plain state dict",
        ) from fault
    except Exception as fault:  # whatever a damaged file makes the reader raise
        raise UsageError(f"{path}: not a whole weights file ({fault})") from fault


def _kind(content: Any) -> str:
    if isinstance(content, Mapping):
        return f"a dict of {', '.join(map(repr, list(content)[:5])) or 'nothing'}"
    return type(content).__name__

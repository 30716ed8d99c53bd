"""What this machine has."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch


@dataclass(frozen=True)
class Machine:
    """The facts that the automatic choices need.

    Args:
        accelerator: `cuda`, `mps` or `cpu`.
        memory_gib: Memory of the accelerator, or of the host on CPU; 0 when not known.
        cores: Processor cores this process may use.
        bf16: Whether mixed bfloat16 is several times as fast as float32 in dense convolutions here.
    """

    accelerator: str
    memory_gib: float
    cores: int
    bf16: bool


def look_at_machine() -> Machine:
    """Find out what this machine has."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Machine("cuda", memory, cores, torch.cuda.is_bf16_supported(including_emulation=False))
    if torch.backends.mps.is_available():
        return Machine("mps", 0.0, cores, False)
    pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 2**30 if pages else 0.0
    return Machine("cpu", memory, cores, _multiplies_bf16_tiles())


def _multiplies_bf16_tiles() -> bool:
    """Whether the processor has matrix units for bfloat16 (Intel's AMX) that PyTorch uses."""
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in every PyTorch
    return bool(capabilities.get("amx_bf16"))


PACKAGES = ("trivet", "torch", "torchvision", "timm", "lightning-fabric", "albumentations", "numpy")


def environment() -> dict[str, str]:
    """Return versions and hardware, for the run folder."""
    facts = {"python": platform.python_version(), "system": platform.platform(), "processor": _processor()}
    facts |= {"cores": str(look_at_machine().cores), "threads": str(torch.get_num_threads())}
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name(0)
    for name in PACKAGES:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()

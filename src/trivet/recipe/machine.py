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
        bf16: Whether dense convolutions are well faster in mixed bfloat16 than in float32 here.
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
    return Machine("cpu", memory, cores, _multiplies_bf16())


def _multiplies_bf16() -> bool:
    """Whether the processor has instructions for bfloat16 that PyTorch uses: matrix units (AMX), or AVX-512's.

    Measured in training, one thread: DeconvNet and the compact networks 5 times as fast as in float32 with AMX, and
    1.4 to 1.6 times with AVX-512 alone (AMD EPYC).
    """
    capabilities: Mapping[str, object] = getattr(
        torch.cpu, "get_capabilities", dict
    )()  # not in every PyTorch
    return any(capabilities.get(name) for name in ("amx_bf16", "avx512_bf16"))


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

"""Planned memory of training on CUDA against process memory measured by others on an H100.

The measurements are those of milabench (https://github.com/mila-iqia/milabench): torchvision models at 224 px, SGD without
momentum, gradients zeroed in place, memory of the
process as NVML tells it. Give the file: columns gpu, series, batch_size, process_memory_mib.

One number is calibrated, `CUDA_CONTEXT`: the median over the ResNet-50 series of what the process takes beyond the
planned allocator. The ConvNeXt series are held back. Nothing else is fitted: slopes come from the ledger and the
allocator's rules.

    python benchmarks/plan_gpu.py gpu_memory.csv
"""

import argparse
import csv
import statistics
from functools import partial
from pathlib import Path

import torch
import torchvision
from torch import nn

from trivet.memory.plan import CUDA_CONTEXT, MemoryPlan, plan_memory

MIB = 1 << 20
SERIES = {
    "resnet50": ("resnet50", "16"),
    "convnext_large-fp32": ("convnext_large", "32"),
    "convnext_large-tf32": ("convnext_large", "32"),
    "convnext_large-fp16": ("convnext_large", "16"),
    "convnext_large-tf32-fp16": ("convnext_large", "16"),
}
CALIBRATED_ON = "resnet50"


def planned(model: str, precision: str) -> MemoryPlan:
    module = getattr(torchvision.models, model)()
    images = torch.empty(2, 3, 224, 224, dtype=torch.float16 if precision == "16" else torch.float32)
    labels = torch.zeros(2, dtype=torch.int64)
    optimizer = partial(torch.optim.SGD, lr=0.01)
    return plan_memory(
        module,
        images,
        nn.CrossEntropyLoss(),
        optimizer,
        example_targets=[labels],
        precision=precision,
        keep_gradients=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    rows = list(csv.DictReader(parser.parse_args().file.open()))
    plans: dict[tuple[str, str], MemoryPlan] = {}
    print("| series | batch | measured MiB | planned MiB | error |\n|---|---|---|---|---|")
    summary = []
    for series, case in SERIES.items():
        plan = plans[case] = plans.get(case) or planned(*case)
        truth: dict[int, list[float]] = {}
        for row in rows:
            if row["series"] == series:
                truth.setdefault(int(row["batch_size"]), []).append(float(row["process_memory_mib"]))
        points = {batch: statistics.mean(values) for batch, values in sorted(truth.items())}
        errors = {batch: plan.total(batch) / MIB / value - 1 for batch, value in points.items()}
        for batch, value in points.items():
            print(
                f"| {series} | {batch} | {value:,.0f} | {plan.total(batch) / MIB:,.0f} | {errors[batch]:+.1%} |"
            )
        slopes = [
            statistics.linear_regression(list(points), values).slope
            for values in (list(points.values()), [plan.total(batch) / MIB for batch in points])
        ]
        beyond = statistics.median(
            value - (plan.total(batch) - plan.context) / MIB for batch, value in points.items()
        )
        summary.append((series, *slopes, min(errors.values()), max(errors.values()), beyond))
    print(
        "\n| series | slope measured | slope planned | error | curve, least | curve, most | context it would take |"
    )
    print("|---|---|---|---|---|---|---|")
    for series, measured, told, least, most, beyond in summary:
        name = f"{series} (calibrated on)" if series == CALIBRATED_ON else f"{series} (held back)"
        print(
            f"| {name} | {measured:.2f} | {told:.2f} | {told / measured - 1:+.1%} | {least:+.1%} | {most:+.1%} | {beyond:,.0f} |"
        )
    print(f"\nCUDA_CONTEXT is {CUDA_CONTEXT / MIB:,.0f} MiB.")


if __name__ == "__main__":
    main()

"""Seconds from image file to boxes beside effdet: the same model, weights, size and threads, one image at a time.

    python benchmarks/prediction.py IMAGE_FOLDER [--images 24] [--rounds 3] [--threads 2]

Both sides open the file, resize it keeping its proportions, pad, normalise, run the network, decode and suppress; both
are eager PyTorch in float32. effdet uses its own evaluation transforms and `DetBenchPredict`. Random weights make the
worst case for decoding (thousands of candidates); the class bias keeps them as rare as training starts with. The sides
take turns; the first round warms up. Results with date and machine are kept in `prediction.md`.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import effdet
import numpy as np
import torch
from effdet.data.transforms import transforms_coco_eval
from PIL import Image

from trivet.models.build import build_model
from trivet.models.weights import load_weights
from trivet.recipe.predict import find_images, predict
from trivet.recipe.recipe import make_recipe
from trivet.recipe.run_folder import Run, RunFolder
from trivet.structures import LabelMap
from trivet.tasks.detection import DetectionTask
from trivet.train.allocator import keep_freed_memory

CASES = (("tf_efficientdet_d0", 512), ("tf_efficientdet_lite0", 320))
CLASSES = 90


def effdet_side(name: str, size: int, state: dict) -> Callable[[Path], None]:
    config = effdet.get_efficientdet_config(name)
    config.image_size, config.num_classes = (size, size), CLASSES
    net = effdet.EfficientDet(config, pretrained_backbone=False)
    net.load_state_dict(state)
    bench = effdet.DetBenchPredict(net).eval()
    model = build_model(name, classes=CLASSES)
    mean, std = (value.view(3, 1, 1).numpy() * 255 for value in (model.mean, model.std))
    transform = transforms_coco_eval(
        (size, size), interpolation="bilinear", use_prefetcher=True, fill_color=model.fill_rgb
    )

    def one(path: Path) -> None:
        image = Image.open(path).convert("RGB")
        original = image.size
        pixels, facts = transform(image, {})
        batch = torch.from_numpy((pixels.astype(np.float32) - mean) / std)[None]
        info = {"img_scale": torch.tensor([facts["img_scale"]]), "img_size": torch.tensor([original])}
        bench(batch, info)

    return torch.inference_mode()(one)


def trivet_side(name: str, size: int, state: dict) -> Callable[[Path], None]:
    model = build_model(name, classes=CLASSES).eval()
    load_weights(model, state)
    values = {"data.path": ".", "model.name": name, "model.size_hw": (size, size), "train.epochs": 1}
    labels = LabelMap.from_names([str(i) for i in range(CLASSES)])
    task = DetectionTask(CLASSES, model.anchor_spec)
    run = Run(RunFolder(Path()), make_recipe(values), labels, model, task)
    return lambda path: list(predict(run, [path], threshold=0.0, batch=1)) and None


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    options.add_argument("--images", type=int, default=24)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    paths = find_images([given.folder])[: given.images]
    for name, size in CASES:
        torch.manual_seed(0)
        config = effdet.get_efficientdet_config(name)
        config.num_classes = CLASSES
        state = effdet.EfficientDet(config, pretrained_backbone=False).state_dict()
        sides = {"effdet": effdet_side(name, size, state), "trivet": trivet_side(name, size, state)}
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(given.rounds + 1):
            for path in paths:
                for side, one in sides.items():
                    begun = time.perf_counter()
                    one(path)
                    if number:
                        seconds[side].append(time.perf_counter() - begun)
        ours = statistics.median(seconds["trivet"])
        print(f"{name} at {size}, {len(paths)} images x {given.rounds}, {given.threads} threads")
        for side, values in seconds.items():
            low, _, high = statistics.quantiles(values, n=4)
            median = statistics.median(values)
            print(
                f"  {side:8} median {median * 1000:6.1f} ms (quartiles {low * 1000:.1f}-{high * 1000:.1f})  {median / ours:.2f} x trivet"
            )


if __name__ == "__main__":
    main()

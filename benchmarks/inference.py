"""From image file to boxes: effdet eager, Trivet eager and Trivet's ONNX file, with the same model, weights and size.

    python benchmarks/inference.py IMAGE_FOLDER [--images 12] [--rounds 3] [--threads 2] [--model tf_efficientdet_d0 512]
        [--rarer 4] [--processes 2] [--int8]

All open the file, letterbox, normalise, run the network, decode and suppress, one image at a time. They take turns, so
that the machine's drift hits all alike; the first round warms up. The work around the network is what is left of an image's
time, file to boxes, outside ONNX Runtime and, by its own profile, in the nodes before and after the network's. Beside wall time stands processor time, which other
programs on the machine disturb less. Random weights make the worst case for decoding (thousands of candidates):
`--rarer` lowers the class logits until few anchors are candidates, as after training; `--rarer 0` leaves them.
`--processes` measures images a second of so many processes at once, each with one thread. The whole takes some two
minutes, `--int8` another. Results with date and machine are kept in `inference.md`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import effdet
import numpy as np
import onnxruntime
import torch
from effdet.data.transforms import transforms_coco_eval
from PIL import Image

from trivet.data.batching import collate
from trivet.data.images import read_image
from trivet.data.letterbox import letterbox
from trivet.export.assemble import assemble
from trivet.export.facts import ExportFacts
from trivet.export.network import export_network
from trivet.export.quantise import quantise_network
from trivet.export.reading import OnnxFile, check_file, open_onnx
from trivet.models.build import build_model
from trivet.models.model import Model
from trivet.models.weights import load_weights
from trivet.recipe.predict import find_images, predict
from trivet.recipe.recipe import make_recipe
from trivet.recipe.run_folder import Run, RunFolder
from trivet.structures import LabelMap, Sample
from trivet.tasks.detection import DetectionTask
from trivet.train.allocator import keep_freed_memory

CLASSES = 90
Side = Callable[[Path], object]


def effdet_side(name: str, size: int, state: dict, model: Model) -> Side:
    config = effdet.get_efficientdet_config(name)
    config.image_size, config.num_classes = (size, size), CLASSES
    net = effdet.EfficientDet(config, pretrained_backbone=False)
    net.load_state_dict(state)
    bench = effdet.DetBenchPredict(net).eval()
    mean, std = (value.view(3, 1, 1).numpy() * 255 for value in (model.mean, model.std))
    transform = transforms_coco_eval(
        (size, size), interpolation="bilinear", use_prefetcher=True, fill_color=model.fill_rgb
    )

    def one(path: Path) -> object:
        image = Image.open(path).convert("RGB")
        original = image.size
        pixels, facts = transform(image, {})
        batch = torch.from_numpy((pixels.astype(np.float32) - mean) / std)[None]
        info = {"img_scale": torch.tensor([facts["img_scale"]]), "img_size": torch.tensor([original])}
        return bench(batch, info)

    return torch.inference_mode()(one)


def random_state(name: str, rarer: float) -> dict:
    torch.manual_seed(0)
    config = effdet.get_efficientdet_config(name)
    config.num_classes = CLASSES
    state = effdet.EfficientDet(config, pretrained_backbone=False).state_dict()
    state["class_net.predict.conv_pw.bias"] -= rarer
    return state


def placed(model: Model, size: int, path: Path) -> np.ndarray:
    sample = Sample.of_image(read_image(path), image_id=0, name=str(path))
    batch = collate([letterbox(sample, size_hw=(size, size), fill_rgb=model.fill_rgb)])
    return model.normalise(batch.images).numpy()


def write_files(name: str, size: int, folder: Path, calibration: list[Path], state: dict) -> Model:
    """Write the whole file, and the same in 8 bits where there are images to calibrate with."""
    model = build_model(name, classes=CLASSES).eval()
    load_weights(model, state)
    task = DetectionTask(CLASSES, model.anchor_spec)
    labels = LabelMap.from_names([str(i) for i in range(CLASSES)])
    network = export_network(model, (size, size))
    nets = {"fp32": network}
    if calibration:
        nets["int8"] = quantise_network(network, (placed(model, size, path) for path in calibration))
    for precision, net in nets.items():
        facts = ExportFacts("detection", labels, (size, size), precision, "random", "none", name, 0.001)
        whole, _ = assemble(net, model, task, facts)
        (folder / f"{precision}.onnx").write_bytes(whole.SerializeToString())
    return model


def sides_of(
    name: str, size: int, rarer: float, threads: int, folder: Path, calibration: list[Path]
) -> dict[str, Side]:
    state = random_state(name, rarer)
    model = write_files(name, size, folder, calibration, state)
    values = {"data.path": ".", "model.name": name, "model.size_hw": (size, size), "train.epochs": 1}
    labels = LabelMap.from_names([str(i) for i in range(CLASSES)])
    run = Run(
        RunFolder(Path()), make_recipe(values), labels, model, DetectionTask(CLASSES, model.anchor_spec)
    )
    sides: dict[str, Side] = {
        "effdet": effdet_side(name, size, state, model),
        "trivet torch": lambda path: list(predict(run, [path], threshold=0.0, batch=1)),
    }
    for precision in ("fp32", "int8") if calibration else ("fp32",):
        file = open_onnx(folder / f"{precision}.onnx", threads=threads)
        sides[f"trivet onnx {precision}"] = lambda path, file=file: file.predict([read_image(path)])
    return sides


def share_around(path: Path, images: list[Path], threads: int, folder: Path) -> tuple[float, float]:
    """Return milliseconds an image, file to boxes, and which share of them is spent around the network's nodes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    file = OnnxFile(path, check_file(path.read_bytes(), source=str(path)), session)
    seconds = []
    for image in [images[0], *images]:
        begun = time.perf_counter()
        file.predict([read_image(image)])
        seconds.append(time.perf_counter() - begun)
    runs, nodes = [], []  # seconds in ONNX Runtime, and in the nodes before and after the network, an image
    inside = 0.0
    for event in json.loads(Path(session.end_profiling()).read_text()):
        name, duration = event["name"], event.get("dur", 0) / 1e6
        if name == "model_run":  # follows the nodes of its run
            runs.append(duration)
            nodes.append(inside)
            inside = 0.0
        elif (
            name.endswith("_kernel_time")
            and name.startswith(("before/", "after/"))
            and "_branch/" not in name
        ):
            inside += duration  # an If holds the nodes of its branch
    around = [whole - run + mine for whole, run, mine in zip(seconds, runs, nodes, strict=True)]
    whole = statistics.median(seconds[1:])
    return 1e3 * whole, statistics.median(around[1:]) / whole


def compare(sides: dict[str, Side], paths: list[Path], rounds: int) -> None:
    wall: dict[str, list[float]] = {side: [] for side in sides}
    busy: dict[str, list[float]] = {side: [] for side in sides}
    for number in range(rounds + 1):
        for path in paths:
            for side, one in sides.items():
                begun, used = time.perf_counter(), time.process_time()
                one(path)
                if number:
                    wall[side].append(1e3 * (time.perf_counter() - begun))
                    busy[side].append(1e3 * (time.process_time() - used))
    base, base_busy = (statistics.median(times["effdet"]) for times in (wall, busy))
    for side in sides:
        low, middle, high = statistics.quantiles(wall[side], n=4)
        cpu = statistics.median(busy[side])
        print(
            f"  {side:18} {middle:7.1f} ms ({low:.1f}-{high:.1f}), processor {cpu:7.1f} ms;"
            f" effdet takes {base / middle:.2f} x, {base_busy / cpu:.2f} x in processor time"
        )


def work(kind: str, file: str, name: str, size: int, rarer: float, folder: Path, images: int) -> None:
    """One of several processes: says when it is ready, waits for a line, predicts, says how long it took."""
    torch.set_num_threads(1)
    paths = find_images([folder])
    if kind == "effdet":
        one = effdet_side(name, size, random_state(name, rarer), build_model(name, classes=CLASSES))
    else:
        opened = open_onnx(file, threads=1)
        one = lambda path: opened.predict([read_image(path)])  # noqa: E731
    one(paths[0])
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(images):
        one(paths[number % len(paths)])
    print("done", flush=True)


def throughput(kind: str, file: Path, given: argparse.Namespace) -> float:
    """Return images a second of several processes together."""
    command = [
        sys.executable,
        __file__,
        str(given.folder),
        "--work",
        kind,
        str(file),
        "--model",
        *given.model,
    ]
    command += ["--images", str(given.images), "--rarer", str(given.rarer)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(given.processes)
    ]
    for process in processes:
        assert process.stdout is not None, "it was opened as a pipe"
        assert process.stdout.readline() == "ready\n", "the process failed"
    begun = time.perf_counter()
    for process in processes:
        assert process.stdin is not None, "it was opened as a pipe"
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        assert process.stdout is not None, "it was opened as a pipe"
        assert process.stdout.readline() == "done\n", "the process failed"
    seconds = time.perf_counter() - begun
    for process in processes:
        process.communicate()
    return given.processes * given.images / seconds


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    options.add_argument("--images", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--model", nargs=2, default=["tf_efficientdet_d0", "512"])
    options.add_argument("--rarer", type=float, default=4.0, help="lowers every class logit")
    options.add_argument("--int8", action="store_true")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = options.parse_args()
    name, size = given.model[0], int(given.model[1])
    keep_freed_memory()
    if given.work:
        work(*given.work, name, size, given.rarer, given.folder, given.images)
        return
    torch.set_num_threads(given.threads)
    paths = find_images([given.folder])[: given.images]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        sides = sides_of(name, size, given.rarer, given.threads, folder, paths if given.int8 else [])
        print(f"{name} at {size}, {len(paths)} images x {given.rounds}, {given.threads} threads", flush=True)
        compare(sides, paths, given.rounds)
        for file in sorted(folder.glob("????.onnx")):
            whole, share = share_around(file, paths, given.threads, folder)
            print(f"  around the network, {file.stem}: {share:.1%} of {whole:.1f} ms (profiled)", flush=True)
        if given.processes:
            for kind, file in [
                ("effdet", folder / "fp32.onnx"),
                *(("onnx", file) for file in sorted(folder.glob("????.onnx"))),
            ]:
                rate = throughput(kind, file, given)
                print(
                    f"  {given.processes} processes, one thread each, {kind} {file.stem}: {rate:.2f} images/s",
                    flush=True,
                )


if __name__ == "__main__":
    main()

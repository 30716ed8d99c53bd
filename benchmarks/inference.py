"""From image file to boxes: effdet eager, Trivet eager and Trivet's ONNX file, with the same model, weights and size.

    python benchmarks/inference.py IMAGE_FOLDER [--images 12] [--rounds 3] [--threads 2] [--model tf_efficientdet_d0 512]
        [--turn 1] [--rarer 4] [--processes 2] [--int8]

All open the file, letterbox, normalise, run the network, decode and suppress, one image at a time. Each has a process of its
own, so that no side's waiting threads disturb another, and they take turns, so that the machine's drift hits all alike; the
first round warms up. With turns of one image each finds the caches full of the others' data, with longer ones it does not. The work around the network is what is left of an image's
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
from contextlib import ExitStack
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
from trivet.models.kernels import held
from trivet.models.model import Model
from trivet.models.weights import load_weights
from trivet.recipe.backends import TorchBackend
from trivet.recipe.predict import find_images
from trivet.recipe.recipe import make_recipe
from trivet.recipe.run_folder import Run, RunFolder
from trivet.structures import LabelMap, Sample
from trivet.tasks.detection import DetectionTask
from trivet.train.allocator import keep_freed_memory

CLASSES = 90
Side = Callable[[Path], object]
HELD = ExitStack()  # a model is held as long as its process lasts


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


def side_of(kind: str, given: argparse.Namespace) -> Side:
    """Return what predicts one image, file to boxes: `effdet`, `torch`, or the path of an exported file.

    `torch` holds the model for all images, as `trivet predict` does.
    """
    (name, size), rarer = given.model, given.rarer
    model, state = build_model(name, classes=CLASSES).eval(), random_state(name, rarer)
    if kind == "effdet":
        return effdet_side(name, int(size), state, model)
    if kind != "torch":
        file = open_onnx(kind, threads=given.threads)
        return lambda path: file.predict([read_image(path)])
    load_weights(model, state)
    values = {"data.path": ".", "model.name": name, "model.size_hw": (int(size),) * 2, "train.epochs": 1}
    labels, task = (
        LabelMap.from_names([str(i) for i in range(CLASSES)]),
        DetectionTask(CLASSES, model.anchor_spec),
    )
    run = Run(RunFolder(Path()), make_recipe(values), labels, model, task)
    backend = TorchBackend(run)
    HELD.enter_context(held(run.model))
    return lambda path: backend.predict([read_image(path)])


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
            and "_branch_" not in name
        ):
            inside += duration  # an If holds the nodes of its branch
    around = [whole - run + mine for whole, run, mine in zip(seconds, runs, nodes, strict=True)]
    whole = statistics.median(seconds[1:])
    return 1e3 * whole, statistics.median(around[1:]) / whole


def share_around_torch(given: argparse.Namespace, images: list[Path]) -> tuple[float, float]:
    """Return the same for PyTorch: what is spent outside of the model's own forward pass."""
    one, inside = side_of("torch", given), [0.0]
    forward = Model.forward

    def clocked(self: Model, batch: torch.Tensor) -> object:
        begun = time.perf_counter()
        output = forward(self, batch)
        inside[0] = time.perf_counter() - begun
        return output

    Model.forward = clocked
    seconds, shares = [], []
    for image in [images[0], *images, *images]:
        begun = time.perf_counter()
        one(image)
        seconds.append(time.perf_counter() - begun)
        shares.append(1 - inside[0] / seconds[-1])
    Model.forward = forward
    return 1e3 * statistics.median(seconds[1:]), statistics.median(shares[1:])


class Worker:
    """A process that predicts with one side, and waits in between."""

    def __init__(self, kind: str, given: argparse.Namespace, *, threads: int) -> None:
        command = [sys.executable, __file__, str(given.folder), "--work", kind, "--model", *given.model]
        command += ["--threads", str(threads), "--rarer", str(given.rarer), "--images", str(given.images)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()

    def ask(self, first: int, count: int) -> None:
        """Have it predict `count` images from number `first` on."""
        assert self.process.stdin is not None, "it was opened as a pipe"
        self.process.stdin.write(f"{first} {count}\n")
        self.process.stdin.flush()

    def answer(self) -> tuple[float, float]:
        """Return the seconds and the processor seconds that took."""
        assert self.process.stdout is not None, "it was opened as a pipe"
        wall, busy = self.process.stdout.readline().split()
        return float(wall), float(busy)

    def close(self) -> None:
        """End it."""
        self.process.communicate()


def work(kind: str, given: argparse.Namespace) -> None:
    """Be such a process."""
    one, paths = side_of(kind, given), find_images([given.folder])[: given.images]
    one(paths[0])
    print("0 0", flush=True)
    for line in sys.stdin:
        first, count = map(int, line.split())
        begun, used = time.perf_counter(), time.process_time()
        for number in range(first, first + count):
            one(paths[number % len(paths)])
        print(time.perf_counter() - begun, time.process_time() - used, flush=True)


def compare(kinds: dict[str, str], given: argparse.Namespace) -> None:
    """Let one process a side take turns of `--turn` images."""
    workers = {side: Worker(kind, given, threads=given.threads) for side, kind in kinds.items()}
    times: dict[str, list[tuple[float, float]]] = {side: [] for side in kinds}
    for number in range(0, (given.rounds + 1) * given.images, given.turn):
        for side, worker in workers.items():
            worker.ask(number, given.turn)
            wall, busy = worker.answer()
            if number >= given.images:
                times[side].append((wall / given.turn, busy / given.turn))
    for worker in workers.values():
        worker.close()
    base, base_busy = (statistics.median(column) for column in zip(*times["effdet"], strict=True))
    for side, rows in times.items():
        wall, busy = zip(*rows, strict=True)
        low, middle, high = statistics.quantiles(wall, n=4)
        cpu = statistics.median(busy)
        print(
            f"  {side:18} {1e3 * middle:7.1f} ms ({1e3 * low:.1f}-{1e3 * high:.1f}), processor {1e3 * cpu:7.1f} ms;"
            f" effdet takes {base / middle:.2f} x, {base_busy / cpu:.2f} x in processor time",
            flush=True,
        )


def throughput(kind: str, given: argparse.Namespace) -> float:
    """Return images a second of several processes together, each with one thread."""
    workers = [Worker(kind, given, threads=1) for _ in range(given.processes)]
    begun = time.perf_counter()
    for worker in workers:
        worker.ask(0, 3 * given.images)
    for worker in workers:
        worker.answer()
    seconds = time.perf_counter() - begun
    for worker in workers:
        worker.close()
    return given.processes * 3 * given.images / seconds


def main() -> None:
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("folder", type=Path)
    options.add_argument("--images", type=int, default=12)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument(
        "--turn", type=int, default=1, help="images a side predicts before the next one does"
    )
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--model", nargs=2, default=["tf_efficientdet_d0", "512"])
    options.add_argument("--rarer", type=float, default=4.0, help="lowers every class logit")
    options.add_argument("--int8", action="store_true")
    options.add_argument("--processes", type=int, default=2)
    options.add_argument("--work", help=argparse.SUPPRESS)
    given = options.parse_args()
    name, size = given.model[0], int(given.model[1])
    torch.set_num_threads(given.threads)
    keep_freed_memory()
    if given.work:
        work(given.work, given)
        return
    paths = find_images([given.folder])[: given.images]
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        write_files(name, size, folder, paths if given.int8 else [], random_state(name, given.rarer))
        files = sorted(folder.glob("*.onnx"))
        kinds = {"effdet": "effdet", "trivet torch": "torch"}
        kinds |= {f"trivet onnx {file.stem}": str(file) for file in files}
        print(f"{name} at {size}, {len(paths)} images x {given.rounds}, {given.threads} threads", flush=True)
        compare(kinds, given)
        for file in files:
            whole, share = share_around(file, paths, given.threads, folder)
            print(f"  around the network, {file.stem}: {share:.1%} of {whole:.1f} ms (profiled)", flush=True)
        whole, share = share_around_torch(given, paths)
        print(f"  around the network, torch: {share:.1%} of {whole:.1f} ms", flush=True)
        for side, kind in kinds.items() if given.processes else ():
            rate = throughput(kind, given)
            print(f"  {given.processes} processes, one thread each, {side}: {rate:.2f} images/s", flush=True)


if __name__ == "__main__":
    main()

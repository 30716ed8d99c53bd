"""Faulty programs, each with the text that mends it; the line a finding must point at ends in `# HERE`."""

from dataclasses import dataclass

HEAD = """
import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(64, 3, 8, 8)
y = (x.mean((1, 2, 3)) > 0).long() + 2 * (x[:, 0].mean((1, 2)) > 0).long()


class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.drop(self.encoder(images).mean((2, 3))))


def batches(epochs=3, size=16):
    for _ in range(epochs):
        yield from DataLoader(TensorDataset(x, y), size, shuffle=True)

"""

LOOP = """
for images, target in batches():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    optimizer.step()
"""


@dataclass(frozen=True)
class Program:
    """A faulty program; `fix` holds pairs of old and new text."""

    finding: str
    body: str
    fix: tuple[tuple[str, str], ...]
    object: str = ""

    @property
    def faulty(self) -> str:
        return HEAD + self.body

    @property
    def mended(self) -> str:
        text = self.body
        for old, new in self.fix:
            assert old in text
            text = text.replace(old, new)
        return HEAD + text

    @property
    def line(self) -> int | None:
        lines = self.faulty.splitlines()
        return next((i for i, line in enumerate(lines, 1) if line.endswith("# HERE")), None)


ADAM = "model = Net()\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"

PROGRAMS = [
    Program(
        "parameter-not-in-optimizer",
        "model = Net()\noptimizer = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)  # HERE\n" + LOOP,
        (("model.encoder.parameters()", "model.parameters()"),),
        "model.head",
    ),
    Program(
        "parameter-not-in-optimizer",
        """
def train():
    body, top = nn.Linear(192, 16), nn.Linear(16, 4)
    optimizer = torch.optim.SGD([{"params": body.parameters()}], lr=0.1)  # HERE
    for images, target in batches():
        optimizer.zero_grad()
        F.cross_entropy(top(body(images.flatten(1)).relu()), target).backward()
        optimizer.step()
train()
""",
        (('"params": body.parameters()', '"params": [*body.parameters(), *top.parameters()]'),),
        "top",
    ),
    Program(
        "foreign-parameter-in-optimizer",
        "model = Net(10)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        "model.head = nn.Linear(8, 4)  # HERE\n" + LOOP,
        (("model.head = nn.Linear(8, 4)  # HERE\n", ""),),
    ),
    Program(
        "foreign-parameter-in-optimizer",
        "optimizer = torch.optim.Adam(Net().parameters(), lr=1e-3)  # HERE\nmodel = Net()\n" + LOOP,
        (("Net().parameters()", "(model := Net()).parameters()"), ("model = Net()\n", "")),
    ),
    Program(
        "parameter-without-gradient",
        """
class Gate(Net):
    def __init__(self):
        super().__init__()
        self.mix = nn.Parameter(torch.ones(2))

    def forward(self, images):
        weight = self.mix.detach().softmax(0)  # HERE
        return super().forward(images) * weight[0]
model = Gate()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        ((".detach()", ""),),
        "model.mix",
    ),
    Program(
        "parameter-without-gradient",
        """
class Twofold(Net):
    def __init__(self):
        super().__init__()
        self.depth = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, images):
        features = self.encoder(images).mean((2, 3))
        return {"kind": self.head(features), "depth": self.depth(features)}
model = Twofold()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for images, target in batches():
    answer = model(images)
    kind = F.cross_entropy(answer["kind"], target)
    depth = F.mse_loss(answer["depth"], images.mean((1, 2, 3))[:, None])
    loss = kind + 0.1 * kind.square()  # HERE
    optimizer.zero_grad()
    (loss / 2).backward()
    optimizer.step()
""",
        (("0.1 * kind.square()", "0.1 * depth"),),
        "model.depth",
    ),
    Program(
        "unregistered-module",
        """
class Stack(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(192, 192) for _ in range(3)]  # HERE
        self.head = nn.Linear(192, 4)

    def forward(self, images):
        h = images.flatten(1)
        for layer in self.layers:
            h = layer(h).relu()
        return self.head(h)
model = Stack()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (
            (
                "[nn.Linear(192, 192) for _ in range(3)]",
                "nn.ModuleList([nn.Linear(192, 192) for _ in range(3)])",
            ),
        ),
        "model.layers",
    ),
    Program(
        "repeated-module",
        "model = nn.Sequential(nn.Flatten(), *[nn.Linear(192, 192)] * 3, nn.Linear(192, 4))  # HERE\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
        (("*[nn.Linear(192, 192)] * 3", "*[nn.Linear(192, 192) for _ in range(3)]"),),
        "model",
    ),
    Program(
        "uninitialised-parameter",
        """
class Scale(Net):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.Tensor(2, 4))  # HERE

    def forward(self, images):
        return super().forward(images) * self.gain.sum(0)
model = Scale()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("torch.Tensor(2, 4)", "torch.rand(2, 4)"),),
        "model.gain",
    ),
    Program(
        "frozen-part-changes",
        "model = Net()\nmodel(x)\nmodel.encoder.requires_grad_(False)\n"
        "optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-3)\nmodel.train()  # HERE\n" + LOOP,
        (("model.train()", "model.train(); model.encoder.eval()"),),
        "model.encoder",
    ),
    Program(
        "fake-freeze",
        "model = Net()\nmodel.encoder.requires_grad = False\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
        (("requires_grad = False", "requires_grad_(False).eval()"),),
        "model.encoder",
    ),
    Program(
        "pretrained-weights-not-loaded",
        "model = Net()\nstate = {f'module.{k}': v for k, v in Net().state_dict().items()}\n"
        "model.load_state_dict(state, strict=False)  # HERE\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
        (("f'module.{k}'", "k"),),
    ),
    Program(
        "pretrained-weights-not-loaded",
        "model = Net()\nstate = {f'net.{k}': v for k, v in Net().state_dict().items()}\nown = model.state_dict()\n"
        "own.update({k: v for k, v in state.items() if k in own})\nmodel.load_state_dict(own)  # HERE\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
        (("f'net.{k}'", "k"),),
    ),
    Program(
        "pretrained-weights-not-loaded",
        """
def fill(layer):
    if isinstance(layer, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(layer.weight)
model = Net()
model.load_state_dict(Net().state_dict())  # HERE
model.apply(fill)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("model.apply(fill)", "model.head.apply(fill)"),),
    ),
    Program(
        "regularisation-moves-frozen-weights",
        "model = Net()\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1, momentum=0.9)\n"
        "F.cross_entropy(model(x), y).backward()\noptimizer.step()\nmodel.head.requires_grad_(False)\n"
        + LOOP.replace("zero_grad()", "zero_grad(set_to_none=False)  # HERE"),
        (("set_to_none=False", "set_to_none=True"),),
        "model.head",
    ),
    Program(
        "inplace-on-saved-tensor",
        """
class Fuse(Net):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.ones(4))

    def forward(self, images):
        w = F.relu(self.w)
        w /= w.sum()  # HERE
        return super().forward(images) * w
model = Fuse()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("w /= w.sum()", "w = w / w.sum()"),),
        "w",
    ),
    Program(
        "inplace-on-saved-tensor",
        """
class Block(Net):
    def forward(self, images):
        h = torch.sigmoid(self.encoder(images))
        h += 1  # HERE
        return self.head(h.mean((2, 3)))
model = Block()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("h += 1", "h = h + 1"),),
        "h",
    ),
    Program(
        "inplace-on-saved-tensor",
        """
maker, judge = nn.Linear(4, 192), nn.Sequential(nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 1))
first, second = torch.optim.Adam(judge.parameters(), 1e-3), torch.optim.Adam(maker.parameters(), 1e-3)
bce = nn.BCEWithLogitsLoss()
for images, _ in batches():
    made = maker(torch.randn(len(images), 4))
    score, ones = judge(made), torch.ones(len(images), 1)
    loss = bce(judge(images.flatten(1)), ones) + bce(score, 0 * ones)
    fooled = bce(score, ones)
    first.zero_grad()
    loss.backward(retain_graph=True)
    first.step()  # HERE
    second.zero_grad()
    fooled.backward()
    second.step()
""",
        (
            (
                "    second.zero_grad()\n    fooled",
                "    second.zero_grad()\n    fooled = bce(judge(made), ones)\n    fooled",
            ),
        ),
        "step",
    ),
    Program(
        "loss-detached",
        ADAM
        + LOOP.replace("model(images)", "model(images).detach()").replace("target)\n", "target)  # HERE\n"),
        ((".detach()", ""),),
    ),
    Program(
        "loss-detached",
        ADAM
        + LOOP.replace(
            "target)\n", "target)\n    loss = torch.tensor(loss.item(), requires_grad=True)  # HERE\n"
        ),
        (("torch.tensor(loss.item(), requires_grad=True)", "loss"),),
    ),
    Program(
        "vanishing-gradient",
        "model = nn.Sequential(nn.Flatten(), *[m for _ in range(12) for m in (nn.Linear(192, 192), nn.Sigmoid())], "
        "nn.Linear(192, 4))\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n" + LOOP,
        (("nn.Sigmoid()", "nn.BatchNorm1d(192), nn.ReLU()"),),
    ),
    Program(
        "lr-too-high",
        "model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 1))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=5.0)  # HERE\n"
        + LOOP.replace(
            "F.cross_entropy(model(images), target)", "F.mse_loss(model(images)[:, 0], target.float())"
        ),
        (("lr=5.0", "lr=0.01"),),
    ),
    Program(
        "non-finite",
        ADAM
        + LOOP.replace(
            "loss = F.cross_entropy(model(images), target)",
            "loss = F.nll_loss(torch.log(model(images).relu()), target)  # HERE",
        ),
        (("torch.log(model(images).relu())", "torch.log_softmax(model(images), 1)"),),
    ),
    Program(
        "missing-zero-grad",
        ADAM + LOOP.replace("    optimizer.zero_grad()\n", "").replace("backward()", "backward()  # HERE"),
        (("    loss.backward()", "    model.zero_grad(); loss.backward()"),),
    ),
    Program(
        "accumulation-cancelled",
        ADAM
        + """
for i, (images, target) in enumerate(batches(6)):
    optimizer.zero_grad()  # HERE
    (F.cross_entropy(model(images), target) / 4).backward()
    if i % 4 == 3:
        optimizer.step()
""",
        (("    optimizer.zero_grad()  # HERE\n", ""), ("step()", "step(); optimizer.zero_grad()")),
    ),
    Program(
        "trains-in-eval-mode",
        ADAM
        + """
def validate():
    model.eval()  # HERE
    with torch.no_grad():
        return [F.cross_entropy(model(images), target) for images, target in batches(1)]
model.train()
for epoch in range(4):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    validate()
""",
        (
            (
                "    for images, target in batches(1):\n",
                "    model.train()\n    for images, target in batches(1):\n",
            ),
        ),
        "model",
    ),
    Program(
        "validates-in-train-mode",
        ADAM
        + """
for epoch in range(3):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model.train()(images), target).backward()
        optimizer.step()
    with torch.no_grad():
        scores = [(model(images).argmax(1) == target).float().mean() for images, target in batches(1)]  # HERE
""",
        (("    with torch", "    model.eval()\n    with torch"),),
        "model",
    ),
    Program(
        "probabilities-into-cross-entropy",
        """
class Soft(Net):
    def forward(self, images):
        return F.softmax(super().forward(images), dim=1)  # HERE
model = Soft()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("F.softmax(super().forward(images), dim=1)", "F.log_softmax(super().forward(images), dim=1)"),),
    ),
    Program(
        "sigmoid-before-bce-with-logits",
        "model = Net(1)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        + LOOP.replace(
            "F.cross_entropy(model(images), target)",
            "nn.BCEWithLogitsLoss()(torch.sigmoid(model(images)), (target[:, None] > 1).float())  # HERE",
        ),
        (("torch.sigmoid(model(images))", "model(images)"),),
    ),
    Program(
        "loss-broadcast",
        "model = Net(1)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        + LOOP.replace(
            "F.cross_entropy(model(images), target)", "nn.MSELoss()(model(images), target.float())  # HERE"
        ),
        (("target.float()", "target[:, None].float()"),),
    ),
    Program(
        "all-targets-ignored",
        ADAM
        + LOOP.replace(
            "F.cross_entropy(model(images), target)",
            "F.cross_entropy(model(images), torch.where(target < 4, 255, target), ignore_index=255)  # HERE",
        ),
        (("target < 4", "target < 1"),),
    ),
    Program(
        "label-out-of-range",
        ADAM
        + LOOP.replace(
            "F.cross_entropy(model(images), target)", "F.cross_entropy(model(images), target + 1)  # HERE"
        ),
        (("target + 1", "target"),),
    ),
    Program(
        "label-out-of-range",
        "model = Net(1)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        + LOOP.replace(
            "F.cross_entropy(model(images), target)",
            "F.binary_cross_entropy_with_logits(model(images)[:, 0], (target > 1) * 255.0)  # HERE",
        ),
        (("* 255.0", "* 1.0"),),
    ),
    Program(
        "batchnorm-momentum",
        "model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=0.9997, eps=4e-5), nn.ReLU(), "
        "nn.Flatten(), nn.Linear(288, 4))  # HERE\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
        (("momentum=0.9997", "momentum=0.0003"),),
        "model.1",
    ),
    Program(
        "batchnorm-few-samples",
        "model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 4))  # HERE\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        + LOOP.replace("batches()", "batches(1, 2)"),
        (("nn.BatchNorm2d(8)", "nn.GroupNorm(1, 8)"),),
        "model.2",
    ),
    Program(
        "input-not-normalised",
        "model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))  # HERE\n"
        "x = x.sigmoid() * 255\n"
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)\n" + LOOP,
        (("* 255", "* 1"),),
        "model",
    ),
    Program(
        "scheduler-collapses-lr",
        ADAM
        + "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)\n"
        + LOOP.replace("batches()", "batches(12)")
        + "    scheduler.step()  # HERE\n",
        (("    scheduler.step()", "    if images is None: scheduler.step()\nscheduler.step()"),),
    ),
    Program(
        "scheduler-never-steps",
        ADAM + "scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 5)  # HERE\n" + LOOP,
        (("optimizer.step()", "optimizer.step(); scheduler.step()"),),
    ),
    Program(
        "clip-before-unscale",
        ADAM
        + "scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)\n"
        + LOOP.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
            "    optimizer.step()\n",
            "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # HERE\n    scaler.step(optimizer)\n    scaler.update()\n",
        ),
        (("    nn.utils.clip", "    scaler.unscale_(optimizer)\n    nn.utils.clip"),),
    ),
]

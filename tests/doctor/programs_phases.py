"""Faulty programs whose fault lies in what is built when, who steps whom, and what is carried over."""

from tests.doctor.programs import ADAM, LOOP, Program

PHASE_PROGRAMS = [
    Program(
        "parameter-not-in-optimizer",
        """
model = Net()
model.encoder.requires_grad_(False).eval()
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)  # HERE
"""
        + LOOP.replace("batches()", "batches(9)")
        + "model.encoder.requires_grad_(True).train()\n"
        + LOOP.replace("batches()", "batches(9)"),
        (("[p for p in model.parameters() if p.requires_grad]", "model.parameters()"),),
        "model.encoder",
    ),
    Program(
        "parameter-never-changes",
        """
model = Net()
optimizer = torch.optim.AdamW([  # HERE
    {"params": model.encoder.parameters(), "lr": 0.01 // 10},
    {"params": model.head.parameters()},
], lr=1e-2)
"""
        + LOOP.replace("batches()", "batches(5)"),
        (("0.01 // 10", "0.01 / 10"),),
        "model.encoder",
    ),
    Program(
        "parameter-never-changes",
        ADAM
        + """
for images, target in batches():
    F.cross_entropy(model(images), target).backward()
    optimizer.zero_grad()  # HERE
    optimizer.step()
""",
        (
            (
                "    optimizer.zero_grad()  # HERE\n    optimizer.step()",
                "    optimizer.step()\n    optimizer.zero_grad()",
            ),
        ),
        "optimizer",
    ),
    Program(
        "missing-zero-grad",
        """
encoder, head = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU()), nn.Linear(16, 4)
first, second = torch.optim.SGD(encoder.parameters(), lr=0.01), torch.optim.SGD(head.parameters(), lr=0.01)
for images, target in batches():
    first.zero_grad()
    F.cross_entropy(head(encoder(images)), target).backward()  # HERE
    first.step()
    second.step()
""",
        (("    first.zero_grad()\n", "    first.zero_grad()\n    second.zero_grad()\n"),),
        "second",
    ),
    Program(
        "graph-retained",
        """
cell, head = nn.RNNCell(24, 16), nn.Linear(16, 4)
weights = [*cell.parameters(), *head.parameters()]
state = torch.zeros(16, 16)
for images, target in batches(5):
    state = cell(images.flatten(1)[:, :24], state)
    F.cross_entropy(head(state), target).backward(retain_graph=True)  # HERE
    for p in weights:
        p.data -= 1e-3 * p.grad.data
        p.grad = None
""",
        (("[:, :24], state)", "[:, :24], state.detach())"),),
    ),
    Program(
        "unregistered-module",
        """
class Scaled(Net):
    def __init__(self):
        super().__init__()
        self.temperature = torch.ones((), requires_grad=True)  # HERE

    def forward(self, images):
        return super().forward(images) * self.temperature
model = Scaled()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("torch.ones((), requires_grad=True)", "nn.Parameter(torch.ones(()))"),),
        "model.temperature",
    ),
    Program(
        "unregistered-module",
        """
class Queries(Net):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.randn(4)) * 0.1  # HERE

    def forward(self, images):
        return super().forward(images) + self.shift
model = Queries()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("nn.Parameter(torch.randn(4)) * 0.1", "nn.Parameter(torch.randn(4) * 0.1)"),),
        "model.shift",
    ),
    Program(
        "scheduler-never-steps",
        ADAM
        + """
import warnings
warnings.simplefilter("ignore")  # torch warns of the order of the two steps
scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 4], 0.1)  # HERE
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
for epoch in range(8):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    scheduler.step()
""",
        (
            ("optimizer = torch.optim.SGD(model.parameters(), lr=0.05)\n", ""),
            ("scheduler = ", "optimizer = torch.optim.SGD(model.parameters(), lr=0.05)\nscheduler = "),
        ),
        "MultiStepLR",
    ),
    Program(
        "scheduler-never-steps",
        ADAM
        + """
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=33)
for epoch in range(8):
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    scheduler.step()  # HERE
""",
        (
            ("    scheduler.step()  # HERE", ""),
            ("optimizer.step()\n", "optimizer.step()\n        scheduler.step()\n"),
        ),
        "OneCycleLR",
    ),
    Program(
        "exploding-gradient",
        """
layers = [nn.Flatten()]
for _ in range(6):
    layers += [nn.Linear(192, 192), nn.ReLU()]
model = nn.Sequential(*layers, nn.Linear(192, 4))
for layer in model:
    if isinstance(layer, nn.Linear):
        nn.init.normal_(layer.weight)  # HERE
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("nn.init.normal_(", "nn.init.kaiming_normal_("),),
    ),
    Program(
        "frozen-part-changes",
        """
backbone, top = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten()), nn.Linear(288, 4)
backbone(x)  # its statistics are known
backbone.requires_grad_(False)  # HERE
optimizer = torch.optim.Adam(top.parameters(), lr=1e-3)
"""
        + LOOP.replace("model(images)", "top(backbone(images))"),
        (("requires_grad_(False)", "requires_grad_(False).eval()"),),
        "backbone",
    ),
]

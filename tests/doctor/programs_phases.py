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
        "parameter-never-changes",
        """
class Rounded(Net):
    def forward(self, images):
        code = self.encoder(images).mean((2, 3)).sigmoid()
        code = (code * 4).round() / 4  # HERE
        return self.head(code)
model = Rounded()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP.replace("batches()", "batches(5)"),
        (("(code * 4).round() / 4", "code + ((code * 4).round() / 4 - code).detach()"),),
        "model.encoder",
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
        "exploding-gradient",
        """
weights, biases = [], []
for inputs, outputs in ((12, 48), (48, 48), (48, 48), (48, 48), (48, 1)):
    weights.append(torch.randn(inputs, outputs, requires_grad=True))  # HERE
    biases.append(torch.zeros(outputs, requires_grad=True))
optimizer = torch.optim.SGD(weights + biases, lr=0.005)
for step in range(30):
    inputs = torch.randn(16, 12)
    hidden = inputs
    for w, b in zip(weights, biases):
        hidden = torch.relu(hidden @ w + b) if w is not weights[-1] else hidden @ w + b
    loss = F.mse_loss(hidden, inputs.mean(1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        (
            (
                "torch.randn(inputs, outputs, requires_grad=True)",
                "(torch.randn(inputs, outputs) * (2 / inputs) ** 0.5)",
            ),
            ("biases.append(", "weights[-1].requires_grad_()\n    biases.append("),
            ("range(30)", "range(12)"),
        ),
    ),
    Program(
        "exploding-gradient",
        """
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.reads = nn.Linear(1, 48)
        self.repeats = nn.Linear(48, 48, bias=False)
        nn.init.normal_(self.repeats.weight, std=0.3)  # HERE
        self.tells = nn.Linear(48, 1)

    def forward(self, series):
        state = series.new_zeros(len(series), 48)
        for step in range(series.shape[1]):
            state = torch.relu(self.reads(series[:, step]) + self.repeats(state))
        return self.tells(state)[:, 0]
model = Recurrent()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(120):
    wave = torch.sin(torch.rand(32, 1) * 6 + (0.2 + 0.3 * torch.rand(32, 1)) * torch.arange(25.0))
    loss = F.mse_loss(model(wave[:, :-1, None]), wave[:, -1])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        (("normal_(self.repeats.weight, std=0.3)", "orthogonal_(self.repeats.weight)"),),
        "model.repeats",
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
    Program(
        "parameter-never-changes",
        """
maker, critic = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 1))
make = torch.optim.Adam(maker.parameters(), 1e-3)  # HERE
judge = torch.optim.Adam(critic.parameters(), 1e-3)
for _ in range(20):
    fake = maker(torch.randn(16, 4))
    judge.zero_grad()
    (critic(fake.detach()).square() + (critic(torch.randn(16, 8)) - 1).square()).mean().backward()
    judge.step()
    make.zero_grad()
    (critic(fake) - 1).square().mean().backward()
    judge.step()
""",
        (("square().mean().backward()\n    judge.step()", "square().mean().backward()\n    make.step()"),),
        "make",
    ),
    Program(
        "accumulation-cancelled",
        ADAM
        + """
def part(images, target):
    model.zero_grad()  # HERE
    (F.cross_entropy(model(images), target) / 4).backward()
for step in range(6):
    for images, target in batches(1):
        part(images, target)
    optimizer.step()
""",
        (
            ("    model.zero_grad()  # HERE\n", ""),
            ("    optimizer.step()\n", "    optimizer.step()\n    optimizer.zero_grad()\n"),
        ),
    ),
    Program(
        "graph-retained",
        """
class Meter:
    def __init__(self):
        self.total = 0
    def add(self, value):
        self.total += value
model, meter = Net(), Meter()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for images, target in batches(10):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), target)
    loss.backward()
    optimizer.step()
    meter.add(loss)  # HERE
""",
        (("meter.add(loss)", "meter.add(loss.item())"),),
        "meter.total",
    ),
    Program(
        "lr-too-high",
        """
torch.manual_seed(0)
given = torch.rand(256, 3)
model = nn.Sequential(nn.Linear(3, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=3.0, momentum=0.9)  # HERE
for _ in range(60):
    rows = torch.randint(256, (32,))
    optimizer.zero_grad()
    F.mse_loss(model(given[rows])[:, 0], given[rows].sum(1)).backward()
    optimizer.step()
""",
        (("lr=3.0", "lr=0.01"),),
    ),
    Program(
        "graph-retained",
        """
class Reader(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.LSTM(24, 16, batch_first=True), nn.Linear(16, 4)
    def forward(self, values, state=None):
        h, state = self.layer(values, state)
        return self.head(h[:, -1]), state
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
state = None
for images, target in batches():
    output, state = model(images.flatten(1, 2).transpose(1, 2).repeat(1, 1, 1)[..., :24], state)  # HERE
    optimizer.zero_grad()
    F.cross_entropy(output, target).backward()
    optimizer.step()
""",
        (("# HERE\n", "# HERE\n    state = tuple(part.detach() for part in state)\n"),),
    ),
    Program(
        "graph-retained",
        """
class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head, self.hidden = nn.GRUCell(192, 16), nn.Linear(16, 4), torch.zeros(16, 16)
    def forward(self, images):
        self.hidden = self.cell(images.flatten(1), self.hidden)  # HERE
        return self.head(self.hidden)
model = Cell()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP.replace("backward()", "backward(retain_graph=True)"),
        (("flatten(1), self.hidden)", "flatten(1), self.hidden.detach())"),),
    ),
    Program(
        "samples-mixed",
        """
class Rows(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.GRU(24, 16), nn.Linear(16, 4)  # HERE
    def forward(self, images):
        h, _ = self.layer(images.transpose(1, 2).flatten(2))
        return self.head(h[:, -1])
model = Rows()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("nn.GRU(24, 16)", "nn.GRU(24, 16, batch_first=True)"),),
    ),
    Program(
        "input-normalised-twice",
        """
middle, spread = 0.3, 0.35
x = F.interpolate((x * spread + middle).clamp(0, 1), size=12)
x = (x - middle) / spread
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + LOOP.replace("    loss =", "    images = (images - middle) / spread\n    loss ="),
        (("    images = (images - middle) / spread\n", ""),),
    ),
    Program(
        "plateau",
        """
values = torch.randn(2000, 8)
truth = 3 * torch.randn(2000) + 1 + values[:, 0] * 0
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)  # HERE
for epoch in range(4):
    for rows in torch.randperm(2000).split(50):
        optimizer.zero_grad()
        F.mse_loss(model(values[rows])[:, 0], truth[rows]).backward()
        optimizer.step()
""",
        (("values[:, 0] * 0", "values[:, 0] * 6"),),
    ),
    Program(
        "plateau",
        """
values = torch.randn(2000, 8)
truth = values[:, :1] - 4
model = nn.Sequential(
    nn.Linear(8, 16),
    nn.Tanh(),
    nn.Linear(16, 1),
    nn.Sigmoid(),  # HERE
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for epoch in range(4):
    for rows in torch.randperm(2000).split(50):
        optimizer.zero_grad()
        F.mse_loss(model(values[rows]), truth[rows]).backward()
        optimizer.step()
""",
        (("    nn.Sigmoid(),  # HERE\n", ""), ("3e-3", "3e-2")),
    ),
    Program(
        "plateau",
        """
class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.reads = nn.Embedding(6, 24)
        self.repeats = nn.Linear(24, 24, bias=False)
        nn.init.normal_(self.repeats.weight, std=0.01)  # HERE
        self.tells = nn.Linear(24, 6)

    def forward(self, words):
        state = torch.zeros(len(words), 24)
        for step in range(words.shape[1]):
            state = torch.tanh(0.3 * self.reads(words[:, step]) + self.repeats(state))
        return self.tells(state)
model = Recurrent()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for _ in range(200):
    words = torch.randint(0, 5, (32, 10))
    words[:, 1:] = 5
    loss = F.cross_entropy(model(words), words[:, 0])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
        (("normal_(self.repeats.weight, std=0.01)", "orthogonal_(self.repeats.weight)"),),
    ),
    Program(
        "scheduler-collapses-lr",
        """
x = x + y[:, None, None, None]
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max", patience=0)  # HERE
for epoch in range(12):
    total = 0.0
    for images, target in batches(1):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), target)
        loss.backward()
        optimizer.step()
        total += loss.item()
    scheduler.step(total)
""",
        (('mode="max"', 'mode="min"'),),
    ),
    Program(
        "parameter-never-changes",
        """
class Scaled(Net):
    def __init__(self):
        super().__init__()
        self.sharpness = nn.Parameter(torch.tensor(9.0))

    def forward(self, images):
        return self.sharpness.clamp(max=5) * super().forward(images)  # HERE
model = Scaled()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP.replace("batches()", "batches(5)"),
        (("torch.tensor(9.0)", "torch.tensor(2.0)"),),
        "model.sharpness",
    ),
    Program(
        "repeated-module",
        """
def layer(inputs, outputs, norm=nn.BatchNorm2d(8)):  # HERE
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), norm, nn.ReLU())
model = nn.Sequential(layer(3, 8), layer(8, 8), nn.Flatten(), nn.Linear(128, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("norm=nn.BatchNorm2d(8)", "norm=nn.BatchNorm2d"), (", norm,", ", norm(8),")),
        "model",
    ),
    Program(
        "parameter-without-gradient",
        """
class Squeeze(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(192, 6)

    def forward(self, images):
        return self.map(images.flatten(1))
squeeze, top = Squeeze(), nn.Linear(6, 4)
optimizer = torch.optim.Adam([*squeeze.parameters(), *top.parameters()], lr=1e-3)
for images, target in batches():
    codes = torch.tensor(squeeze(images).tolist())  # HERE
    optimizer.zero_grad()
    F.cross_entropy(top(codes), target).backward()
    optimizer.step()
""",
        (("torch.tensor(squeeze(images).tolist())", "squeeze(images)"),),
        "squeeze",
    ),
    Program(
        "fake-freeze",
        """
stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
first = nn.Sequential(stem, nn.Flatten(), nn.Linear(288, 4))
optimizer = torch.optim.Adam(first.parameters(), lr=1e-3)
for images, target in batches(1):
    optimizer.zero_grad()
    F.cross_entropy(first(images), target).backward()
    optimizer.step()


class Second(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body
        self.body.requires_grad = False  # HERE
        self.top = nn.Linear(288, 4)

    def forward(self, images):
        return self.top(self.body(images).flatten(1))
model = Second(stem)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (
            ("self.body.requires_grad = False", "self.body.requires_grad_(False)"),
            ("model.parameters()", "model.top.parameters()"),
        ),
    ),
    Program(
        "trains-in-eval-mode",
        """
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for phase in range(3):
    model.train(phase == "train")  # HERE
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        print(F.cross_entropy(model(x), y).item())
""",
        (('model.train(phase == "train")', "model.train()"),),
    ),
]

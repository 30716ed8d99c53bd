"""Faulty programs whose fault shows in activations, draws, kept graphs, update sizes or statistics."""

from tests.doctor.programs import ADAM, LOOP, Program

EVALUATE = """
    model.eval()
    with torch.no_grad():
        score = (model(x).argmax(1) == y).float().mean().item()
    model.train()
"""
EPOCHS = """
for epoch in range(4):
    for images, target in DataLoader(TensorDataset(x, y), 16, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
"""

SIGNAL_PROGRAMS = [
    Program(
        "dead-relu",
        """
class Dead(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(192, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        nn.init.constant_(self.second.bias, -40.0)  # HERE

    def forward(self, images):
        h = self.first(images.flatten(1)).relu()
        return self.head(F.relu(self.second(h)))
model = Dead()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
y = torch.arange(64) % 4
"""
        + LOOP,
        (("-40.0", "0.0"),),
        "model.second",
    ),
    Program(
        "signal-collapse",
        """
layers = [nn.Flatten(), nn.Linear(192, 48), nn.ReLU()]
for _ in range(14):
    layers += [nn.Linear(48, 48), nn.ReLU()]  # HERE
model = nn.Sequential(*layers, nn.Linear(48, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
"""
        + LOOP,
        (("nn.Linear(48, 48), nn.ReLU()", "nn.Linear(48, 48), nn.BatchNorm1d(48), nn.ReLU()"),),
    ),
    Program(
        "random-in-eval",
        """
class Noisy(Net):
    def forward(self, images):
        h = self.encoder(images).mean((2, 3))
        return self.head(F.dropout(h, 0.3))  # HERE
model = Noisy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EPOCHS
        + EVALUATE,
        (("F.dropout(h, 0.3)", "F.dropout(h, 0.3, self.training)"),),
        "model",
    ),
    Program(
        "random-in-eval",
        """
class Noisy(Net):
    def forward(self, images):
        h = self.encoder(images).mean((2, 3))
        return self.head(nn.Dropout(0.3)(h))  # HERE
model = Noisy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EPOCHS
        + EVALUATE,
        (("nn.Dropout(0.3)(h)", "self.drop(h)"),),
        "model",
    ),
    Program(
        "random-in-eval",
        """
class Noise(nn.Module):
    def forward(self, images):
        return images + 0.5 * torch.randn_like(images)  # HERE
model = nn.Sequential(Noise(), Net())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + EPOCHS
        + EVALUATE,
        (("torch.randn_like(images)", "(torch.randn_like(images) if self.training else 0)"),),
        "model",
    ),
    Program(
        "graph-retained",
        ADAM
        + """
def epoch():
    total = 0.0
    for images, target in batches(8):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), target)
        loss.backward()
        optimizer.step()
        total += loss  # HERE
    return total
epoch()
""",
        (("total += loss", "total += loss.item()"),),
        "total",
    ),
    Program(
        "graph-retained",
        ADAM
        + """
class Log:
    def __init__(self):
        self.history = {"loss": []}

    def fit(self):
        for images, target in batches(8):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), target)
            loss.backward()
            self.history["loss"].append(loss)  # HERE
            optimizer.step()
Log().fit()
""",
        (("append(loss)", "append(loss.detach())"),),
        "self.history",
    ),
    Program(
        "data-order-repeats",
        ADAM
        + """
for epoch in range(4):
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))  # HERE
    for rows in order.split(16):
        optimizer.zero_grad()
        F.cross_entropy(model(x[rows]), y[rows]).backward()
        optimizer.step()
""",
        (("manual_seed(1)", "manual_seed(epoch)"),),
    ),
    Program(
        "data-order-repeats",
        ADAM
        + """
from torch.utils.data.distributed import DistributedSampler
data = TensorDataset(x, y)
sampler = DistributedSampler(data, num_replicas=1, rank=0)  # HERE
loader = DataLoader(data, 16, sampler=sampler)
for epoch in range(4):
    pass
    for images, target in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
""",
        (("    pass\n", "    sampler.set_epoch(epoch)\n"),),
    ),
    Program(
        "lr-too-low",
        """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)  # HERE
"""
        + LOOP.replace("batches()", "batches(15)"),
        (("lr=1e-5", "lr=0.1"),),
        "optimizer",
    ),
    Program(
        "lr-too-high",
        """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.Tanh(), nn.Linear(32, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=30.0)  # HERE
"""
        + LOOP.replace("batches()", "batches(10)"),
        (("lr=30.0", "lr=0.1"),),
        "optimizer",
    ),
    Program(
        "batchnorm-stats-stale",
        """
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, momentum=1e-3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))  # HERE
x = 3 * x + 2
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for _ in range(8):
    for images, target in DataLoader(TensorDataset(x, y), 16, shuffle=True):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
"""
        + EVALUATE.replace("\n    ", "\n"),
        ((", momentum=1e-3", ""),),
        "model.1",
    ),
    Program(
        "batchnorm-stats-stale",
        """
class Frozen(Net):
    def train(self, mode=True):
        super().train(mode)
        self.encoder[1].eval()
        return self
model = Frozen().train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
        + LOOP,
        (("        self.encoder[1].eval()\n", ""),),
        "model.encoder.1",
    ),
]

"""Healthy programs that look faulty to a naive check."""

from tests.doctor.programs import ADAM, HEAD, LOOP

GAN = """
g = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 192))
d = nn.Sequential(nn.Linear(192, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
opt_g, opt_d = torch.optim.Adam(g.parameters(), lr=2e-4), torch.optim.Adam(d.parameters(), lr=2e-4)
bce = nn.BCEWithLogitsLoss()
for images, _ in batches():
    real = images.flatten(1)
    fake = g(torch.randn(len(real), 8))
    opt_d.zero_grad()
    bce(d(real), torch.ones(len(real), 1)).backward()
    bce(d(fake.detach()), torch.zeros(len(real), 1)).backward()
    opt_d.step()
    opt_g.zero_grad()
    bce(d(fake), torch.ones(len(real), 1)).backward()
    opt_g.step()
"""

EMA = (
    ADAM
    + """
teacher = copy.deepcopy(model)
for images, target in batches():
    with torch.no_grad():
        soft = teacher(images).softmax(1)
    optimizer.zero_grad()
    out = model(images)
    (F.cross_entropy(out, target) + 0.1 * F.mse_loss(out.softmax(1), soft)).backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(teacher.parameters(), model.parameters()):
            slow.lerp_(fast, 0.01)
"""
)

VARIATIONAL = """
class Bottleneck(nn.Module):
    def __init__(self):
        super().__init__()
        self.both, self.head = nn.Linear(192, 32), nn.Linear(16, 4)

    def forward(self, images):
        mean, spread = self.both(images.flatten(1)).chunk(2, 1)
        return self.head(mean + spread.exp() * torch.randn_like(spread))
model = Bottleneck()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""

NOISY = """
class Noisy(Net):
    def forward(self, images):
        return super().forward(images + 0.3 * torch.randn_like(images))
model = Noisy()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""

SCORE = """
model.eval()
with torch.no_grad():
    F.softmax(model(x), 1)
"""
AVERAGE = SCORE.replace("F.softmax(model(x), 1)", "sum(F.softmax(model(x), 1) for _ in range(8))")

HEALTHY = {
    "variational-bottleneck": VARIATIONAL + LOOP + SCORE,
    "mean-over-noise": NOISY + LOOP + AVERAGE,
    "gan": GAN,
    "ema teacher": EMA,
    "frozen backbone": "model = Net()\nmodel.encoder.requires_grad_(False).eval()\n"
    "optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)\n" + LOOP,
    "frozen backbone, all given": "model = Net()\nmodel.encoder.requires_grad_(False).eval()\n"
    "optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)\n" + LOOP,
    "mixture of experts": """
class Moe(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(192, 8)
        self.experts = nn.ModuleList(nn.Linear(192, 4) for _ in range(8))
    def forward(self, images):
        h = images.flatten(1)
        share = self.gate(h).softmax(1)
        best = int(share.sum(0).argmax())
        return self.experts[best](h) * share[:, best : best + 1]
model = Moe()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "stochastic depth": """
class Deep(Net):
    def forward(self, images):
        h = self.encoder[0](images)
        if torch.rand(()) < 0.5:
            h = self.encoder[1](h)
        return self.head(self.encoder[3](h.relu()).relu().mean((2, 3)))
model = Deep()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "tied weights": """
class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Linear(192, 4), nn.Linear(192, 4)
        self.up.weight = self.down.weight
    def forward(self, images):
        return self.down(images.flatten(1)) + self.up(images.flatten(1))
model = Tied()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "accumulation": ADAM
    + """
for i, (images, target) in enumerate(batches(6)):
    (F.cross_entropy(model(images), target) / 4).backward()
    if i % 4 == 3:
        optimizer.step()
        optimizer.zero_grad()
""",
    "gradients cleared through data": ADAM
    + LOOP.replace(
        "optimizer.zero_grad()", "[p.grad.data.zero_() for p in model.parameters() if p.grad is not None]"
    ),
    "zero-init residual": """
class Residual(Net):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.head.weight)
    def forward(self, images):
        return super().forward(images)
model = Residual()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "lora": """
class Lora(nn.Module):
    def __init__(self, base):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, 192) * 0.1), nn.Parameter(torch.zeros(4, 2))
    def forward(self, images):
        h = images.flatten(1)
        return self.base(h) + h @ self.a.T @ self.b.T
model = Lora(nn.Linear(192, 4))
optimizer = torch.optim.Adam([model.a, model.b], lr=1e-2)
"""
    + LOOP,
    "lazy modules": "model = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))\n"
    "model(x[:2])\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
    "progressive unfreezing": "model = Net()\nmodel.encoder.requires_grad_(False)\nmodel.encoder.eval()\n"
    "optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-3)\n"
    + LOOP
    + "model.encoder.requires_grad_(True).train()\n"
    "optimizer.add_param_group({'params': model.encoder.parameters()})\n" + LOOP,
    "mixup": ADAM
    + LOOP.replace(
        "F.cross_entropy(model(images), target)",
        "F.cross_entropy(model(images), 0.7 * F.one_hot(target, 4).float() + 0.3 / 4, label_smoothing=0.1)",
    ),
    "double log_softmax": ADAM + LOOP.replace("model(images)", "F.log_softmax(model(images), 1)"),
    "summed losses": ADAM + LOOP.replace("loss = ", "out = model(images); loss = out.pow(2).mean() + "),
    "frozen batch norm": "model = Net()\nmodel(x)  # its statistics are known\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
    "for m in model.modules():\n    if isinstance(m, nn.BatchNorm2d):\n        m.eval()\n" + LOOP,
    "warm-up": ADAM
    + "scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, i / 10))\n"
    + LOOP.replace("batches()", "batches(8)")
    + "    scheduler.step()\n",
    "one cycle": ADAM
    + "scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=32)\n"
    + LOOP.replace("batches()", "batches(8)")
    + "    scheduler.step()\n",
    "amp with skipped steps": ADAM
    + "scaler = torch.amp.GradScaler('cpu', init_scale=2.0**127)\n"
    + LOOP.replace("loss.backward()", "scaler.scale(loss).backward()").replace(
        "    optimizer.step()\n",
        "    scaler.unscale_(optimizer)\n    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "    scaler.step(optimizer)\n    scaler.update()\n",
    ),
    "checkpointing": "from torch.utils.checkpoint import checkpoint\n"
    + ADAM
    + LOOP.replace(
        "model(images)", "model.head(checkpoint(model.encoder, images, use_reentrant=False).mean((2, 3)))"
    ),
    "lbfgs": """
model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
def closure():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
for _ in range(6):
    optimizer.step(closure)
""",
    "swa": ADAM
    + "mean = torch.optim.swa_utils.AveragedModel(model)\n"
    + LOOP
    + "    mean.update_parameters(model)\n"
    "torch.optim.swa_utils.update_bn([images for images, _ in batches(1)], mean)\n",
    "sparse embedding": """
table = nn.Embedding(50, 4, sparse=True)
optimizer = torch.optim.SparseAdam(table.parameters(), lr=1e-2)
for _ in range(8):
    optimizer.zero_grad()
    F.cross_entropy(table(torch.randint(0, 50, (16,))), torch.randint(0, 4, (16,))).backward()
    optimizer.step()
""",
    "perceptual loss": "judge = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()\n"
    "model = nn.Conv2d(3, 3, 3, padding=1)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
    + LOOP.replace(
        "F.cross_entropy(model(images), target)", "F.mse_loss(judge(model(images)), judge(images))"
    ),
    "pseudo-labels in train mode": ADAM
    + LOOP.replace(
        "    optimizer.zero", "    with torch.no_grad():\n        hint = model(images)\n    optimizer.zero"
    ),
    "validates in eval mode": ADAM
    + """
for epoch in range(3):
    model.train()
    for images, target in batches(1):
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        scores = [F.cross_entropy(model(images), target) for images, target in batches(1)]
""",
    "wasserstein with clipped weights": ADAM
    + LOOP
    + "    with torch.no_grad():\n        [p.clamp_(-0.5, 0.5) for p in model.parameters()]\n",
    "scalar target": "model = Net(1)\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
    + LOOP.replace(
        "F.cross_entropy(model(images), target)", "F.huber_loss(model(images).mean(), torch.tensor(1.0))"
    ),
    "siamese": "model = Net()\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
    + LOOP.replace(
        "F.cross_entropy(model(images), target)", "(model(images) - model(images.flip(3))).pow(2).mean()"
    ),
    "loader workers": ADAM.replace("Net()", "Net()")
    + "loader = DataLoader(TensorDataset(x, y), 16, num_workers=1)\n"
    + LOOP.replace("batches()", "loader"),
    "learnable loss weight": "model = Net()\nlog_s = torch.zeros((), requires_grad=True)\n"
    "optimizer = torch.optim.Adam([*model.parameters(), log_s], lr=1e-3)\n"
    + LOOP.replace("target)\n", "target) * torch.exp(-log_s) + log_s\n"),
    "buffers": """
class Centred(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("seen", torch.tensor(0))
    def forward(self, images):
        if self.training:
            self.mean.lerp_(images.mean((0, 2, 3))[:, None, None], 0.1)
            self.seen += 1
        return super().forward(images - self.mean)
model = Centred()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "one process of distributed training": """
import tempfile
import torch.distributed as dist
dist.init_process_group("gloo", init_method=f"file://{tempfile.mkdtemp()}/meet", rank=0, world_size=1)
model = nn.parallel.DistributedDataParallel(Net())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP
    + "dist.destroy_process_group()\n",
    "compiled": "model = torch.compile(Net(), backend='eager')\n"
    "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
    "loss times a constant": ADAM.replace("lr=1e-3", "lr=1e-3, eps=1e-4")
    + LOOP.replace("loss.backward()", "(1024.0 * loss).backward()"),
    "metrics in train mode": ADAM
    + """
right = total = 0
for epoch in range(3):
    model.train()
    for images, target in batches(1):
        out = model(images)
        optimizer.zero_grad()
        F.cross_entropy(out, target).backward()
        optimizer.step()
        right, total = right + (out.argmax(1) == target).sum().item(), total + len(target)
    with torch.no_grad():
        agreed = [(model(images).argmax(1) == target).float().mean() for images, target in batches(1)]
    model.eval()
    with torch.no_grad():
        score = [(model(images + 0.3).argmax(1) == target).float().mean() for images, target in batches(1)]
""",
    "batch-norm statistics calibrated before freezing": """
model = Net()
model.encoder.requires_grad_(False)
with torch.no_grad():
    for images, _ in batches(4):
        model(images)
optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-3)
model.encoder.eval()
"""
    + LOOP,
    "momentum encoder": ADAM
    + """
target_net = copy.deepcopy(model).requires_grad_(False)
predictor = nn.Linear(4, 4)
optimizer = torch.optim.Adam([*model.parameters(), *predictor.parameters()], lr=1e-3)
for images, _ in batches():
    with torch.no_grad():
        goal = target_net(images)
    optimizer.zero_grad()
    (1 - F.cosine_similarity(predictor(model(images + 0.1 * torch.randn_like(images))), goal).mean()).backward()
    optimizer.step()
    with torch.no_grad():
        for slow, fast in zip(target_net.parameters(), model.parameters()):
            slow.lerp_(fast, 0.02)
""",
    "critic whose last bias has no gradient": """
critic, maker = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 1)), nn.Linear(4, 8)
first, second = torch.optim.Adam(critic.parameters(), 1e-3), torch.optim.Adam(maker.parameters(), 1e-3)
for _ in range(30):
    real, fake = torch.randn(16, 8), maker(torch.randn(16, 4))
    first.zero_grad()
    (critic(fake.detach()).mean() - critic(real).mean()).backward()
    first.step()
    second.zero_grad()
    (-critic(fake).mean()).backward()
    second.step()
""",
    "lazy batch norm": "model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), "
    "nn.LazyLinear(4))\nmodel(x[:2])\noptimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
    "one frozen by zeroed gradients": ADAM.replace(
        "Adam(model.parameters(), lr=1e-3)", "SGD(model.parameters(), lr=0.01)"
    )
    + LOOP.replace("    optimizer.step()", "    model.head.bias.grad.zero_()\n    optimizer.step()"),
    "a table of pixels": """
levels = torch.randint(0, 17, (400, 64)).float() / 8 - 1
answer = (levels[:, :32].mean(1) > levels[:, 32:].mean(1)).long()
model = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for epoch in range(4):
    for rows in torch.randperm(300).split(50):
        optimizer.zero_grad()
        F.cross_entropy(model(levels[rows]), answer[rows]).backward()
        optimizer.step()
    with torch.no_grad():
        model(levels[300:])
""",
    "transformed functions": """
from torch.func import functional_call, grad, vmap
model = Net().eval()
values = dict(model.named_parameters())
def cost(given, image, label):
    return F.cross_entropy(functional_call(model, given, (image[None],)), label[None])
each = vmap(grad(cost), in_dims=(None, 0, 0))(values, x[:4], y[:4])
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    traced = torch.jit.trace(model, x[:2])
model.train()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
    + LOOP,
    "a teacher, trained before, asked with gradients": ADAM
    + "teacher = nn.Sequential(nn.Flatten(), nn.Linear(192, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 4))\n"
    "optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-3)\n"
    + LOOP.replace("model(", "teacher(")
    + """
teacher.eval()
teacher.requires_grad_(False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for images, target in batches():
    optimizer.zero_grad()
    out, soft = model(images), teacher(images)
    (F.cross_entropy(out, target) + 0.1 * F.mse_loss(out.softmax(1), soft.softmax(1))).backward()
    optimizer.step()
""",
    "restores the best weights": "model = Net()\nstart = copy.deepcopy(model.state_dict())\nmodel.load_state_dict(start)\n"
    "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n" + LOOP,
}

SOURCES = {name: HEAD + body for name, body in HEALTHY.items()}

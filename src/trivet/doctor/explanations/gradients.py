"""Explanations of findings about gradients, activations and learning rates."""

from trivet.doctor.explanations.explanation import Explanation

GRADIENTS = {
    "inplace-on-saved-tensor": Explanation(
        "The backward pass needs a value that the forward has overwritten, and says so with a RuntimeError about "
        "versions.",
        """
        w = nn.Parameter(torch.ones(2))
        fused = w.relu()
        fused /= fused.sum()
        (fused * 2).sum().backward()""",
        """
        w = nn.Parameter(torch.ones(2))
        fused = w.relu()
        fused = fused / fused.sum()
        (fused * 2).sum().backward()""",
        "Write the operation so that it makes a new tensor. Three repairs only look right: `.detach()` and `.data` end "
        "the error and the learning of this weight with it; `clone()` in `__init__` changes nothing, since every "
        "forward overwrites again.",
    ),
    "loss-detached": Explanation(
        "No weight is ever updated: the loss was cut from the model's output, or computed by what has no gradient. Where only "
        "a term of it was, or what one optimizer trains, that part learns nothing while the loss falls.",
        """
        predicted = model(images).argmax(1).float()
        loss = (predicted - labels).square().mean()
        loss.backward()""",
        """
        loss = F.cross_entropy(model(images), labels)
        loss.backward()""",
        "Follow the loss back: `argmax`, `.detach()`, `.item()`, `.numpy()`, `torch.tensor(...)`, `no_grad`. Setting "
        "`loss.requires_grad = True` ends the error and nothing else.",
    ),
    "vanishing-gradient": Explanation(
        "The first layers keep their random weights, and everything behind is trained on random features.",
        "deep = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(8, 8), nn.Sigmoid())))",
        """
        deep = nn.Sequential(*(layer for _ in range(12) for layer in (nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU())))""",
        "ReLU or GELU in the place of sigmoid and tanh, normalisation, skip connections, and an initialisation for "
        "the activation (`nn.init.kaiming_normal_`).",
    ),
    "exploding-gradient": Explanation(
        "Each step throws the weights further away, up to NaN.",
        "optimizer = torch.optim.SGD(model.parameters(), lr=10.0)",
        """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        F.cross_entropy(model(images), labels).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()""",
        "A lower rate with a warm-up first; clipping for recurrent nets and transformers; look at the scale of the "
        "inputs and of the loss (`reduction='sum'` grows with the batch).",
    ),
    "non-finite": Explanation(
        "From the first NaN on, all weights it reaches are NaN, and nothing is learned any more.",
        """
        share = torch.zeros(4, requires_grad=True)
        loss = torch.log(share).sum() + share.sqrt().sum()""",
        """
        share = torch.zeros(4, requires_grad=True)
        loss = torch.log(share.clamp_min(1e-7)).sum() + (share + 1e-7).sqrt().sum()""",
        "Keep the argument away from the point: `clamp_min` for `log`, an epsilon inside the root (its derivative is "
        "infinite at 0), `F.log_softmax` in the place of `softmax().log()`. `nan_to_num` on the loss hides it only.",
    ),
    "dead-relu": Explanation(
        "Units that are zero for every sample get no gradient, so they do not come back; what is left is a smaller "
        "network.",
        """
        layer = nn.Linear(8, 8)
        nn.init.constant_(layer.bias, -3.0)""",
        """
        layer = nn.Linear(8, 8)
        nn.init.zeros_(layer.bias)""",
        "A lower learning rate or a warm-up (one large step kills units for good), biases at 0, normalised inputs, or "
        "an activation that leaks (`nn.LeakyReLU`, `nn.GELU`).",
    ),
    "signal-collapse": Explanation(
        "The network answers the same to everything: what distinguishes the samples is lost on the way, and the "
        "gradient with it. The loss stays at that of guessing.",
        "deep = nn.Sequential(*(layer for _ in range(16) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.ReLU())))",
        """
        deep = nn.Sequential(
            *(layer for _ in range(16) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU()))
        )""",
        "A norm after each convolution, skip connections, or `nn.init.kaiming_normal_` on every weight: torch's own "
        "initialisation loses a part of the signal in each layer.",
    ),
    "lr-too-low": Explanation(
        "The weights stay where they were drawn: the loss does not move, and more epochs do not help.",
        "optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)",
        "optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)",
        "Raise it tenfold until the loss falls, then stop below where it turns restless. Look for a scheduler that "
        "has used it up, and for a warm-up that is longer than the training.",
    ),
    "lr-too-high": Explanation(
        "Each step destroys what the last one learned: the loss rises or stays at that of guessing.",
        "optimizer = torch.optim.SGD(model.parameters(), lr=3.0)",
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.05)",
        "Lower it threefold or tenfold, and begin with a warm-up. Adam wants 1e-3 or less, fine-tuning ten times "
        "less than that.",
    ),
    "input-not-normalised": Explanation(
        "The first layer meets numbers of a size that its initialisation is not made for: it saturates, or wants "
        "another learning rate than the rest. Pretrained weights meet inputs they have never seen.",
        "output = model(torch.randint(0, 256, (8, 3, 16, 16)).float())",
        """
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        given = torch.randint(0, 256, (8, 3, 16, 16)).float() / 255
        output = model((given - mean[:, None, None]) / std[:, None, None])""",
        "Divide by 255 and subtract the mean of the training set, or that of the weights you start from; the same in "
        "training, evaluation and use.",
    ),
    "input-normalised-twice": Explanation(
        "The first layer is given almost nothing (1/255 of 1/255), or values far outside the usual range.",
        """
        def to_float(picture):
            return picture.float() / 255


        output = model(to_float(torch.randint(0, 256, (8, 3, 16, 16))) / 255)""",
        """
        def to_float(picture):
            return picture.float() / 255


        output = model(to_float(torch.randint(0, 256, (8, 3, 16, 16))))""",
        "Normalise at one place. `ToTensor()` divides by 255 already; many image processors and models do it inside.",
    ),
}

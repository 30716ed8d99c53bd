"""Why each finding hurts, with an example of the fault and of what to write instead."""

_CE = "loss = F.cross_entropy(model(x), y)"

EXPLANATIONS: dict[str, tuple[str, str, str]] = {
    "inplace-on-saved-tensor": (
        "the backward pass needs values that are gone; detaching ends the error and the learning with it",
        "self.w /= self.w.sum()",
        "w = self.w / self.w.sum()",
    ),
    "loss-detached": (
        "no weight is ever updated",
        "loss = F.mse_loss(y.detach(), t)",
        "loss = F.mse_loss(y, t)",
    ),
    "foreign-parameter-in-optimizer": (
        "the optimizer works on a model that nobody runs",
        "opt = SGD(model.parameters()); model.fc = nn.Linear(512, 2)",
        "model.fc = nn.Linear(512, 2); opt = SGD(model.parameters())",
    ),
    "unregistered-module": (
        "its weights are not trained, saved or moved to the device",
        "self.blocks = [Block() for _ in range(3)]",
        "self.blocks = nn.ModuleList(Block() for _ in range(3))",
    ),
    "parameter-not-in-optimizer": (
        "these weights keep their random values",
        "opt = Adam(model.encoder.parameters())",
        "opt = Adam(model.parameters())",
    ),
    "parameter-without-gradient": (
        "these weights keep their random values",
        "y = x * self.scale.detach()",
        "y = x * self.scale",
    ),
    "parameter-never-changes": (
        "these weights keep their first values",
        "Adam(p.half(), lr=1e-9)",
        "Adam(p, lr=1e-4)",
    ),
    "uninitialised-parameter": (
        "the first outputs are arbitrary, often huge, and differ from run to run",
        "nn.Parameter(torch.Tensor(2, 4))",
        "nn.Parameter(torch.ones(2, 4))",
    ),
    "repeated-module": (
        "the model has fewer weights than it seems, all blocks being one",
        "nn.Sequential(*[Block()] * 4)",
        "nn.Sequential(*(Block() for _ in range(4)))",
    ),
    "fake-freeze": (
        "what was to stay fixed is trained",
        "backbone.requires_grad = False",
        "backbone.requires_grad_(False)",
    ),
    "frozen-part-changes": (
        "a frozen part drifts away from the weights that were trained for its statistics",
        "backbone.requires_grad_(False); model.train()",
        "backbone.requires_grad_(False); model.train(); backbone.eval()",
    ),
    "regularisation-moves-frozen-weights": (
        "weights shrink without any loss asking for it",
        "opt.zero_grad(set_to_none=False) with weight_decay and frozen parameters",
        "opt.zero_grad()",
    ),
    "pretrained-weights-not-loaded": (
        "training starts from random weights although it looks like fine-tuning",
        "model.load_state_dict(checkpoint, strict=False)",
        "model.load_state_dict({k.removeprefix('module.'): v for k, v in checkpoint.items()})",
    ),
    "missing-zero-grad": (
        "every step follows the sum of all gradients since the start",
        "loss.backward(); opt.step()",
        "opt.zero_grad(); loss.backward(); opt.step()",
    ),
    "accumulation-cancelled": (
        "the effective batch is one micro-batch, at the cost of many",
        "opt.zero_grad() in every micro-step",
        "opt.zero_grad() after opt.step() only",
    ),
    "trains-in-eval-mode": (
        "dropout is off, and batch norm uses statistics that no longer follow the weights",
        "model.eval() in validate(), and no model.train() after",
        "model.train() at the beginning of each epoch",
    ),
    "validates-in-train-mode": (
        "validation scores are noisy and too low, and validation data leaks into batch norm",
        "with torch.no_grad(): model(x)",
        "model.eval()\nwith torch.no_grad(): model(x)",
    ),
    "clip-before-unscale": (
        "the bound is compared with gradients 65536 times too large: clipping is far too strong, or of no effect",
        "scaler.scale(loss).backward(); clip_grad_norm_(p, 1.0)",
        "scaler.scale(loss).backward(); scaler.unscale_(opt); clip_grad_norm_(p, 1.0)",
    ),
    "scheduler-collapses-lr": (
        "training ends early in effect: the updates become too small to matter",
        "for batch in loader: ...; scheduler.step()",
        "for batch in loader: ...\nscheduler.step()",
    ),
    "scheduler-never-steps": (
        "the learning rate stays at its first value",
        "scheduler = StepLR(opt, 10)",
        "scheduler.step() once an epoch",
    ),
    "label-out-of-range": ("a crash, or a loss without a minimum", "mask in 0-255 for BCE", "mask / 255"),
    "all-targets-ignored": ("the loss is NaN and spoils all weights", _CE, "if (y != 255).any(): " + _CE),
    "probabilities-into-cross-entropy": (
        "the loss has a floor far above 0 and its gradients are small",
        "F.cross_entropy(logits.softmax(1), y)",
        "F.cross_entropy(logits, y)",
    ),
    "sigmoid-before-bce-with-logits": (
        "every probability lies between 0.5 and 0.73",
        "F.binary_cross_entropy_with_logits(logits.sigmoid(), y)",
        "F.binary_cross_entropy_with_logits(logits, y)",
    ),
    "loss-broadcast": (
        "the model learns to answer the mean",
        "F.mse_loss(output, target)  # (32, 1) and (32,)",
        "F.mse_loss(output.squeeze(1), target)",
    ),
    "batchnorm-momentum": (
        "the running statistics are those of the last batch: scores in eval mode jump",
        "nn.BatchNorm2d(64, momentum=0.99)",
        "nn.BatchNorm2d(64, momentum=0.01)",
    ),
    "batchnorm-few-samples": (
        "mean and variance are noise, and eval mode differs from train mode",
        "nn.BatchNorm2d behind global pooling, batch of 2",
        "nn.GroupNorm",
    ),
    "input-not-normalised": (
        "the first layer saturates or needs another learning rate than the rest",
        "model(images.float())",
        "model((images.float() / 255 - mean) / std)",
    ),
    "exploding-gradient": ("the weights are thrown far away, up to NaN", "SGD(p, lr=10)", "SGD(p, lr=0.01)"),
    "non-finite": ("nothing can be learned from NaN", "torch.log(p)", "torch.log(p.clamp_min(1e-7))"),
    "vanishing-gradient": (
        "the first layers keep their random weights",
        "twelve layers with sigmoid",
        "ReLU with Kaiming initialisation, batch norm, skip connections",
    ),
    "dead-relu": (
        "units that are always zero get no gradient and do not come back",
        "nn.init.constant_(layer.bias, -3.0)",
        "nn.init.zeros_(layer.bias)",
    ),
    "signal-collapse": (
        "the network answers the same to everything, and its first layers get no gradient",
        "sixteen convolutions with the default initialisation and no normalisation",
        "nn.init.kaiming_normal_(conv.weight), or nn.BatchNorm2d after each",
    ),
    "random-in-eval": (
        "scores are lower than they could be, and differ from run to run",
        "x = F.dropout(x, 0.5)",
        "x = F.dropout(x, 0.5, training=self.training)",
    ),
    "graph-retained": (
        "memory grows with every step until it runs out",
        "total += loss",
        "total += loss.item()",
    ),
    "data-order-repeats": (
        "every epoch shows the same batches, which are learnt as such",
        "generator.manual_seed(0) at the beginning of every epoch",
        "generator.manual_seed(0) once",
    ),
    "lr-too-low": ("the weights stay where they were drawn", "SGD(model.parameters(), lr=1e-5)", "lr=1e-2"),
    "lr-too-high": ("each step destroys what was learnt", "SGD(model.parameters(), lr=3.0)", "lr=0.1"),
    "batchnorm-stats-stale": (
        "in eval mode the layers normalise by numbers that have nothing to do with the data",
        "nn.BatchNorm2d(64, momentum=3e-4), evaluated after 100 steps",
        "nn.BatchNorm2d(64)",
    ),
    "samples-mixed": (
        "the network is given noise, or answers that depend on which samples happen to share a batch",
        "x.view(len(x), 3, 32, 32)  # of (n, 32, 32, 3)",
        "x.permute(0, 3, 1, 2)",
    ),
    "targets-misaligned": (
        "what the network is to find is not where the target says",
        "return augment(image), augment(mask)",
        "image, mask = augment(image, tv_tensors.Mask(mask))",
    ),
    "mask-interpolated": (
        "borders are labelled with classes that are not there",
        'F.interpolate(mask.float(), size, mode="bilinear").long()',
        'F.interpolate(mask.float(), size, mode="nearest").long()',
    ),
    "overlapping-labels": (
        "the same scene is labelled in different ways",
        "for shape in shapes: draw.polygon(shape.points, fill=shape.label)",
        "for shape in sorted(shapes, key=area, reverse=True): draw.polygon(shape.points, fill=shape.label)",
    ),
    "box-format": (
        "the network learns boxes that are not there",
        "boxes = torch.tensor(coco['bbox'])",
        "boxes = torchvision.ops.box_convert(torch.tensor(coco['bbox']), 'xywh', 'xyxy')",
    ),
    "degenerate-boxes": (
        "the loss becomes infinite or NaN, or the detector refuses the batch",
        "boxes = boxes.clamp(0, size)",
        "boxes = boxes.clamp(0, size); keep = ((boxes[:, 2:] - boxes[:, :2]) >= 1).all(1); boxes = boxes[keep]",
    ),
    "label-off-by-one": (
        "the first class is learnt as background and never found",
        '{"labels": torch.tensor([0])}',
        '{"labels": torch.tensor([1])}',
    ),
    "train-val-leak": (
        "the validation score says nothing about new data",
        "train, val = split(enlarge(samples))",
        "train, val = split(samples); train = enlarge(train)",
    ),
    "augmentation-repeats": (
        "the network sees far fewer variants than it seems",
        "self.rng = np.random.default_rng(0)  # in the data set's __init__",
        "torch.randint(...) in __getitem__",
    ),
    "input-normalised-twice": (
        "the first layer is given almost nothing, or values far outside the usual range",
        "image = to_float(image) / 255  # to_float has divided already",
        "image = to_float(image)",
    ),
    "majority-class-collapse": (
        "a high accuracy hides that the rare classes are never found",
        "nn.CrossEntropyLoss() with 99 % background",
        "nn.CrossEntropyLoss(weight=weights)",
    ),
    "class-imbalance": (
        "rare classes are hardly learnt",
        "DataLoader(data, shuffle=True) with one positive in sixty",
        "DataLoader(data, sampler=WeightedRandomSampler(weights, len(data)))",
    ),
    "overfitting": (
        "the last weights are worse on new data than earlier ones",
        "for epoch in range(500): train()",
        "keep the weights of the best validation",
    ),
    "host-memory-growth": (
        "the process is ended by the system, hours later",
        "losses.append(loss)",
        "losses.append(loss.item())",
    ),
    "loader-bound": (
        "the processor that trains stands idle",
        "DataLoader(data, num_workers=0) that decodes large pictures",
        "DataLoader(data, num_workers=4)",
    ),
    "plateau": (
        "nothing is learnt",
        "RandomErasing(p=1, scale=(0.95, 0.99))",
        "RandomErasing(p=0.25, scale=(0.02, 0.2))",
    ),
    "script-failed": ("the script did not finish", "", ""),
}
"""Name of the finding -> why it hurts, the fault, what to write instead."""

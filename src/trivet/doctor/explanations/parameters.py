"""Explanations of findings about parameters, modules and optimizers."""

from trivet.doctor.explanations.explanation import Explanation

PARAMETERS = {
    "parameter-not-in-optimizer": Explanation(
        "These weights keep their random values. The rest of the model learns around them, so the loss falls and the "
        "score stops early: nothing looks broken.",
        "optimizer = torch.optim.Adam(model.encoder.parameters(), lr=1e-3)",
        "optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)",
        "Build the optimizer from the whole model, after its last layer was put in. Parts with a rate of their own "
        "are groups: `[{'params': encoder, 'lr': 1e-4}, {'params': decoder}]`. Parts that are to stay fixed want "
        "`requires_grad_(False)`, which also saves their backward.",
    ),
    "foreign-parameter-in-optimizer": Explanation(
        "The optimizer moves weights that no forward uses: of a second instance of the model, or of a layer that was "
        "replaced after the optimizer was built. What the forward does use is not trained.",
        """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        model.head = nn.Linear(8, 2)  # the optimizer still holds the old head""",
        """
        model.head = nn.Linear(8, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)""",
        "First build the model, replace its layers, move it to its device and wrap it; then build the optimizer.",
    ),
    "parameter-without-gradient": Explanation(
        "The loss does not depend on these weights, as far as autograd can see: they keep their first values, "
        "whatever the optimizer does.",
        """
        scale = nn.Parameter(torch.ones(1))
        loss = (model(images) * scale.detach()).square().mean()
        loss.backward()  # scale.grad is None""",
        """
        scale = nn.Parameter(torch.ones(1))
        loss = (model(images) * scale).square().mean()
        loss.backward()""",
        "Look for what cuts the graph between the parameter and the loss: `.detach()`, `.data`, `.item()`, `.numpy()`, "
        "`argmax`, `torch.no_grad()`, `torch.tensor(value)`; or for a layer that `forward` never calls.",
    ),
    "parameter-never-changes": Explanation(
        "These weights get gradients and are in an optimizer, and still keep their values: the update is rounded "
        "away, its rate is 0, or the gradients are cleared before the step.",
        """
        model.half()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)  # below the steps that float16 can make""",
        "optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)  # weights in float32, autocast for speed",
        "Keep weights in float32 and let `torch.autocast` choose the type of the arithmetic; look at the rates of "
        "all groups; call `zero_grad()` before `backward()`, not between it and `step()`.",
    ),
    "unregistered-module": Explanation(
        "`parameters()` does not find modules in a plain list or dict: they are not trained, not moved to the GPU, "
        "not switched by `eval()` and not saved in the state dict.",
        """
        class Tower(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = [nn.Linear(8, 8) for _ in range(3)]""",
        """
        class Tower(nn.Module):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))""",
        "Use `nn.ModuleList`, `nn.ModuleDict` or `nn.Sequential`; for bare tensors `nn.ParameterList`, and "
        "`register_buffer` for constants.",
    ),
    "repeated-module": Explanation(
        "All places share one set of weights: the model is several times smaller than it looks, and every place "
        "pulls the same weights another way.",
        "blocks = nn.Sequential(*[nn.Linear(8, 8)] * 4)",
        "blocks = nn.Sequential(*(nn.Linear(8, 8) for _ in range(4)))",
        "`[layer] * n` repeats the reference, not the layer. Where sharing is meant (a recurrent block, tied "
        "embeddings), call the one module several times instead, which says so.",
    ),
    "uninitialised-parameter": Explanation(
        "`torch.Tensor(2, 4)` and `torch.empty(2, 4)` hold whatever was in that memory: often zeros, now and then "
        "1e30 or NaN. The same script succeeds and fails from run to run.",
        "weights = nn.Parameter(torch.Tensor(2, 4))",
        "weights = nn.Parameter(torch.ones(2, 4))",
        "Fill it at once: `torch.ones`, `torch.randn(...) * 0.02`, or `nn.init.xavier_uniform_` on the empty tensor.",
    ),
    "fake-freeze": Explanation(
        "What was to stay fixed is trained: a pretrained part drifts away, often with a rate that is far too high "
        "for it.",
        "model.encoder.requires_grad = False  # only sets an attribute of the module",
        "model.encoder.requires_grad_(False)",
        "A module has the method `requires_grad_`; the attribute belongs to parameters. `eval()` freezes nothing "
        "either: it switches dropout and batch norm. Leave frozen weights out of the optimizer, too.",
    ),
    "frozen-part-changes": Explanation(
        "`requires_grad_(False)` stops gradients, but batch norm goes on averaging what it sees: the frozen part "
        "slowly becomes another one than the one that was pretrained.",
        """
        model.encoder.requires_grad_(False)
        model.train()""",
        """
        model.encoder.requires_grad_(False)
        model.train()
        model.encoder.eval()""",
        "Put the frozen part into eval mode after every `train()`, best by overriding the model's own `train`.",
    ),
    "regularisation-moves-frozen-weights": Explanation(
        "Weight decay and momentum act on every parameter whose gradient is a tensor, also of zeros: weights shrink "
        "without any loss asking for it.",
        """
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
        model.encoder.requires_grad_(False)
        optimizer.zero_grad(set_to_none=False)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()""",
        """
        model.encoder.requires_grad_(False)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trained, lr=0.1, weight_decay=0.1)
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()""",
        "Freeze before the optimizer is built and give it the trained parameters only; clear gradients to `None`, "
        "which is the default of `zero_grad()`.",
    ),
    "pretrained-weights-not-loaded": Explanation(
        "Training starts from random weights although it looks like fine-tuning: `strict=False` turns every key "
        "that does not match into silence.",
        """
        checkpoint = {f"module.{name}": value for name, value in model.state_dict().items()}
        model.load_state_dict(checkpoint, strict=False)  # matches nothing""",
        """
        checkpoint = {f"module.{name}": value for name, value in model.state_dict().items()}
        mended = {name.removeprefix("module."): value for name, value in checkpoint.items()}
        missing, unexpected = model.load_state_dict(mended, strict=False)
        assert not unexpected and len(missing) <= 2, (missing, unexpected)""",
        "Look at what `load_state_dict` returns. Prefixes come from DataParallel (`module.`), torch.compile "
        "(`_orig_mod.`), Lightning (`model.`); checkpoints often nest the weights under `state_dict` or `model`.",
    ),
    "batchnorm-momentum": Explanation(
        "In torch, momentum is the share of the new batch; in TensorFlow and Caffe that of the old average. With 0.99 "
        "the running statistics are those of the last batch alone, and scores in eval mode jump from one evaluation "
        "to the next.",
        "norm = nn.BatchNorm2d(64, momentum=0.9997, eps=4e-5)",
        "norm = nn.BatchNorm2d(64, momentum=0.0003, eps=4e-5)",
        "Use 1 - m. With so small a momentum the averages want 1 / (1 - m) steps to warm up: in short trainings "
        "leave the default of 0.1.",
    ),
    "batchnorm-few-samples": Explanation(
        "Mean and variance of a handful of values are noise; the layer is trained on that noise and evaluated by an "
        "average that no batch ever had.",
        "head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8))  # batches of 2",
        "head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.GroupNorm(4, 8))",
        "`nn.GroupNorm`, a larger batch, or no norm behind global pooling. Accumulating gradients does not help: "
        "each forward has its own statistics.",
    ),
    "batchnorm-stats-stale": Explanation(
        "In eval mode the layers normalise by numbers that have little to do with the data: the running statistics "
        "have not warmed up yet, or stopped following the weights.",
        "norm = nn.BatchNorm2d(8, momentum=3e-4)  # evaluated after 100 steps",
        """
        norm = nn.BatchNorm2d(8)
        model.train()
        with torch.no_grad():  # or recompute them before evaluating
            for values, _ in loader:
                model(values)""",
        "Use a larger momentum, train longer before you evaluate, or recompute the statistics "
        "(`torch.optim.swa_utils.update_bn`).",
    ),
}

"""Explanations of findings about losses and their targets."""

from trivet.doctor.explanations.explanation import Explanation

LOSS = {
    "probabilities-into-cross-entropy": Explanation(
        "Softmax is applied twice. A perfect answer still has a loss of about 0.74 for 4 classes and 1.46 for 10, and "
        "gradients are small: training is slow and ends early.",
        "loss = F.cross_entropy(model(images).softmax(1), labels)",
        "loss = F.cross_entropy(model(images), labels)",
        "Leave the softmax out of the model, or use it only where probabilities are shown. `log_softmax` before "
        "`cross_entropy` is harmless: it changes nothing.",
    ),
    "sigmoid-before-bce-with-logits": Explanation(
        "Sigmoid is applied twice: every probability lies between 0.5 and 0.73, and no mask can become empty.",
        """
        logits, target = model(images), torch.rand(8, 4).round()
        loss = F.binary_cross_entropy_with_logits(logits.sigmoid(), target)""",
        """
        logits, target = model(images), torch.rand(8, 4).round()
        loss = F.binary_cross_entropy_with_logits(logits, target)""",
        "Give the loss the logits, and put the sigmoid into prediction; or keep it and use `binary_cross_entropy`, "
        "which is less exact.",
    ),
    "loss-broadcast": Explanation(
        "An output (n, 1) against a target (n,) compares every output with every target: the model learns to answer "
        "the mean. torch warns, and the warning is lost in the log.",
        """
        output, target = torch.rand(8, 1), torch.rand(8)
        loss = F.mse_loss(output, target)  # over 64 pairs""",
        """
        output, target = torch.rand(8, 1), torch.rand(8)
        loss = F.mse_loss(output.squeeze(1), target)""",
        "Give both one shape: `output.squeeze(1)`, or `target[:, None]`.",
    ),
    "label-out-of-range": Explanation(
        "A class index that the model has no output for: a crash on a CPU, an assert far from the place on a GPU. "
        "Targets of a binary loss outside 0-1 give a loss without a minimum.",
        """
        target = labels + 1  # classes 1-4 for a model with 4 outputs
        loss = F.cross_entropy(model(images), target)""",
        """
        target = labels
        loss = F.cross_entropy(model(images), target)""",
        "Count classes from 0; map ids of the file to indices; give 255 and other marks as `ignore_index`.",
    ),
    "all-targets-ignored": Explanation(
        "The mean over no target is 0 / 0: the loss is NaN, and with it all weights after the step.",
        """
        target = torch.full((8,), 255)
        loss = F.cross_entropy(model(images), target, ignore_index=255)""",
        """
        target = torch.full((8,), 255)
        total = F.cross_entropy(model(images), target, ignore_index=255, reduction="sum")
        loss = total / (target != 255).sum().clamp_min(1)""",
        "Leave such batches out, or divide the sum by the count of valid targets, at least 1.",
    ),
    "majority-class-collapse": Explanation(
        "The model answers the commonest class to everything. With 99 % background that is an accuracy of 99 %, and "
        "not one object is found.",
        "loss = nn.CrossEntropyLoss()(model(images), labels)",
        """
        counts = torch.bincount(labels, minlength=4).float()
        loss = nn.CrossEntropyLoss(weight=counts.sum() / (4 * counts.clamp_min(1)))(model(images), labels)""",
        "Weight the classes, use a Dice or focal loss, or sample rare classes more often; and judge by a score for "
        "each class (IoU, recall), not by accuracy.",
    ),
    "class-imbalance": Explanation(
        "Rare classes give too few gradients to be learned, and hardly change the loss.",
        "loader = DataLoader(dataset, 4, shuffle=True)",
        """
        counts = torch.bincount(labels, minlength=4).float()
        weights = (1 / counts.clamp_min(1))[labels]
        loader = DataLoader(dataset, 4, sampler=WeightedRandomSampler(weights, len(dataset)))""",
        "Sample or weight by class, gather more of the rare ones, and look at the score of each class. Where the "
        "frequencies are the true ones and probabilities matter, leave it.",
    ),
}

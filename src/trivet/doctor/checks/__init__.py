"""The checks: pure functions from a trace to findings, in one table."""

from trivet.doctor.checks import gradients, loop, loss, normalisation, parameters, rates, signal
from trivet.doctor.checks.common import Check, NotCheckedError

CHECKS: dict[str, Check] = {
    "inplace-on-saved-tensor": gradients.inplace_on_saved_tensor,
    "loss-detached": gradients.loss_detached,
    "foreign-parameter-in-optimizer": parameters.foreign_parameter_in_optimizer,
    "unregistered-module": parameters.unregistered_module,
    "parameter-not-in-optimizer": parameters.parameter_not_in_optimizer,
    "parameter-without-gradient": parameters.parameter_without_gradient,
    "parameter-never-changes": parameters.parameter_never_changes,
    "uninitialised-parameter": parameters.uninitialised_parameter,
    "repeated-module": parameters.repeated_module,
    "fake-freeze": parameters.fake_freeze,
    "frozen-part-changes": parameters.frozen_part_changes,
    "regularisation-moves-frozen-weights": parameters.regularisation_moves_frozen_weights,
    "pretrained-weights-not-loaded": parameters.pretrained_weights_not_loaded,
    "missing-zero-grad": loop.missing_zero_grad,
    "accumulation-cancelled": loop.accumulation_cancelled,
    "trains-in-eval-mode": loop.trains_in_eval_mode,
    "validates-in-train-mode": loop.validates_in_train_mode,
    "clip-before-unscale": loop.clip_before_unscale,
    "scheduler-collapses-lr": loop.scheduler_collapses_lr,
    "scheduler-never-steps": loop.scheduler_never_steps,
    "label-out-of-range": loss.label_out_of_range,
    "all-targets-ignored": loss.all_targets_ignored,
    "probabilities-into-cross-entropy": loss.probabilities_into_cross_entropy,
    "sigmoid-before-bce-with-logits": loss.sigmoid_before_bce_with_logits,
    "loss-broadcast": loss.loss_broadcast,
    "batchnorm-momentum": normalisation.batchnorm_momentum,
    "batchnorm-few-samples": normalisation.batchnorm_few_samples,
    "batchnorm-stats-stale": normalisation.batchnorm_stats_stale,
    "random-in-eval": signal.random_in_eval,
    "graph-retained": signal.graph_retained,
    "data-order-repeats": signal.data_order_repeats,
    "input-not-normalised": normalisation.input_not_normalised,
    "lr-too-high": rates.lr_too_high,
    "dead-relu": signal.dead_relu,
    "exploding-gradient": gradients.exploding_gradient,
    "non-finite": gradients.non_finite,
    "vanishing-gradient": gradients.vanishing_gradient,
    "signal-collapse": signal.signal_collapse,
    "lr-too-low": rates.lr_too_low,
    "script-failed": gradients.script_failed,
}
"""Name of the finding -> its check, causes before consequences; a check is added here and nowhere else."""

__all__ = ["CHECKS", "Check", "NotCheckedError"]

"""Metrics by name: what a model is good for, as one number. One per file; the name is the file.

A file offers `HIGHER_IS_BETTER` and `measure(outputs, truth) -> Measure`: outputs and targets are concatenated on the
batch axis, [N, ...], and whatever they may be to each other is told by `_reading`. Where they are not what the metric
is of, `measure` raises InputError with a sentence. A measure is a function of weights, a row of them for each
resampling: that is what an interval is made of, and why these nine are not taken from torchmetrics, which knows no
weights and sums in float32. The tests hold every one of them to torchmetrics.
"""

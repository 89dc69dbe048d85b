"""Kernels: what a device can do in one dispatch, each a torch operation beside its formula. The name is the file.

An exporter that knows no kernel takes the formula in its place, so that a model with kernels goes wherever it went
without them.
"""

"""Describing: what a model or a file is made of, what it costs and how far it reaches."""

"""Quantisation: stages, number formats, recipes and the audit."""

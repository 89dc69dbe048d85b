"""Exporters: one target per file."""

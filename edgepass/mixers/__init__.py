"""Mixers: what moves information between tokens. One mixer per file; the name is the file."""

"""Rewrites: value-preserving changes to a program, one per file."""

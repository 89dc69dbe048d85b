"""Recipes: named number formats, as TOML."""

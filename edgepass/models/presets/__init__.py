"""Presets: named sizes of Passformers, as TOML."""

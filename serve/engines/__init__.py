"""Engines: token ids in, text deltas out."""

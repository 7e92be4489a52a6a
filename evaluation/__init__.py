"""Judging what a model says."""

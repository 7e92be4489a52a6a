"""Curators: many raw texts in, a few good examples out, and for each of the others the rule that dropped it."""

"""Ablations: the same recipe on other data, and what that changes (Zhou et al. 2023, sections 5 and 6)."""

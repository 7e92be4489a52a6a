"""One page about a release: its lineage, every score that was measured with its interval, answers good and bad, and what was not measured."""

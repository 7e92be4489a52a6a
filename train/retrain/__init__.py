"""From the dialogues that people keep to a better release: train, compare, and say which of the two should chat."""

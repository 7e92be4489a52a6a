"""Looking at training data, and making it."""

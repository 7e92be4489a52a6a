"""What training, evaluation and serving share: dialogues, the template, base models, sampling, releases."""

__version__ = "0.1.0"

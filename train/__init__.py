"""Fine-tuning: from dialogues and a base model to a release."""

"""data/processed: raw files become the train, validation and test splits."""

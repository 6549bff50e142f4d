"""data/raw: where raw files come from, and the IDX format."""

"""data/raw: where raw images come from, and their formats."""

"""models/: what a classifier is."""

"""metrics/ and metrics/pictures/: how good a model is."""

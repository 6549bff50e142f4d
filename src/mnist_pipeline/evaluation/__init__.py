"""metrics/ and pictures/: how good a model is."""

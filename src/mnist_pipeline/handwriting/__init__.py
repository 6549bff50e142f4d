"""Any picture of a digit or another glyph → the form of MNIST."""

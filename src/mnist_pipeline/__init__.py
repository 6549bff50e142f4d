"""Library of the stages and tools, one package per arrow of the data flow."""

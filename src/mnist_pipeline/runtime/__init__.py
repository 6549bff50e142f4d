"""What the machine needs: arithmetic, devices, random streams, memory, ranks."""

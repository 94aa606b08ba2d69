"""Windows through the network."""

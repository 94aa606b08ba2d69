"""A network's geometry, read from the operators that it runs."""

"""The command line: one function per command, no logic."""


def main() -> None:
    """Run the program ``fullconv``."""

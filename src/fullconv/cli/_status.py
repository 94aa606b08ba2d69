"""What the program answers to the shell."""

DONE = 0
MENDABLE = 1  # an error that a user can mend; one message, no traceback
USAGE = 2  # the command line itself
INTERRUPTED = 130  # Ctrl-C: 128 + SIGINT, as shells have it

"""What every test relies on."""

import signal
from contextlib import suppress

# A shell ignores Ctrl-C for what it runs in the background, and whatever that starts ignores it too.
with suppress(ValueError):  # of a thread other than the main one
    signal.signal(signal.SIGINT, signal.default_int_handler)

"""``python -m processor`` is ``speechmill``."""

from processor.commands import main

main()

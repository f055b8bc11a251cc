"""One progress bar, the same in every command: on stderr, and only where someone watches."""

import sys

from tqdm import tqdm


def progress_bar(total: int, what: str, *, quiet: bool = False) -> "tqdm":
    """A bar over `total` steps; silent with `quiet` and where stderr is a pipe or a file."""
    return tqdm(total=total, desc=what, disable=quiet or not sys.stderr.isatty(), leave=False, dynamic_ncols=True)

"""How every command says what is wrong: on standard error, ``ringnic: what is wrong; what to do``."""

from rich.console import Console

__all__ = ["complain"]


def complain(message):
    """Print what is wrong."""
    Console(stderr=True).print(f"ringnic: {message}", style="red", markup=False, highlight=False, soft_wrap=True)

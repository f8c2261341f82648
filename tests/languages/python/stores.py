"""Stores by name, or an exception that says why not."""

from componentize_py_types import Err
from wit_world.imports.state import Store


def open_store(name: str) -> Store:
    """Opens a store of the stage.

    The bindings raise `Err`; but an `Err` that leaves an export is taken for that export's own, and must hold a string.
    """
    try:
        return Store.open(name)
    except Err as error:
        raise LookupError(f"store {name} does not open: {error.value}") from None

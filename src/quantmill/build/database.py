"""doit's database, which decides nothing here."""

import sqlite3
from contextlib import closing
from pathlib import Path

from quantmill.errors import QuantmillError


def sound(database: Path) -> bool:
    """Whether doit will be able to use its database."""
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("create table if not exists quantmill (unused)")  # is there room for a table?
            return bool(connection.execute("pragma quick_check").fetchone() == ("ok",))
    except sqlite3.OperationalError as error:
        if "locked" in str(error):  # another build is just writing to it
            return True
        raise QuantmillError(f"{database}: {error}; check the path, its rights and the room left") from None
    except sqlite3.DatabaseError:
        return False

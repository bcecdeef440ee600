"""Check SQL expressions of users before SQLite sees them, and while it runs them.

An expression stands in parentheses after our WHERE. `columns_named` makes sure that it is one expression: no
comment, semicolon, parameter or open quote, balanced parentheses. SQLite asks `SqlAuthorizer` about all that
the statement would do: it may read the columns of our view of the documents, and call functions that use
their arguments alone. A subquery is a second SELECT, which is refused, as is everything else.
"""

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from resizable_search.errors import UsageError
from resizable_search.text import quoted

MOST_CHARACTERS = 10_000  # of an expression
MOST_DEPTH = 80  # of nested parentheses: SQLite's parser allows a hundred
MOST_BYTES = 1 << 20  # of a text that an expression makes or reads
MOST_SECONDS = 30.0  # that an expression may take
STEPS = 200  # SQLite instructions between two checks of the time

_TIME = "date time datetime julianday strftime unixepoch timediff current_date current_time current_timestamp"
_OTHERS = """
    abs char coalesce concat concat_ws glob hex if ifnull iif instr length like likelihood likely lower
    ltrim max min nullif octet_length quote replace round rtrim sign soundex substr substring trim
    typeof unhex unicode unistr unistr_quote unlikely upper

    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi
    pow power radians sin sinh sqrt tan tanh trunc

    json json_array json_array_length json_error_position json_extract json_object json_patch json_pretty
    json_quote json_remove json_replace json_set json_insert json_type json_valid -> ->>"""

TIME_FUNCTIONS = frozenset(_TIME.split())  # their values change with time
FUNCTIONS = TIME_FUNCTIONS.union(_OTHERS.split())  # the functions that an expression may call
KEY_FUNCTION = "value_of_key"  # our function, which the view alone may call

_QUOTED = re.compile(  # a text, or a quoted name
    r"""'(?:[^']|'')*' | "(?P<double>(?:[^"]|"")*)" | `(?P<back>(?:[^`]|``)*)` | \[(?P<square>[^\]]*)\]""",
    re.VERBOSE,
)

_REFUSED = {  # outside of texts and quoted names
    "--": "has a comment: write the expression alone",
    "/*": "has a comment: write the expression alone",
    ";": "has a semicolon: write one expression",
    **dict.fromkeys("?:@$", "has a parameter: write the value itself"),
    "'": "has an unclosed ': write a text 'like this'",
    '"': 'has an unclosed ": write a column "like this"',
    "`": "has an unclosed `",
    "[": "has a [ without its ]",
    "\0": "has a NUL in it",
}


def columns_named(expression: str) -> list[str]:
    """The quoted names, which must be columns: SQLite would take others for texts. Raises UsageError."""
    if not expression.strip():
        raise UsageError("the `where` expression is empty: write one such as \"title GLOB 'B*'\"")
    if len(expression) > MOST_CHARACTERS:
        raise refused(expression, f"has more than the {MOST_CHARACTERS:,} characters that are allowed")
    bare = _QUOTED.sub(" ", expression)
    for mark, why in _REFUSED.items():
        if mark in bare:
            raise refused(expression, why)
    depths = list(accumulate((character == "(") - (character == ")") for character in bare))
    if min(depths) < 0 or depths[-1]:
        raise refused(expression, "has a parenthesis without the other one")
    if max(depths) > MOST_DEPTH:
        raise refused(expression, f"is nested more than {MOST_DEPTH} deep")
    quoted_names = (match.groupdict() for match in _QUOTED.finditer(expression))
    marks = {"double": '"', "back": "`", "square": "]"}
    return [
        name.replace(marks[kind] * 2, marks[kind])
        for names in quoted_names
        for kind, name in names.items()
        if name is not None
    ]


def refused(expression: str, why: str) -> UsageError:
    """The error for an expression."""
    return UsageError(f"`where` {quoted(expression)} {why}")


class SqlAuthorizer:
    """Decides for SQLite what one statement may do, until `ends` (of time.monotonic)."""

    def __init__(self, view: str, ends: float) -> None:
        self._view = view  # of the table `documents`, whose columns the statement may read
        self._ends = ends
        self._selects = 0
        self.refusal = ""  # what was refused
        self.is_timely = False  # whether it called a function whose value changes with time
        self.ran_out = False

    @contextmanager
    def watch(self, connection: sqlite3.Connection) -> Iterator[None]:
        """Let this connection ask."""
        connection.set_authorizer(self._may)
        connection.set_progress_handler(self._is_over, STEPS)
        try:
            yield
        finally:
            connection.set_authorizer(None)
            connection.set_progress_handler(None, 0)

    def _is_over(self) -> bool:
        self.ran_out = self.ran_out or time.monotonic() > self._ends
        return self.ran_out

    def _may(self, action: int, one: str | None, two: str | None, _: str | None, by: str | None) -> int:
        why = self._refusal(action, one, two, by)
        if not why:
            return sqlite3.SQLITE_OK
        self.refusal = self.refusal or why
        return sqlite3.SQLITE_DENY

    def _refusal(self, action: int, one: str | None, two: str | None, by: str | None) -> str:
        """Why the statement may not do this; '' if it may. `by` is the view that asks, if one does."""
        if action == sqlite3.SQLITE_SELECT:
            self._selects += by is None
            is_ours = by == self._view or self._selects == 1
            return "" if is_ours else "has a query in it: only columns can be used"
        if action == sqlite3.SQLITE_READ:
            if two == "ROWID":
                return "names no column 'rowid': views have none"
            # Reading the table below the view without a column only walks its rows.
            allowed = one == self._view or (one == "documents" and (by == self._view or not two))
            return "" if allowed else "reads something else than the documents' columns"
        if action == sqlite3.SQLITE_FUNCTION:
            name = (two or "").lower()
            self.is_timely = self.is_timely or name in TIME_FUNCTIONS
            is_allowed = name in FUNCTIONS or (name, by) == (KEY_FUNCTION, self._view)
            return "" if is_allowed else f"calls {name}(), which is not allowed"
        return "is more than an expression"

"""SQL expressions of users: read apart before SQLite sees them, and watched over while it runs them.

An expression stands in parentheses behind a WHERE of ours. It is one expression and nothing else because
it has no comment, no semicolon, no parameter, no open quote and balanced parentheses (`columns_named`), and
because SQLite asks `SqlAuthorizer` about whatever the statement would do: it may read the columns of our
view of the documents and call functions that look at their arguments alone. A subquery is a second
SELECT, which is refused, as is everything else.
"""

import re
import sqlite3
import time

from resizable_search.errors import UsageError
from resizable_search.text import quoted

MOST_CHARACTERS = 10_000
"""Of an expression."""

MOST_DEPTH = 80
"""Of parentheses within parentheses: SQLite's parser has room for a hundred."""

MOST_BYTES = 1 << 20
"""Of a text that an expression may make, as of the metadata that it may read."""

MOST_SECONDS = 30.0
"""That an expression may run."""

STEPS = 200
"""Instructions of SQLite's machine between two looks at the clock."""

_TIME = "date time datetime julianday strftime unixepoch timediff current_date current_time current_timestamp"
_CORE = """
    abs char coalesce concat concat_ws glob hex if ifnull iif instr length like likelihood likely lower
    ltrim max min nullif octet_length quote replace round rtrim sign soundex substr substring trim
    typeof unhex unicode unistr unistr_quote unlikely upper"""
_MATHEMATICS = """
    acos acosh asin asinh atan atan2 atanh ceil ceiling cos cosh degrees exp floor ln log log10 log2 mod pi
    pow power radians sin sinh sqrt tan tanh trunc"""
_JSON = """
    json json_array json_array_length json_error_position json_extract json_object json_patch json_pretty
    json_quote json_remove json_replace json_set json_insert json_type json_valid -> ->>"""

TIME_FUNCTIONS = frozenset(_TIME.split())
"""Their answers change by themselves."""

FUNCTIONS = TIME_FUNCTIONS.union(_CORE.split(), _MATHEMATICS.split(), _JSON.split())
"""The functions that an expression may call."""

KEY_FUNCTION = "value_of_key"
"""A function of ours that the view alone may call."""

_TOKEN = re.compile(
    r"""(?P<text>[xX]?'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>[\d.][\w.]*)
      | (?P<comment>--|/\*)
      | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)

_REFUSED = {
    ";": "has a semicolon: write one expression",
    "?": "has a parameter: write the value itself",
    ":": "has a parameter: write the value itself",
    "@": "has a parameter: write the value itself",
    "$": "has a parameter: write the value itself",
    "'": "has a ' without its other half: a text is written 'like this'",
    '"': 'has a " without its other half: a column is written "like this"',
    "`": "has a ` without its other half",
    "[": "has a [ without its ]",
    "\0": "has a NUL in it",
}


def columns_named(expression: str) -> list[str]:
    """The quoted names in an expression, each of which must be a column's. Raises UsageError.

    SQLite itself would take a name in quotation marks that is no column's for a text.
    """
    if not expression.strip():
        raise UsageError("the `where` expression is empty: write one such as \"title GLOB 'B*'\"")
    if len(expression) > MOST_CHARACTERS:
        raise UsageError(
            f"the `where` expression has {len(expression):,} characters: {MOST_CHARACTERS:,} are allowed"
        )
    names, depth = [], 0
    for token in _TOKEN.finditer(expression):
        kind, said = token.lastgroup, token.group()
        if kind == "name":
            mark = {"[": "]"}.get(said[0], said[0])
            names.append(said[1:-1] if mark == "]" else said[1:-1].replace(mark * 2, mark))
        elif kind == "comment":
            raise refused(expression, "has a comment: write the expression alone")
        elif said in _REFUSED:
            raise refused(expression, _REFUSED[said])
        elif said == "(":
            depth += 1
        elif said == ")":
            depth -= 1
        if depth < 0:
            raise refused(expression, "has a ) without its (")
        if depth > MOST_DEPTH:
            raise refused(expression, f"is nested more than {MOST_DEPTH} deep")
    if depth:
        raise refused(expression, "has a ( without its )")
    return names


def refused(expression: str, why: str) -> UsageError:
    """What a user is told of an expression."""
    return UsageError(f"`where` {quoted(expression)} {why}")


class SqlAuthorizer:
    """Answers SQLite for one statement: what it may do, and until when (`ends`, of time.monotonic).

    `view` is the view that the statement may read, over columns of the table `documents`. `refusal` says
    what was refused, `is_timely` whether a function was called whose answer changes by itself.
    """

    def __init__(self, view: str, ends: float) -> None:
        self._view = view
        self._ends = ends
        self._selects = 0
        self.refusal = ""
        self.is_timely = False
        self.ran_out = False

    def watch(self, connection: sqlite3.Connection) -> None:
        """Have this connection ask from now on."""
        connection.set_authorizer(self._may)
        connection.set_progress_handler(self._is_over, STEPS)

    @staticmethod
    def release(connection: sqlite3.Connection) -> None:
        """Have it ask no longer."""
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
        """Why the statement may not do this; '' if it may. `by` is the view that wants it, if one does."""
        if action == sqlite3.SQLITE_SELECT:
            self._selects += by is None
            return (
                ""
                if by == self._view or self._selects == 1
                else "has a query in it: only columns can be used"
            )
        if action == sqlite3.SQLITE_READ:
            if two == "ROWID":
                return "names no column 'rowid': views have none"
            # Of the table below the view without a column: rows are gone through, nothing is read.
            allowed = one == self._view or (one == "documents" and (by == self._view or not two))
            return "" if allowed else "reads something else than the documents' columns"
        if action == sqlite3.SQLITE_FUNCTION:
            name = (two or "").lower()
            self.is_timely = self.is_timely or name in TIME_FUNCTIONS
            return (
                ""
                if name in FUNCTIONS or (name, by) == (KEY_FUNCTION, self._view)
                else f"calls {name}(), which is not allowed"
            )
        return "is more than an expression"

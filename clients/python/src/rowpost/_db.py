"""The few things that outbox, inbox and half ask of a connection, whichever library it is from."""

from __future__ import annotations

from typing import Any, Sequence

DUPLICATE = 1062
NO_SAVEPOINT = 1305
LOCK_TIMEOUT = 1205
# Deadlock, lock wait, and MariaDB's "record has changed": the transaction has to be rolled back, and can then succeed.
LOCKED = frozenset((1020, LOCK_TIMEOUT, 1213))


def execute(tx: Any, sql: str, args: Sequence[Any] = ()) -> tuple[list[Sequence[Any]], int]:
    """Run one statement, with ? for its parameters; the rows, and how many were changed."""
    sql = sql.replace("?", "%s")
    if hasattr(tx, "exec_driver_sql"):  # SQLAlchemy's Connection
        result = tx.exec_driver_sql(sql, tuple(args))
        return (list(result.fetchall()) if result.returns_rows else []), result.rowcount
    if callable(getattr(tx, "connection", None)):  # SQLAlchemy's Session
        return execute(tx.connection(), sql, args)
    cursor = tx.cursor()
    try:
        cursor.execute(sql, tuple(args))
        rows = list(cursor.fetchall()) if cursor.description else []
        return [tuple(row.values()) if isinstance(row, dict) else row for row in rows], cursor.rowcount
    finally:
        cursor.close()


def flush(tx: Any) -> None:
    """Let an object mapper send what it has kept back."""
    if hasattr(tx, "expunge_all"):
        tx.flush()


def forget(tx: Any) -> None:
    """Let an object mapper drop what it believes of rows that were rolled back."""
    if hasattr(tx, "expunge_all"):
        tx.expunge_all()


def discard(tx: Any) -> None:
    """Close a connection that is in doubt, so that no pool hands it out again."""
    for name in ("invalidate", "close"):
        try:
            getattr(tx, name, lambda: None)()
        except Exception:
            pass  # it is gone already


def error_code(error: BaseException | None) -> int:
    """The server's error number, 0 if the error is none of the server's."""
    while error is not None:
        error_or_cause = getattr(error, "orig", None) or error  # SQLAlchemy wraps the driver's error
        code = getattr(error_or_cause, "errno", None)
        if code is None and error_or_cause.args:
            code = error_or_cause.args[0]
        # OSError has an errno too, and it is another one.
        if isinstance(code, int) and not isinstance(error_or_cause, OSError):
            return code
        error = error.__cause__
    return 0

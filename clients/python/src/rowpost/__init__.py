"""Rowpost for Python: ``outbox`` sends, ``inbox`` receives, ``half`` is for work outside of the database.

Everything runs on the connection or transaction that the application has. A ``tx`` is a DB-API connection (PyMySQL,
mysqlclient, mysql-connector-python), or a Connection or Session of SQLAlchemy.
"""

from . import half, inbox, outbox

__all__ = ["half", "inbox", "outbox"]

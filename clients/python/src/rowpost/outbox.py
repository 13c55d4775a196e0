"""Sending: a row in the transaction of your own writes. It is published if, and only if, you commit."""

from __future__ import annotations

import json
import re
import secrets
import socket
import time
from datetime import datetime, timedelta, timezone
from typing import Any, Mapping

from ._db import execute

_NAME = re.compile(r"[A-Za-z0-9_.$-]{1,64}")


def new_message_id() -> str:
    """A UUID version 7: it never comes again, and sorts by time."""
    value = (time.time_ns() // 1_000_000) << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    text = f"{value:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def add(
    tx: Any,
    topic: str,
    payload: bytes | str | Mapping[str, Any] | list[Any],
    *,
    key: str | None = None,
    headers: Mapping[str, Any] | None = None,
    content_type: str = "application/json",
    deliver_at: datetime | timedelta | None = None,
    receipt_from: str | None = None,
    on_rejected: str | None = None,
    message_id: str | None = None,
    table: str = "outbox",
) -> str:
    """Add a message to the outbox in the transaction that is open on ``tx``, and return its id.

    Nothing is committed here. ``payload`` is sent byte for byte; a str as UTF-8, a dict or list as JSON. Messages of one
    ``key`` keep their order. ``deliver_at`` is a point in time with a time zone, or a timedelta from the database's now.
    ``receipt_from`` names the consumer groups that have to report it as applied, comma-separated; ``on_rejected`` is the
    topic of the compensation when one rejects it. Raises what the driver raises, and ValueError for a time without a zone.
    """
    if not _NAME.fullmatch(table):
        raise ValueError(f"{table!r} cannot be the name of an outbox table")
    if isinstance(payload, (dict, list)):
        payload = json.dumps(payload)
    row: dict[str, Any] = {
        "message_id": message_id or new_message_id(),
        "topic": topic,
        "ordering_key": key,
        # ASCII with escapes: the same text in whatever character set the connection has.
        "headers": None if headers is None else json.dumps(headers),
        "content_type": content_type,
        "payload": payload.encode() if isinstance(payload, str) else bytes(payload),
        "receipt_from": receipt_from,
        "on_rejected": on_rejected,
    }
    marks = ["?"] * len(row)
    if deliver_at is not None:
        row["outbox"] = table
        marks.append("?")
        table = "outbox_delayed"
        if isinstance(deliver_at, timedelta):
            row["deliver_at"] = deliver_at // timedelta(microseconds=1)
            marks.append("UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND")
        elif deliver_at.tzinfo is None:
            raise ValueError("deliver_at needs a time zone: datetime.now(timezone.utc) and the like")
        else:
            row["deliver_at"] = deliver_at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
            marks.append("?")
    execute(tx, f"INSERT INTO `{table}` ({', '.join(row)}) VALUES ({', '.join(marks)})", list(row.values()))
    return row["message_id"]


def ring(doorbell: str, outbox: str = "") -> bool:
    """After the commit: let the relay look at once instead of at its next poll. A hint, so it never fails: False means
    that the relay was not reached and will look by itself. ``doorbell`` is the relay's doorbell_socket, or host:port."""
    is_path = "/" in doorbell
    host, _, port = doorbell.rpartition(":")
    try:
        with socket.socket(socket.AF_UNIX if is_path else socket.AF_INET, socket.SOCK_DGRAM) as bell:
            bell.setblocking(False)
            bell.sendto(outbox.encode(), doorbell if is_path else (host, int(port)))
        return True
    except (OSError, ValueError):
        return False

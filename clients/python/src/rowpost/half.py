"""Half-messages: a message that is sent exactly when work outside of the outbox's database succeeds (docs/half-messages.md).

    relay.prepare(gid, "orders", commit=[half.message("order.paid", {"order": 4711})])   # durable, invisible
    with connection:                                                                     # the local transaction
        half.barrier(connection, gid)                                                    # its first statement
        ...
        connection.commit()
    relay.commit(gid)                                                                    # or it is asked for, see check_app
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.client
import io
import json
import socket
import time
import urllib.parse
from typing import Any, Callable, Iterable, Mapping

from . import _db

_ANSWER_MAX = 16 * 1024 * 1024


class Refused(Exception):
    """The relay has said no: ``status``, ``reason`` (already_committed, gid_reused, ...), ``answer`` as it came."""

    def __init__(self, status: int, answer: Mapping[str, Any]):
        error = answer.get("error")
        error = error if isinstance(error, Mapping) else {}
        super().__init__(f"{status} {error.get('reason', '')}: {error.get('message', '')}")
        self.status, self.reason, self.answer = status, error.get("reason"), answer


class Unanswered(Exception):
    """No clear answer within the time given: perhaps done. Repeat it, or leave it to check-back."""


class Decided(Exception):
    """The barrier is taken: a check has decided first, or this gid was used before. Roll back."""


def message(topic: str, payload: bytes | str | dict[str, Any] | list[Any], *, key: str | None = None,
            headers: Mapping[str, Any] | None = None, content_type: str = "application/json",
            receipt_from: str | None = None, on_rejected: str | None = None, message_id: str | None = None) -> dict[str, Any]:
    """A message of a half-message; the same words as outbox.add."""
    if isinstance(payload, (dict, list)):
        payload = json.dumps(payload)
    data = payload.encode() if isinstance(payload, str) else bytes(payload)
    fields = {"topic": topic, "payload_base64": base64.b64encode(data).decode(), "ordering_key": key, "headers": headers,
              "content_type": content_type, "receipt_from": receipt_from, "on_rejected": on_rejected, "message_id": message_id}
    return {name: value for name, value in fields.items() if value is not None}


class _Answer(io.RawIOBase):
    """What comes on a connection until a point in time: a socket's own limit is for each read, and an answer that drips would
    hold its caller for good."""

    def __init__(self, sock: socket.socket, until: float):
        self._sock, self._until, self._raw = sock, until, sock.makefile("rb", buffering=0)

    def makefile(self, *_: Any) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer takes too long")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class Client:
    """The relay's API. A request has ``timeout`` seconds, and is repeated while there is no clear answer, for ``patience``
    seconds. The token goes to the relay's address and nowhere else: redirects are not followed, proxies not used. Any thread."""

    def __init__(self, url: str, token: str, *, timeout: float = 2.0, patience: float = 20.0):
        self._url, self._token = url.rstrip("/") + "/v1/half-messages", token
        self._timeout, self._patience = timeout, patience

    def prepare(self, gid: str, producer: str, commit: Iterable[Mapping[str, Any]] = (),
                rollback: Iterable[Mapping[str, Any]] = (), first_check_ms: int | None = None) -> dict[str, Any]:
        """Start the local transaction only after this has returned. ``state`` in the answer is "prepared" the first time."""
        body = {"gid": gid, "producer": producer, "commit": list(commit), "rollback": list(rollback),
                "first_check_ms": first_check_ms}
        return self._call("POST", "", gid, json.dumps(body).encode())

    def commit(self, gid: str, *, wait: bool = True) -> dict[str, Any]:
        """``wait=False``: returns when the relay has queued the verdict (``state`` is "accepted"); should it be lost there,
        check-back finds out. Then nobody says of a conflict."""
        return self._call("POST", f"/{self._quote(gid)}/commit", gid, wait=wait)

    def rollback(self, gid: str, *, wait: bool = True) -> dict[str, Any]:
        return self._call("POST", f"/{self._quote(gid)}/rollback", gid, wait=wait)

    def lookup(self, gid: str) -> dict[str, Any]:
        return self._call("GET", f"/{self._quote(gid)}", gid)

    @staticmethod
    def _quote(gid: str) -> str:
        return urllib.parse.quote(gid, safe="")

    def _call(self, method: str, path: str, gid: str, body: bytes | None = None, wait: bool = True) -> dict[str, Any]:
        # The bytes of a repeated prepare are the same: printed again they might be another prepare.
        body = body if method == "GET" else body or b""
        until, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                status, said = self._once(method, path, body, wait)
                if 400 <= status < 500:
                    raise Refused(status, said)
                if 200 <= status < 300 and said.get("gid") == gid:
                    return said
                why = f"status {status}, or an answer that names no gid"  # something else stands at this address
            except (OSError, ValueError, http.client.HTTPException) as error:
                why = str(error)
            if time.monotonic() + pause > until:
                raise Unanswered(f"{method} {self._url}{path}: {why}")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)

    def _once(self, method: str, path: str, body: bytes | None, wait: bool) -> tuple[int, dict[str, Any]]:
        url = urllib.parse.urlsplit(self._url)
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        end = time.monotonic() + self._timeout
        with contextlib.closing(kind(url.hostname or "", url.port, timeout=self._timeout)) as connection:
            connection.response_class = lambda sock, *args, **more: http.client.HTTPResponse(_Answer(sock, end), *args, **more)
            connection.request(method, url.path + path, body, {
                "Authorization": f"Bearer {self._token}", "Content-Type": "application/json", "Connection": "close",
                **({} if wait else {"Prefer": "respond-async"})})
            with connection.getresponse() as answer:
                try:
                    said = json.loads(answer.read(_ANSWER_MAX))
                except ValueError:
                    said = {}
                return answer.status, said if isinstance(said, dict) else {}


def barrier(tx: Any, gid: str) -> None:
    """The first statement of the local transaction. Raises Decided: roll back, and do not try again."""
    try:
        _db.execute(tx, "INSERT INTO half_barrier (gid) VALUES (?)", (gid,))
    except Exception as error:
        if _db.error_code(error) == _db.DUPLICATE:
            raise Decided(gid) from error
        raise


def check(tx: Any, gid: str) -> str:
    """What became of the local transaction: "committed", "rolled_back" (and it stays so), or "in_progress". Uses, and
    commits, a transaction of its own on ``tx``."""
    _db.execute(tx, "SET @rowpost_wait = @@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 1")
    try:
        _db.execute(tx, "INSERT INTO half_barrier (gid, reason) VALUES (?, 'rollback')", (gid,))
        tx.commit()
        return "rolled_back"
    except Exception as error:
        tx.rollback()
        if _db.error_code(error) == _db.LOCK_TIMEOUT:
            return "in_progress"
        if _db.error_code(error) != _db.DUPLICATE:
            raise
        rows, _ = _db.execute(tx, "SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'", (gid,))
        tx.rollback()
        return "committed" if rows[0][0] in ("commit", b"commit") else "rolled_back"
    finally:
        _db.execute(tx, "SET SESSION innodb_lock_wait_timeout = @rowpost_wait")


def check_app(connect: Callable[[], Any], token: str) -> Callable[..., Iterable[bytes]]:
    """The check address as a WSGI application: GET ?gid=GID with the bearer token of the relay's [producer] section."""

    def app(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        gids = urllib.parse.parse_qs(environ.get("QUERY_STRING", "")).get("gid", [])
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1")
        if not hmac.compare_digest(given, f"Bearer {token}".encode()):
            status, answer = "401 Unauthorized", {}
        elif len(gids) != 1 or not 0 < len(gids[0]) <= 128:
            status, answer = "400 Bad Request", {}
        else:
            tx = connect()
            try:
                status, answer = "200 OK", {"state": check(tx, gids[0])}
            except Exception:  # no answer that counts: the relay asks again
                status, answer = "503 Service Unavailable", {}
            finally:
                tx.close()
        body = json.dumps(answer).encode()
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app

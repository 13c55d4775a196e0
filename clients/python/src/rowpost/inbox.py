"""Receiving: each message is handled once, in the transaction of your own writes (docs/inbox.md).

    def handler(tx, message):
        tx.cursor().execute("UPDATE stock SET ...", message.json()["sku"])    # done
        ...
        return inbox.Reject("no such article")     # or raise it: never, kept as dead with the reason
        raise inbox.Retry(after=5)                 # undone, and tried again; any other exception, too

    inbox.work("stock", handler, connect=lambda: pymysql.connect(...))
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import secrets
import select
import signal
import socket
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Callable, Sequence

from . import _db

log = logging.getLogger("rowpost.inbox")

# The statements of sql/inbox/statements.sql; a test compares them.
_COLUMNS = """SELECT id, message_id, topic, ordering_key, content_type, headers, source, traceparent, created_at, received_at,
       attempts + 1 AS attempt, max_attempts, key_hash, size,
       IF(size + 65536 <= @@max_allowed_packet, payload, NULL) AS payload, CAST(due_at AS CHAR) AS due
FROM inbox"""
TAKE = _COLUMNS + """ FORCE INDEX (inbox_due)
WHERE queue = ? AND state = 'ready' AND due_at >= ? AND due_at <= UTC_TIMESTAMP(6)
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED"""
FOLLOWING = _COLUMNS + " WHERE id = ?"
NEXT = """SELECT id FROM inbox FORCE INDEX (inbox_key)
WHERE queue = ? AND key_hash = ? AND after_id = ? AND state = 'blocked'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"""
DONE = """UPDATE inbox FORCE INDEX (PRIMARY) SET state = IF(state = 'ready', 'done', 'ready'), due_at = UTC_TIMESTAMP(6)
WHERE (id = ? AND state = 'ready') OR (id = ? AND state = 'blocked')"""
RETRY = """UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6) + INTERVAL IF(attempts + 1 >= max_attempts, 0, CAST(1000 * LEAST(31536000000, GREATEST(0,
        0 + COALESCE(?, LEAST(retry_max_ms, retry_min_ms * POW(2, LEAST(attempts, 24))) * (0.5 + RAND() / 2))))
        AS UNSIGNED)) MICROSECOND,
    state = IF(attempts + 1 >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_HANDLER', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'"""
REJECT = """UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6), state = 'dead',
    reason_code = 'OBX_E_REJECTED', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'"""
FAILED = "SELECT id FROM inbox WHERE id = ? AND state = 'ready' AND attempts + 1 = ? FOR UPDATE SKIP LOCKED"
COUNT = """UPDATE inbox SET
    due_at = IF(attempts >= max_attempts, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 30 SECOND),
    state = IF(attempts >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_TIMEOUT', reason = 'its worker did not come back',
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'"""
COUNTED = "UPDATE inbox SET attempts = attempts - 1 WHERE id = ? AND state = 'ready' AND attempts = ?"
PAYLOAD = "SELECT SUBSTRING(payload, ? + 1, ?) FROM inbox WHERE id = ?"

PIECE = 512 * 1024  # of a payload that the session's max_allowed_packet does not let through in one
FIRST_WAIT_S = 0.01  # after the last message; doubles up to the poll interval
LONGEST_PAUSE_S = 5.0  # while the database cannot be reached
LOCKS_IN_A_ROW = 3  # of one message, then it waits like one that has failed and lets others pass
REASON_BYTES = 1024  # of a reason are kept
NO_REASON = "its reason cannot be stored"
LONGEST_RETRY_S = 365 * 86400.0
FOLLOW_S = 0.05  # how long a transaction may go on with the next message of its key
START = "1970-01-01"  # where a take begins that is to see all that is due
START_SHARE = 20  # of its time a worker spends one part in so many on takes that begin there
LONGEST_SKIP_S = 60.0


class Retry(Exception):
    """Return or raise it in a handler: undone, and tried again ``after`` seconds, a year at most (None: the queue's backoff)."""

    def __init__(self, reason: str = "", after: float | None = None):
        super().__init__(reason)
        if after is not None and math.isnan(after):
            raise ValueError("the time until the next try is not a number")
        self.reason, self.after = reason, None if after is None else min(max(after, 0.0), LONGEST_RETRY_S)


class Reject(Exception):
    """Return or raise it in a handler: it will never succeed. Kept as dead, with the reason."""

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason


@dataclass
class Message:
    id: int
    message_id: str
    topic: str
    key: str | None
    content_type: str | None
    headers: dict[str, Any]
    source: str | None
    traceparent: str | None
    created_at: datetime | None
    received_at: datetime
    attempt: int  # 1 for the first try
    max_attempts: int
    payload: bytes
    raw_headers: bytes | None  # as they came

    def json(self) -> Any:
        return json.loads(self.payload)


Handler = Callable[[Any, Message], Any]


def _text(value: Any) -> str | None:
    return None if value is None else bytes(value).decode("utf-8", "surrogateescape") if not isinstance(value, str) else value


def _utc(value: datetime | None) -> datetime | None:
    return value and value.replace(tzinfo=timezone.utc)


def _reason(value: Any) -> str:
    """What is kept of a reason: valid UTF-8, cut between characters. Any object, also one that cannot be printed."""
    try:
        text = "" if value is None else f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception:
        text = NO_REASON
    # What stands for bytes that are no UTF-8 (surrogates) cannot be sent.
    return text[:REASON_BYTES].encode("utf-8", "replace")[:REASON_BYTES].decode("utf-8", "ignore")


class Worker:
    """One worker, for one thread. As many as you like, in any number of processes, side by side."""

    def __init__(
        self,
        queue: str,
        handler: Handler,
        connect: Callable[[], Any],
        *,
        wake_dir: str | None = None,
        poll: float = 1.0,
        follow: int = 20,
    ):
        """``connect`` gives a connection (or a Session): at the start, and again when one was lost. ``wake_dir`` is that of
        the queue in inbox-relay's configuration: it ends a wait at once; else an empty inbox is asked every ``poll``
        seconds. ``follow``: up to so many messages of one key share a commit, for 50 ms at most; 1 for a commit each."""
        self.queue, self.handler, self.connect = queue, handler, connect
        self.poll, self.follow = poll, follow
        self._wake_dir = wake_dir
        self._is_stopping = False
        self._stop_read, self._stop_write = socket.socketpair()
        self._current: Message | None = None
        # A message that may have ended its worker is counted first: each one until the first went well, and the one in
        # whose transaction the connection was lost.
        self._is_new = True
        self._is_counted = False
        # After a rollback the next one has a transaction to itself: else a message that fails in the wake of others of its
        # key takes them back with it, time and again, and its failure is never noted.
        self._is_alone = True
        self._suspect = 0
        self._locked_id, self._locked_times = 0, 0
        self._due, self._start_again = START, 0.0

    def stop(self) -> None:
        """Ends run() after the message in hand. From any thread, or from a signal handler."""
        self._is_stopping = True
        try:
            self._stop_write.send(b".")
        except OSError:
            pass  # run() has ended

    def run(self) -> None:
        """Works until stop(). What goes wrong with the database is logged and tried again."""
        bell = self._open_bell()
        tx, wait, pause = None, FIRST_WAIT_S, FIRST_WAIT_S
        try:
            while not self._is_stopping:
                try:
                    tx = self.connect() if tx is None else tx
                    wait = FIRST_WAIT_S if self._serve(tx) else self._wait(wait, bell)
                    pause = FIRST_WAIT_S
                except Exception as error:
                    log.warning("inbox %s: %s", self.queue, error)
                    tx = self._recover(tx, error)
                    self._wait(pause, None)
                    pause = min(2 * pause, LONGEST_PAUSE_S)
        finally:
            if tx is not None:
                _db.discard(tx)  # what is open is rolled back by the server
            if bell is not None:
                with contextlib.suppress(OSError):
                    os.unlink(bell.getsockname())  # perhaps the folder was cleaned
                bell.close()
            self._stop_read.close()
            self._stop_write.close()

    def _open_bell(self) -> socket.socket | None:
        if self._wake_dir is None:
            return None
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = os.path.join(self._wake_dir, f"{os.getpid()}-{secrets.token_hex(4)}")
        bell.bind(path)
        os.chmod(path, 0o666)  # inbox-relay runs as another user, and to send it needs the right to write
        bell.setblocking(False)
        return bell

    def _wait(self, seconds: float, bell: socket.socket | None) -> float:
        """Until the time is over, a datagram comes, or stop(). The next wait's length."""
        ends = select.poll()  # select() takes no descriptor above 1023
        for end in (self._stop_read, bell):
            if end is not None:
                ends.register(end, select.POLLIN)
        ready = [number for number, _ in ends.poll(math.ceil(seconds * 1000))]
        if bell is None or bell.fileno() not in ready:
            return min(2 * seconds, self.poll)
        try:
            while bell.recv(256) is not None:
                pass
        except BlockingIOError:
            pass
        return FIRST_WAIT_S

    def _begin(self, tx: Any) -> None:
        _db.execute(tx, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        _db.execute(tx, "START TRANSACTION")

    def _serve(self, tx: Any) -> bool:
        """One transaction: a message, and those of its key that follow. False: there was none."""
        self._current, self._is_counted = None, False
        self._begin(tx)
        rows = self._take(tx)
        if not rows:
            tx.rollback()
            return False
        message = self._current = self._message(rows[0])
        if (self._is_new or message.id == self._suspect) and not self._count(tx, message):
            return True
        until = time.monotonic() + FOLLOW_S
        for left in range(self.follow - 1, -1, -1):
            next_id = self._handle(tx, message, rows[0][12])
            if next_id is None:
                return True
            if not next_id or left == 0 or self._is_alone or self._is_stopping or time.monotonic() > until:
                break
            rows, _ = _db.execute(tx, FOLLOWING, (next_id,))
            if not rows:
                break
            message = self._current = self._message(rows[0])
            self._is_counted = False
        tx.commit()
        self._current = None
        self._is_new, self._is_alone, self._suspect, self._locked_id = False, False, 0, 0
        return True

    def _take(self, tx: Any) -> list[Sequence[Any]]:
        """Begins at the row that was taken last, for before it are entries of rows that have ended, until the server has purged
        them; and at the start again as often as that is cheap, for what was committed late."""
        began = time.monotonic()
        is_start = began >= self._start_again
        rows, _ = _db.execute(tx, TAKE, (self.queue, START if is_start else self._due))
        if rows:
            self._due = _text(rows[0][15]) or START
        if is_start:
            ended = time.monotonic()
            self._start_again = ended + min(START_SHARE * (ended - began), LONGEST_SKIP_S)
        return rows

    def _count(self, tx: Any, message: Message) -> bool:
        """Counts the attempt in a commit of its own, and takes the count back in the transaction of the effect."""
        _db.execute(tx, COUNT, (message.id,))
        tx.commit()
        self._is_counted = True
        self._begin(tx)
        if _db.execute(tx, COUNTED, (message.id, message.attempt))[1] == 1:
            return True
        tx.rollback()  # dead, or somebody else's
        return False

    def _handle(self, tx: Any, message: Message, key_hash: bytes | None) -> int | None:
        """Handles a message up to, and without, the commit. The id of the next of its key that is ours now, or 0. None: the
        transaction was rolled back, and the message is not to be had again."""
        _db.execute(tx, "SAVEPOINT rowpost")
        try:
            self._complete(tx, message)
            outcome = self.handler(tx, message)
            if not isinstance(outcome, (Retry, Reject)):
                _db.flush(tx)
                # Without its savepoint the transaction was ended by the handler, or by a deadlock that it has swallowed.
                _db.execute(tx, "RELEASE SAVEPOINT rowpost")
                outcome = None
        except (Retry, Reject) as raised:
            outcome = raised
        except Exception as error:
            if _db.error_code(error) in _db.LOCKED:
                raise
            log.warning("inbox %s: %s, attempt %d: %r", self.queue, message.message_id, message.attempt, error)
            outcome = Retry(_reason(error))
        if outcome is None:
            return self._done(tx, message, key_hash)
        try:
            _db.execute(tx, "ROLLBACK TO SAVEPOINT rowpost")
            _db.forget(tx)
        except Exception:
            tx.rollback()
            self._is_alone = True
            if not self._take_again(tx, message):
                tx.rollback()
                return None
        self._fail(tx, message, outcome)
        return 0

    def _take_again(self, tx: Any, message: Message) -> bool:
        """In a new transaction, after the first was rolled back. False: another worker has it, nothing is to be done."""
        self._begin(tx)
        if self._is_counted:
            return _db.execute(tx, COUNTED, (message.id, message.attempt))[1] == 1
        return bool(_db.execute(tx, FAILED, (message.id, message.attempt))[0])

    def _done(self, tx: Any, message: Message, key_hash: bytes | None) -> int:
        next_id = 0
        if key_hash is not None:
            rows, _ = _db.execute(tx, NEXT, (self.queue, bytes(key_hash), message.id))
            next_id = rows[0][0] if rows else 0
        self._expect(_db.execute(tx, DONE, (message.id, next_id))[1], 2 if next_id else 1)
        return next_id

    def _fail(self, tx: Any, message: Message, outcome: Retry | Reject) -> None:
        try:
            changed = self._note(tx, message, outcome, _reason(outcome.reason))
        except Exception as error:
            if _db.error_code(error) in _db.LOCKED:
                raise
            # A failure that is not noted would be met again and again: it counts, whatever is wrong with its reason.
            changed = self._note(tx, message, outcome, NO_REASON)
        self._expect(changed, 1)

    @staticmethod
    def _note(tx: Any, message: Message, outcome: Retry | Reject, reason: str) -> int:
        if isinstance(outcome, Reject):
            return _db.execute(tx, REJECT, (reason, message.id))[1]
        after_ms = None if outcome.after is None else int(outcome.after * 1000)
        return _db.execute(tx, RETRY, (after_ms, reason, message.id))[1]

    @staticmethod
    def _expect(changed: int, wanted: int) -> None:
        if changed != wanted:
            raise RuntimeError("the message is not ours any more")

    def _recover(self, tx: Any, error: BaseException) -> Any:
        """Rolls back; the connection if it is good still. The database knows what was committed."""
        message, self._current = self._current, None
        self._is_alone = True
        if tx is None:
            return None
        try:
            tx.rollback()
            if message is not None and _db.error_code(error) in _db.LOCKED:
                self._pass_by(tx, message, error)
            return tx
        except Exception:
            self._suspect = message.id if message is not None else self._suspect
            _db.discard(tx)
            return None

    def _pass_by(self, tx: Any, message: Message, error: BaseException) -> None:
        """A message that meets a lock time and again must not hold its worker: it waits like one that has failed."""
        self._locked_times = self._locked_times + 1 if self._locked_id == message.id else 1
        self._locked_id = message.id
        if self._locked_times < LOCKS_IN_A_ROW and not self._is_counted:
            return
        if self._take_again(tx, message):
            self._fail(tx, message, Retry(_reason(error)))
        tx.commit()
        self._locked_id = 0

    @staticmethod
    def _message(row: Sequence[Any]) -> Message:
        raw = None if row[5] is None else row[5].encode() if isinstance(row[5], str) else bytes(row[5])
        return Message(
            id=row[0], message_id=_text(row[1]) or "", topic=_text(row[2]) or "", key=_text(row[3]),
            content_type=_text(row[4]), headers={} if raw is None else json.loads(raw), source=_text(row[6]),
            traceparent=_text(row[7]), created_at=_utc(row[8]), received_at=_utc(row[9]) or datetime.now(timezone.utc),
            attempt=int(row[10]), max_attempts=row[11], raw_headers=raw,
            payload=row[14] if row[14] is None else row[14].encode() if isinstance(row[14], str) else bytes(row[14]),
        )

    @staticmethod
    def _complete(tx: Any, message: Message) -> None:
        """Reads a payload in pieces that did not come with its row."""
        if message.payload is not None:
            return
        pieces: list[bytes] = []
        while not pieces or len(pieces[-1]) == PIECE:
            rows, _ = _db.execute(tx, PAYLOAD, (PIECE * len(pieces), PIECE, message.id))
            pieces.append(bytes(rows[0][0]))
        message.payload = b"".join(pieces)


def work(queue: str, handler: Handler, connect: Callable[[], Any], **options: Any) -> None:
    """Works off the queue in this thread until SIGTERM or SIGINT, which let the message in hand end. Options: see Worker."""
    worker = Worker(queue, handler, connect, **options)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: worker.stop())
    worker.run()

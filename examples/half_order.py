#!/usr/bin/env python3
"""A producer with nothing but HTTP, and its business data in SQLite: any language and any store will do.

usage: half_order.py place GID SKU QUANTITY [before|inside|after]
       half_order.py serve PORT

`place` prepares a message, does the local transaction, and gives the verdict; the last word makes it die (SIGKILL)
before, inside or after the local transaction. `serve` is the check address: the relay asks it
([producer bookings] url = http://127.0.0.1:PORT/check) about half-messages whose producer fell silent.

The two exclude each other by the barrier table: the first to insert the gid decides. The file is DB_FILE, the
relay HALF_URL and HALF_TOKEN. Exit status of place: 0 booked, 3 not booked.
"""

import http.server
import json
import os
import signal
import sqlite3
import sys
import urllib.error
import urllib.parse
import urllib.request

HALF_URL = os.environ.get("HALF_URL", "http://127.0.0.1:8379")
LOCK_WAIT_S = 1.0


def open_database():
    db = sqlite3.connect(os.environ.get("DB_FILE", "bookings.sqlite"), timeout=LOCK_WAIT_S, isolation_level=None)
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS barrier (gid TEXT PRIMARY KEY, reason TEXT NOT NULL)")
    db.execute("CREATE TABLE IF NOT EXISTS booking (gid TEXT PRIMARY KEY, sku TEXT, quantity INTEGER)")
    return db


# ---- the producer

def call(gid, path, states, body=None):
    """POST to the relay; repeats itself while there is no answer, or 503. Every request may be repeated.

    An answer is one that names the gid and one of the states: whatever else stands at the address has sent nothing.
    """
    request = urllib.request.Request(
        HALF_URL + "/v1/half-messages" + path,
        data=json.dumps(body or {}).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer " + os.environ.get("HALF_TOKEN", "")},
        method="POST",
    )
    for _ in range(10):
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                said = json.load(answer)
            if isinstance(said, dict) and said.get("gid") == gid and said.get("state") in states:
                return said
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except (OSError, ValueError):  # ValueError: no JSON
            pass
    raise TimeoutError("the relay does not answer")


def die_if(stage, wanted):
    if stage == wanted:
        os.kill(os.getpid(), signal.SIGKILL)


def local_transaction(db, gid, sku, quantity, stage):
    """True when it is committed. The barrier comes first: after a check has decided, this fails."""
    try:
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO barrier (gid, reason) VALUES (?, 'commit')", (gid,))
        db.execute("INSERT INTO booking (gid, sku, quantity) VALUES (?, ?, ?)", (gid, sku, quantity))
        die_if(stage, "inside")
        db.execute("COMMIT")
        return True
    except sqlite3.Error as error:
        print("half_order.py:", error, file=sys.stderr)
        if db.in_transaction:
            db.execute("ROLLBACK")
        return False


def place(gid, sku, quantity, stage=None):
    message = {"topic": "booking.made", "ordering_key": sku, "payload": {"gid": gid, "sku": sku, "quantity": quantity}}
    db = open_database()
    call(gid, "", ["prepared"], {"gid": gid, "producer": "bookings", "commit": [message]})  # durable once this returns
    die_if(stage, "before")
    is_committed = local_transaction(db, gid, sku, quantity, stage)
    die_if(stage, "after")
    try:
        verb, state = ("commit", "committed") if is_committed else ("rollback", "rolled_back")
        call(gid, "/" + gid + "/" + verb, [state])
    except (OSError, TimeoutError) as error:
        print("half_order.py: the verdict is left to check-back:", error, file=sys.stderr)
    return 0 if is_committed else 3


# ---- the check address

def check(gid):
    """What became of the local transaction. Never 'rolled_back' without the barrier row that keeps it so."""
    db = open_database()
    try:
        db.execute("BEGIN IMMEDIATE")  # waits for a local transaction that runs
        row = db.execute("SELECT reason FROM barrier WHERE gid = ?", (gid,)).fetchone()
        if row is None:
            db.execute("INSERT INTO barrier (gid, reason) VALUES (?, 'rollback')", (gid,))
        db.execute("COMMIT")
        return "committed" if row is not None and row[0] == "commit" else "rolled_back"
    except sqlite3.OperationalError:
        return "in_progress"  # locked: it still runs
    finally:
        db.close()


class Check(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        gids = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("gid", [])
        body = json.dumps({"state": check(gids[0]) if len(gids) == 1 else "unknown"}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main(words):
    if len(words) == 2 and words[0] == "serve":
        http.server.ThreadingHTTPServer(("127.0.0.1", int(words[1])), Check).serve_forever()
    if len(words) in (4, 5) and words[0] == "place":
        return place(words[1], words[2], int(words[3]), *words[4:])
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

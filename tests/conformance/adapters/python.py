"""The adapter of clients/python; see README.md. ROWPOST_DRIVER: pymysql, mysqlclient, connector, sqlalchemy, session."""

import base64
import hashlib
import json
import os
import resource
import signal
import sys
import threading
import time
import wsgiref.simple_server
from datetime import datetime, timedelta, timezone

from rowpost import _db, half, inbox, outbox

DB = json.loads(os.environ["ROWPOST_DB"])
DRIVER = os.environ.get("ROWPOST_DRIVER", "pymysql")
said = threading.Lock()


def say(event, **more):
    with said:
        print(json.dumps({"event": event, **more}), flush=True)


def connect_plain():
    settings = {"host": DB["host"], "port": DB["port"], "user": DB["user"], "password": DB["password"]}
    if DRIVER == "mysqlclient":
        import MySQLdb

        return MySQLdb.connect(**settings, database=DB["database"], charset="utf8mb4")
    if DRIVER == "connector":
        import mysql.connector

        return mysql.connector.connect(**settings, database=DB["database"], ssl_disabled=True, charset="utf8mb4",
                                       collation="utf8mb4_general_ci")
    import pymysql

    return pymysql.connect(**settings, database=DB["database"], charset="utf8mb4")


def engine_connect():
    import sqlalchemy
    import sqlalchemy.orm
    import sqlalchemy.pool

    engine = sqlalchemy.create_engine("mysql+pymysql://", creator=connect_plain, poolclass=sqlalchemy.pool.NullPool)
    if DRIVER == "session":
        return sqlalchemy.orm.sessionmaker(engine)
    return engine.connect


connect_raw = engine_connect() if DRIVER in ("sqlalchemy", "session") else connect_plain


def connect():
    tx = connect_raw()
    _db.execute(tx, "SET SESSION innodb_lock_wait_timeout = 1")
    tx.commit()
    return tx


def words(message, names):
    more = {name: message[name] for name in names if message.get(name) is not None}
    return message["topic"], base64.b64decode(message["payload"]), more


COMMON = ("key", "headers", "content_type", "receipt_from", "on_rejected", "message_id")


def add(command):
    tx, ids = connect(), []
    for message in command["messages"]:
        topic, payload, more = words(message, COMMON)
        if "deliver_in_ms" in message:
            more["deliver_at"] = timedelta(milliseconds=message["deliver_in_ms"])
        if "deliver_at" in message:
            more["deliver_at"] = datetime.fromtimestamp(message["deliver_at"], timezone(timedelta(hours=5)))
        ids.append(outbox.add(tx, topic, payload, **more))
    getattr(tx, command["end"])()
    tx.close()
    say("added", ids=ids)


def effect(tx, message):
    _db.execute(
        tx,
        "INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source, traceparent, attempt,"
        " size, sha) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (message.headers.get("queue"), message.message_id, message.topic, message.key, message.content_type,
         json.dumps(message.headers), message.source, message.traceparent, message.attempt, len(message.payload),
         hashlib.sha256(message.payload).hexdigest()),
    )


def handler(tx, message):
    say("handling", message_id=message.message_id, attempt=message.attempt)
    do = message.headers.get("do")
    if message.attempt > message.headers.get("times", 1 << 30):
        do = None
    if do == "lock":
        _db.execute(tx, "UPDATE contended SET n = n + 1 WHERE id = 1")
    effect(tx, message)
    if do == "raise":
        raise ValueError("boom")
    if do == "retry":
        raise inbox.Retry("later", after=0.05)
    if do == "return-retry":
        return inbox.Retry("later", after=0.05)
    if do == "reject":
        raise inbox.Reject("never")
    if do == "return-reject":
        return inbox.Reject("never")
    if do == "raise-odd":
        raise ValueError("odd \udcff" + 2000 * "🔑")
    if do == "reject-odd":
        return inbox.Reject(None)
    if do == "retry-odd":
        raise inbox.Retry("\ud83d", after=-1e300)
    if do == "rollback":
        tx.rollback()
    if do == "hang":
        say("hanging")
        time.sleep(1)
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return None


def call_half(command):
    client = half.Client(command["url"], command["token"])
    try:
        if command["call"] == "prepare":
            parts = {}
            for verdict in ("commit", "rollback"):
                of = [words(message, COMMON) for message in command.get(verdict, [])]
                parts[verdict] = [half.message(topic, payload, **more) for topic, payload, more in of]
            answer = client.prepare(command["gid"], command["producer"], **parts)
        else:
            answer = getattr(client, command["call"])(command["gid"], **({"wait": False} if command.get("async") else {}))
        say("answered", state=answer["state"])
    except half.Refused as refused:
        say("refused", reason=refused.reason, status=refused.status)


def local(command):
    tx = connect()
    try:
        half.barrier(tx, command["gid"])
        _db.execute(tx, "INSERT INTO effect (queue, message_id) VALUES ('local', ?)", (command["gid"],))
        getattr(tx, command["end"])()
        outcome = {"commit": "committed", "rollback": "rolled_back"}[command["end"]]
    except half.Decided:
        tx.rollback()
        outcome = "decided"
    tx.close()
    say("local", outcome=outcome)


class Quiet(wsgiref.simple_server.WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(command):
    app = half.check_app(connect, command["token"])
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, handler_class=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("serving", port=server.server_port)


def main():
    # A service with many files open: what a worker opens has a number that select() does not take.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 2048 if hard == resource.RLIM_INFINITY else min(2048, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(min(1100, limit - 200))]  # noqa: F841
    worker = thread = None
    say("ready", can=["wake"])
    for line in sys.stdin:
        command = json.loads(line)
        do = command["do"]
        if do == "work":
            options = {name: command[name] for name in ("poll", "wake_dir", "follow") if name in command}
            worker = inbox.Worker(command["queue"], handler, connect, **options)
            thread = threading.Thread(target=worker.run, daemon=True)
            thread.start()
        elif do == "stop":
            worker.stop()
            thread.join()
            say("stopped")
        elif do == "ring":
            say("rang", ok=outbox.ring(command["doorbell"], command["outbox"]))
        else:
            {"add": add, "half": call_half, "local": local, "serve": serve}[do](command)


main()

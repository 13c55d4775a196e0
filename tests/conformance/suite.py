"""The conformance suite: every case of cases.json with every language that is there; see README.md.

usage: suite.py FOLDER RELAY [--languages LIST] [--cases LIST] [--restart | --long MESSAGES]

--cases mixed is all languages on one inbox. --restart is that alone over the whole way of a message (outbox, relay, RabbitMQ,
inbox-relay, inbox), while both relays, the broker and the database are killed, too (tests/support/servers). --long is the same for
each language by itself, so many messages with thirty kills. FOLDER is where `prepare` has left NAME.cmd (how an adapter is started) or NAME.missing (why it is not)."""

import argparse
import base64
import glob
import json
import os
import queue
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import urllib.error
import urllib.request

from line import Line
from world import PORT, ROOT, Chain, Database, Relay, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
DEADLINE_S = int(os.environ.get("CONFORMANCE_DEADLINE", "60"))
printing = threading.Lock()


class Adapter:
    """One process of one language, its line to the database, and what it has said."""

    def __init__(self, language, database):
        self.language, self._database = language, database
        self.line = Line(PORT)
        self._process, self._working, self.can = None, None, ()
        self.start()

    def start(self):
        self._database.warm_up()
        environment = dict(os.environ, ROWPOST_DB=self._database.address(self.line.port))
        # A token is for the relay, not for a proxy.
        environment.update(http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1")
        log = open(f"{self.language.log}", "ab")
        self._process = subprocess.Popen(self.language.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment)
        log.close()
        self.line.pid = self._process.pid
        self._events = queue.Queue()
        threading.Thread(target=self._read, args=(self._process, self._events), daemon=True).start()
        self.can = self.expect("ready")["can"]

    def _read(self, process, events):
        for text in process.stdout:
            try:
                events.put(json.loads(text))
            except ValueError:
                events.put({"event": "noise", "text": text.decode("utf-8", "replace")})
        events.put({"event": "gone"})

    def tell(self, do, **more):
        self._process.stdin.write((json.dumps({"do": do, **more}) + "\n").encode())
        self._process.stdin.flush()

    def expect(self, event, seconds=DEADLINE_S):
        """The next event of this name; others before it are what the handler was called for."""
        until = time.monotonic() + seconds
        while True:
            try:
                said = self._events.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{self.language.name} does not say {event}") from None
            if said["event"] == event:
                return said
            if said["event"] in ("gone", "noise"):
                raise AssertionError(f"{self.language.name} says {said} for {event}; see {self.language.log}")

    def ask(self, do, event, **more):
        self.tell(do, **more)
        return self.expect(event)

    def work(self, **options):
        self._working = options
        self.tell("work", **options)
        if self.language.is_direct:  # its queue is there from now on
            self.expect("working")

    def stop(self):
        self._working = None
        self.ask("stop", "stopped")

    def revive(self):
        """Starts it again, and what it was doing, if it is dead. True if it was."""
        if self._process.poll() is None:
            return False
        self.start()
        if self._working is not None:
            self.tell("work", **self._working)
        return True

    def end(self):
        """By the end of its standard input; it has to go by itself."""
        self._process.stdin.close()
        try:
            code = self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise AssertionError(f"{self.language.name} does not end with its standard input") from None
        finally:
            self.line.close()
        assert code == 0, f"{self.language.name} ended with {code}; see {self.language.log}"


class Language:
    def __init__(self, folder, name):
        self.name, self.is_direct = name, name == "c"
        with open(f"{folder}/{name}.cmd", encoding="utf-8") as command:
            self.command = shlex.split(command.read())
        self.log = f"{folder}/{name}.log"


def payload_of(spec):
    if spec is None:
        return b'{"n": 1}'
    if "hex" in spec:
        return bytes.fromhex(spec["hex"])
    return bytes(range(256)) * spec["all"] if "all" in spec else spec["text"].encode()


def fill(case, queue_name, first=0):
    """The messages of a case: so many by the rule, then what single ones have of their own."""
    count, keys = case["fill"]["count"], case["fill"]["keys"]
    made = []
    for i in range(first, first + count):
        is_free = i % 7 == 3 and not case["fill"].get("all_keyed")
        message = {"message_id": f"{queue_name}-{i:05d}", "topic": "t", "key": None if is_free else f"k-{i % keys}", "content_type":
                   "application/json", "headers": {}, "source": "/conf/outbox", "traceparent": None, "max_attempts": 20, "expect": {},
                   "payload": None}
        message.update(case.get("set", {}).get(str(i), {}))
        message["payload"] = payload_of(message["payload"])
        if message["headers"] is not None:
            message["headers"] = {"queue": queue_name, **message["headers"]}
        made.append(message)
    return made


class Run:
    """One case with one language (or several on one inbox)."""

    def __init__(self, case, adapters, database, folder, relay):
        workers = 1 if adapters[0].language.is_direct else case.get("workers", 1)  # of a queue one is active
        self.case, self.adapters, self.database, self.sql = case, adapters[:workers], database, database.sql
        self.queue, self.folder, self.relay = case["name"], folder, relay
        self.chain, self.is_direct = None, adapters[0].language.is_direct

    def run(self):
        special = {"late": self.late, "stop": self.stop, "wake": self.wake, "silent": self.silent, "fatal": self.fatal, "outbox": self.outbox, "half": self.half}
        special.get(self.case["name"], self.inbox)()

    # ---- messages in an inbox, until all have come to their end, whatever is killed meanwhile

    def inbox(self):
        messages = fill(self.case, self.queue)
        options = self.case.get("options", {})
        if self.is_direct:
            options = self.options(messages)
            self.adapters[0].work(**options)
        # Before there is anything to apply: consumer-lib is at work by now.
        lock = self.hold_lock() if self.case["name"] == "lock" else None
        self.database.store(self.queue, messages)
        self.grow(messages)
        before = sum(adapter.line.commits for adapter in self.adapters)
        faults = list(self.case.get("faults", ()))
        for adapter in () if self.is_direct else self.adapters:
            adapter.work(queue=self.queue, **options)
        ended = lambda: self.step(messages, faults, lock)  # noqa: E731
        try:
            wait_for(ended, DEADLINE_S + len(messages) // 20 + 20 * len(faults), self.what_is_left)
        finally:
            if lock is not None:  # an open transaction would keep the database from being dropped
                lock()
        for adapter in self.adapters:
            adapter.stop()
            adapter.line.disarm()
        commits = sum(adapter.line.commits for adapter in self.adapters) - before
        assert commits <= self.case.get("commits_at_most", 1 << 30), f"{commits} commits"
        self.audit(messages)

    def options(self, messages):
        """For consumer-lib: its queue, and attempts that a message cannot have of its own."""
        given_up = [message for message in messages if message["expect"].get("code") == "OBX_E_HANDLER"]
        for message in given_up:
            message["expect"] = {**message["expect"], "attempts": 3}  # a copy: the case is every language's
        return {"queue": f"{self.chain.queue}-{self.queue}", "group": self.queue, "exchange": self.chain.queue,
                "max_attempts": 3 if given_up else 20}

    def states(self):
        """How many rows there are in each state."""
        table = f"SELECT state, COUNT(*) FROM inbox WHERE queue = '{self.queue}' GROUP BY state"
        if self.is_direct:
            table = (f"SELECT 'done', COUNT(*) FROM inbox_applied WHERE consumer_group = '{self.queue}' UNION ALL"
                     f" SELECT state, COUNT(*) FROM inbox_parked WHERE consumer_group = '{self.queue}' GROUP BY state")
        return {state: int(count) for state, count in self.sql(table)}

    def step(self, messages, faults, lock):
        """Once each turn: the dead are started again, the next fault is set, the clock is helped. True at the end."""
        for adapter in self.adapters:
            adapter.revive()
        self.database.help_on(self.queue)
        if faults:
            self.next_fault(faults)
        counts = self.states()
        open_rows = counts.get("ready", 0) + counts.get("blocked", 0)
        if self.chain is not None:  # they may be anywhere on their way
            open_rows = len(messages) - sum(counts.get(state, 0) for state in ("done", "kept", "dead"))
        if faults and open_rows < len(self.adapters):
            more = fill(self.case, self.queue, len(messages))
            messages += more
            self.database.store(self.queue, more)
            return False
        expected = sum(message["expect"].get("state") == "blocked" for message in messages)
        if lock is not None and counts.get("done", 0) == len(messages) - 1:
            lock()  # all others have gone past it
        return open_rows == expected and not faults

    def next_fault(self, faults):
        """Each fault in its turn, at one adapter after the other; it has happened when the line says so."""
        if faults[0] in ("database", "rabbitmq"):
            self.restart(faults.pop(0))
            return
        if faults[0] in ("relay", "inbox-relay"):
            self.chain.kill(faults.pop(0))
            return
        line = self.adapters[len(faults) % len(self.adapters)].line
        if self._armed is line and line.fired > self._fired:
            faults.pop(0)
            self._armed = None
        elif self._armed is None:
            self._armed, self._fired = line, line.fired
            line.arm(faults[0], random.randint(1, self.case["nth"]))

    _armed = None

    def restart(self, server):
        """A server is killed, with whatever it is in the middle of, and comes back."""
        for what in ("kill", "start"):
            subprocess.run([os.environ["OBX_TEST_SERVERS"], what, server], check=True, stdout=subprocess.DEVNULL)
        if server == "database":
            self.sql.close()
            self.database.warm_up()

    def what_is_left(self):
        return json.dumps([self.states(), self.sql(
            "SELECT id, message_id, state, attempts, due_at - UTC_TIMESTAMP(6), reason FROM inbox"
            f" WHERE queue = '{self.queue}' AND state NOT IN ('done', 'kept') LIMIT 5"),
            self.sql("SELECT message_id, reason_code, reason FROM outbox_parked LIMIT 5")])

    def hold_lock(self):
        """A session that sits on a row which the handler of one message wants; what is returned lets go."""
        from world import Sql

        holder = Sql(self.database.name)
        holder("START TRANSACTION; UPDATE contended SET n = 100 WHERE id = 1")
        return holder.close

    def grow(self, messages):
        """A payload larger than a session may send or get at once: made on the server, under a limit that is lifted for it."""
        if "grow" not in self.case:
            return
        message, size = messages[self.case["grow"]["index"]], self.case["grow"]["bytes"]
        message["payload"] = b"0123456789abcdef" * (size // 16)
        # Doubled in place: no value of it travels.
        limit = self.sql.one("SELECT @@GLOBAL.max_allowed_packet")
        if int(limit) > size:
            raise Skipped(f"max_allowed_packet is {limit}")
        from world import Sql

        with BIG:
            self.sql("SET GLOBAL max_allowed_packet = 67108864")
            big = Sql(self.database.name)
            big("SET SESSION net_read_timeout = 60")
            self.sql(f"SET GLOBAL max_allowed_packet = {limit}")
        big(f"UPDATE inbox SET payload = REPEAT('0123456789abcdef', {size // 16}), size = {size} WHERE queue = '{self.queue}'"
            f" AND message_id = '{message['message_id']}'")
        big.close()

    def audit(self, messages):
        """Tables and effects: each message once or not at all, in order per key, bytes as they were."""
        rows = self.sql("SELECT n, HEX(message_id), HEX(topic), HEX(ordering_key), HEX(content_type), HEX(headers), HEX(source),"
                        f" HEX(traceparent), attempt, size, sha FROM effect WHERE queue = '{self.queue}' OR"
                        f" (queue IS NULL AND message_id LIKE '{self.queue}-%') ORDER BY n")
        columns = "SELECT message_id, state, attempts, reason_code, HEX(reason) FROM"
        table = f"{columns} inbox WHERE queue = '{self.queue}'"
        if self.is_direct:
            table = (f"SELECT message_id, 'done', 0, '', '' FROM inbox_applied WHERE consumer_group = '{self.queue}' UNION ALL"
                     f" {columns} inbox_parked WHERE consumer_group = '{self.queue}'")
        states = {row[0]: row[1:] for row in self.sql(table)}
        effects, order = {}, {}
        for row in rows:
            effects.setdefault(text(row[1]), []).append(row)
        for message in messages:
            name, expect = message["message_id"], message["expect"]
            state = states[name]
            seen = effects.pop(name, [])
            if "state" in expect:
                assert not seen, f"{name} has an effect: {seen}"
                assert state[0] == expect["state"], f"{name} is {state}, not {expect}"
                if "attempts" in expect:
                    assert state[1:3] == [str(expect["attempts"]), expect["code"]] and expect["reason"].encode() in bytes.fromhex(state[3]), f"{name} is {state}"
                continue
            assert len(seen) == 1 and state[0] in ("done", "kept"), f"{name} has {len(seen)} effects and is {state}"
            self.compare(message, seen[0])
            if message["key"] is not None:
                order.setdefault(message["key"], []).append(int(seen[0][0]))
        assert not effects, f"effects of nothing: {effects}"
        for key, numbers in order.items():
            assert numbers == sorted(numbers), f"key {key} is out of order: {numbers}"

    @staticmethod
    def compare(message, row):
        import hashlib

        name = message["message_id"]
        for i, field in ((2, "topic"), (3, "key"), (4, "content_type"), (6, "source"), (7, "traceparent")):
            assert text(row[i]) == message[field], f"{name}: {field} is {text(row[i])!r}, not {message[field]!r}"
        # A relay adds its own, those of CloudEvents; and RabbitMQ how often it has delivered before.
        headers = {k: v for k, v in (json.loads(text(row[5]) or "null") or {}).items() if not k.startswith(("cloudEvents", "x-obx-", "x-delivery-count", "x-acquired-count"))}
        assert headers == (message["headers"] or {}), f"{name}: headers are {headers}"
        attempt = message["expect"].get("attempt", 1)
        # A worker that died, or lost its line, may have counted an attempt that never came to an end.
        assert attempt is None or int(row[8]) == attempt or int(row[8]) > attempt == 1, f"{name}: applied at attempt {row[8]}"
        assert int(row[9]) == len(message["payload"]) and row[10] == hashlib.sha256(message["payload"]).hexdigest(), f"{name}: payload"

    # ---- cases of their own

    def late(self):
        """Rows that are committed late are due before those that a busy worker has taken last, and it takes them all the same."""
        messages = fill(self.case, self.queue)
        self.database.store(self.queue, messages)
        adapter, done = self.adapters[0], f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state = 'done'"
        adapter.work(queue=self.queue)
        for _ in range(3):
            before = len(messages)
            wait_for(lambda: int(self.sql.one(done)) >= before // 2, DEADLINE_S, self.what_is_left)  # noqa: B023
            more = fill(self.case, self.queue, before)
            self.database.store(self.queue, more, due="UTC_TIMESTAMP(6) - INTERVAL 1 HOUR")
            messages += more
        wait_for(lambda: int(self.sql.one(done)) == len(messages), DEADLINE_S, self.what_is_left)
        adapter.stop()
        self.audit(messages)

    def stop(self):
        """A stop lets the message in hand end, takes no other, and a later worker goes on."""
        messages = fill(self.case, self.queue)
        self.database.store(self.queue, messages)
        adapter = self.adapters[0]
        adapter.work(queue=self.queue, follow=1)
        adapter.expect("hanging")
        adapter.stop()
        done = int(self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state = 'done'"))
        assert done == 2, f"{done} are done after a stop during the second"
        adapter.work(queue=self.queue)
        wait_for(lambda: self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state <> 'done'") == "0",
                 DEADLINE_S, self.what_is_left)
        adapter.stop()
        self.audit(messages)

    def wake(self):
        """A worker that would sleep for a minute is there at once when a datagram comes."""
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            adapter = self.adapters[0]
            adapter.work(queue=self.queue, wake_dir=folder, poll=600)
            listening = lambda: [path for path in glob.glob(f"{folder}/*") if os.stat(path).st_mode & 0o777 == 0o666]  # noqa: E731
            bells = wait_for(listening, DEADLINE_S, "the worker listens, and a relay of another user may send to it")
            # The datagram may come before the worker sleeps, and counts all the same.
            messages = fill(self.case, self.queue)
            self.database.store(self.queue, messages)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell:
                bell.sendto(self.queue.encode(), bells[0])
            wait_for(lambda: self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state <> 'done'") == "0",
                     20, self.what_is_left)
            adapter.stop()
            assert not glob.glob(f"{folder}/*"), "the socket's file is left behind"
            # A worker ends in good order, too, when somebody has cleaned the folder.
            adapter.work(queue=self.queue, wake_dir=folder, poll=1)
            os.unlink(wait_for(listening, DEADLINE_S, "the worker listens again")[0])
            adapter.stop()
            self.audit(messages)

    def silent(self):
        """A connection that does not report its errors is refused, and nothing is done on it."""
        messages = fill(self.case, self.queue)
        self.database.store(self.queue, messages)
        adapter = self.adapters[0]
        adapter.work(queue=self.queue, silent=True)
        assert "ERRMODE_EXCEPTION" in adapter.expect("failed")["why"]
        adapter.stop()
        open_rows = self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state <> 'done' AND attempts = 0")
        assert open_rows == str(len(messages)), "something was done"
        adapter.work(queue=self.queue)
        wait_for(lambda: self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state <> 'done'") == "0",
                 DEADLINE_S, self.what_is_left)
        adapter.stop()
        self.audit(messages)

    def fatal(self):
        """What a worker must not outlive ends it aloud, when the message that met it was noted as failed; another one goes on."""
        messages = fill(self.case, self.queue)
        self.database.store(self.queue, messages)
        adapter = self.adapters[0]
        adapter.work(queue=self.queue)
        assert "OutOfMemory" in adapter.expect("failed")["why"]
        adapter.stop()
        noted = self.sql(f"SELECT attempts, reason_code FROM inbox WHERE queue = '{self.queue}' AND state = 'ready'")
        assert noted == [["1", "OBX_E_HANDLER"]], noted
        adapter.work(queue=self.queue)
        wait_for(lambda: self.sql.one(f"SELECT COUNT(*) FROM inbox WHERE queue = '{self.queue}' AND state <> 'done'") == "0",
                 DEADLINE_S, self.what_is_left)
        adapter.stop()
        self.audit(messages)

    def outbox(self):
        adapter = self.adapters[0]
        given = self.case["add"]
        told = [wire(message) for message in given]
        rolled_back = [dict(message, message_id=None) for message in told]
        adapter.ask("add", "added", messages=rolled_back, end="rollback")
        assert self.sql.one("SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM outbox_delayed)") == "0", "sent without a commit"
        ids = adapter.ask("add", "added", messages=told, end="commit")["ids"]
        assert len(set(ids)) == len(given) and ids[2] == "my-own-id", ids
        columns = "message_id, HEX(topic), HEX(ordering_key), HEX(headers), content_type, SHA2(payload, 256), LENGTH(payload), receipt_from, on_rejected"
        rows = {row[0]: row for row in self.sql(
            f"SELECT {columns}, 'now' FROM outbox UNION ALL SELECT {columns}, ROUND(IF(topic = 'later',"
            " TIMESTAMPDIFF(MICROSECOND, created_at, deliver_at) / 1e6, TIMESTAMPDIFF(MICROSECOND, '1970-01-01', deliver_at) / 1e6), 3)"
            " FROM outbox_delayed")}
        for message, name in zip(given, ids):
            self.compare_sent(message, rows[name])
        self.check_ids(ids)
        with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            bell.bind(f"{folder}/bell")
            udp.bind(("127.0.0.1", 0))
            if "wake" in adapter.can:
                assert adapter.ask("ring", "rang", doorbell=f"{folder}/bell", outbox="outbox")["ok"]
                assert bell.recv(200) == b"outbox"
            assert adapter.ask("ring", "rang", doorbell=f"127.0.0.1:{udp.getsockname()[1]}", outbox="shop/outbox")["ok"]
            assert udp.recv(200) == b"shop/outbox"
            assert not adapter.ask("ring", "rang", doorbell=f"{folder}/nobody", outbox="")["ok"]

    @staticmethod
    def compare_sent(message, row):
        import hashlib

        payload = payload_of(message["payload"])
        sent = {"topic": text(row[1]), "key": text(row[2]), "receipt_from": row[7], "on_rejected": row[8]}
        for field, value in sent.items():
            assert (None if value == "NULL" else value) == message.get(field), f"{message['topic']}: {field} is {value!r}"
        assert (None if row[3] == "NULL" else json.loads(text(row[3]))) == message.get("headers"), f"headers are {text(row[3])!r}"
        assert row[4] == message.get("content_type", "application/json"), row
        assert row[5] == hashlib.sha256(payload).hexdigest() and int(row[6]) == len(payload), f"{message['topic']}: payload"
        if "deliver_in_ms" in message:
            assert abs(float(row[9]) - message["deliver_in_ms"] / 1000) < 5, row
        elif "deliver_at" in message:
            assert float(row[9]) == message["deliver_at"], row
        else:
            assert row[9] == "now", row

    @staticmethod
    def check_ids(ids):
        import uuid

        for name in ids:
            if name != "my-own-id":
                made = uuid.UUID(name)
                assert str(made) == name and made.version == 7, name
                assert abs((made.int >> 80) / 1000 - time.time()) < 60, name

    def half(self):
        """Verdicts, conflicts, the barrier on both sides, and the check address as the relay asks it."""
        adapter = self.adapters[0]
        if not os.path.exists(self.relay):
            raise Skipped("no relay")
        token = "check-token"
        port = adapter.ask("serve", "serving", token=token)["port"]
        relay = Relay(self.relay, self.database, f"{self.folder}/relay-{adapter.language.name}", {"conf": f"http://127.0.0.1:{port}/"})
        try:
            self.verdicts(adapter, relay)
        finally:
            relay.stop()
        self.strange_relay(adapter)
        self.local_and_check(adapter, port, token)

    @staticmethod
    def strange_relay(adapter):
        """A redirect is not followed, and an answer that never ends is given up, whether it drips or floods: asked again."""
        with Strange() as strange:
            said = adapter.ask("half", "answered", call="lookup", gid="g", url=strange.url, token="secret")
            assert said["state"] == "prepared" and strange.paths == ["/v1/half-messages/g"] * 4, strange.paths
            assert strange.flood < FLOOD_MAX, f"{strange.flood} bytes of an answer were read"

    def verdicts(self, adapter, relay):
        base = {"url": relay.url, "token": relay.token}
        call = lambda name, gid, **more: adapter.ask("half", more.pop("event", "answered"), call=name, gid=gid, **base, **more)  # noqa: E731
        message = wire({"topic": "half.sent", "payload": {"all": 1}, "key": "k", "headers": {"n": 7}, "content_type": "application/x-bytes"})
        self.sql("DELETE FROM outbox")
        name = adapter.language.name
        for gid, end, state in ((f"{name}-1", "commit", "committed"), (f"{name}-2", "rollback", "rolled_back")):
            parts = {"producer": "conf", "commit": [message], "rollback": []}
            assert call("prepare", gid, **parts)["state"] == "prepared"
            assert call("prepare", gid, **parts)["state"] == "prepared"
            assert call("lookup", gid)["state"] == "prepared"
            assert call(end, gid)["state"] == state
            assert call(end, gid)["state"] == state
        for gid, end, state in ((f"{name}-3", "commit", "committed"), (f"{name}-4", "rollback", "rolled_back")):
            assert call("prepare", gid, producer="conf", commit=[message], rollback=[])["state"] == "prepared"
            assert call(end, gid, **{"async": True})["state"] == "accepted"
            wait_for(lambda gid=gid, state=state: call("lookup", gid)["state"] == state, DEADLINE_S, f"{gid} is {state}")
        refused = call("rollback", f"{name}-1", event="refused")
        assert (refused["reason"], refused["status"]) == ("already_committed", 409), refused
        refused = call("commit", "nobody", event="refused")
        assert (refused["reason"], refused["status"]) == ("unknown_gid", 404), refused

    def local_and_check(self, adapter, port, token):
        def check(gid, bearer=token):
            request = urllib.request.Request(f"http://127.0.0.1:{port}/?gid={gid}", headers={"Authorization": f"Bearer {bearer}"})
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return json.load(answer)["state"]
            except urllib.error.HTTPError as error:
                return error.code

        assert check("g-1", "wrong") == 401
        # Targets that are no URLs, with a token and without: an error of the client's, and the service lives on (PHP's own server
        # closes the line).
        for target, bearer in ((target, bearer) for target in ("//", "http://[") for bearer in ("wrong", token)):
            assert status_of(port, target, bearer) in (None, *range(400, 500)), f"{target} with {bearer}"
        assert adapter.ask("local", "local", gid="g-1", end="commit")["outcome"] == "committed"
        assert check("g-1") == "committed"
        assert adapter.ask("local", "local", gid="g-2", end="rollback")["outcome"] == "rolled_back"
        assert check("g-2") == "rolled_back"
        assert check("g-2") == "rolled_back"
        assert adapter.ask("local", "local", gid="g-2", end="commit")["outcome"] == "decided"
        from world import Sql

        running = Sql(self.database.name)
        running("START TRANSACTION; INSERT INTO half_barrier (gid) VALUES ('g-3')")
        assert check("g-3") == "in_progress"
        running("COMMIT")
        assert check("g-3") == "committed"
        effects = self.sql("SELECT message_id FROM effect WHERE queue = 'local'")
        assert effects == [["g-1"]], effects


FLOOD_MAX = 128 << 20  # a client takes 16 MiB at most, and what stands in the kernel's buffers


class Strange:
    """Something at a relay's address: redirects the first request, answers the second one a byte at a time and without end, the
    third one as fast as it can and without end, and the fourth one as a relay does."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.paths, self.flood = [], 0

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._listener.close()

    def _accept(self):
        try:
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()
        except OSError:
            pass  # the end

    def _serve(self, line):
        try:
            with line, line.makefile("rb") as request:
                self.paths.append(request.readline().split()[1].decode())
                while request.readline().strip():
                    pass
                self._answer(line, len(self.paths))
        except OSError:
            pass  # it was given up

    def _answer(self, line, turn):
        body = b'{"gid": "g", "state": "prepared"}'
        if turn == 1:
            line.sendall(f"HTTP/1.1 307 Elsewhere\r\nLocation: {self.url}/trap\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            return
        line.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                     % (len(body) if turn > 3 else 1 << 40 if turn == 3 else 1 << 20))
        if turn > 3:
            line.sendall(body)
            return
        while turn == 3 and self.flood < FLOOD_MAX:
            self.flood += line.send(b" " * 65536)
        while turn == 2:
            line.sendall(b" ")
            time.sleep(0.2)


def status_of(port, target, bearer):
    """The status of a request whose target is sent as it stands; None: the line was closed."""
    with socket.create_connection(("127.0.0.1", port), 10) as line:
        line.sendall(f"GET {target} HTTP/1.1\r\nHost: check\r\nAuthorization: Bearer {bearer}\r\nConnection: close\r\n\r\n".encode())
        with line.makefile("rb") as answer:
            words = answer.readline().split()
            return int(words[1]) if words else None


BIG = threading.Lock()


class Skipped(Exception):
    pass


def text(hexadecimal):
    return None if hexadecimal == "NULL" else bytes.fromhex(hexadecimal).decode()


def wire(message):
    return dict(message, payload=base64.b64encode(payload_of(message["payload"])).decode())


def say(verdict, name, why=""):
    """In cmocka's way, so that tests/run counts the cases. One language's lines do not mix with another's."""
    with printing:
        if why:
            print(f"{name}: {why}", flush=True)
        if verdict:
            print(f"[ RUN      ] {name}\n[{verdict}] {name}", flush=True)


def run_language(folder, name, cases, relay, failed):
    is_direct = name == "c"
    database, adapters, chain = Database(name, *([("consumer",)] if is_direct else [])), [], None
    try:
        language = Language(folder, name)
        if is_direct:
            chain = Chain(relay, database, f"{folder}/chain-{name}", name, has_inbox=False)
            database.store = chain.store
        for case in cases:
            if not is_for(case, name):
                continue
            label, began = f"{name}: {case['name']}", time.monotonic()
            try:
                while len(adapters) < case.get("workers", 1):
                    adapters.append(Adapter(language, database))
                assert "languages" not in case or case["name"] in adapters[0].can, f"its adapter does not say that it can {case['name']}"
                run = Run(case, adapters, database, folder, relay)
                run.chain = chain
                run.run()
                say("       OK ", label, f"{time.monotonic() - began:.1f} s")
            except Skipped as why:
                say("  SKIPPED ", label, str(why))
            except Exception:
                failed.append(label)
                say("  FAILED  ", label, traceback.format_exc())
                # What is left of it must not disturb the next case.
                for adapter in adapters:
                    adapter._process.kill()
                adapters = []
        for adapter in adapters:
            adapter.end()
    except Exception:
        failed.append(name)
        say("  FAILED  ", name, traceback.format_exc())
    finally:
        for adapter in adapters:
            if adapter._process.poll() is None:
                adapter._process.kill()
        if chain is not None:
            chain.stop()
        database.drop()


MAIN = ("python", "go", "node", "java", "php")
# What consumer-lib's handler has in common with a worker's.
DIRECT = ("plain", "retry", "reject", "dead", "reason", "ended-by-the-handler", "bytes", "killed", "killed-in-the-handler", "lock")


def is_for(case, name):
    if "languages" in case:
        return name in case["languages"]
    return case["name"] in DIRECT if name == "c" else name in MAIN or case.get("every", False)


FAULTS = ("kill before", "kill after", "cut before", "cut after")


def together(folder, names, case, relay, failed):
    """One case with several adapters, of one language or of all of them, on one inbox."""
    label, began = f"{case['name']}: {', '.join(sorted(set(names)))}", time.monotonic()
    database, adapters, chain = Database(case["name"], *([("consumer",)] if names[0] == "c" else [])), [], None
    try:
        adapters = [Adapter(Language(folder, name), database) for name in names]
        run = Run(dict(case, workers=len(names)), adapters, database, folder, relay)
        if case.get("chain"):
            chain = run.chain = Chain(relay, database, f"{folder}/chain-{names[0]}", case["name"], not run.is_direct)
            database.store = chain.store
        run.run()
        for adapter in adapters:
            adapter.end()
        if chain is not None:
            chain.stop()
            chain = None
        say("       OK ", label, f"{time.monotonic() - began:.1f} s")
    except Exception:
        failed.append(label)
        say("  FAILED  ", label, f"{case}\n{traceback.format_exc()}")
    finally:
        for adapter in adapters:
            if adapter._process.poll() is None:
                adapter._process.kill()
        if chain is not None:
            chain.stop()
        database.drop()


def mixed_case(name, count, faults, **more):
    return {"name": name, "fill": {"count": count, "keys": 7}, "faults": faults, "nth": 6, "options": {"follow": 3}, **more}


def statements(failed):
    """The clients have the statements of the contract as they stand, but for line breaks."""
    def flat(path):
        with open(path, encoding="utf-8") as file:
            return " ".join(file.read().split())

    sources = {"python": "python/src/rowpost/inbox.py", "go": "go/inbox/statements.go", "node": "node/src/inbox.js",
               "java": "java/src/main/java/rowpost/Statements.java", "php": "php/src/Inbox.php"}
    with open(f"{ROOT}/sql/inbox/statements.sql", encoding="utf-8") as file:
        contract = dict(re.findall(r"^-- (\w+): [^\n]*\n(.*?);\n", file.read(), re.M | re.S))
    for name, path in sources.items():
        if not os.path.exists(f"{ROOT}/clients/{path}"):
            continue
        source, label = flat(f"{ROOT}/clients/{path}"), f"{name}: statements"
        missing = []
        for statement, of_file in contract.items():
            text = " ".join(of_file.split())
            if statement in ("replay", "discard"):  # the operator's
                continue
            # take and following share their columns.
            parts = text.partition("AS due FROM inbox") if "AS due FROM inbox" in text else (text,)
            missing += [part for part in parts if part.strip() not in source]
        if missing:
            failed.append(label)
        say("  FAILED  " if missing else "       OK ", label, "\n".join(missing))


def page(failed):
    """What clients/README.md shows of the examples is in them as it stands there."""
    with open(f"{ROOT}/clients/README.md", encoding="utf-8") as file:
        text = file.read()
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        found = re.search(r"\]\((\w+/examples/[^)]+)\).*?```\w+\n(.*?)```", section, re.S)
        if found:
            with open(f"{ROOT}/clients/{found.group(1)}", encoding="utf-8") as example:
                is_there = found.group(2) in example.read() + "\n"
            if not is_there:
                failed.append(found.group(1))
            say("       OK " if is_there else "  FAILED  ", f"page: {found.group(1)}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("relay")
    parser.add_argument("--languages")
    parser.add_argument("--cases")
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--long", type=int)
    options = parser.parse_args()
    with open(f"{HERE}/cases.json", encoding="utf-8") as file:
        cases = json.load(file)
    if options.cases:
        cases = [case for case in cases if case["name"] in options.cases.split(",")]
    known = sorted(os.path.basename(path) for path in glob.glob(f"{options.folder}/*.cmd") + glob.glob(f"{options.folder}/*.missing"))
    chosen = options.languages.split(",") if options.languages else None
    there, failed, threads = [], [], []
    if options.restart or options.long:
        cases = []
    planned = 0
    for file in known:
        name, kind = file.rsplit(".", 1)
        if chosen and name not in chosen:
            continue
        if kind == "missing":
            planned += 1
            with open(f"{options.folder}/{file}", encoding="utf-8") as why:
                say("  SKIPPED ", name, why.read().strip())
            continue
        there.append(name)
        planned += sum(is_for(case, name) for case in cases)
        threads.append(threading.Thread(target=run_language, args=(options.folder, name, cases, options.relay, failed)))
    mains = [name for name in there if name in MAIN]
    groups = []
    if options.restart:
        faults = ["kill after", "inbox-relay", "database", "relay", "cut after", "rabbitmq", "kill before", "inbox-relay", "database"]
        groups = [(mains, mixed_case("restart", 40 * len(mains), faults, chain=True))]
    elif options.long:
        kinds = (*FAULTS, "relay", "rabbitmq", "database", "inbox-relay")
        groups = [([name] * 3, mixed_case("long", options.long, random.choices(kinds, k=30), nth=50, chain=True)) for name in mains]
        if "c" in there:
            groups.append((["c"], mixed_case("long", options.long, random.choices(kinds[:-1], k=30), nth=50, chain=True)))
    elif len(mains) > 1 and "mixed" in (options.cases or "mixed").split(","):
        groups = [(mains, mixed_case("mixed", 40 * len(mains), random.sample(FAULTS, 4)))]
    groups = [group for group in groups if group[0]]
    print(f"[==========] conformance: Running {planned + len(groups)} test(s)", flush=True)
    statements(failed)
    page(failed)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for names, case in groups:
        together(options.folder, names, case, options.relay, failed)
    sys.exit(1 if failed else 0)


main()

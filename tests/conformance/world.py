"""What the suite needs of the world: SQL as root, a database for each language with the documented rights, the rows as
inbox-relay stores them, a relay for half-messages."""

import hashlib
import json
import os
import re
import secrets
import subprocess
import threading
import time
import urllib.error
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PORT = int(os.environ["OBX_TEST_DB_PORT"])
END = "end-of-answer"

EFFECT = """CREATE TABLE effect (
    n INT AUTO_INCREMENT PRIMARY KEY, queue VARCHAR(64), message_id VARBINARY(255), topic VARBINARY(255),
    ordering_key VARBINARY(1020), content_type VARBINARY(255), headers LONGTEXT CHARACTER SET utf8mb4,
    source VARBINARY(1020), traceparent VARBINARY(255), attempt INT, size BIGINT, sha CHAR(64), KEY (queue));
CREATE TABLE contended (id INT PRIMARY KEY, n INT);
INSERT INTO contended VALUES (1, 0);"""


def wait_for(condition, seconds, what):
    """Polls; the only way in which the suite waits."""
    until = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > until:
            raise AssertionError(f"{seconds} s have passed, and not: {what() if callable(what) else what}")
        time.sleep(0.05)
    return value


class Sql:
    """A session of root's, by the database's own client, so that the suite needs no driver itself."""

    def __init__(self, database="mysql"):
        self._database, self._client, self._lock = database, None, threading.Lock()

    def _open(self):
        words = [os.environ["OBX_TEST_SERVERS"], "sql", "--batch", "--raw", "--skip-column-names", "--unbuffered", self._database]
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __call__(self, statements):
        """Rows as lists of text; NULL is the text NULL. Ask for HEX() where bytes matter."""
        with self._lock:
            if self._client is None or self._client.poll() is not None:
                self._client = self._open()
            client = self._client
            try:
                client.stdin.write(f"{statements};\nSELECT '{END}';\n".encode())
                client.stdin.flush()
                rows = []
                for line in client.stdout:
                    text = line.decode("utf-8", "replace").rstrip("\n")
                    if text == END:
                        return rows
                    rows.append(text.split("\t"))
            except BrokenPipeError:
                pass
            self._client = None
            raise RuntimeError(f"{client.stderr.read().decode()} in: {statements[:300]}")

    def one(self, statement):
        return self(statement)[0][0]

    def close(self):
        """Ends the session, and with it a transaction that it has: the client goes at the end of its input, and alone."""
        if self._client is None:
            return
        self._client.stdin.close()
        try:
            self._client.wait(10)
        except subprocess.TimeoutExpired:
            self._client.kill()
            self._client.wait()
        self._client = None


def grants(role, sides, database, user):
    """The blocks of grants.md for a role, as they stand, for another database and user."""
    with open(f"{ROOT}/sql/schema/grants.md", encoding="utf-8") as page:
        section = re.search(rf"^## {role}$(.*?)(?=^## |\Z)", page.read(), re.M | re.S).group(1)
    for block in re.findall(r"```sql\n(.*?)```", section, re.S):
        side, _, statements = block.partition("\n")
        if side.replace("-- side: ", "") in sides:
            yield re.sub(r"'\w+'@'%'", f"'{user}'@'%'", statements.replace("`shop`", f"`{database}`"))


class Database:
    """A database of its own, and an account with the rights of a worker, a producer and a local transaction."""

    def __init__(self, name, roles=("inbox worker", "producer", "barrier")):
        self.name = f"obx_conf_{name.replace('-', '_')}_{os.getpid()}"
        self.user = f"conf_{secrets.token_hex(5)}"
        self.password = secrets.token_hex(12)
        self._root = Sql()
        self._root(f"CREATE DATABASE {self.name}")
        self.sql = Sql(self.name)
        for file in ("producer_0001_outbox", "consumer_0001_inbox", "inbox_0001_inbox", "half_0001_half", "barrier_0001_barrier"):
            with open(f"{ROOT}/sql/schema/{file}.sql", encoding="utf-8") as migration:
                self.sql(migration.read())
        self.sql(EFFECT)
        self._root(f"CREATE USER '{self.user}'@'%' IDENTIFIED BY '{self.password}'")
        for role in roles:
            for block in grants(role, ("inbox", "producer", "barrier", "consumer"), self.name, self.user):
                self._root(block)
        for table in ("effect", "contended"):
            self._root(f"GRANT SELECT, INSERT, UPDATE ON {self.name}.{table} TO '{self.user}'@'%'")
        self._lock, self._last, self._id = threading.Lock(), {}, 0
        self.warm_up()

    def warm_up(self):
        """MySQL wants TLS from an account that it has not seen since its start, and the line to the database has none. One login
        over TLS is enough: from then on it knows the account, and a password by the fast way, which needs none."""
        if os.environ.get("OBX_SERVERS_PRODUCT") != "mysql":
            return
        for user, password in ((self.user, self.password), (os.environ["OBX_TEST_DB_USER"], database_password())):
            words = [os.environ["OBX_TEST_SERVERS"], "sql", f"--user={user}", f"--password={password}", "-e", "DO 1"]
            login = subprocess.run(words, capture_output=True, text=True, check=False)
            assert login.returncode == 0, login.stderr

    def address(self, port):
        return json.dumps({"host": "127.0.0.1", "port": port, "user": self.user, "password": self.password, "database": self.name})

    def drop(self):
        self.sql.close()
        self._root.close()  # it may have been idle while the database was killed
        self._root(f"DROP DATABASE {self.name}; DROP USER '{self.user}'@'%'")
        self._root.close()

    def store(self, queue, messages, due="UTC_TIMESTAMP(6)"):
        """Puts messages into the inbox as inbox-relay does: of a key, the first is ready, each other blocked by the last."""
        rows = []
        with self._lock:
            for message in messages:
                self._id += 1
                key = message["key"]
                last = self._last.get((queue, key), 0) if key is not None else 0
                if key is not None:
                    self._last[queue, key] = self._id
                state = "'blocked', NULL" if last else f"'ready', {due}"
                digest = "NULL" if key is None else f"0x{hashlib.sha256(key.encode()).hexdigest()[:32]}"
                headers = json.dumps(message["headers"]) if message["headers"] else None
                size = len(message["payload"]) + len((headers or "").encode())
                texts = (message["message_id"], message["topic"], key, message["content_type"], headers, message["source"],
                         message["traceparent"])
                rows.append(f"({self._id}, '{queue}', {state}, {digest}, {last}, {message['max_attempts']}, 50, 200, {size}, "
                            f"{', '.join(literal(text) for text in texts)}, {literal(message['payload'])})")
        for start in range(0, len(rows), 500):
            self.sql("INSERT INTO inbox (id, queue, state, due_at, key_hash, after_id, max_attempts, retry_min_ms, retry_max_ms,"
                     " size, message_id, topic, ordering_key, content_type, headers, source, traceparent, payload) VALUES "
                     + ",\n".join(rows[start:start + 500]))

    def help_on(self, queue):
        """What inbox-relay's look after its own commit does: a blocked row whose predecessor has left the chain becomes ready.
        And the clock's part: what was counted before its worker died would wait for 30 s."""
        stuck = self.sql(f"SELECT b.id FROM inbox b JOIN inbox p ON p.id = b.after_id WHERE b.queue = '{queue}'"
                         " AND b.state = 'blocked' AND p.state = 'done'")
        late = self.sql(f"SELECT id FROM inbox WHERE queue = '{queue}' AND state = 'ready' AND reason_code = 'OBX_E_TIMEOUT'"
                        " AND due_at > UTC_TIMESTAMP(6) + INTERVAL 5 SECOND")
        for state, rows in (("blocked", stuck), ("ready", late)):
            for row in rows:
                self.sql(f"UPDATE inbox SET state = 'ready', due_at = UTC_TIMESTAMP(6) WHERE id = {row[0]} AND state = '{state}'")


def literal(value):
    if value is None:
        return "NULL"
    data = value.encode() if isinstance(value, str) else value
    return f"0x{data.hex()}" if data else "''"


class Relay:
    """outbox-relay with the API of half-messages, on the database of one language."""

    def __init__(self, binary, database, folder, producers):
        self.token, self.check_token = secrets.token_hex(16), secrets.token_hex(16)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        os.makedirs(folder, exist_ok=True)
        files = {"half": self.token, "check": self.check_token, "db": database_password(), "amqp": os.environ["OBX_TEST_AMQP_PASSWORD"]}
        for name, text in files.items():
            write_private(f"{folder}/{name}", text)
        self.bell = f"/tmp/rowpost-{os.getpid()}-{self.port}"
        with open(f"{folder}/relay.conf", "w", encoding="utf-8") as file:
            file.write(f"""[relay]
http_port = 0
doorbell_socket = {self.bell}
[broker]
addresses = 127.0.0.1:{os.environ['OBX_TEST_AMQP_PORT']}
user = {os.environ['OBX_TEST_AMQP_USER']}
password_file = {folder}/amqp
[source conf]
host = 127.0.0.1
port = {PORT}
user = {os.environ['OBX_TEST_DB_USER']}
password_file = {folder}/db
database = {database.name}
[half]
source = conf
http_port = {self.port}
token_file = {folder}/half
""" + "".join(f"[producer {name}]\nurl = {url}\ntoken_file = {folder}/check\n" for name, url in producers.items()))
        with open(f"{folder}/relay.log", "wb") as self_log:
            self._process = subprocess.Popen([binary, "--config", f"{folder}/relay.conf"], stdout=self_log, stderr=subprocess.STDOUT)
        self._log = f"{folder}/relay.log"
        try:
            wait_for(self._answers, 20, lambda: f"the relay serves; see {self._log}")
        except AssertionError:
            self.stop()
            raise

    def _answers(self):
        assert self._process.poll() is None, f"the relay has ended; see {self._log}"
        request = urllib.request.Request(f"{self.url}/v1/half-messages?limit=1", headers={"Authorization": f"Bearer {self.token}"})
        try:
            with urllib.request.urlopen(request, timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def stop(self):
        self._process.terminate()
        self._process.wait(20)


class Chain:
    """The whole way of a message: rows of the outbox, outbox-relay, RabbitMQ, and for the clients inbox-relay. Each can be killed.
    `store` is that of a Database: what it is given goes in at the beginning."""

    def __init__(self, relay, database, folder, name, has_inbox=True):
        inbox_relay = os.path.join(os.path.dirname(os.path.dirname(relay)), "consumer-lib", "inbox-relay", "inbox-relay")
        self.queue = f"conf-{name}-{os.getpid()}-{secrets.token_hex(3)}"
        self._database, self._folder, self._processes = database, folder, {}
        self._commands = {"relay": [relay, "--config", f"{folder}/chain-relay.conf"]}
        os.makedirs(folder, exist_ok=True)
        self._configure(name)
        if has_inbox:  # first, for it declares the queue
            self._commands = {"inbox-relay": [inbox_relay, "--config", f"{folder}/chain-inbox.conf"], **self._commands}
        for what in self._commands:
            self._start(what)

    def _configure(self, name):
        broker = f"""[broker]
addresses = 127.0.0.1:{os.environ['OBX_TEST_AMQP_PORT']}
vhost = {os.environ['OBX_TEST_AMQP_VHOST']}
user = {os.environ['OBX_TEST_AMQP_USER']}
password = {os.environ['OBX_TEST_AMQP_PASSWORD']}
"""
        database = f"""host = 127.0.0.1
port = {PORT}
user = {os.environ['OBX_TEST_DB_USER']}
password = {database_password()}
database = {self._database.name}
"""
        write_private(f"{self._folder}/chain-relay.conf", f"[relay]\nhttp_port = 0\ndoorbell_socket = /tmp/rowpost-{self.queue}\n{broker}"
                      f"exchange = {self.queue}\n[source conf]\n{database}")
        write_private(f"{self._folder}/chain-inbox.conf", f"[notify]\nhttp_port = 0\n{broker}[database]\n{database}[queue {name}]\n"
                      f"queue = {self.queue}\ngroup = conf\nexchange = {self.queue}\ntopics = #\nkeep_done = 1h\nmax_attempts = 20\n"
                      "retry_min = 50ms\nretry_max = 200ms\n")

    def _start(self, what):
        with open(f"{self._folder}/chain-{what}.log", "ab") as log:
            self._processes[what] = subprocess.Popen(self._commands[what], stdout=log, stderr=subprocess.STDOUT)

    def kill(self, what):
        self._processes[what].kill()
        self._processes[what].wait()
        self._start(what)

    def stop(self):
        for process in self._processes.values():
            process.terminate()
        for what, process in self._processes.items():
            assert process.wait(60) == 0, f"{what} ended with {process.returncode}; see {self._folder}/chain-{what}.log"

    def store(self, _, messages):
        for message in messages:  # what a relay makes of them; it refuses a NUL in a header
            if message["headers"] is not None:
                message["headers"] = {name: value.replace("\0", " ") if isinstance(value, str) else value
                                      for name, value in message["headers"].items()}
            message.update(source="/conf/outbox", traceparent=None, content_type=message["content_type"] or "application/json")
        for start in range(0, len(messages), 500):
            rows = (f"({literal(m['message_id'])}, {literal(m['topic'])}, {literal(m['key'])}, {literal(m['content_type'])}, "
                    f"{literal(json.dumps(m['headers']) if m['headers'] else None)}, {literal(m['payload'])})" for m in messages[start:start + 500])
            self._database.sql("INSERT INTO outbox (message_id, topic, ordering_key, content_type, headers, payload) VALUES " + ",\n".join(rows))


def write_private(path, text):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def database_password():
    return os.environ["OBX_TEST_DB_PASSWORD"]


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]

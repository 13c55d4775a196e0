"""The consumers of docs/message-format.md as they stand there: each message twice, and a kill in between, is applied once.

usage: amqp.py FOLDER, run by the Python that `prepare` has made: it has pika."""

import json
import os
import re
import signal
import subprocess
import sys
import threading

import pika

from world import ROOT, Sql, Database, wait_for, PORT

MESSAGES = 60
FOLDER = sys.argv[1]


def block(page, heading):
    text = page[page.index(f"\n### {heading}\n"):]
    return re.search(r"```\w+\n(.*?)```", text, re.S).group(1)


class Consumer:
    """A language: how its program is made from the page, and started."""

    def __init__(self, name, heading, needs, file, command, build=None):
        self.name, self.heading, self.needs, self.file, self.command, self.build = name, heading, needs, file, command, build

    def prepare(self, page, queue):
        folder = f"{FOLDER}/amqp-{self.name}"
        os.makedirs(folder, exist_ok=True)
        source = block(page, self.heading)
        assert source.count('"inventory"') + source.count("'inventory'") == 1, source
        with open(f"{folder}/{self.file}", "w", encoding="utf-8") as program:
            program.write(re.sub(r"""["']inventory["']""", f'"{queue}"', source))
        if self.build is not None:
            self.build(folder)
        return folder


def build_go(folder):
    for file in ("go.mod", "go.sum"):
        with open(f"{ROOT}/tests/conformance/packages/go/{file}", encoding="utf-8") as pinned, open(f"{folder}/{file}", "w", encoding="utf-8") as copy:
            copy.write(pinned.read())
    subprocess.run(["go", "build", "-o", "consumer", "."], cwd=folder, check=True, timeout=240,
                   env=dict(os.environ, GOTOOLCHAIN="local", GOFLAGS="-mod=readonly"))


def build_node(folder):
    if not os.path.islink(f"{folder}/node_modules"):
        os.symlink(f"{FOLDER}/node/node_modules", f"{folder}/node_modules")


CONSUMERS = (
    Consumer("pika", "Python: pika", "python", "consumer.py", [sys.executable, "consumer.py"]),
    Consumer("amqplib", "Node: amqplib", "node", "consumer.mjs", ["node", "consumer.mjs"], build_node),
    Consumer("amqp091", "Go: amqp091-go", "go", "consumer.go", ["./consumer"], build_go),
)


def check(consumer, page):
    queue = f"conformance-{consumer.name}-{os.getpid()}"
    folder = consumer.prepare(page, queue)
    database = Database(f"amqp_{consumer.name}")
    url = "amqp://{OBX_TEST_AMQP_USER}:{OBX_TEST_AMQP_PASSWORD}@127.0.0.1:{OBX_TEST_AMQP_PORT}/%2f".format(**os.environ)
    channel = pika.BlockingConnection(pika.URLParameters(url)).channel()
    process = None
    try:
        # The table of the page, and an effect that shows when it is there twice.
        table = re.search(r"CREATE TABLE seen .*?;", page, re.S).group(0)
        database.sql(f"{table} CREATE TABLE stock (sku VARCHAR(40) PRIMARY KEY, on_hand INT NOT NULL);"
                     f" INSERT INTO stock VALUES ('bolt', 1000); GRANT ALL ON {database.name}.* TO '{database.user}'@'%'")
        channel.confirm_delivery()
        channel.queue_declare(queue, durable=True)

        def start():
            environment = dict(os.environ, AMQP_URL=url, DB_HOST="127.0.0.1", DB_PORT=str(PORT), DB_USER=database.user,
                               DB_PASSWORD=database.password, DB_NAME=database.name)
            return subprocess.Popen(consumer.command, cwd=folder, env=environment)

        def publish(numbers):
            for number in numbers:
                for _ in range(2):
                    channel.basic_publish("", queue, json.dumps({"sku": "bolt", "quantity": 3}).encode(),
                                          pika.BasicProperties(message_id=f"m-{number}", delivery_mode=2))

        seen = lambda: int(database.sql.one("SELECT COUNT(*) FROM seen"))  # noqa: E731
        publish(range(MESSAGES // 2))
        process = start()
        wait_for(lambda: seen() >= 5, 30, "some are applied")
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start()
        publish(range(MESSAGES // 2 - 5, MESSAGES))
        wait_for(lambda: seen() == MESSAGES and channel.queue_declare(queue, passive=True).method.message_count == 0, 60, seen)
        # One more message after the duplicates: when it is there, they have been looked at.
        publish([MESSAGES])
        wait_for(lambda: seen() == MESSAGES + 1, 30, seen)
        left = int(database.sql.one("SELECT on_hand FROM stock"))
        assert left == 1000 - 3 * (MESSAGES + 1), f"{left} left"
    finally:
        if process is not None:
            process.kill()
            process.wait()
        channel.queue_delete(queue)
        database.drop()


def main():
    with open(f"{ROOT}/docs/message-format.md", encoding="utf-8") as file:
        page = file.read()
    print(f"[==========] amqp: Running {len(CONSUMERS)} test(s)")
    failed = []

    def run(consumer):
        if not os.path.exists(f"{FOLDER}/{consumer.needs}.cmd"):
            print(f"[ RUN      ] {consumer.name}\n[  SKIPPED ] {consumer.name}", flush=True)
            return
        try:
            check(consumer, page)
            print(f"[ RUN      ] {consumer.name}\n[       OK ] {consumer.name}", flush=True)
        except Exception as error:
            failed.append(consumer.name)
            print(f"{consumer.name}: {error!r}\n[ RUN      ] {consumer.name}\n[  FAILED  ] {consumer.name}", flush=True)

    threads = [threading.Thread(target=run, args=(consumer,)) for consumer in CONSUMERS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.exit(1 if failed else 0)


main()

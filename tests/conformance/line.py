"""A line to the database that knows where a COMMIT is: one proxy for each adapter.

A rule waits for the n-th COMMIT after it was set, and then acts *before* it is forwarded, or *after* the server has
answered and before the client has the answer: it cuts the connection, or kills the adapter. So "killed right before the
commit" and "killed right after it" are exact, in every language, without a word in the client.
"""

import os
import signal
import socket
import threading

COM_QUERY = 3
CLIENT_SSL = 0x0800
NO_ATTRIBUTES = b"\0\1"  # of a query, before its text: no parameter in one set; mysql2 sends this to MySQL 8.0.23 and newer


def without_tls(greeting):
    """The server's first packet, and no offer of TLS in it: a driver that would take it hides its COMMITs from us."""
    if len(greeting) < 6 or greeting[4] != 10:
        return greeting  # an error
    at = greeting.index(b"\0", 5) + 1 + 4 + 8 + 1 + 1  # the second byte of the capabilities
    return greeting[:at] + bytes((greeting[at] & ~(CLIENT_SSL >> 8),)) + greeting[at + 1:]


class Line:
    def __init__(self, port):
        self._target = ("127.0.0.1", port)
        self._lock = threading.Lock()
        self._rule = None
        self._left = 0
        self.pid = 0  # of the adapter
        self.commits = 0
        self.fired = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, rule, nth):
        """rule: "kill before", "kill after", "cut before" or "cut after"."""
        with self._lock:
            self._rule, self._left = rule, nth

    def disarm(self):
        self.arm(None, 0)

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            swallow = threading.Event()  # the next answer belongs to a COMMIT whose client is to have none
            threading.Thread(target=self._to_client, args=(server, client, swallow), daemon=True).start()
            threading.Thread(target=self._to_server, args=(client, server, swallow), daemon=True).start()

    def _due(self, packet):
        """What is to be done at this packet, if it is a COMMIT and the rule's time has come."""
        text = packet[5:].removeprefix(NO_ATTRIBUTES)
        if len(packet) < 11 or packet[4] != COM_QUERY or text[:6].upper() != b"COMMIT":
            return None
        with self._lock:
            self.commits += 1
            if self._rule is None:
                return None
            self._left -= 1
            if self._left > 0:
                return None
            rule, self._rule = self._rule, None
            self.fired += 1
            return rule

    def _end(self, rule):
        if rule.startswith("kill"):
            os.kill(self.pid, signal.SIGKILL)

    def _to_server(self, client, server, swallow):
        buffer = b""
        try:
            while data := client.recv(1 << 16):
                buffer += data
                while len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:3], "little"):
                    size = 4 + int.from_bytes(buffer[:3], "little")
                    packet, buffer = buffer[:size], buffer[size:]
                    rule = self._due(packet)
                    if rule is not None and rule.endswith("before"):
                        self._end(rule)
                        return
                    if rule is not None:
                        swallow.rule = rule
                        swallow.set()
                    server.sendall(packet)
        except OSError:
            pass
        finally:
            self._close(client, server)

    def _to_client(self, server, client, swallow):
        try:
            client.sendall(without_tls(server.recv(1 << 16)))
            while data := server.recv(1 << 16):
                if swallow.is_set():
                    self._end(swallow.rule)
                    return
                client.sendall(data)
        except OSError:
            pass
        finally:
            self._close(client, server)

    @staticmethod
    def _close(*ends):
        for end in ends:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

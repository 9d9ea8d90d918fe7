"""A TCP proxy in front of a pool whose connections break, stall or are refused when a test says so."""

import contextlib
import socket
import threading
import urllib.parse


class Proxy:
    """Forwards TCP to the pool at `url`; agents connect to self.url."""

    def __init__(self, url):
        self.target = urllib.parse.urlsplit(url).port
        self.refuses = threading.Event()
        self.flows = threading.Event()  # cleared: connections stay, and nothing gets through
        self.flows.set()
        self.limit = None               # bytes that a connection carries upstream before it breaks
        self.pairs = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()

    def cut(self):
        """Breaks all connections that are open; new ones are served."""
        for pair in list(self.pairs):
            self._break(pair)

    def refuse(self):
        """Breaks all connections, and new ones at once, until accept()."""
        self.refuses.set()
        self.cut()

    def accept(self):
        self.limit = None
        self.refuses.clear()

    def refuse_after(self, upstream_bytes):
        """As refuse(), once some connection has carried so many bytes to the pool."""
        self.limit = upstream_bytes

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                if self.refuses.is_set():
                    raise ConnectionRefusedError
                pair = (client, socket.create_connection(("127.0.0.1", self.target)))
            except OSError:
                self._break((client,))
                continue
            self.pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._forward, args=(pair, source, sink), daemon=True).start()

    def _forward(self, pair, source, sink):
        carried = 0
        try:
            while data := source.recv(65536 if self.limit is None else 8192):
                self.flows.wait()
                carried += len(data)
                if source is pair[0] and self.limit is not None and carried > self.limit:
                    self.refuse()
                    return
                sink.sendall(data)
        except OSError:
            pass
        self._break(pair)

    def _break(self, pair):
        self.pairs.discard(pair)
        for end in pair:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

"""A way between a client and a server that a test can cut, as networks do."""

import socket
import threading


class CutLine:
    """Accepts connections, and passes on what comes, until they are cut. New ones are taken again at once."""

    def __init__(self, uri):
        host, port = uri.removeprefix("grpc://").rsplit(":", 1)
        self.server = (host, int(port))
        self.door = socket.create_server(("127.0.0.1", 0))
        self.uri = f"grpc://127.0.0.1:{self.door.getsockname()[1]}"
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.door.shutdown(socket.SHUT_RDWR)
        self.door.close()
        self.cut()

    def cut(self):
        """Both ends of every connection see that it is gone."""
        while self.open:
            for end in self.open.pop():
                _close(end)

    def _accept(self):
        while True:
            try:
                client, _ = self.door.accept()
            except OSError:
                return
            server = socket.create_connection(self.server)
            self.open.append((client, server))
            for way in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=way, daemon=True).start()


def _pass_on(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
    except OSError:
        pass  # it was cut
    _close(source)
    _close(target)


def _close(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it is closed already
    end.close()

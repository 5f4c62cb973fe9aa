"""A web server as a user would run it inside a sprite: site.py HOST PORT [NAME]"""
import base64, hashlib, socket, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST, PORT, NAME = sys.argv[1], int(sys.argv[2]), (sys.argv[3:] or ["site"])[0]
# Taken by /events before each event but the first, given by /next.
NEXT_EVENT = threading.Semaphore(0)


class Site(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket":
            return self.echo_web_socket()
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number in range(3):
                line = f"data: {number}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                self.wfile.flush()
                if number < 2 and not NEXT_EVENT.acquire(timeout=60):
                    # Nobody has seen the event: the answer is cut.
                    self.close_connection = True
                    return
            self.wfile.write(b"0\r\n\r\n")
            self.wfile.flush()
        elif self.path == "/next":
            NEXT_EVENT.release()
            self.answer(b"")
        elif self.path.startswith("/bytes/"):
            left = int(self.path[7:])
            self.send_response(200)
            self.send_header("Content-Length", str(left))
            self.end_headers()
            while left > 0:
                left -= self.wfile.write(b"y" * min(left, 65536))
            self.wfile.flush()
        else:
            seen = "".join(f"{key.lower()}: {value}\n" for key, value in self.headers.items())
            self.answer(f"{NAME} {self.path} from {self.client_address[0]}\n{seen}".encode())

    def do_POST(self):
        digest, left = hashlib.sha256(), int(self.headers["Content-Length"])
        while left > 0:
            data = self.rfile.read(min(left, 65536))
            digest.update(data)
            left -= len(data)
        self.answer(digest.hexdigest().encode())

    def echo_web_socket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        # One short text message: echoed, then the end.
        head = self.rfile.read(2)
        mask, data = self.rfile.read(4), self.rfile.read(head[1] & 127)
        text = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.wfile.write(bytes([0x81, len(text)]) + text)
        self.wfile.flush()
        self.close_connection = True

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in HOST else socket.AF_INET
    daemon_threads = True
    request_queue_size = 64


Server((HOST, PORT), Site).serve_forever()

"""An authorization server of the tests' own: it has keys, tells of them, and signs whatever it is asked to."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class TestIssuer:
    """Its address, its keys by their ids, and what was asked of it."""

    __test__ = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, tuple[Key, str]] = {}
        self.metadata: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/jwks"}
        self.asked: list[str] = []
        self.status = 200
        self.more: dict[str, Any] = {}
        """What its keys are told with, or instead of them."""
        self.drips = False
        """Whether an answer comes so slowly that it never ends, and never stands still."""

    def new_key(self, name: str, algorithm: str = "RS256") -> None:
        kinds: dict[str, Any] = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }
        make = kinds.get(algorithm, lambda: rsa.generate_private_key(65537, 2048))
        self.keys[name] = (make(), algorithm)

    def jwks(self) -> dict[str, Any]:
        told = []
        for name, (key, algorithm) in self.keys.items():
            document = jwt.get_algorithm_by_name(algorithm).to_jwk(key.public_key(), as_dict=True)
            told.append({**document, "kid": name, "use": "sig", "alg": algorithm})
        return {"keys": told} | self.more

    def token(self, audience: Any, key: str = "first", headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of an hour for her, who may look; a claim that is None is left out."""
        now = int(time.time())
        usual = {"iss": self.url, "sub": "her", "aud": audience, "iat": now, "exp": now + 3600}
        told = usual | {"scope": "openid backups:read"} | claims
        private, algorithm = self.keys[key]
        content = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(content, private, algorithm, headers={"kid": key} | (headers or {}))


@contextmanager
def an_issuer() -> Iterator[TestIssuer]:
    """It, on a real socket, with one key."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            documents = {"/.well-known/openid-configuration": issuer.metadata, "/jwks": issuer.jwks()}
            body = json.dumps(documents.get(self.path, {})).encode()
            self.send_response(issuer.status if self.path in documents else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if not issuer.drips:
                self.wfile.write(body)
                return
            with suppress(OSError):  # nobody waits any more
                for number in range(len(body)):
                    self.wfile.write(body[number : number + 1])
                    time.sleep(0.05)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = TestIssuer(f"http://127.0.0.1:{server.server_port}")
        issuer.new_key("first")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()

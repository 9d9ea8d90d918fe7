"""The pool's formats, written from docs/protocol.md and docs/numerics.md alone (it shares no code with the C++)."""

import base64
import hashlib
import http.client
import json
import os
import secrets
import ssl
import struct
import time
import urllib.parse

import numpy
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

RESULT, UPDATE, LOSSES = 1, 2, 3
CODECS = {"fp32": 1, "int4": 2, "int8": 3}
EMPTY_DIGEST = hashlib.sha256(b"").hexdigest()


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def merkle_root(leaves):
    """RFC 6962 over byte strings; hex."""
    def root(part):
        if len(part) == 1:
            return hashlib.sha256(b"\0" + part[0]).digest()
        split = 1 << (len(part) - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + root(part[:split]) + root(part[split:])).digest()
    return root(leaves).hex() if leaves else EMPTY_DIGEST


# --- blobs ---

def blob(kind, codec, count, payload):
    return struct.pack("<8sHHHHQQ", b"GRADBLOB", 1, kind, CODECS[codec], 0, count, len(payload)) + payload


def decode_blob(data, kind):
    """The fp32 vector of a blob."""
    magic, version, found, codec, zero, count, size = struct.unpack("<8sHHHHQQ", data[:32])
    payload = data[32:]
    assert (magic, version, found, zero, size) == (b"GRADBLOB", 1, kind, 0, len(payload)), data[:32]
    if codec == CODECS["fp32"]:
        return numpy.frombuffer(payload, "<f4")
    scales = numpy.frombuffer(payload, "<f4", (count + 63) // 64)
    digits = numpy.frombuffer(payload, "i1", offset=scales.nbytes)
    if codec == CODECS["int4"]:
        packed = digits.view("u1")
        nibbles = numpy.stack([packed & 15, packed >> 4], axis=1).reshape(-1)[:count].astype("i1")
        digits = numpy.where(nibbles > 7, nibbles - 16, nibbles)
    return digits.astype("f4") * numpy.repeat(scales, 64)[:count]


def read_safetensors(data):
    """name -> fp32 array, in the file's order."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        tensors[name] = numpy.frombuffer(data[8 + size + begin:8 + size + end], "<f4").reshape(entry["shape"])
    return tensors


def weights_after(pool, job, rounds):
    """The checkpoint file's bytes after `rounds` rounds: the initial weights and every update, applied here."""
    description = json.loads(pool.document(f"/v1/jobs/{job}"))
    initial = pool.get("/v1/blobs/" + description["initial_weights"]["digest"])
    head = 8 + struct.unpack("<Q", initial[:8])[0]
    values = numpy.frombuffer(initial[head:], "<f4").copy()
    for number in range(rounds):
        record = pool.record(job, number)
        values = values + decode_blob(pool.get("/v1/blobs/" + record["update"]["digest"]), UPDATE)
    return initial[:head] + values.tobytes()


# --- the plan ---

def _h(*words):
    return struct.unpack("<Q", hashlib.sha256(b"gradminer data v1\0" + struct.pack("<5Q", *words)).digest()[:8])[0]


def training_rows(description, shards, number, lane, step):
    """(batch, context + 1) tokens of one local step of a lane; shards: uint16 arrays of description["train"]."""
    last, seed, context = 2**64 - 1, int(description["seed"]), description["context"]
    shard = shards[_h(seed, number, lane, last, last) % len(shards)]
    begins = [_h(seed, number, lane, step, row) % (len(shard) - context) for row in range(description["batch"])]
    return numpy.stack([shard[begin:begin + context + 1] for begin in begins])


def evaluation_rows(description, shards):
    rows, context = description["evaluate_rows"], description["context"]
    per_shard = -(-rows // len(shards))
    out = []
    for row in range(rows):
        shard, k = shards[row % len(shards)], row // len(shards)
        begin = k * (len(shard) - context - 1) // max(1, per_shard - 1)
        out.append(shard[begin:begin + context + 1])
    return numpy.stack(out)


def read_shards(pool, references):
    return [numpy.frombuffer(pool.get("/v1/blobs/" + r.get("digest", r.get("blob"))), "<u2") for r in references]


# --- keys and signed requests ---

def public_hex(key):
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return key.public_key().public_bytes(*raw).hex()


def public_pem(key_hex):
    """The PEM file of a raw Ed25519 public key."""
    der = bytes.fromhex("302a300506032b6570032100" + key_hex)
    return "-----BEGIN PUBLIC KEY-----\n" + base64.b64encode(der).decode() + "\n-----END PUBLIC KEY-----\n"


COVERED = ("@method", "@authority", "@path", "content-digest")


def content_digest(body):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode() + ":"


class Client:
    """One rig's key speaking to a pool."""

    def __init__(self, url, ca, key=None):
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.context = ssl.create_default_context(cafile=ca)
        self.key = key or Ed25519PrivateKey.generate()
        self.public = public_hex(self.key)
        self.instance = secrets.token_hex(16)
        self.info = self.call("GET", "/v1/pool", signed=False)[1]

    def call(self, method, path, body=b"", signed=True):
        """(HTTP status, parsed answer). A dict body is sent as JSON."""
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        headers = {"Host": f"{self.host}:{self.port}"}
        if method != "GET":
            headers["Content-Length"] = str(len(body))
        if signed:
            headers.update(self._sign(method, path, body, headers["Host"]))
        connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=20)
        try:
            connection.request(method, path, body or None, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"{}")
        finally:
            connection.close()

    def _sign(self, method, path, body, authority, components=COVERED, **changed):
        """The three headers; `components` and the parameters (created, expires, nonce, …) may be others than they should."""
        digest = content_digest(body)
        now = int(time.time())
        parameters = {"created": now, "expires": now + 60, "nonce": secrets.token_hex(16), "keyid": self.public,
                      "alg": "ed25519", "tag": self.info["pool_id"], **changed}
        covered = {"@method": method, "@authority": authority, "@path": path, "content-digest": digest,
                   "content-length": str(len(body)), "@scheme": "https"}
        signed = "(" + " ".join(f'"{name}"' for name in components) + ")" + "".join(
            f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"' for name, value in parameters.items())
        base = "\n".join([*(f'"{name}": {covered[name]}' for name in components), f'"@signature-params": {signed}'])
        signature = base64.b64encode(self.key.sign(base.encode())).decode()
        return {"Content-Digest": digest, "Signature-Input": "sig1=" + signed, "Signature": f"sig1=:{signature}:"}

    def enrol(self, account, token, rig):
        return self.call("POST", "/v1/rigs", {"account": account, "token": token, "rig_id": rig, "agent": "gradminer/0.1.0"})

    def lease(self, kinds=("train",), held=()):
        return self.call("POST", "/v1/leases", {
            "request_id": secrets.token_hex(16), "instance": self.instance, "agent": "gradminer/0.1.0",
            "profiles": ["exact-fp32/1"], "codecs": list(CODECS), "kinds": list(kinds),
            "memory_bytes": 8 << 30, "flops": 1e9, "held": list(held)})

    def submit(self, lease, result, segments_root, loss=5.0):
        """Uploads a result in pieces and submits it; (status, answer) of the submission."""
        digest, piece = sha256(result), self.info["max_piece_bytes"]
        for offset in range(0, len(result), piece):
            status, answer = self.call("PUT", f"/v1/blobs/{digest}/{offset}", result[offset:offset + piece])
            if status != 200:
                return status, answer
        unit = lease["unit"]
        return self.call("POST", "/v1/submissions", {
            "lease": lease["lease"], "unit": unit["unit"], "attempt": lease["attempt"], "outcome": "done",
            "result": {"digest": digest, "bytes": len(result)}, "segments_root": segments_root,
            "loss": float(numpy.float32(loss)), "tokens": unit["tokens"], "seconds": 1.0})


def random_result(codec, count, size=1e-4):
    """A well-formed result of noise."""
    if codec == "fp32":
        payload = numpy.random.default_rng(int.from_bytes(os.urandom(8), "big")).normal(0, size, count).astype("<f4").tobytes()
        return blob(RESULT, codec, count, payload)
    scales = numpy.full((count + 63) // 64, size, "<f4").tobytes()
    if codec == "int8":
        payload = scales + os.urandom(count).replace(b"\x80", b"\x81")  # no -128
    else:
        nibbles = numpy.frombuffer(os.urandom((count + 1) // 2 * 2), "u1") % 15  # 0 ... 14
        nibbles = numpy.where(nibbles > 7, nibbles + 1, nibbles)  # leaves -8 (nibble 8) out
        nibbles[count:] = 0
        payload = scales + (nibbles[0::2] | nibbles[1::2] << 4).astype("u1").tobytes()
    return blob(RESULT, codec, count, payload)

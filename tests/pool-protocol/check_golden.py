#!/usr/bin/python3
"""Checks the golden vectors against docs/protocol.md without any of the project's code.

Layouts, digests, trees, the plan and prices with Python's standard library; keys and signatures with the openssl
command. Usage: check_golden.py FOLDER. Prints what it checked; ends with an exception at the first difference.
"""
import base64
import hashlib
import json
import math
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

folder = Path(sys.argv[1])
scratch = tempfile.TemporaryDirectory()


def read(name):
    return (folder / name).read_bytes()


def load(name):
    return json.loads(read(name))


def sha256(data):
    return hashlib.sha256(data).digest()


def same(what, found, expected):
    if found != expected:
        raise SystemExit(f"{what}: found {found!r}, expected {expected!r}")


def temporary(name, data):
    path = Path(scratch.name) / name
    path.write_bytes(data)
    return str(path)


def openssl(*arguments):
    result = subprocess.run(["openssl", *arguments], capture_output=True)
    if result.returncode != 0:
        raise SystemExit(f"openssl {' '.join(arguments)}: {result.stderr.decode()}")
    return result.stdout


# --- keys and signatures -------------------------------------------------------------------------------------------

PRIVATE_PREFIX = bytes.fromhex("302e020100300506032b657004220420")  # PKCS#8 of Ed25519, RFC 8410
PUBLIC_PREFIX = bytes.fromhex("302a300506032b6570032100")  # SubjectPublicKeyInfo


def pem(label, der):
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def public_pem(key_hex):
    return temporary(key_hex + ".pub.pem", pem("PUBLIC KEY", PUBLIC_PREFIX + bytes.fromhex(key_hex)))


def private_pem(seed_hex):
    return temporary(seed_hex + ".key", pem("PRIVATE KEY", PRIVATE_PREFIX + bytes.fromhex(seed_hex)))


def check_signature(what, key_hex, message, signature):
    same(what + " length", len(signature), 64)
    answer = openssl("pkeyutl", "-verify", "-pubin", "-inkey", public_pem(key_hex), "-rawin",
                     "-in", temporary("message", message), "-sigfile", temporary("signature", signature))
    same(what, answer.decode().strip(), "Signature Verified Successfully")


def sign(seed_hex, message):
    return openssl("pkeyutl", "-sign", "-inkey", private_pem(seed_hex), "-rawin", "-in", temporary("message", message))


keys = load("keys.json")


def check_keys():
    for name in ("pool", "rig", "new_rig", "new_pool"):
        der = openssl("pkey", "-in", private_pem(keys[name]["seed"]), "-pubout", "-outform", "DER")
        same(name + " key", der, PUBLIC_PREFIX + bytes.fromhex(keys[name]["public_key"]))
    same("pool_id", keys["pool_id"], sha256(bytes.fromhex(keys["pool"]["public_key"])).hex())
    for name in ("pool", "rig"):
        same(name + ".pub.pem", read(name + ".pub.pem"),
             openssl("pkey", "-in", private_pem(keys[name]["seed"]), "-pubout"))


def check_rotation():
    rotation = load("rotation.json")
    message = (b"gradminer key rotation v1\0" + bytes.fromhex(keys["pool_id"])
               + bytes.fromhex(keys["new_rig"]["public_key"]))
    same("rotation message", rotation["message"], message.hex())
    same("old key", rotation["old_key"], keys["rig"]["public_key"])
    check_signature("rotation", rotation["old_key"], message, base64.b64decode(rotation["signature"]))
    enrolment = load("message.enrolment.json")
    same("previous", enrolment["previous"], {"key": rotation["old_key"], "signature": rotation["signature"]})

    first, second = load("message.pool.json")["public_keys"]
    message = b"gradminer key rotation v1\0" + bytes.fromhex(keys["pool_id"]) + bytes.fromhex(second["key"])
    check_signature("pool's new key", first["key"], message, base64.b64decode(second["signature"]))


def check_request():
    request = load("request.json")
    digest = "sha-256=:" + base64.b64encode(sha256(request["body"].encode())).decode() + ":"
    same("Content-Digest", request["content_digest"], digest)
    parameters = (f'("@method" "@authority" "@path" "content-digest");created={request["now"]}'
                  f';expires={request["now"] + 300};nonce="a0a1a2a3a4a5a6a7a8a9aaabacadaeaf"'
                  f';keyid="{keys["rig"]["public_key"]}";alg="ed25519";tag="{keys["pool_id"]}"')
    same("Signature-Input", request["signature_input"], "sig1=" + parameters)
    base = "\n".join([f'"@method": {request["method"]}', f'"@authority": {request["host"].lower()}',
                      f'"@path": {request["path"]}', f'"content-digest": {digest}',
                      f'"@signature-params": {parameters}'])
    same("signature base", request["base"], base)
    value = request["signature"]
    same("Signature form", (value[:6], value[-1:]), ("sig1=:", ":"))
    signature = base64.b64decode(value[6:-1], validate=True)
    check_signature("request", keys["rig"]["public_key"], base.encode(), signature)
    same("openssl's own signature", sign(keys["rig"]["seed"], base.encode()), signature)
    same("body", json.loads(request["body"]), load("message.lease_request.json"))


def check_documents():
    for name in ("receipt", "settlement", "record", "job", "gradient_job"):
        text = read(name + ".json")
        document = json.loads(text)
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        same(name + " is canonical", text, canonical)
        same(name + " pool_id", document["pool_id"], keys["pool_id"])
        check_signature(name, keys["pool"]["public_key"], text, read(name + ".sig"))
        same(name + " openssl's own signature", sign(keys["pool"]["seed"], text), read(name + ".sig"))
    same("settlement's receipt", load("settlement.json")["receipt"], sha256(read("receipt.json")).hex())
    same("record's job", load("record.json")["job_digest"], sha256(read("job.json")).hex())
    results = [sha256(b"result 0"), sha256(b"result")]
    same("units_root", load("record.json")["units_root"], merkle_root(results).hex())
    answer = load("message.receipt.json")
    same("receipt's answer", answer["receipt"].encode(), read("receipt.json"))
    same("receipt's signature", base64.b64decode(answer["signature"], validate=True), read("receipt.sig"))
    answer = load("message.settlements.json")["settlements"][0]
    same("settlement's answer", answer["document"].encode(), read("settlement.json"))
    same("settlement's signature", base64.b64decode(answer["signature"], validate=True), read("settlement.sig"))


# --- blobs and trees -----------------------------------------------------------------------------------------------

def merkle_root(leaves):
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0])
    left = 1
    while 2 * left < len(leaves):
        left *= 2
    return sha256(b"\1" + merkle_root(leaves[:left]) + merkle_root(leaves[left:]))


def check_merkle():
    merkle = load("merkle.json")
    same("tree sizes", [len(tree["leaves"]) for tree in merkle["trees"]], [0, 1, 2, 3, 7])
    for tree in merkle["trees"]:
        same("root", tree["root"], merkle_root([bytes.fromhex(leaf) for leaf in tree["leaves"]]).hex())
    digests = []
    for segment in merkle["segments"]:
        data = struct.pack(f"<{segment['values']}f", *(0.5 * i - 1000 for i in range(segment["values"])))
        digests.append(merkle_root([data[i:i + 65536] for i in range(0, len(data), 65536)]))
        same("segment", segment["digest"], digests[-1].hex())
    same("segments_root", merkle["segments_root"], merkle_root(digests).hex())


def fp32(x):
    """The fp32 nearest to a double; of a product or quotient of two fp32 that is the correctly rounded one."""
    return struct.unpack("<f", struct.pack("<f", x))[0]


def blob(name, kind, codec, count):
    data = read(name)
    magic, version, found_kind, found_codec, zero, found_count, payload = struct.unpack("<8sHHHHQQ", data[:32])
    same(name + " header", (magic, version, found_kind, found_codec, zero, found_count, payload),
         (b"GRADBLOB", 1, kind, codec, 0, count, len(data) - 32))
    return data[32:]


def check_blocks(codec, largest, values, payload, digits):
    scales = struct.unpack("<3f", payload[:12])
    for i, value in enumerate(values):
        block = values[i // 64 * 64:i // 64 * 64 + 64]
        amax = max(abs(x) for x in block)
        tiny = amax < 2.0 ** -100
        same(f"{codec} scale {i // 64}", scales[i // 64], 0.0 if tiny else fp32(amax / largest))
        same(f"{codec} element {i}", digits[i], 0 if tiny else round(fp32(value * fp32(largest / amax))))  # round(): ties to even


def check_blobs():
    values = [((37 * i) % 129 - 64) / 1024 for i in range(64)] + [0.0] * 64 + [1.5, -1.5, 0.75]
    count = len(values)
    same("fp32 payload", blob("result.fp32.blob", 1, 1, count), struct.pack(f"<{count}f", *values))

    payload = blob("update.int4.blob", 2, 2, count)
    nibbles = [nibble for byte in payload[12:] for nibble in (byte & 15, byte >> 4)]
    same("int4 payload bytes", len(payload), 12 + (count + 1) // 2)
    same("missing last nibble", nibbles.pop(), 0)
    check_blocks("int4", 7, values, payload, [nibble - 16 if nibble >= 8 else nibble for nibble in nibbles])

    payload = blob("update.int8.blob", 2, 3, count)
    check_blocks("int8", 127, values, payload, list(struct.unpack(f"<{count}b", payload[12:])))
    same("losses", blob("losses.blob", 3, 1, 3), struct.pack("<3f", 5.5, 5.25, 5.0))


# --- the plan ------------------------------------------------------------------------------------------------------

NONE = 2 ** 64 - 1
job, gradient_job, plan = load("job.json"), load("gradient_job.json"), load("plan.json")
seed = int(job["seed"])


def draw(round_, lane, step, row):
    data = b"gradminer data v1\0" + struct.pack("<5Q", seed, round_, lane, step, row)
    return int.from_bytes(sha256(data)[:8], "little")


def ceil_div(a, b):
    return -(-a // b)


def price_of(tokens, flops_per_token, price):
    return min(max(1, ceil_div(tokens * flops_per_token * price, 10 ** 9)), (2 ** 64 - 1) // 4)


def power(base, exponent):
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


def warm_rate(lr, step, warmup):
    return lr if step + 1 >= warmup else lr * ((step + 1) / warmup)


def adamw(settings, max_grad_norm, rates_and_t):
    steps = [{"decay": fp32(1 - lr * settings["weight_decay"]),
              "step_size": fp32(lr / (1 - power(settings["beta1"], t))),
              "inv_sqrt_bc2": fp32(1 / math.sqrt(1 - power(settings["beta2"], t)))} for lr, t in rates_and_t]
    return {"name": "adamw", "beta1": fp32(settings["beta1"]), "one_minus_beta1": fp32(1 - settings["beta1"]),
            "beta2": fp32(settings["beta2"]), "one_minus_beta2": fp32(1 - settings["beta2"]),
            "epsilon": fp32(settings["epsilon"]), "max_grad_norm": fp32(max_grad_norm), "steps": steps}


def inner_numbers(round_):
    inner, steps = job["inner"], job["steps"]
    return adamw(inner, inner["max_grad_norm"],
                 [(warm_rate(inner["lr"], round_ * steps + s, inner["warmup_steps"]), s + 1) for s in range(steps)])


def outer_numbers(round_):
    outer = gradient_job["outer"]
    return adamw(outer, 0, [(warm_rate(outer["lr"], round_, outer["warmup_rounds"]), round_ + 1)])


def check_plan():
    for round_, lane, shard in plan["shard_of_lane"]:
        same(f"shard of lane {lane}", shard, draw(round_, lane, NONE, NONE) % len(job["train"]))
    for round_, lane, step, row, begin in plan["row_begin"]:
        shard = job["train"][draw(round_, lane, NONE, NONE) % len(job["train"])]
        same("row", begin, draw(round_, lane, step, row) % (shard["tokens"] - job["context"]))
    rows, shards = job["evaluate_rows"], job["validation"]
    for row, shard, begin in plan["evaluation_row"]:
        same("evaluation shard", shard, row % len(shards))
        places = ceil_div(rows, len(shards))
        room = shards[shard]["tokens"] - job["context"] - 1
        same("evaluation row", begin, row // len(shards) * room // max(1, places - 1))
    for tokens, flops, price, paid in plan["price"]:
        same("price", int(paid), price_of(int(tokens), int(flops), int(price)))
    for name, numbers in plan["inner"].items():
        same("inner " + name, numbers, inner_numbers(int(name.split()[1])))
    for name, numbers in plan["outer"].items():
        same("outer " + name, numbers, outer_numbers(int(name.split()[1])))


def check_prices(description):
    model = description["model"]
    flops = 6 * description["parameters"] + 6 * model["n_layer"] * description["context"] * model["n_embd"]
    price = int(description["price"])
    tokens = (description["lanes_per_unit"] * description["steps"] * description["batch"] * description["context"])
    same("price_train", int(description["price_train"]), price_of(tokens, flops, price))
    tokens = description["evaluate_rows"] * description["context"]
    same("price_evaluate", int(description["price_evaluate"]),
         max(1, ceil_div(tokens * flops * price, 3 * 10 ** 9)))


def check_unit(unit, kind, letter):
    lanes = job["lanes_per_unit"] if kind == "train" else 1
    first = unit["index"] * lanes
    same("unit", unit["unit"], f"{job['job']}.{unit['round']}.{letter}{unit['index']}")
    same("kind", unit["kind"], kind)
    same("lanes", (unit["first_lane"], unit["lanes"]), (first, lanes))
    for member in ("job", "profile", "model", "parameters", "seed", "context"):
        same(member, unit[member], job[member])
    count = unit["parameters"]
    if kind == "train":
        shards = [job["train"][draw(unit["round"], first + i, NONE, NONE) % len(job["train"])] for i in range(lanes)]
        same("shards", unit["shards"], shards)
        same("shape", (unit["steps"], unit["batch"], unit["codec"]), (job["steps"], job["batch"], job["codec"]))
        same("inner", unit["inner"], inner_numbers(unit["round"]))
        same("price", unit["price"], job["price_train"])
        same("max_result_bytes", unit["max_result_bytes"], 32 + 4 * ceil_div(count, 64) + ceil_div(count, 2))
    else:
        same("shards", unit["shards"], job["validation"])
        same("shape", (unit["steps"], unit["batch"], unit["codec"]), (1, job["evaluate_rows"], "fp32"))
        same("inner", unit["inner"], None)
        same("price", unit["price"], job["price_evaluate"])
        blocks = ceil_div(unit["batch"], ceil_div(1024, unit["context"]))
        same("max_result_bytes", unit["max_result_bytes"], 32 + 4 * blocks)
    same("tokens", unit["tokens"], lanes * unit["steps"] * unit["batch"] * unit["context"])


def check_units():
    check_prices(job)
    check_prices(gradient_job)
    check_unit(load("message.lease.json")["lease"]["unit"], "train", "t")
    check_unit(load("message.evaluate_unit.json"), "evaluate", "e")


for check in (check_keys, check_rotation, check_request, check_documents, check_merkle, check_blobs, check_plan,
              check_units):
    check()
    print(check.__name__.replace("check_", ""), "ok")

"""One unit recomputed from public inputs by replay_unit (reference operations)."""

import json
import subprocess

import harness
import wire


def replay(pool, job, unit, base_round):
    """{"result", "segments_root", "loss", "parameters", "blob"} of a train unit, from what anyone may download."""
    folder = pool.sandbox.folder / f"replay-{job}"
    folder.mkdir(exist_ok=True)
    text = pool.document(f"/v1/jobs/{job}")
    (folder / "job.json").write_text(text)
    (folder / "weights.safetensors").write_bytes(wire.weights_after(pool, job, base_round))
    for shard in json.loads(text)["train"]:
        file = folder / shard["digest"]
        if not file.exists():
            file.write_bytes(pool.get("/v1/blobs/" + shard["digest"]))
    arguments = ["job.json", unit, "weights.safetensors", ".", "result.blob"]
    done = subprocess.run([harness.binary("replay_unit"), *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise AssertionError(done.stderr)
    return {**json.loads(done.stdout), "blob": (folder / "result.blob").read_bytes()}

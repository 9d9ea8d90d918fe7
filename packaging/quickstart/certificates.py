"""A certificate authority of this run's own, and the pool's certificate for the loopback interface."""

import os
import subprocess

from common import Failure


def make(folder):
    """Makes what is missing or about to expire; the agents trust authority.pem and nothing else."""
    folder.mkdir(exist_ok=True)
    authority, authority_key = folder / "authority.pem", folder / "authority.key"
    server, server_key, request = folder / "server.pem", folder / "server.key", folder / "server.csr"

    if not valid_for_a_day(authority):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650",
                "-subj", "/CN=gradpool quickstart authority", "-addext", "basicConstraints=critical,CA:TRUE",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", authority_key, "-out", authority)
        server.unlink(missing_ok=True)
    if not valid_for_a_day(server):
        extensions = folder / "server.ext"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", "/CN=localhost", "-keyout", server_key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", authority_key, "-CAcreateserial",
                "-days", "825", "-sha256", "-extfile", extensions, "-out", server)
        request.unlink()
    return authority, server, server_key


def valid_for_a_day(certificate):
    check = ["openssl", "x509", "-checkend", "86400", "-noout", "-in", str(certificate)]
    return certificate.exists() and subprocess.run(check, capture_output=True).returncode == 0


def openssl(*arguments):
    command = ["openssl", *map(str, arguments)]
    # Private keys are created with mode 0600.
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=lambda: os.umask(0o077))
    if done.returncode != 0:
        raise Failure(f"`{' '.join(command)}` failed: {done.stderr.strip()}")

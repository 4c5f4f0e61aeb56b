"""Validators of other people, fetched by pip and npm into the build folder: documents against their schemas."""

import fcntl
import json
import os
import shutil
import subprocess
import sys

import tracing

# They bring the schemas of workflows, of compose files and of Kubernetes' objects.
PACKAGES = ["check-jsonschema==0.39.0", "kubernetes-validate==1.37.0"]
SARIF_PACKAGE = "@microsoft/jest-sarif@1.0.0-beta.0"  # has the schema of SARIF 2.1.0


def python():
    """A Python with these; None, with the reason on stdout, when pip cannot fetch it."""
    folder = os.path.join(tracing.BUILD, "validator-venv")
    program = os.path.join(folder, "bin", "python")
    check = [program, "-c", "import check_jsonschema, kubernetes_validate"]
    with open(folder + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(program) and tracing.run(check).status == 0:
            return program
        for command in ([sys.executable, "-m", "venv", folder],
                        [program, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:",
                         "--retries", "1", "--timeout", "30", *PACKAGES], check):
            try:
                done = tracing.run(command)
            except (subprocess.TimeoutExpired, OSError) as error:
                print(f"{command[0]}: {error}")
                return None
            if done.status != 0:
                print(done.stderr.decode("utf-8", "replace")[-1000:])
                return None
    return program


def sarif_schema():
    """The path of SARIF's schema; None, with the reason on stdout, when npm cannot fetch it."""
    folder = os.path.join(tracing.BUILD, "sarif-schema")
    path = os.path.join(folder, "package", "lib", "schemas", "sarif-2.1.0-rtm.5.json")
    npm = shutil.which("npm")
    with open(folder + ".lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(path):
            return path
        if npm is None:
            print("no npm")
            return None
        os.makedirs(folder, exist_ok=True)
        try:
            packed = tracing.run([npm, "pack", "--silent", "--pack-destination", folder, SARIF_PACKAGE], cwd=folder)
            name = packed.stdout.decode().strip().splitlines()[-1:]
            if packed.status != 0 or not name:
                print(packed.stderr.decode("utf-8", "replace")[-1000:])
                return None
            shutil.unpack_archive(os.path.join(folder, name[0]), folder)
        except (subprocess.TimeoutExpired, OSError, shutil.ReadError) as error:
            print(f"{SARIF_PACKAGE}: {error}")
            return None
    return path if os.path.exists(path) else None


def sarif_mistakes(document):
    """What the schema finds wrong with `document`, "" for nothing; None where the schema or the validator cannot be fetched."""
    program, schema = python(), sarif_schema()
    if program is None or schema is None:
        return None
    path = os.path.join(tracing.temporary_folder("sarif"), "check.sarif")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file)
    done = tracing.run([program, "-m", "check_jsonschema", "--regex-variant", "python", "--schemafile", schema,
                        path])
    return "" if done.status == 0 else (done.stdout + done.stderr).decode("utf-8", "replace")

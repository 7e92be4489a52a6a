"""Run the Dockerfile's steps in a clean folder: no engine is needed, and what it installs is installed.

FROM is a new virtual environment, COPY copies into the folder, RUN runs there (but for apt-get and useradd, which are
for the image's own system), CMD is started with
the environment of ENV and must pass HEALTHCHECK's command. Usage: python .ci/dockerfile.py FOLDER
"""

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    lines = [
        line
        for line in dockerfile.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in lines]


def main(root: Path) -> None:
    root.mkdir(parents=True)
    environment = {**os.environ, "PATH": f"{root / 'venv/bin'}:{os.environ['PATH']}", "HOME": str(root)}
    environment.pop("THOUSAND_API_KEY", None)
    folder, health = root, ""

    def inside(path: str) -> Path:
        return root / path.lstrip("/") if path.startswith("/") else folder / path

    for name, rest in instructions(Path("Dockerfile")):
        if name == "FROM":
            venv.create(root / "venv", with_pip=True)
        elif name == "WORKDIR":
            folder = inside(rest)
            folder.mkdir(parents=True, exist_ok=True)
        elif name == "COPY":
            *sources, target = rest.split()
            for source in sources:
                if Path(source).is_dir():
                    shutil.copytree(source, inside(target))
                else:
                    shutil.copy(source, inside(target))
        elif name == "ENV":
            key, value = rest.split("=", 1)
            environment[key] = str(inside(value))
        elif name == "RUN" and not rest.startswith(("useradd", "apt-get")):
            reachable = rest.replace("--extra-index-url https://download.pytorch.org/whl/cpu ", "").replace(
                "--no-cache-dir ", ""
            )
            print("RUN", reachable, flush=True)
            subprocess.run(["bash", "-ec", f"{reachable} --quiet"], cwd=folder, env=environment, check=True)
        elif name == "HEALTHCHECK":
            health = re.sub(r"^.*? CMD ", "", rest)
        elif name == "CMD":
            start_and_check(json.loads(rest), health, folder, environment)


def start_and_check(command: list[str], health: str, folder: Path, environment: dict[str, str]) -> None:
    """CMD without a key must refuse; with one it must become healthy, from an empty folder."""
    refused = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1 and "needs a key" in refused.stderr, refused.stderr
    server = subprocess.Popen(command, cwd=folder, env={**environment, "THOUSAND_API_KEY": secrets.token_hex(8)})
    try:
        for _ in range(180):
            if subprocess.run(shlex.split(health), env=environment, capture_output=True).returncode == 0:
                break
            assert server.poll() is None, "the server ended"
            time.sleep(1)
        else:
            raise AssertionError("the container would not become healthy")
        assert [path.name for path in folder.iterdir()] == [".thousand"], "nothing is written beside THOUSAND_HOME"
        print("healthy", flush=True)
    finally:
        server.terminate()
        server.wait(30)


main(Path(sys.argv[1]))

"""Every command in README and docs/ runs, and every link leads somewhere.

Blocks marked `sh` and `python` are run as they stand, but for the port, and for training and evaluation being cut short.
Blocks without a mark set up a machine (`make serve`, `docker build`); `.ci/run` runs what of those can be run.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.few import TRAINED_SHORT, few
from tests.server import free_port, serving

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "sh")], ids=lambda page: page.stem)
def test_the_shell_commands_of_a_page_run(thousand: Command, page: Path, real_home: Path, tmp_path: Path) -> None:
    assert thousand("releases", "list").code == 0  # installs what comes along
    (tmp_path / "data").symlink_to(ROOT / "data")
    names = ("dev", "multiturn_test", "safety_test", "constraints_test")
    dev, talks, safety, constraints = (few(tmp_path, name) for name in names)
    short = tmp_path / "bin" / "thousand"
    short.parent.mkdir()
    short.write_text(
        "#!/bin/bash\n"
        "extra=()\n"
        f"short=({' '.join(TRAINED_SHORT)} --dev {dev})\n"
        '[ "$1" = train ] && [ "$2" != sweep ] && [[ "$*" != *--help* ]] && [[ "$*" != *--resume* ]] && extra=("${short[@]}")\n'
        'if [ "$1 $2" = "train sweep" ]; then\n'
        f"  sed -i -e '1i dev = \"{dev}\"' -e 's/^rungs = .*/rungs = [0.002]/' \\\n"
        "    -e '/^\\[numbers\\]/a epochs = 0.004\\ndialogues_per_step = 2\\ndev_tokens = 8' \"$3\"\n"
        "fi\n"
        '[ "$1" = evaluate ] && [ "$2" != report ] && extra=(--max-tokens 8)\n'
        f'[[ "$1 $2" =~ ^evaluate\\ (prefer|grade)$ ]] && [[ "$*" != *safety* ]] && extra+=(--prompts {dev})\n'
        f'[[ "$1 $2" = "evaluate grade" ]] && [[ "$*" = *safety* ]] && extra+=(--prompts {safety})\n'
        f'[ "$1 $2" = "evaluate dev" ] && extra+=(--prompts {dev})\n'
        f'[ "$1 $2" = "evaluate conversations" ] && extra+=(--prompts {talks})\n'
        f'[ "$1 $2" = "evaluate safety" ] && extra+=(--prompts {safety})\n'
        f'[ "$1 $2" = "evaluate shift" ] && extra+=(--prompts {dev})\n'
        '[ "$1 $2" = "evaluate ablate" ] && extra+=(--plan)\n'
        'if [ "$1 $2 $3" = "evaluate ablate diversity" ]; then\n'
        f'  extra=("${{short[@]:2}}" --size 4 --steps 1 --max-tokens 8 --constraints {constraints})\n'
        "fi\n"
        f'[ "$1 $2" = "evaluate constraints" ] && extra+=(--prompts {constraints})\n'
        f'[ "$1 $2" = "evaluate compare" ] && extra+=(--dev {dev} --conversations {talks} --safety {safety})\n'
        f'[ "$1 $2" = "retrain --yes" ] && extra=("${{short[@]}}" --conversations {talks} --safety {safety})\n'
        f'exec {sys.executable} -m assistant "$@" "${{extra[@]}}"\n'
    )
    short.chmod(0o755)
    script = "\n".join(blocks(page, "sh")).replace("8000", str(free_port()))
    home = tmp_path / "home"
    home.mkdir()
    for made_once in ("base", "cache", "merged"):
        (real_home / made_once).mkdir(exist_ok=True)
        (home / made_once).symlink_to(real_home / made_once)
    shutil.copytree(real_home / "releases", home / "releases")
    environment = {
        **os.environ,
        "PATH": f"{short.parent}:{os.environ['PATH']}",
        "THOUSAND_HOME": str(home),
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("OMP_NUM_THREADS", None)
    done = subprocess.run(
        ["bash", "-ec", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Traceback" not in done.stderr


def test_the_python_of_the_serving_page_runs(shared_home: Path) -> None:
    with serving(shared_home) as address:
        for code in blocks(ROOT / "docs" / "serving.md", "python"):
            program = code.replace("http://127.0.0.1:8000", address)
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
            assert done.returncode == 0, done.stderr
            assert done.stdout.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_inside_the_project_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert missing == []


def test_every_test_that_a_page_names_is_there() -> None:
    named = {name for page in PAGES for name in re.findall(r"`(test_\w+)`", page.read_text(encoding="utf-8"))}
    written = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in sorted(named) if f"def {name}(" not in written] == []

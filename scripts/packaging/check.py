"""Checks the bioconda recipe as far as that goes without conda-build: it renders, and has what bioconda's linter wants.

    check.py            needs jinja2 and PyYAML (scripts/workflows/install.sh makes an environment with both)
    check.py --build    runs the recipe's build.sh on a copy of the commit, too, as conda-build would, and then the recipe's
                        tests with what it made; needs Rust and cargo-bundle-licenses instead of conda's. Objects go to target
"""

import os
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import jinja2
import yaml

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "scripts/packaging/conda"


def rendered():
    text = (RECIPE / "meta.yaml").read_text()
    selected = []
    for line in text.splitlines():
        selector = re.search(r"#\s*\[(.+)\]\s*$", line)
        if not selector or eval(selector.group(1), {"win": False, "osx": False, "linux": True}):
            selected.append(line)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return environment.from_string("\n".join(selected)).render(
        compiler=lambda language: f"{language}_compiler_stub",
        stdlib=lambda language: f"{language}_stdlib_stub",
        pin_subpackage=lambda name, max_pin: f"{name} {max_pin}",
    )


def build(recipe):
    with tempfile.TemporaryDirectory() as work:
        source, prefix, tests = (Path(work) / name for name in ("source", "prefix", "tests"))
        for folder in (source, prefix, tests):
            folder.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
        subprocess.run(["tar", "-xf", "-"], cwd=source, input=archive, check=True)
        own = {"SRC_DIR": source, "PREFIX": prefix, "CARGO_HOME": Path.home() / ".cargo", "CARGO_TARGET_DIR": ROOT / "target"}
        environment = os.environ | {name: str(path) for name, path in own.items()}
        subprocess.run(["bash", RECIPE / "build.sh"], cwd=source, env=environment, check=True)
        for name in recipe["about"]["license_file"]:
            want((source / name).stat().st_size > 0, f"{name} was not made")
        environment["PATH"] = f"{prefix}/bin:{environment['PATH']}"
        for command in recipe["test"]["commands"]:
            subprocess.run(["bash", "-c", command], cwd=tests, env=environment, check=True)
            print(f"ok: {command}")
        made = sorted(str(path.relative_to(prefix)) for path in prefix.rglob("*") if path.is_file())
        print(f"{len(made)} files: {', '.join(made[:3])} …")


recipe = yaml.safe_load(rendered())
package = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
faults = []


def want(true, fault):
    if not true:
        faults.append(fault)


want(recipe["package"] == {"name": package["name"], "version": package["version"]}, "name or version is not Cargo.toml's")
want(recipe["build"]["number"] == 0 and "run_exports" in recipe["build"], "missing_build_number or missing_run_exports")
want("noarch" not in recipe["build"], "a compiled package is not noarch")
build = recipe["requirements"]["build"]
want("rust_compiler_stub" in build and "c_compiler_stub" in build, "compilers are missing")
want("c_stdlib_stub" in build, "compiler_needs_stdlib_c")
want(recipe["test"]["commands"], "missing_tests")
about = recipe["about"]
for field in ("home", "license", "license_file", "summary"):
    want(about.get(field), f"about/{field} is missing")
want(about["license"] == package["license"], "the license is not Cargo.toml's")
want(len(about["summary"]) <= 200, "the summary is long")
for name in about["license_file"]:
    # The second is made by build.sh.
    want((ROOT / name).exists() or name in (RECIPE / "build.sh").read_text(), f"{name} is not there")
script = (RECIPE / "build.sh").read_text()
want("--locked" in script and "--no-track" in script, "cargo_install without --locked or --no-track")
want("set -e" in script.replace("set -euxo", "set -e"), "build.sh goes on after a failure")
if sys.argv[1:] == ["--build"]:
    build(recipe)
sys.exit("\n".join(f"check.py: {fault}" for fault in faults) if faults else print("the recipe is as it should be"))

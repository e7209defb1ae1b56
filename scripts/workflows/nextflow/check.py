"""Checks the Nextflow modules without the Nextflow runtime.

For every module: meta.yml and environment.yml against the shape that nf-core's schemas ask for, the names in meta.yml
against the channels in main.nf, and the script and stub blocks run by bash, with the variables filled in as the nf-test
files say, on the data of `nyx demo`; every file an output names must be there afterwards. The subworkflow's meta.yml and
its includes are checked, too. What only Nextflow can tell (its grammar, its channels) is not.

    check.py        the nyx commands are those on the path
"""

import glob
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import jsonschema
import yaml

HERE = Path(__file__).parent
MODULES = sorted(HERE.glob("modules/nyx/*"))

ELEMENT = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": {
        "type": "object",
        "required": ["type", "description"],
        "properties": {
            "type": {"enum": ["map", "file", "directory", "string", "integer", "float", "boolean", "list", "eval"]},
            "description": {"type": "string", "minLength": 1},
            "pattern": {"type": "string"},
        },
    },
}
CHANNEL = {"anyOf": [ELEMENT, {"type": "array", "items": ELEMENT, "minItems": 1}]}
PEOPLE = {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": "^@"}}
META = {
    "type": "object",
    "required": ["name", "description", "keywords", "tools", "input", "output", "topics", "authors", "maintainers"],
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "description": {"type": "string"},
        "keywords": {"type": "array", "minItems": 3, "items": {"type": "string"}},
        "tools": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "required": ["description", "licence"],
                    "properties": {"licence": {"type": "array", "items": {"type": "string"}}},
                },
            },
        },
        "input": {"type": "array", "minItems": 1, "items": CHANNEL},
        "output": {"type": "object", "additionalProperties": {"type": "array", "items": CHANNEL}},
        "topics": {"type": "object", "additionalProperties": {"type": "array", "items": CHANNEL}},
        "authors": PEOPLE,
        "maintainers": PEOPLE,
    },
}
ENVIRONMENT = {
    "type": "object",
    "required": ["channels", "dependencies"],
    "additionalProperties": False,
    "properties": {
        "channels": {"const": ["conda-forge", "bioconda"]},
        "dependencies": {"type": "array", "items": {"type": "string", "pattern": r"^[a-z-]+::[a-z-]+=[0-9.]+$"}},
    },
}

# What the inputs of each module are in the nf-test files, as bash sees them; definitions of the script come after.
INPUTS = {
    "extract": {
        "rows": "",
        "command": "tiles",
        "shard": "1/2",
        "fasta": "genome.fa",
        "genome": "--fasta genome.fa",
        "input": "",
        "part": "--shard 1/2",
    },
    "score": {"rows": "rows.arrows", "model": "model", "device": "cpu"},
    "hits": {"rows": "contributions.arrows", "motifs": "motifs.meme"},
    "merge": {"shards": "1.arrows 2.arrows"},
    "view": {"rows": "rows.arrows", "suffix": "tsv"},
}


def demo(directory):
    code = """
        set -euo pipefail
        nyx demo --data-only --outdir .
        tiles="nyx-extract tiles --fasta genome.fa --width 200 --stride 400 -q"
        $tiles -o rows.arrows
        for part in 1 2; do $tiles --shard $part/2 -o $part.arrows; done
        head -n 20 peaks.narrowPeak > few.narrowPeak
        nyx-extract regions -q --fasta genome.fa --peaks few.narrowPeak --width 200 |
            nyx-attrib -q --model model --method gradxinput -o contributions.arrows
    """
    subprocess.run(["bash", "-c", code], cwd=directory, check=True)


def channels(text, section):
    """Returns the declarations of `input:` or `output:`, one a line."""
    body = re.search(rf"^    {section}:\n((?:    \S.*\n|\n)+?)\n", text, re.M).group(1)
    return [line.strip() for line in body.splitlines() if line.strip()]


def input_names(declaration):
    return re.findall(r"(?:val|path)\((\w+)\)", declaration) or re.findall(r"^(?:val|path) (\w+)", declaration)


def flat(channel):
    return channel if isinstance(channel, list) else [channel]


def names_agree(meta, text):
    declared = [input_names(line) for line in channels(text, "input")]
    written = [[name for element in flat(channel) for name in element] for channel in meta["input"]]
    assert declared == written, f"inputs: {declared} in main.nf, {written} in meta.yml"
    outputs = {}
    for line in channels(text, "output"):
        outputs[re.search(r"emit: (\w+)", line).group(1)] = line
    assert list(outputs) == list(meta["output"]), f"outputs: {list(outputs)}, {list(meta['output'])} in meta.yml"
    for name, line in outputs.items():
        for element in flat(meta["output"][name][0]):
            [key] = element
            assert key in line, f"output {name}: `{key}` of meta.yml is not in `{line}`"
    versions = outputs["versions_nyx"]
    assert "topic: versions" in versions and meta["topics"]["versions"]
    return outputs


def block(text, section):
    return re.search(rf'^    {section}:\n.*?"""(.*?)"""', text, re.M | re.S).group(1)


def filled(code, values):
    """Does what Groovy does to a GString: doubled backslashes, and ${} by values."""
    code = code.replace("\\\\", "\\")
    code = re.sub(r"\$\{([^}]+)\}", lambda found: values[found.group(1)], code)
    assert "${" not in code
    return code


def run_block(code, directory, outputs, values):
    before = set(Path(directory).iterdir())
    subprocess.run(["bash", "-euo", "pipefail", "-c", code], cwd=directory, check=True, stderr=subprocess.PIPE)
    for name, line in outputs.items():
        for pattern in re.findall(r'path\("([^"]+)"\)', line):
            found = glob.glob(str(Path(directory, filled(pattern, values))))
            assert found, f"output {name}: nothing is called {pattern}"
    for path in set(Path(directory).iterdir()) - before:
        path.unlink()


def check_module(directory, data):
    name = directory.name
    text = (directory / "main.nf").read_text()
    meta = yaml.safe_load((directory / "meta.yml").read_text())
    jsonschema.validate(meta, META)
    jsonschema.validate(yaml.safe_load((directory / "environment.yml").read_text()), ENVIRONMENT)
    assert meta["name"] == f"nyx_{name}" and f"process NYX_{name.upper()} {{" in text
    outputs = names_agree(meta, text)
    arguments = "--width 200 --stride 400" if name == "extract" else ""
    values = {"args": arguments, "prefix": "test", "task.cpus": "1", **INPUTS[name]}
    for section in ("script", "stub"):
        run_block(filled(block(text, section), values), data, outputs, values)
    version = re.search(r'eval\("(.+)"\)', outputs["versions_nyx"]).group(1)
    told = subprocess.run(["bash", "-c", version], check=True, capture_output=True, text=True).stdout.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", told), f"version `{told}`"
    tests = (directory / "tests/main.nf.test").read_text()
    assert f'process "NYX_{name.upper()}"' in tests and 'options "-stub"' in tests
    given = len(set(re.findall(r"input\[(\d)\]", tests)))
    assert given == len(meta["input"]), f"the test gives {given} inputs of {len(meta['input'])}"
    for opening, closing in ("{}", "[]", "()"):
        for kind, code in (("main.nf", text), ("main.nf.test", tests)):
            assert code.count(opening) == code.count(closing), f"{kind}: {opening} and {closing} do not balance"


def check_subworkflow(directory):
    text = (directory / "main.nf").read_text()
    meta = yaml.safe_load((directory / "meta.yml").read_text())
    included = re.findall(r"include \{ (\w+)\s*\} from '([^']+)'", text)
    for process, path in included:
        assert f"process {process} {{" in (directory / f"{path}.nf").read_text(), path
    components = {path.split("modules/")[1].removesuffix("/main") for _, path in included}
    assert components == set(meta["components"]), f"{components} in main.nf, {meta['components']} in meta.yml"
    take = re.search(r"take:\n(.*?)\n\n", text, re.S).group(1)
    assert [line.split()[0] for line in take.splitlines()] == [key for element in meta["input"] for key in element]
    emit = re.search(r"emit:\n(.*?)\n\}", text, re.S).group(1)
    assert [line.split()[0] for line in emit.splitlines()] == [key for element in meta["output"] for key in element]


def main():
    failures = 0
    with tempfile.TemporaryDirectory() as data:
        demo(data)
        checks = [(check_module, directory, (data,)) for directory in MODULES]
        checks += [(check_subworkflow, directory, ()) for directory in sorted(HERE.glob("subworkflows/*"))]
        for check, directory, arguments in checks:
            try:
                check(directory, *arguments)
                print(f"{directory.relative_to(HERE)}: ok")
            except subprocess.CalledProcessError as error:
                failures += 1
                print(f"{directory.relative_to(HERE)}: {error}\n{(error.stderr or b'').decode()}")
            except (AssertionError, AttributeError, KeyError, jsonschema.ValidationError) as error:
                failures += 1
                print(f"{directory.relative_to(HERE)}: {error!r}")
    sys.exit(1 if failures or not MODULES else 0)


main()
